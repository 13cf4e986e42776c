"""What anatomy says about a model: sites, and what could not be placed."""

from __future__ import annotations

from dataclasses import dataclass

from flatline.activations import Activation


@dataclass(frozen=True)
class Site:
    """One place where a nonlinearity is applied to units.

    Attributes:
        name: Qualified name of the module whose output is the pre-activation; a second site fed
            by the same module ends in ``#2``.
        activation: The nonlinearity, with its constants.
        units: Number of units.
        feeds: Names of the parameters that make the pre-activation.
        reads: Names of the parameters that read the units; empty when no reader was seen.
        pulse: How well every step's gradient tells who fired: ``"exact"`` (a feeding bias),
            ``"sampled"`` (columns of a feeding weight) or ``"none"``.
    """

    name: str
    activation: Activation
    units: int
    feeds: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    pulse: str = "none"


@dataclass(frozen=True)
class Unplaced:
    """A nonlinearity that was seen and is not watched."""

    name: str
    because: str
