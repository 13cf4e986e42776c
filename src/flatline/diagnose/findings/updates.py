"""What is wrong with the updates beside their size: old gradients, and decay that wins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flatline.diagnose.chart import Chart
from flatline.diagnose.context import Context
from flatline.diagnose.findings.base import Finding, finding
from flatline.diagnose.findings.harm import harm
from flatline.diagnose.states import States


@finding("stale-gradients")
def stale_gradients(chart: Chart) -> Finding | None:
    """Gradients that are never reset between two updates, and so pile up.

    Evidence: in several updates in a row the gradients of the update before were still there, to
    the bit, when the next backward pass began and added to them. Threshold: three updates; critical
    where the run did not learn. Avoids: accumulation on purpose, where several backward
    passes share one update; optimizers that take turns; gradients that are set by hand.
    """
    note = chart.history.last("stale")
    if note is None:
        return None
    return Finding(
        "stale-gradients",
        harm(chart),
        (),
        1.0,
        f"gradients were not reset between {note['steps']:,} updates of {note['optimizer']} in a "
        "row; call optimizer.zero_grad() before each backward pass",
        {"updates": float(note["steps"])},
        explains=(
            *("exploding-gradient", "learning-rate-too-high", "non-finite", "no-learning"),
            *("dying-relu", "saturation", "upstream-death", "rank-collapse"),
        ),
    )


@dataclass(frozen=True)
class _Withered:
    """A site whose weights decay has driven to nothing."""

    states: States
    weights: float
    signal: float
    by_decay: float
    pull: float


@finding("weight-decay-collapse")
def weight_decay_collapse(chart: Chart) -> Finding | None:
    """Weights that decay drives to 0 against the loss.

    Evidence: per site, weights and pre-activations now, in those at the start; what decay alone
    would have left of the weights; its pull on them in pulls of the loss. Threshold: weights below
    10 % of their start, pre-activations below half of theirs, and at least half of that by decay or
    a pull above that of the loss; critical where the run did not learn.
    Avoids: weights that shrink slowly while the loss falls (AdamW at 0.01, SGD at 5e-4); layers
    under a normalisation, whose weights may shrink without any effect; and weights that the loss
    itself makes small.
    """
    context = Context(chart.history)
    hit = [one for states in chart if (one := _withered(chart, context, states)) is not None]
    if not hit:
        return None
    worst = min(hit, key=lambda one: one.weights)
    others = f"; the same in {len(hit) - 1:,} more sites" if len(hit) > 1 else ""
    decay = _number(chart, worst.states.site.name, "decay")
    return Finding(
        "weight-decay-collapse",
        harm(chart),
        tuple(one.states.site.name for one in sorted(hit, key=lambda one: one.weights)),
        len(hit) / len(chart.states),
        f"weight decay has driven the weights of site {worst.states.site.name} to "
        f"{worst.weights:.1%} of what they were at the start, and its pre-activations to "
        f"{worst.signal:.1%}{others}",
        {
            "weights": worst.weights,
            "pre_activations": worst.signal,
            **({"by_decay": worst.by_decay} if np.isfinite(worst.by_decay) else {}),
            **({"decay_ratio": worst.pull} if np.isfinite(worst.pull) else {}),
            **({"decay": decay} if np.isfinite(decay) else {}),
        },
        explains=(
            *("dying-relu", "upstream-death", "vanishing-gradient", "rank-collapse"),
            *("learning-rate-too-low", "no-learning"),
        ),
    )


def _withered(chart: Chart, context: Context, states: States) -> _Withered | None:
    limits, name = chart.thresholds, states.site.name
    weights, signal = _remaining(chart, name, "weight_rms"), _remaining(chart, name, "z_rms")
    if not (weights <= limits.withered and signal <= limits.shrinkage):
        return None
    step = chart.history.measure(name, "weight_rms")[0][-1:]
    left = float(context.decayed(name, step)[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        by_decay = float(np.log(left) / np.log(weights)) if weights > 0 else float(left < 1)
    pull = float(context.largest(name, "decay_ratio", np.zeros(1), step)[0])
    if not (by_decay >= limits.decay_share or pull >= 1):
        return None
    return _Withered(states, weights, signal, by_decay, pull)


def _remaining(chart: Chart, site: str, measure: str) -> float:
    """What is left of a measure, in what it was at the first exam; NaN where not known."""
    _, values = chart.history.measure(site, measure)
    return float(values[-1] / values[0]) if len(values) > 1 and values[0] > 0 else np.nan


def _number(chart: Chart, site: str, measure: str) -> float:
    _, values = chart.history.measure(site, measure)
    return float(values[-1]) if len(values) else np.nan
