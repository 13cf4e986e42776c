"""From what exams wrote of deaths to the autopsy of each dead unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flatline.sense.history import Autopsy, Float, Int

#: What :class:`Deaths` holds of each unit, in this order.
TERMS = (
    "z_before", "z_after", "spread_before", "spread_after", "bias", "weight", "input", "b_after",
    "wx_first",
)  # fmt: skip


class Deaths(NamedTuple):
    """Units that an exam found silent, and how they came there.

    Attributes:
        step: The exam.
        before: The exam before it.
        units: Which units, rising.
        terms: Numbers of :data:`TERMS`, shape ``(terms, units)``, perhaps flat.
    """

    step: int
    before: int
    units: Int
    terms: Float


def autopsy(deaths: Sequence[Deaths], first: int, birth: Float | None, units: int) -> Autopsy:
    """The last death of every unit that died, with what moved since the site's first exam.

    Args:
        deaths: Deaths of one site in the order in which they were found.
        first: The site's first exam.
        birth: What :attr:`flatline.sense.drift.Drift.birth` held; ``None`` where it was not kept.
        units: Number of units of the site.
    """
    if not deaths:
        return Autopsy.empty()
    counts = [len(one.units) for one in deaths]
    which = np.concatenate([one.units for one in deaths])
    terms = np.concatenate([one.terms.reshape(len(TERMS), -1) for one in deaths], axis=1)
    step = np.repeat([one.step for one in deaths], counts).astype(np.int32)
    before = np.repeat([one.before for one in deaths], counts).astype(np.int32)
    # Of the entries of one unit the last one stays.
    _, last = np.unique(which[::-1], return_index=True)
    kept = len(which) - 1 - last
    which, terms, step, before = which[kept], terms[:, kept], step[kept], before[kept]
    named = dict(zip(TERMS, terms, strict=True))
    b_after, wx_first = named.pop("b_after"), named.pop("wx_first")
    if birth is None or len(birth) != 3 * units:
        birth = np.full(3 * units, np.nan, np.float32)
    z_first, b_first, spread_first = birth.reshape(3, units)[:, which]
    return Autopsy(
        units=which,
        step=step,
        before=before,
        first=np.full(len(which), first, np.int32),
        z_first=z_first,
        spread_first=spread_first,
        bias_first=b_after - b_first,
        weight_first=wx_first - (z_first - b_first),
        input_first=named["z_after"] - b_after - wx_first,
        **named,
    )
