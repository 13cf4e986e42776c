"""Rows of the pulse as words: one unsigned integer per unit, the row of step i in bit i.

Every question about many steps is then a few operations on one number per unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.unsignedinteger[Any]]
Places = npt.NDArray[np.int32]


def width(words: npt.DTypeLike) -> int:
    """Bits of a word of this type.

    Example:
        >>> width(np.uint8)
        8
    """
    return 8 * np.dtype(words).itemsize


def pack(alive: npt.NDArray[np.bool_], words: npt.DTypeLike = np.uint8) -> Words:
    """Rows as words.

    Args:
        alive: Shape ``(rows, units)``; no more rows than a word has bits.
        words: The type of a word.

    Example:
        >>> pack(np.array([[True, False], [True, True]])).tolist()
        [3, 2]
    """
    kind = np.dtype(words)
    octets = np.zeros((alive.shape[1], kind.itemsize), np.uint8)
    packed = np.packbits(alive, axis=0, bitorder="little")
    octets[:, : len(packed)] = packed.T
    found: Words = octets.view(kind.newbyteorder("<"))[:, 0].astype(kind)
    return found


def below(place: Places, like: Words) -> Words:
    """Words in which exactly the bits below a place are set.

    Example:
        >>> below(np.array([0, 3, 8]), np.zeros(3, np.uint8)).tolist()
        [0, 7, 255]
    """
    one = like.dtype.type(1)
    found: Words = (one << place.astype(like.dtype)) - one
    return found


def last(words: Words) -> Places:
    """Place of the highest bit; -1 for none.

    Example:
        >>> last(np.array([0, 1, 6, 255], np.uint8)).tolist()
        [-1, 0, 2, 7]
    """
    # Without the bit below the highest, no rounding reaches the next power of two.
    return np.frexp((words & ~(words >> words.dtype.type(1))).astype(np.float64))[1] - np.int32(1)


def first(words: Words) -> Places:
    """Place of the lowest bit; -1 for none.

    Example:
        >>> first(np.array([0, 1, 6, 255], np.uint8)).tolist()
        [-1, 0, 1, 0]
    """
    one = words.dtype.type(1)
    return np.frexp((words & (~words + one)).astype(np.float64))[1] - np.int32(1)


def pauses(words: Words, unit: int) -> npt.NDArray[np.uint8]:
    """Longest run of cleared bits between two that are set, in units of ``unit``, rounded up.

    Args:
        words: The words.
        unit: A power of two.

    Example:
        >>> pauses(np.array([0b1, 0b101, 0b100001], np.uint8), 4).tolist()
        [0, 1, 1]
    """
    kind = words.dtype.type
    dark = ~words & below(last(words).clip(0), words) & ~below(first(words).clip(0), words)
    runs, length = dark, 1
    while length < unit:
        runs = runs & (runs >> kind(length))
        length *= 2
    longest: npt.NDArray[np.uint8] = (dark != 0).astype(np.uint8)
    for done in range(0, width(words.dtype) - unit, unit):
        # A run of ``done`` and one goes on for another ``unit``.
        dark = dark & (runs >> kind(done + 1))
        longest += dark != 0
    return longest
