"""The words that reports and rules are made of; importing them loads nothing else.

A rule is checked before a program starts, and the program must be the first to load NumPy.
"""

from __future__ import annotations

#: In the order in which they are checked: the first that holds is the state.
STATES = (
    "nonfinite",
    "unvisited",
    "dead",
    "saturated",
    "constant",
    "duplicate",
    "starved",
    "dormant",
    "ignored",
    "linear",
    "healthy",
)
SICK = frozenset({"nonfinite", "dead", "saturated", "constant", "duplicate", "starved"})

SEVERITIES = ("info", "warning", "critical")
#: Every code that a finding may have, now or later.
CODES = (
    "zero-init",
    "init-too-small",
    "init-too-large",
    "born-dead",
    "dying-relu",
    "saturation",
    "vanishing-gradient",
    "exploding-gradient",
    "learning-rate-too-high",
    "learning-rate-too-low",
    "unscaled-input",
    "upstream-death",
    "weight-decay-collapse",
    "frozen-parameters",
    "non-finite",
    "missing-nonlinearity",
    "duplicate-units",
    "dormant-units",
    "ignored-units",
    "linear-units",
    "unvisited-units",
    "output-activation",
    "stale-gradients",
    "no-learning",
    "rank-collapse",
    "constant-input",
)

#: Every cause of an individual death.
CAUSES = (
    "born-dead",
    "step-too-large",
    "bias-drift",
    "weight-drift",
    "input-shift",
    "upstream-death",
    "weight-decay",
    "saturation",
    "non-finite",
    "unknown",
)
