"""Numbers about each site as a whole, one row for every exam: pure functions of arrays."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from flatline.sense.vitals import Vitals

Array = npt.NDArray[np.floating]

#: Share of the most influential units whose part of all influence is told.
TOP = 0.1
#: Quantile of the units' shifts that stands for the large ones.
HIGH = 0.9


def measure(vitals: Vitals) -> dict[str, float]:
    """What one exam's vitals say of a site as a whole.

    Returns:
        ``batch``: examples. ``gradient_rms``: root mean square over units of the gradient of their
        weights. ``update_ratio``: median relative update. ``z_rms``: root mean square of z.
        ``z_spread``: the same without the mean of each unit. ``h_abs``: mean of |h|.
        ``firing``: mean firing rate.

    Example:
        >>> measure(Vitals.empty(2))["batch"]
        0
    """
    with np.errstate(invalid="ignore", over="ignore"):
        gradients = vitals.gradient[np.isfinite(vitals.gradient)]
        updates = vitals.update[np.isfinite(vitals.update)]
        examples = max(vitals.examples, 1)
        return {
            "batch": vitals.examples,
            "gradient_rms": float(np.sqrt(np.mean(gradients**2.0))) if len(gradients) else np.nan,
            "update_ratio": quantile(updates, 0.5) if len(updates) else np.nan,
            "z_rms": float(np.sqrt(np.mean(vitals.z_sq) / examples)),
            "z_spread": float(np.sqrt(np.mean(vitals.z_std.astype(np.float64) ** 2))),
            "h_abs": float(np.mean(vitals.h_abs) / examples),
            "firing": float(np.mean(vitals.fired) / examples),
        }


def shifts(shift: Array, spread: Array) -> dict[str, float]:
    """How far one update moved the mean pre-activations, in spreads of z.

    Args:
        shift: Change of z̄ of each unit by the update alone.
        spread: Standard deviation of z of each unit.

    Returns:
        ``shift``: the median over units; ``shift_high``: their 90 % quantile.

    Example:
        >>> shifts(np.array([-1.0, 0.5]), np.array([1.0, 1.0]))["shift"]
        0.75
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.abs(shift) / spread
    relative = relative[np.isfinite(relative)]
    if not len(relative):
        return {}
    return {"shift": quantile(relative, 0.5), "shift_high": quantile(relative, HIGH)}


def quantile(values: Array, share: float) -> float:
    """A quantile, with a line between the two nearest numbers.

    As ``numpy.quantile``, which imports ``numpy.ma`` at its first call: 10 ms and 3 MB in the
    middle of a training.

    Args:
        values: Numbers, at least one.
        share: Between 0 and 1.

    Example:
        >>> quantile(np.array([4.0, 1.0, 2.0]), 0.75)
        3.0
    """
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    parted = np.partition(values, (low, high))
    return float(parted[low] + (parted[high] - parted[low]) * (place - low))


def ranks(gram: Array) -> dict[str, float]:
    """How many directions the activations of some examples use.

    Args:
        gram: Products of the rows of activations with each other, flat.

    Returns:
        ``effective_rank``: ``exp`` of the entropy of the normalised singular values (Roy &
        Vetterli 2007). ``stable_rank``: sum of the squared singular values by the largest.
        ``participation``: squared sum of the squared singular values by the sum of their squares.
        ``rank_rows``: number of rows, which all of them cannot exceed.

    Example:
        >>> ranks(np.eye(3).ravel())["stable_rank"]
        3.0
    """
    side = math.isqrt(len(gram))
    if side == 0 or not np.isfinite(gram).all():
        return {}
    powers = np.linalg.eigvalsh(gram.reshape(side, side).astype(np.float64))
    # Single-precision products leave noise of about 1e-7 of the largest power.
    powers = powers[powers > 1e-6 * powers.max()] if powers.max() > 0 else powers[:0]
    if not len(powers):
        return {"effective_rank": 0.0, "stable_rank": 0.0, "participation": 0.0, "rank_rows": side}
    shares = np.sqrt(powers) / np.sqrt(powers).sum()
    return {
        "effective_rank": float(np.exp(-(shares * np.log(shares)).sum())),
        "stable_rank": float(powers.sum() / powers.max()),
        "participation": float(powers.sum() ** 2 / (powers**2).sum()),
        "rank_rows": side,
    }


def signal(power: Array, silent: npt.NDArray[np.bool_]) -> dict[str, float]:
    """How much gradient arrives at the outputs of a site, and how much of it is lost there.

    Args:
        power: Mean square, over examples and positions, of the gradient of each unit's output.
        silent: Units that fired on no example: their slope lets nothing pass.

    Returns:
        ``signal_rms``: root mean square over all units. ``signal_lost``: part of the sum of squares
        that arrives at silent units.

    Example:
        >>> signal(np.array([3.0, 1.0, 0.0]), np.array([False, True, True]))["signal_lost"]
        0.25
    """
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(power.sum())
        found = {"signal_rms": float(np.sqrt(power.mean()))}
    if np.isfinite(total) and total > 0:
        found["signal_lost"] = min(float(power[silent].sum() / total), 1.0)
    return found


def concentration(influence: Array) -> dict[str, float]:
    """How unevenly the units of a site influence what reads them.

    Args:
        influence: Largest outgoing weight times mean |h| of each unit; NaN where no reader shows.

    Returns:
        ``gini``: Gini coefficient over all units, 0 when all count alike. ``top_share``: part of
        all influence that the top tenth of the units has.

    Example:
        >>> concentration(np.array([0.0, 0.0, 0.0, 1.0]))
        {'gini': 0.75, 'top_share': 1.0}
    """
    known = np.sort(influence[np.isfinite(influence)].astype(np.float64))
    count, total = len(known), known.sum()
    if not count or not total > 0:
        return {}
    order = 2 * np.arange(1, count + 1) - count - 1
    top = known[count - max(1, math.ceil(TOP * count)) :]
    return {
        "gini": float((order * known).sum() / (count * total)),
        "top_share": float(top.sum() / total),
    }
