"""Mergeable per-unit statistics, and the ledger of who last showed life.

Everything here is NumPy: vitals leave the device once, at the end of an exam, and every later
room works on these arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]
Int = npt.NDArray[np.int32]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Vitals:
    """What a window of examined examples says about the units of one site.

    All arrays have one entry per unit. "Over positions" means over pixels, tokens and repeated
    calls inside one example.

    Attributes:
        examples: Number of independent examples.
        fired: Examples on which the unit fired at some position.
        railed: Examples on which the unit sat on a rail of a saturating activation at every
            position.
        z_min: Smallest pre-activation seen; ``+inf`` before any example.
        z_max: Largest pre-activation seen; ``-inf`` before any example.
        h_min: Smallest activation seen.
        h_max: Largest activation seen.
        h_abs: Sum over examples of the mean over positions of ``|h|``.
        z_sum: Sum over examples of the mean over positions of ``z``.
        z_sq: Sum over examples of the mean over positions of ``z**2``.
        twin: Smallest unit of the group that had the same pre-activation on every example; the
            unit's own index when it has no twin.
        nonfinite: A NaN or an infinity was seen in z, h or the gradient.
        ignored: Every weight that reads the unit was 0, in every exam.
        gradient: Largest root mean square, over the exams, of the loss gradient with respect to
            the unit's feeding weights (bias where there are none); NaN when never measured.
        update: Largest relative update ``rms(dw) / rms(w)`` of the unit's feeding weights in one
            optimizer step, over the exams; NaN when never measured.
    """

    examples: int
    fired: Int
    railed: Int
    z_min: Float
    z_max: Float
    h_min: Float
    h_max: Float
    h_abs: Double
    z_sum: Double
    z_sq: Double
    twin: Int
    nonfinite: Bool
    ignored: Bool
    gradient: Float
    update: Float

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.fired)

    @property
    def z_mean(self) -> Float:
        """Mean pre-activation over examples; NaN before any."""
        return (self.z_sum / self.examples if self.examples else self.z_sum + np.nan).astype(
            np.float32
        )

    @property
    def z_std(self) -> Float:
        """Standard deviation of the pre-activation; NaN before any example."""
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            mean = self.z_sum / self.examples
            variance = self.z_sq / self.examples - mean**2
            # The difference of two large sums: what is below their rounding is no spread at all.
            kept = np.where(variance > 1e-12 * mean**2, variance, 0.0 * variance)
            return np.sqrt(kept).astype(np.float32)

    @property
    def silent(self) -> Bool:
        """Units that fired on no example and whose output did not vary beyond rounding.

        Example:
            >>> Vitals.empty(2).silent
            array([False, False])
        """
        with np.errstate(invalid="ignore", over="ignore"):
            spread = self.h_max.astype(np.float64) - self.h_min
            rounding = np.finfo(np.float32).eps * np.maximum(abs(self.h_min), abs(self.h_max))
            # No example gives -inf, and what is not finite is not known not to vary.
            flat = np.isfinite(spread) & (spread <= rounding)
        silent: Bool = flat & (self.fired == 0)
        return silent

    @classmethod
    def empty(cls, units: int) -> Vitals:
        """The neutral element of :func:`merge`.

        Example:
            >>> merge(Vitals.empty(2), Vitals.empty(2)).examples
            0
        """
        full = np.full
        f32 = np.float32
        return cls(
            examples=0,
            fired=np.zeros(units, np.int32),
            railed=np.zeros(units, np.int32),
            z_min=full(units, np.inf, f32),
            z_max=full(units, -np.inf, f32),
            h_min=full(units, np.inf, f32),
            h_max=full(units, -np.inf, f32),
            h_abs=np.zeros(units),
            z_sum=np.zeros(units),
            z_sq=np.zeros(units),
            # Before any example every unit agrees with every other.
            twin=np.zeros(units, np.int32),
            nonfinite=np.zeros(units, bool),
            ignored=np.ones(units, bool),
            gradient=full(units, np.nan, f32),
            update=full(units, np.nan, f32),
        )


def meet(a: Int, b: Int) -> Int:
    """The partition in which two units share a group when they share it in both ``a`` and ``b``.

    Args:
        a: Group of each unit, named by the group's smallest unit. Shape ``(units,)``.
        b: The same for another window.

    Returns:
        The common refinement, named the same way. Associative and commutative.

    Example:
        >>> meet(np.array([0, 0, 0, 3], np.int32), np.array([0, 1, 0, 3], np.int32)).tolist()
        [0, 1, 0, 3]
    """
    pairs = a.astype(np.int64) * max(len(a), 1) + b
    _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
    group: Int = first[inverse].astype(np.int32)
    return group


def merge(a: Vitals, b: Vitals) -> Vitals:
    """Vitals of two windows of examples as if they had been one.

    Associative and commutative up to the rounding of the three sums, so it works across batches,
    micro-batches and processes alike.

    Raises:
        ValueError: When the two have different numbers of units.
    """
    if a.units != b.units:
        raise ValueError(f"expected vitals of the same site, found {a.units} and {b.units} units")
    return Vitals(
        examples=a.examples + b.examples,
        fired=a.fired + b.fired,
        railed=a.railed + b.railed,
        z_min=np.minimum(a.z_min, b.z_min),
        z_max=np.maximum(a.z_max, b.z_max),
        h_min=np.minimum(a.h_min, b.h_min),
        h_max=np.maximum(a.h_max, b.h_max),
        h_abs=a.h_abs + b.h_abs,
        z_sum=a.z_sum + b.z_sum,
        z_sq=a.z_sq + b.z_sq,
        twin=meet(a.twin, b.twin),
        nonfinite=a.nonfinite | b.nonfinite,
        ignored=a.ignored & b.ignored,
        gradient=np.fmax(a.gradient, b.gradient),
        update=np.fmax(a.update, b.update),
    )


@dataclass(frozen=True)
class Ledger:
    """When each unit of one site last showed life, and how much silence has been witnessed since.

    Attributes:
        last_life: Last step on which the unit showed life; -1 when it never did. Steps count from
            0: step t is the forward and backward pass before the (t+1)-th update.
        first_silent: First exam after ``last_life`` that found the unit silent; -1 when none did.
        silent_examples: Examples witnessed since ``last_life`` in which the unit did not fire.
        exact: ``last_life`` comes from a trusted pulse, so ``last_life + 1`` is the first silent
            step. Otherwise the first silent step lies in ``(last_life, first_silent]``.
    """

    last_life: Int
    first_silent: Int
    silent_examples: npt.NDArray[np.int64]
    exact: Bool

    @classmethod
    def empty(cls, units: int) -> Ledger:
        """A ledger before the first step."""
        return cls(
            last_life=np.full(units, -1, np.int32),
            first_silent=np.full(units, -1, np.int32),
            silent_examples=np.zeros(units, np.int64),
            exact=np.zeros(units, bool),
        )


def pack(record: Vitals | Ledger) -> bytes:
    """The arrays of ``record`` as bytes, in the order of its fields (see :func:`unpack`)."""
    values = (getattr(record, field.name) for field in fields(record))
    return b"".join(
        np.int64(value).tobytes() if isinstance(value, int) else value.tobytes() for value in values
    )


def unpack(kind: type[Vitals] | type[Ledger], units: int, blob: bytes) -> Vitals | Ledger:
    """The record that :func:`pack` wrote.

    Raises:
        ValueError: When ``blob`` is not such a record for this many units.
    """
    template = kind.empty(units)
    offset = 0
    found: dict[str, object] = {}
    for field in fields(template):
        value = getattr(template, field.name)
        if isinstance(value, int):
            found[field.name] = int(np.frombuffer(blob, np.int64, 1, offset)[0])
            offset += 8
        else:
            found[field.name] = np.frombuffer(blob, value.dtype, units, offset).copy()
            offset += units * value.dtype.itemsize
    if offset != len(blob):
        raise ValueError(f"expected {offset} bytes for {units} units, found {len(blob)}")
    return replace(template, **found)  # type: ignore[arg-type]
