"""The sites of a program, collected over the steps that were traced."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flatline.activations import Activation
from flatline.anatomy.site import Site, Unplaced

_IDLE = "it did not run in an examined step"


@dataclass(frozen=True)
class Feed:
    """A parameter that feeds the units of a layer.

    Attributes:
        name: Its qualified name.
        parameter: The parameter, which is not kept alive: once it is gone, an empty tensor.
        axis: Its dimension that runs over the layer's units; ``None`` when that is not known.
        shift: Whether it is added to the pre-activation (a bias).
        mixes: Whether a normalisation across units stands between it and the nonlinearity, so
            that its gradient speaks of more than one unit.
        part: Which slice of it feeds, where it stacks the weights of several experts.
    """

    name: str
    parameter: Tensor
    axis: int | None
    shift: bool = False
    mixes: bool = False
    part: int | None = None


class _Weak:
    """A field that holds its tensor by a weak reference."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __set__(self, instance: object, tensor: Tensor) -> None:
        vars(instance)[self._name] = weakref.ref(tensor)

    def __get__(self, instance: object, owner: type) -> Tensor:
        tensor: Tensor | None = vars(instance)[self._name]()
        return torch.empty(0) if tensor is None else tensor


Feed.parameter = _Weak("parameter")  # type: ignore[assignment]


@dataclass(eq=False)
class Place:
    """A site in the making.

    Attributes:
        name: Its unique name.
        activation: The nonlinearity.
        units: Number of units.
        start: First unit of the feeding layer that belongs to the site.
        step: Distance between them.
        feeds: The feeding parameters.
        reads: Reading parameters by name, in the order seen: how many of their weights read one
            unit, and on how many rows of all examples together they were last applied.
        mixed: Something that these parameters did not make is added (a residual connection).
        noisy: Dropout stands around the nonlinearity: a zero gradient may be chance.
        gated: The output is a product with a gate or with another linear map.
        seen: It holds statistics, so it is no mere part of a formula.
        doubts: Why it may be no site after all, unless some parameter reads it.
    """

    name: str
    activation: Activation
    units: int
    start: int
    step: int
    feeds: tuple[Feed, ...]
    reads: dict[str, tuple[int, int]] = field(default_factory=dict)
    mixed: bool = False
    noisy: bool = False
    gated: bool = False
    seen: bool = False
    doubts: dict[str, None] = field(default_factory=dict)

    @property
    def doubtful(self) -> bool:
        """Whether it may belong to something else, such as a loss, for all that was seen."""
        return bool(self.doubts) and not self.reads

    @property
    def beacon(self) -> Feed | None:
        """The parameter with one number per unit whose gradient is 0 where the unit is silent.

        A bias, else the scale of a normalisation; both collect exactly the unit's own gradient.
        """
        usable = [
            feed
            for feed in self.feeds
            if feed.axis == 0 and feed.parameter.ndim == 1 and not feed.mixes
        ]
        return _first_trained(reversed(usable), shift=True) or _first_trained(reversed(usable))

    @property
    def matrix(self) -> Feed | None:
        """The feeding weight, where its gradient speaks of each unit alone."""
        usable = [feed for feed in self.feeds if feed.parameter.ndim > 1 and feed.axis is not None]
        return _first_trained(feed for feed in usable if not feed.mixes)

    @property
    def scale(self) -> Feed | None:
        """The scale of a normalisation right before the nonlinearity."""
        own = [
            feed
            for feed in self.feeds
            if feed.axis == 0 and feed.parameter.ndim == 1 and not feed.shift
        ]
        return own[-1] if own else None

    @property
    def by_batch(self) -> bool:
        """Whether that normalisation is over the batch, unit by unit."""
        return self.scale is not None and all(feed.shift or not feed.mixes for feed in self.feeds)

    def site(self, pulse: str) -> Site:
        """The site as the later rooms know it."""
        feeds = tuple(dict.fromkeys(feed.name for feed in self.feeds))
        return Site(self.name, self.activation, self.units, feeds, tuple(self.reads), pulse)


def _first_trained(feeds: Iterable[Feed], *, shift: bool = False) -> Feed | None:
    """The first that is trained, else the first; with ``shift`` only among the biases."""
    found = [feed for feed in feeds if feed.shift or not shift]
    trained = (feed for feed in found if feed.parameter.requires_grad)
    return next(trained, found[0] if found else None)


class Atlas:
    """All places and everything that could not be placed.

    Attributes:
        idle: Names of modules that did not run so far.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[object, ...], Place] = {}
        self._names: set[str] = set()
        self._unplaced: dict[str, Unplaced] = {}
        self._settled: dict[Place, None] = {}
        self.idle: list[str] = []

    def place(
        self,
        name: str,
        activation: Activation,
        feeds: Iterable[Feed],
        form: str,
        units: int,
        start: int = 0,
        step: int = 1,
    ) -> Place:
        """The place of a nonlinearity, the same one whenever the same parameters feed it.

        Args:
            name: Name of the module that makes the pre-activation.
            activation: The nonlinearity.
            feeds: The feeding parameters.
            form: What was done to the pre-activation on the way (``"-"`` when negated).
            units: Number of units.
            start: First unit, when the site has only a part of the layer's units.
            step: Distance between them.
        """
        feeds = tuple(feeds)
        names = frozenset((feed.name, feed.part) for feed in feeds)
        key = (name, activation, names, form, units, start, step)
        known = self._places.get(key)
        if known is None:
            known = self._places[key] = Place(name, activation, units, start, step, feeds)
        else:
            known.feeds = feeds  # a sharded parameter is a new tensor at every step
        return known

    def miss(self, name: str, because: str) -> None:
        """Note a nonlinearity that cannot be placed."""
        self._unplaced.setdefault(name, Unplaced(name, because))

    def settle(self) -> list[Place]:
        """Name the places seen since the last call, and return all that are sites.

        A second site fed by the same module ends in ``#2``.
        """
        for place in self._places.values():
            if place.seen and not place.doubtful and place not in self._settled:
                name, count = place.name, 1
                while place.name in self._names:
                    count += 1
                    place.name = f"{name}#{count}"
                self._names.add(place.name)
                self._settled[place] = None
        return list(self._settled)

    @property
    def unplaced(self) -> tuple[Unplaced, ...]:
        """What could not be placed."""
        doubtful = {
            f"{place.name} ({place.activation.name})": next(iter(place.doubts))
            for place in self._places.values()
            if place.seen and place.doubtful and place not in self._settled
        }
        idle = dict.fromkeys(self.idle if self._settled else (), _IDLE)
        more = (Unplaced(name, because) for name, because in {**doubtful, **idle}.items())
        return (*self._unplaced.values(), *more)
