"""Histograms of pre-activations, many units at once: pure arithmetic on a sample of rows."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flatline.sense.vitals import Bool, Float, Int

#: Bins of a unit, equally wide between its smallest and its largest value.
BINS = 24
#: Most values of a unit, so that a count fits in a byte.
MOST = np.iinfo(np.uint8).max
#: Units of one site, and of all sites of an exam, at most.
UNITS, TOTAL = 256, 2_048
#: Bytes of one unit when packed: index, both ends, values left out, counts.
_BYTES = 4 + 4 + 4 + 1 + BINS

Byte = npt.NDArray[np.uint8]
Values = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Histograms:
    """Histograms of some units of one site at one exam.

    Attributes:
        units: Index of each unit, rising.
        low: Its smallest finite value, the lower end of its first bin; NaN without any.
        high: Its largest, the upper end of its last bin.
        lost: Values that were NaN or infinite, and are in no bin.
        counts: Values in each bin, shape ``(units, BINS)``; all are in the first bin where they
            are equal.
    """

    units: Int
    low: Float
    high: Float
    lost: Byte
    counts: Byte


def histograms(units: Int, rows: Values) -> Histograms:
    """Histograms of a sample.

    Args:
        units: Index of each column, in any order.
        rows: Values, shape ``(rows, units)``, at most :data:`MOST` rows.

    Raises:
        ValueError: When there are more rows than a count can hold.

    Example:
        >>> found = histograms(np.array([5]), np.array([[0.0], [1.0], [24.0], [np.nan]]))
        >>> found.counts[0, :3].tolist(), found.counts[0, -1].item(), found.lost.tolist()
        ([1, 1, 0], 1, [1])
    """
    if len(rows) > MOST:
        raise ValueError(f"expected at most {MOST} rows, found {len(rows)}")
    finite = np.isfinite(rows)
    low, high = _ends(rows, finite)
    # In double precision: the range of single precision is too wide for itself.
    start = np.where(np.isfinite(low), low, 0.0).astype(np.float64)
    scale = np.divide(BINS, high - start, out=np.zeros(len(low)), where=high > low)
    with np.errstate(invalid="ignore"):  # of what is not finite, and is left out
        place = _bins((rows - start) * scale, finite)
    counts = np.bincount(place, minlength=len(low) * BINS).reshape(-1, BINS)
    lost = len(rows) - finite.sum(axis=0)
    order = np.argsort(units)
    return Histograms(
        units=units[order].astype(np.int32),
        low=np.where(low > high, np.nan, low)[order].astype(np.float32),
        high=np.where(low > high, np.nan, high)[order].astype(np.float32),
        lost=lost[order].astype(np.uint8),
        counts=counts[order].astype(np.uint8),
    )


def _ends(rows: Values, finite: Bool) -> tuple[Values, Values]:
    """Smallest and largest finite value of each column; the wrong way round without any."""
    if finite.all():  # nearly always, and four times as fast
        return rows.min(axis=0), rows.max(axis=0)
    low = rows.min(axis=0, initial=np.inf, where=finite)
    return low, rows.max(axis=0, initial=-np.inf, where=finite)


def _bins(scaled: Values, finite: Bool) -> npt.NDArray[np.intp]:
    """The bin of each finite value, numbered through all columns."""
    place = scaled.astype(np.intp)
    np.minimum(place, BINS - 1, out=place)  # the largest value belongs to the last bin
    place += np.arange(place.shape[1]) * BINS
    return place.ravel() if finite.all() else place[finite]


def pack(found: Histograms) -> bytes:
    """Histograms as compressed bytes (see :func:`unpack`)."""
    # Bins of all units side by side compress better than units do.
    parts = (found.units, found.low, found.high, found.lost, found.counts.T)
    return zlib.compress(b"".join(part.tobytes() for part in parts), 1)


def unpack(blob: bytes) -> Histograms:
    """The histograms that :func:`pack` wrote.

    Raises:
        ValueError: When ``blob`` is none.
    """
    try:
        raw = zlib.decompress(blob)
    except zlib.error as error:
        raise ValueError(f"expected packed histograms, found something else ({error})") from error
    units, rest = divmod(len(raw), _BYTES)
    if rest:
        raise ValueError(f"expected {_BYTES} bytes for each unit, found {len(raw)} in all")
    head, lost, counts = np.split(np.frombuffer(raw, np.uint8), [12 * units, 13 * units])
    index, low, high = np.split(head, 3)
    return Histograms(
        index.view(np.int32),
        low.view(np.float32),
        high.view(np.float32),
        lost,
        counts.reshape(BINS, units).T,
    )
