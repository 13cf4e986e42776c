"""Why each dead unit died, and the numbers that say so.

The change of a unit's mean pre-activation between the last exam before its death and the first
after it is the sum of what bias, weights and inputs did (:mod:`flatline.sense.drift`); the steps
around the death say whether one update did it. The first rule that holds names the cause, from the
most certain evidence to the least; where none holds, the cause is unknown, and the numbers are kept
all the same so that a reader can disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from flatline.diagnose.chart import Chart
from flatline.diagnose.context import Context
from flatline.diagnose.names import CAUSES, STATES
from flatline.diagnose.states import States
from flatline.sense.history import Autopsy

Double = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Long = npt.NDArray[np.int64]

#: Units that must die in one step before their number says anything of that step.
_BURST_UNITS = 3
#: Part of what moved z̄ towards silence that makes a term the mover.
_MOST = 0.5
#: Part of the change since the start below which the last change alone is not the story.
_STORY = 0.75
#: Spread of z, in spreads at the start, of a unit whose inputs or weights have gone.
_GONE = 0.01
#: Shift by one update, in spreads of z, of which a few make a death.
_SOME = 0.3
#: How many are a few.
_FEW = 3


@dataclass(frozen=True)
class Causes:
    """Why units of one site died. All arrays have one entry per unit.

    Attributes:
        code: Index into :data:`~flatline.diagnose.names.CAUSES`; -1 for a unit that is neither
            dead nor saturated nor without numbers.
        evidence: Numbers by name, see :class:`Case`; NaN where one is not known.
    """

    code: npt.NDArray[np.int8]
    evidence: Mapping[str, Double]

    def of(self, unit: int) -> str | None:
        """The cause of one unit; ``None`` for a unit of which there is none to tell."""
        return CAUSES[self.code[unit]] if self.code[unit] >= 0 else None

    def numbers(self, unit: int) -> dict[str, float]:
        """What is known about the death of one unit."""
        found = {name: float(values[unit]) for name, values in self.evidence.items()}
        return {name: value for name, value in found.items() if np.isfinite(value)}


@dataclass(frozen=True)
class Case:
    """The evidence on dead units of one site, one entry per dead unit; NaN where not known.

    Attributes:
        z_change: Change of z̄ between the exams around the death.
        bias: Part of it from the bias.
        weight: Part of it from the weights.
        input: Part of it from the inputs.
        bias_share: Share of the bias in what moved z̄ towards silence: since the exam before, or
            since the start where most of the way was made earlier.
        weight_share: Share of the weights.
        input_share: Share of the inputs.
        shift: What one update moved z̄, in spreads of z: the mean over the steps between the
            exams, or the largest that was measured at the site, whichever is more.
        jump: The mean over the steps, in spreads at the start.
        leaps: How many shifts of that size make up what weights and bias did since the start.
        update: Largest relative update of the site's weights that was measured meanwhile.
        lr: Learning rate of the fatal update.
        gradient_ratio: Gradient norm at the fatal update, in medians of the steps before.
        loss_ratio: Loss after the fatal update, in medians of the steps before.
        burst: Share of the site's units that died in the same step.
        upstream: Share of the units upstream that may have been dead by then, and are.
        upstream_before: Share of those that were known to be dead just before.
        site_before: The same as the first of the two, of the site just before in the forward pass.
        shrinkage: Spread of z after the death, in spreads at the start.
        decay: Factor by which decay alone had shrunk the weights since the start.
        decay_ratio: Pull of the decay on the weights, in pulls of the loss.
        data_shift: Change of the data's means since the start, in standard deviations.
    """

    z_change: Double
    bias: Double
    weight: Double
    input: Double
    bias_share: Double
    weight_share: Double
    input_share: Double
    shift: Double
    jump: Double
    leaps: Double
    update: Double
    lr: Double
    gradient_ratio: Double
    loss_ratio: Double
    burst: Double
    upstream: Double
    upstream_before: Double
    site_before: Double
    shrinkage: Double
    decay: Double
    decay_ratio: Double
    data_shift: Double


def attribute(chart: Chart) -> dict[str, Causes]:
    """The cause of every death, by site.

    Example:
        >>> attribute(Chart([]))
        {}
    """
    context = Context(chart.history)
    return {states.site.name: _site(chart, context, states) for states in chart}


def _site(chart: Chart, context: Context, states: States) -> Causes:
    code = np.full(len(states.code), -1, np.int8)
    code[states.code == STATES.index("nonfinite")] = CAUSES.index("non-finite")
    code[states.code == STATES.index("saturated")] = CAUSES.index("saturation")
    units = np.flatnonzero(states.code == STATES.index("dead"))
    if not len(units) or not states.watched:
        code[units] = CAUSES.index("unknown")
        return Causes(code, {})
    case = _case(chart, context, states, units)
    rules = _rules(chart, states, units, case)
    which = np.select([holds for _, holds in rules], np.arange(len(rules)), default=len(rules))
    names = [*(name for name, _ in rules), "unknown"]
    code[units] = np.array([CAUSES.index(name) for name in names], np.int8)[which]
    evidence: dict[str, Double] = {}
    for entry in fields(case):
        whole = np.full(len(code), np.nan)
        whole[units] = getattr(case, entry.name)
        evidence[entry.name] = whole
    return Causes(code, evidence)


def _rules(chart: Chart, states: States, units: Long, case: Case) -> list[tuple[str, Bool]]:
    """Each cause with the units it may be of; the first that holds counts."""
    limits = chart.thresholds
    with np.errstate(invalid="ignore", divide="ignore"):
        unknown = np.isnan(case.bias_share)
        inputs = case.input_share >= _MOST
        own = case.bias_share + case.weight_share
        ordered = case.upstream_before >= limits.upstream_share
        gone = case.shrinkage <= _GONE
        # A unit whose z varies as it did at the start still has inputs.
        ordered &= ~(case.shrinkage > 1) | ~(own >= _MOST)
        starved = case.upstream >= limits.upstream_share
        starved &= ordered | inputs | unknown | gone
        fewer = case.upstream - case.upstream_before >= 1 - limits.upstream_share
        starved |= inputs & fewer & (case.upstream >= _MOST)
        # Where no parameter shows who is read, as behind two linear maps.
        unseen = np.isnan(case.upstream) & (case.site_before >= limits.upstream_share)
        starved |= unseen & gone
        collapsed = case.shrinkage <= limits.shrinkage
        part = np.log(case.decay) / np.log(case.shrinkage)
        # Decay shrinks the layers before as well, and z by the product.
        by_decay = (part >= limits.decay_share) | (gone & (part >= limits.decay_share / 2))
        by_decay |= case.decay_ratio >= 1
        decayed = collapsed & by_decay
        # Where a spread has gone to nothing, any step is large beside it: others must say so.
        some = case.shift >= _SOME
        violent = (case.gradient_ratio >= limits.spike_ratio) & some
        violent |= (case.shift >= limits.large_shift) & ~gone
        large = (case.update >= limits.large_update) | (case.jump >= limits.large_shift)
        violent |= some & large & (own >= _MOST)
        several = case.burst * len(states.code) >= _BURST_UNITS
        abrupt = some & (case.leaps <= _FEW)
        abrupt |= several & (case.burst >= limits.burst_share) & (some | np.isnan(case.shift))
        abrupt |= case.gradient_ratio >= limits.spike_ratio
        shifted = case.data_shift >= limits.data_shift
        return [
            ("saturation", np.full(len(units), states.pinned)),
            ("born-dead", states.last_life[units] < 0),
            ("step-too-large", violent & ~decayed),
            ("upstream-death", starved),
            ("weight-decay", decayed),
            ("input-shift", shifted & (inputs | unknown)),
            ("step-too-large", abrupt),
            ("input-shift", inputs),
            ("bias-drift", (case.bias_share >= case.weight_share) & (own >= _MOST)),
            ("weight-drift", own >= _MOST),
        ]


def _case(chart: Chart, context: Context, states: States, units: Long) -> Case:
    site, history = states.site, chart.history
    terms = _terms(history.autopsies.get(site.name, Autopsy.empty()), units)
    died, after = states.since_step[units], np.maximum(states.since_after[units], 0)
    shares = _shares(states, terms)
    above = [chart.of(name) for name in chart.upstream[site.name]]
    exam = np.where(np.isfinite(terms["before"]), terms["before"], after)
    with np.errstate(invalid="ignore", divide="ignore"):
        shrinkage = terms["spread_after"] / terms["spread_first"]
        moved = np.abs(terms["bias"] + terms["weight"])
        moved /= np.maximum(terms["step"] - terms["before"], 1)
        rate, jump = moved / terms["spread_before"], moved / terms["spread_first"]
        measured = context.largest(site.name, "shift_high", exam, died - 1)
        shift = np.fmax(rate, measured)
        ever = np.abs(terms["bias_first"] + terms["weight_first"]) / terms["spread_first"]
        leaps = ever / shift
    return Case(
        z_change=terms["z_after"] - terms["z_before"],
        bias=terms["bias"],
        weight=terms["weight"],
        input=terms["input"],
        bias_share=shares[0],
        weight_share=shares[1],
        input_share=shares[2],
        shift=shift,
        jump=jump,
        leaps=leaps,
        update=context.largest(site.name, "update_ratio", exam, died - 1),
        lr=context.lr(after),
        gradient_ratio=context.gradient_ratio(after, died),
        loss_ratio=context.loss_ratio(after, died),
        burst=_burst(states, units),
        upstream=_dead_by(above, died, possible=True),
        upstream_before=_dead_by(above, np.minimum(died - 1, exam)),
        site_before=_dead_by(_site_before(chart, states), died, possible=True),
        shrinkage=shrinkage,
        decay=context.decayed(site.name, died),
        decay_ratio=context.largest(site.name, "decay_ratio", exam, died - 1),
        data_shift=context.data_shift(exam, terms["step"]),
    )


def _terms(autopsy: Autopsy, units: Long) -> dict[str, Double]:
    """Numbers of the autopsy for these units; NaN where there was none."""
    place = np.searchsorted(autopsy.units, units)
    known = place < len(autopsy.units)
    known[known] = autopsy.units[place[known]] == units[known]
    found = {}
    for entry in fields(autopsy):
        column = np.full(len(units), np.nan)
        column[known] = getattr(autopsy, entry.name)[place[known]]
        found[entry.name] = column
    return found


def _shares(states: States, terms: Mapping[str, Double]) -> Double:
    """Shares of bias, weights and inputs in what moved z̄ towards silence, ``(3, units)``."""
    lately = np.stack([terms["bias"], terms["weight"], terms["input"]])
    ever = np.stack([terms["bias_first"], terms["weight_first"], terms["input_first"]])
    with np.errstate(invalid="ignore", divide="ignore"):
        # A unit above the last place where the activation bends was driven up.
        way = np.where(terms["z_after"] > states.site.activation.fires[-1][1], 1.0, -1.0)
        whole = np.isfinite(ever.sum(axis=0))
        early = whole & (way * lately.sum(axis=0) < _STORY * way * ever.sum(axis=0))
        towards = np.maximum(way * np.where(early, ever, lately), 0)
        return np.asarray(towards / towards.sum(axis=0))


def _burst(states: States, units: Long) -> Double:
    """Share of the site's units that died in the same step; only exact steps can coincide."""
    step, exact = states.since_step[units], states.since_exact[units]
    _, inverse, count = np.unique(step, return_inverse=True, return_counts=True)
    return np.where(exact, count[inverse] / len(states.code), np.nan)


def _site_before(chart: Chart, states: States) -> list[States]:
    """The site just before one; none before the first."""
    return [before for before, after in pairwise(chart.states) if after is states]


def _dead_by(
    above: Sequence[States], step: npt.NDArray[np.generic], *, possible: bool = False
) -> Double:
    """Share of the units of some sites that were dead at each of the steps, or may have been."""
    if not above:
        return np.full(len(step), np.nan)
    known = [one.since_after + 1 if possible else one.since_step for one in above]
    dead = [
        since[one.code == STATES.index("dead")] for one, since in zip(above, known, strict=True)
    ]
    born = np.sort(np.concatenate(dead))
    total = sum(len(one.code) for one in above)
    return np.searchsorted(born, step.astype(np.float64), side="right") / total
