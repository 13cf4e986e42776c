"""What the architecture cannot do: maps that are one map, and outputs that miss their targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import SEVERITIES, Finding, finding
from flatline.diagnose.findings.harm import harm

Evidence = Mapping[str, Any]
#: A severity and what is wrong.
Complaint = tuple[str, str]


@finding("missing-nonlinearity")
def missing_nonlinearity(chart: Chart) -> Finding | None:
    """Two linear maps with nothing between them.

    Evidence: the operators of an examined step. Threshold: any pair; critical where the whole
    network is linear so and did not learn. Avoids: bottlenecks, which are narrower than both ends
    and make a map of lower rank on purpose (adapters, factorised embeddings, linear autoencoders);
    convolutions in groups, of which two make a separable one; and pairs between which anything but
    views and dropout lies, or whose first output something else reads as well.
    """
    note = chart.history.last("stacked")
    if note is None:
        return None
    widths, groups = note["widths"], note["groups"]
    pairs = [
        pair
        for pair, (before, between, after), group in zip(note["pairs"], widths, groups, strict=True)
        if between >= min(before, after) and max(group) == 1
    ]
    if not pairs:
        return None
    whole = not chart.states
    named = ", ".join(f"{first} → {second}" for first, second in pairs[:3])
    more = f" and {len(pairs) - 3:,} more" if len(pairs) > 3 else ""
    where = "the whole network is one linear map" if whole else "each pair is one linear map"
    return Finding(
        "missing-nonlinearity",
        harm(chart) if whole else "warning",
        (),
        len(pairs) / (len(pairs) + len(chart.states)),
        f"no nonlinearity lies between {named}{more}, so {where}",
        {"pairs": float(len(pairs)), "sites": float(len(chart.states))},
        explains=("no-learning", "rank-collapse") if whole else (),
    )


@finding("output-activation")
def output_activation(chart: Chart) -> Finding | None:
    """A last nonlinearity that cannot give what the loss asks for.

    Evidence: the operators between the last layer and the loss, and the range of the targets.
    Threshold: where the gradient is always 0 or part of the targets lies outside the range of the
    outputs (a warning from 5 % of their range, critical from 30 %), whatever the loss did; where
    outputs merely fit the loss badly, a warning, and critical in a run that did not learn. Avoids:
    outputs behind a scale or an offset, whose range is not the table's; targets on the edge of the
    range (0 and 1 for a sigmoid); ReLU on targets that are never negative; a log-softmax given to
    cross-entropy, which changes nothing; and whatever could not be followed.
    """
    note = chart.history.last("loss")
    if note is None:
        return None
    found = [said for rule in _RULES if (said := rule(chart, note)) is not None]
    if not found:
        return None
    severity, says = max(found, key=lambda one: SEVERITIES.index(one[0]))
    outputs = tuple(
        site.name for site in chart.sites if not site.reads and site.activation.name == note["last"]
    )
    symptoms = ("frozen-parameters", "vanishing-gradient", "learning-rate-too-low", "no-learning")
    return Finding(
        "output-activation",
        severity,
        outputs,
        1.0,
        says,
        {name: float(note[name]) for name in _NUMBERS if note.get(name) is not None},
        explains=(*symptoms, "saturation") if outputs else symptoms,
    )


_NUMBERS = (
    *("width", "output_low", "output_high", "output_spread"),
    *("target_low", "target_high", "target_classes", "target_off_one", "broadcast"),
)
#: What outputs can be, by the last nonlinearity.
_RANGES = {
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "relu": (0.0, math.inf),
    "softplus": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "logsigmoid": (-math.inf, 0.0),
    "log_softmax": (-math.inf, 0.0),
}
#: Losses that compare each output with a target of the same kind.
_COMPARING = ("mse", "l1", "smooth_l1", "bce")


def _of_one(chart: Chart, note: Evidence) -> Complaint | None:
    """A softmax over one entry is always 1."""
    if note["width"] != 1:
        return None
    if note["last"] in ("softmax", "log_softmax"):
        return "critical", "a softmax over one unit is always 1, so nothing behind it can learn"
    if note["own"] == "log_softmax":
        return "critical", "cross-entropy over one unit is always 0, so nothing can learn"
    return None


def _out_of_range(chart: Chart, note: Evidence) -> Complaint | None:
    """Targets that the last nonlinearity never reaches."""
    last, low, high = note["last"], note["target_low"], note["target_high"]
    if last not in _RANGES or note["op"] not in _COMPARING or note["scaled"] or low is None:
        return None
    least, most = _RANGES[last]
    beyond = max(least - low, 0.0) + max(high - most, 0.0)
    share = beyond / max(high - low, beyond, 1e-30)
    if share < chart.thresholds.out_of_reach:
        return None
    return _by_part(chart, share), (
        f"{last} gives {least:g} to {most:g}, and targets go from {low:.4g} to {high:.4g}: "
        f"{share:.0%} of their range is out of reach"
    )


def _shares_off_one(chart: Chart, note: Evidence) -> Complaint | None:
    """Outputs that add up to 1, and targets that do not."""
    off = note.get("target_off_one")
    sums = note["last"] == "softmax" or note["own"] == "log_softmax"
    if off is None or not sums or note["scaled"] or off < chart.thresholds.out_of_reach:
        return None
    return _by_part(chart, off), (
        f"outputs of a softmax add up to 1, and the targets of {off:.0%} of the examples do not"
    )


def _by_part(chart: Chart, share: float) -> str:
    return "critical" if share >= chart.thresholds.critical_share else "warning"


def _twice(chart: Chart, note: Evidence) -> Complaint | None:
    """Outputs that are bent before the loss bends them itself."""
    own, last = note["own"], note["last"]
    if note["scaled"] or own not in ("log_softmax", "sigmoid"):
        return None
    loss = "cross-entropy" if own == "log_softmax" else "binary cross-entropy"
    if last in ("softmax", "sigmoid", "hardsigmoid"):
        wanted = "softmax" if own == "log_softmax" else "sigmoid"
        return harm(chart), (
            f"{last} comes before a {loss} that takes a {wanted} itself: "
            "outputs between 0 and 1 leave it nearly undecided"
        )
    if last in ("relu", "relu6", "softplus"):
        return harm(chart), f"{last} on the logits of a {loss} cannot rule anything out"
    if last in ("tanh", "softsign"):
        return harm(chart), f"{last} keeps the logits of a {loss} within ±1, nearly undecided"
    return None


def _no_shares(chart: Chart, note: Evidence) -> Complaint | None:
    """A likelihood of outputs that are no shares of one."""
    if note["op"] != "nll" or note["last"] is None:
        return None
    last, width = note["last"], note["width"] or 0
    if note["own"] == "none" and last == "none":
        return "critical", "nll_loss wants logarithms of probabilities, and the outputs are linear"
    if note["own"] == "none" and last in ("softmax", "sigmoid"):
        return harm(chart), f"nll_loss wants logarithms of probabilities, and gets {last} itself"
    if note["own"] == "log" and width > 1 and last in ("relu", "tanh", "sigmoid"):
        # Sigmoids that are divided by their sum can be any shares, if not easily.
        mild = last == "sigmoid" and note["scaled"]
        return "warning" if mild else harm(chart), (
            f"a cross-entropy over {width} classes wants outputs that add up to 1, and gets {last}"
        )
    return None


_RULES: tuple[Callable[[Chart, Evidence], Complaint | None], ...] = (
    _of_one,
    _out_of_range,
    _shares_off_one,
    _twice,
    _no_shares,
)
