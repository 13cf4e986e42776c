"""The chart: everything a finding may look at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from flatline.anatomy.site import Site
from flatline.diagnose.progress import Progress, progress
from flatline.diagnose.readings import Readings
from flatline.diagnose.states import States
from flatline.diagnose.thresholds import DEFAULT, Thresholds
from flatline.sense.history import History

if TYPE_CHECKING:
    from flatline.diagnose.causes import Causes


@dataclass(frozen=True)
class Chart:
    """The states of all sites, in the order of the forward pass, and what led to them.

    Iterating gives the states, site by site.

    Attributes:
        states: States of each site.
        history: What the training went through.
        thresholds: What to compare with.
        causes: Per site, why its dead units died; empty until that is known.
    """

    states: Sequence[States]
    history: History = field(default_factory=History)
    thresholds: Thresholds = DEFAULT
    causes: Mapping[str, Causes] = field(default_factory=dict)

    def __iter__(self) -> Iterator[States]:
        return iter(self.states)

    @property
    def sites(self) -> list[Site]:
        """The sites."""
        return [states.site for states in self.states]

    @cached_property
    def progress(self) -> Progress:
        """The course of the loss."""
        return progress(self.history.steps, self.guess)

    @cached_property
    def guess(self) -> float:
        """The loss of whoever guesses by the frequencies of the targets at best; NaN if unknown."""
        loss = self.history.last("loss") or {}
        width, spread = loss.get("width"), loss.get("target_spread")
        if loss.get("op") == "nll" and width:
            return math.log(width)
        if loss.get("op") == "mse" and spread is not None:
            return float(spread) ** 2
        return math.log(2) if loss.get("op") in ("bce", "bce_with_logits") else math.nan

    @cached_property
    def readings(self) -> Readings:
        """What exams measured, one number per site."""
        return Readings(self.history, [site.name for site in self.sites])

    @cached_property
    def upstream(self) -> dict[str, tuple[str, ...]]:
        """Per site, the sites whose units the layers that make its pre-activation read."""
        readers: dict[str, dict[str, None]] = {}
        for site in self.sites:
            for parameter in site.reads:
                readers.setdefault(parameter, {})[site.name] = None
        return {
            site.name: tuple(
                dict.fromkeys(
                    name
                    for parameter in site.feeds
                    for name in readers.get(parameter, {})
                    if name != site.name
                )
            )
            for site in self.sites
        }

    @cached_property
    def _by_name(self) -> dict[str, States]:
        return {states.site.name: states for states in self.states}

    def of(self, name: str) -> States:
        """The states of the site of that name."""
        return self._by_name[name]
