"""What dead units cost, measured: expressive power, training time, overfitting.

Nothing here says that something is wrong; findings do. Every number has its unit and its
definition in :data:`MEANINGS`, which reports print beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flatline.diagnose.chart import Chart
from flatline.diagnose.states import States
from flatline.sense.history import History
from flatline.sense.vitals import Vitals

Points = Sequence[tuple[int, float | None]]

#: Unit and definition of each number.
MEANINGS: dict[str, tuple[str, str]] = {
    "live_width": ("units", "units that are neither dead nor constant nor copies of another"),
    "effective_rank": (
        "directions",
        "exp of the entropy of the normalised singular values of the activations (Roy & Vetterli "
        "2007), over rank_rows examples of one exam",
    ),
    "stable_rank": (
        "directions",
        "sum of the squared singular values of the activations by the largest one",
    ),
    "participation": (
        "directions",
        "squared sum of the squared singular values of the activations by the sum of their squares",
    ),
    "rank_rows": ("examples", "examples behind the ranks, which no rank can exceed"),
    "dead_parameters": (
        "parameters",
        "parameters that make or read dead units; one between two dead units counts at both",
    ),
    "dead_multiply_adds": (
        "multiply-adds per example",
        "multiply-adds that make or read dead units, at least",
    ),
    "signal_lost": (
        "share",
        "part of the squared gradient arriving at the site's outputs that ends at units which "
        "fired on no example of the last exam",
    ),
    "live_update_ratio": (
        "relative",
        "median over live units of rms(update) / rms(weights) in one optimizer step, the largest "
        "in the last windows of exams",
    ),
    "gini": (
        "0 to 1",
        "Gini coefficient over units of largest outgoing weight times mean output; 0 when all "
        "units count alike",
    ),
    "top_share": ("share", "part of that influence which the top tenth of the units has"),
    "ablated_quarter": (
        "the loss's own",
        "growth of the loss when a quarter of the live units, taken at random, give 0",
    ),
    "ablated_half": ("the loss's own", "the same for a half of them"),
    "gap": (
        "the metric's own",
        "validation less training, for an accuracy training less validation, at the last "
        "validation; of training the mean since the validation before",
    ),
}
#: Names of metrics that are the better the larger they are.
_RISING = re.compile(
    r"acc|auc|f1|precision|recall|score|bleu|iou|dice|map|r2|reward|return", re.IGNORECASE
)
_HELD_OUT = re.compile(r"^(?:val|valid|validation|test|eval|dev)[_/.\- ]+(.+)$", re.IGNORECASE)
_TRAINING = ("train_{}", "train/{}", "train.{}", "training_{}", "{}")


@dataclass(frozen=True)
class Impact:
    """What the dead units of one site cost; ``None`` where it was not measured.

    The fields are defined in :data:`MEANINGS`.
    """

    live_width: int = 0
    stable_rank: float | None = None
    participation: float | None = None
    rank_rows: float | None = None
    dead_parameters: int | None = None
    dead_multiply_adds: int | None = None
    signal_lost: float | None = None
    live_update_ratio: float | None = None
    gini: float | None = None
    top_share: float | None = None
    ablated_quarter: float | None = None
    ablated_half: float | None = None


#: Taken from the exams as they are.
_MEASURED = (
    *("stable_rank", "participation", "rank_rows", "signal_lost", "gini", "top_share"),
    *("ablated_quarter", "ablated_half"),
)
_SIZES = ("fed", "read", "fed_adds", "read_adds")


def of_site(states: States, measured: Mapping[str, float], vitals: Vitals | None) -> Impact:
    """What the dead units of a site cost.

    Args:
        states: The states of its units.
        measured: What exams measured last of the site, see :func:`latest`.
        vitals: What the last windows say of it.
    """
    dead = states.are("dead")
    number = int(dead.sum())
    known = "fed" in measured
    fed, read, fed_adds, read_adds = (measured.get(name, 0.0) for name in _SIZES)
    return Impact(
        live_width=int((~states.are("dead", "constant", "duplicate")).sum()),
        dead_parameters=round(number * (fed + read)) if known else None,
        dead_multiply_adds=round(number * (fed_adds + read_adds)) if known else None,
        live_update_ratio=_update(vitals, ~dead),
        **{name: measured.get(name) for name in _MEASURED},
    )


def latest(history: History) -> dict[str, dict[str, float]]:
    """Per site, the last finite value of everything that exams measured.

    Example:
        >>> exams = [(0, {"a": {"gini": 0.5}}), (1, {"a": {"gini": float("nan")}})]
        >>> latest(History(exams=exams))
        {'a': {'gini': 0.5}}
    """
    found: dict[str, dict[str, float]] = {}
    for _, sites in history.exams:
        for name, values in sites.items():
            known = ((key, value) for key, value in values.items() if math.isfinite(value))
            found.setdefault(name, {}).update(known)
    return found


def _update(vitals: Vitals | None, live: npt.NDArray[np.bool_]) -> float | None:
    if vitals is None:
        return None
    updates = vitals.update[live & np.isfinite(vitals.update)]
    return float(np.median(updates)) if len(updates) else None


@dataclass(frozen=True)
class Gap:
    """How far a metric on data that is held out lies from the same on training data.

    Attributes:
        metric: Name of the metric on held-out data.
        training: Name of its counterpart.
        step: The last validation.
        value: Its value there.
        training_value: Mean of the counterpart since the validation before.
        gap: How much worse the held-out value is.
        best: The best held-out value.
        best_step: Where it was.
    """

    metric: str
    training: str
    step: int
    value: float
    training_value: float
    gap: float
    best: float
    best_step: int


@dataclass(frozen=True)
class Cost:
    """What dead units cost the model as a whole.

    Attributes:
        dead: Units called dead.
        dead_parameters: Parameters that make or read dead units, each counted once.
        parameters: Parameters of the model; ``None`` where nobody counted them.
        dead_multiply_adds: Multiply-adds per example that make or read dead units, at least, each
            counted once.
        gaps: Validation against training, for each metric that has both.
    """

    dead: int = 0
    dead_parameters: int = 0
    parameters: int | None = None
    dead_multiply_adds: int = 0
    gaps: tuple[Gap, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The part ``impact`` of the JSON report."""
        return {
            **vars(self),
            "gaps": [vars(gap) for gap in self.gaps],
            "definitions": {
                name: {"unit": unit, "means": means} for name, (unit, means) in MEANINGS.items()
            },
        }


