"""Every number that a diagnosis compares with, in one place.

Each can be set in ``pyproject.toml``::

    [tool.flatline]
    warning_share = 0.1

and a report prints those that differ from the default. The closed definitions of the states are a
contract, not a matter of taste, and cannot be set; they are in :mod:`flatline.diagnose.states`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from flatline.errors import UsageError


def _number(default: float, low: float, high: float, says: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "says": says})


@dataclass(frozen=True)
class Thresholds:
    """What findings compare with; the metadata of each field has its range and its meaning.

    Example:
        >>> Thresholds(warning_share=0.1).changed()
        {'warning_share': 0.1}
    """

    warning_share: float = _number(0.05, 0, 1, "share of a site's units for a warning")
    critical_share: float = _number(0.30, 0, 1, "share of a hidden site's units that is critical")
    critical_units: int = _number(8, 1, 1e9, "units a hidden site needs for a critical share")
    learned: float = _number(
        0.25, 0, 1, "part of the first loss that is gone at the end of a run that has learned"
    )
    idle_share: float = _number(
        0.05, 0, 1, "share of a model's parameters that cannot learn for a warning"
    )
    out_of_reach: float = _number(
        0.05, 0, 1, "part of the targets that the last nonlinearity cannot give, for a warning"
    )
    withered: float = _number(
        0.1, 0, 1, "weights, in those at the start, that decay has driven to nothing"
    )
    spike_ratio: float = _number(
        4, 1, 1e9, "gradient norm, in medians of the steps before, that counts as a spike"
    )
    burst_share: float = _number(
        0.1, 0, 1, "share of a site's units whose death in one step points at that step"
    )
    large_shift: float = _number(
        1, 0, 1e9, "change of z̄ by one update, in spreads of z, that counts as large"
    )
    decay_share: float = _number(0.5, 0, 1, "part of a shrinkage that decay must explain")
    shrinkage: float = _number(0.5, 0, 1, "spread of z, in spreads at the start, that is collapsed")
    upstream_share: float = _number(0.9, 0, 1, "share of dead units upstream that leaves no input")
    data_shift: float = _number(
        0.5, 0, 1e9, "change of the data's means, in standard deviations, that counts as a shift"
    )
    linear_share: float = _number(0.30, 0, 1, "share of linear units worth a note")
    small_gain: float = _number(
        0.75, 0, 1e9, "rms of weights times root of the fan-in, at the start, that is too small"
    )
    large_gain: float = _number(2.5, 0, 1e9, "the same, that is too large")
    large_rms: float = _number(5, 0, 1e9, "rms of z at the start that is too large")
    shrink: float = _number(
        0.1, 0, 1, "what is left of a moment behind the last layer that counts as shrunk"
    )
    vanishing_ratio: float = _number(
        0.01, 0, 1, "gradient at the first site, in that at a later one, that has vanished"
    )
    vanishing_update: float = _number(
        1e-4, 0, 1, "relative update of the first layer that no longer moves it"
    )
    exploding_ratio: float = _number(
        30, 1, 1e9, "gradient or loss, in medians of the steps before, that has exploded"
    )
    large_update: float = _number(0.1, 0, 1e9, "relative update of a weight matrix that is large")
    raised_rate: float = _number(
        3, 1, 1e9, "learning rate, in medians of the steps before, that was raised"
    )
    small_update: float = _number(1e-5, 0, 1, "relative update of all matrices that is too small")
    short_way: float = _number(
        0.15, 0, 1e9, "change of a weight matrix in a whole training, in itself, that is too small"
    )
    steady_pace: float = _number(
        0.5, 0, 1e9, "pace of a loss at the end, in that at the start, that has not slowed down"
    )
    offset: float = _number(
        4, 0, 1e9, "squared mean of the inputs, in their variances, that is far from centred"
    )
    input_rms: float = _number(10, 0, 1e9, "rms of the inputs that is far from scaled")
    low_rank: float = _number(0.1, 0, 1, "effective rank, in what it could be, that is a collapse")
    long_wait: float = _number(
        0.5, 0, 1, "part of the steps for which a loss that stands still is a warning"
    )
    least_steps: int = _number(50, 1, 1e9, "steps before a loss that goes nowhere is critical")
    low_gain: float = _number(
        0.2, 0, 1, "decrease of the loss, in its beginning, that is next to nothing"
    )

    def changed(self) -> dict[str, float]:
        """Those that differ from the default."""
        return {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if getattr(self, one.name) != one.default
        }


DEFAULT = Thresholds()


def meaning(name: str) -> str:
    """What the threshold of this name is.

    Example:
        >>> meaning("warning_share")
        "share of a site's units for a warning"
    """
    return str({one.name: one for one in fields(Thresholds)}[name].metadata["says"])


def parse(table: Mapping[str, Any], where: str = "[tool.flatline]") -> Thresholds:
    """Thresholds from a table of names and numbers.

    Args:
        table: Names with their numbers; the rest keep their default.
        where: Where the table comes from, for messages.

    Raises:
        UsageError: At an unknown key or a value out of range; the message names key and range.

    Example:
        >>> parse({"critical_share": 0.5}).critical_share
        0.5
    """
    known = {one.name: one for one in fields(Thresholds)}
    for key, value in table.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise UsageError(f"expected the name of a threshold in {where}, found {key!r}; {hint}")
        low, high = known[key].metadata["low"], known[key].metadata["high"]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not low <= value <= high:
            raise UsageError(
                f"expected {key} in {where} to be a number from {low:g} to {high:g}, "
                f"found {value!r}; it is the {known[key].metadata['says']}"
            )
    return Thresholds(**table)
