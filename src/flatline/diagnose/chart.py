"""The chart: everything a finding may look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flatline.anatomy.site import Site
from flatline.diagnose.states import States
from flatline.diagnose.thresholds import DEFAULT, Thresholds
from flatline.sense.history import History


@dataclass(frozen=True)
class Chart:
    """The states of all sites, in the order of the forward pass, and what led to them.

    Iterating gives the states, site by site.

    Attributes:
        states: States of each site.
        history: What the training went through.
        thresholds: What to compare with.
    """

    states: Sequence[States]
    history: History = field(default_factory=History)
    thresholds: Thresholds = DEFAULT

    def __iter__(self) -> Iterator[States]:
        return iter(self.states)

    @property
    def sites(self) -> list[Site]:
        """The sites."""
        return [states.site for states in self.states]

    @cached_property
    def upstream(self) -> dict[str, tuple[str, ...]]:
        """Per site, the sites whose units the layers that make its pre-activation read."""
        return {
            site.name: tuple(
                other.name
                for other in self.sites
                if other.name != site.name and set(other.reads) & set(site.feeds)
            )
            for site in self.sites
        }

    def of(self, name: str) -> States:
        """The states of the site of that name."""
        return next(states for states in self.states if states.site.name == name)