def cost(chart: Chart, metrics: Mapping[str, Points]) -> Cost:
    """What dead units cost the model as a whole.

    A weight between two dead units belongs to both; it is counted where it makes one, and left out
    where it reads the other.

    Args:
        chart: The states of all sites.
        metrics: Training and validation metrics by name.
    """
    parameters = adds = 0.0
    measured = latest(chart.history)
    for states in chart:
        number = int(states.are("dead").sum())
        if not number:
            continue
        known = measured.get(states.site.name, {})
        fed, read, fed_adds, read_adds = (known.get(name, 0.0) for name in _SIZES)
        live = 1 - _dead_downstream(chart, states)
        parameters += number * (fed + read * live)
        adds += number * (fed_adds + read_adds * live)
    note = chart.history.last("parameters") or {}
    return Cost(
        dead=sum(int(states.are("dead").sum()) for states in chart),
        dead_parameters=round(parameters),
        parameters=note.get("elements"),
        dead_multiply_adds=round(adds),
        gaps=gaps(metrics),
    )


def _dead_downstream(chart: Chart, states: States) -> float:
    """Share of dead units among those that read a site."""
    below = [
        other.are("dead")
        for other in chart
        if other is not states and set(other.site.feeds) & set(states.site.reads)
    ]
    return float(np.concatenate(below).mean()) if below else 0.0


def gaps(metrics: Mapping[str, Points]) -> tuple[Gap, ...]:
    """Validation against training, for each metric that has both.

    ``val_loss`` is held against ``train_loss`` where there is one, else against ``loss``.

    Example:
        >>> loss = [(step, 1.0 - step / 10) for step in range(10)]
        >>> (gap,) = gaps({"loss": loss, "val_loss": [(4, 0.9), (9, 1.1)]})
        >>> round(gap.gap, 3), gap.best_step
        (0.8, 4)
    """
    found = [_gap(name, points, metrics) for name, points in metrics.items()]
    return tuple(one for one in found if one is not None)


def rises(name: str) -> bool:
    """Whether a metric is the better the larger it is, by its name.

    Example:
        >>> rises("val_accuracy"), rises("val_loss")
        (True, False)
    """
    return _RISING.search(name) is not None


def _gap(name: str, points: Points, metrics: Mapping[str, Points]) -> Gap | None:
    held_out = _HELD_OUT.match(name)
    values = _finite(points)
    if held_out is None or not values:
        return None
    names = [pattern.format(held_out[1]) for pattern in _TRAINING]
    training = next((one for one in names if one != name and _finite(metrics.get(one, ()))), None)
    if training is None:
        return None
    step, value = values[-1]
    since = max((s for s, _ in values if s < step), default=-1)
    known = _finite(metrics[training])
    near = [v for s, v in known if since < s <= step] or [v for s, v in known if s <= step][-1:]
    if not near:
        return None
    mean = float(np.mean(near))
    rising = rises(name)
    pick = max if rising else min
    best_step, best = pick(values, key=lambda pair: pair[1])
    return Gap(
        metric=name,
        training=training,
        step=step,
        value=value,
        training_value=mean,
        gap=mean - value if rising else value - mean,
        best=best,
        best_step=best_step,
    )


def _finite(points: Points) -> list[tuple[int, float]]:
    """Points with a number, by step."""
    kept = [(step, float(v)) for step, v in points if v is not None and np.isfinite(v)]
    return sorted(kept, key=lambda pair: pair[0])
