"""Whose turn it is: the optimizers of a training, which may step one after another."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from flatline.anatomy.roots import parameters_of


class Turns:
    """Which optimizers there are, and which of them have stepped in the step under way.

    Optimizers that take turns make one step of the training together. It is complete when all have
    stepped that stepped in the one before; in the first one, all that were built until then. No
    optimizer is kept alive by being known.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> one, two = torch.optim.SGD([weight], 0.1), torch.optim.SGD([weight], 0.2)
        >>> turns = Turns()
        >>> for optimizer in (one, two):
        ...     turns.admit(optimizer)
        ...     turns.expect(optimizer)
        >>> turns.end(one)
        >>> turns.all_stepped
        False
        >>> turns.end(two)
        >>> turns.all_stepped
        True
    """

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[torch.optim.Optimizer]] = {}
        self._expected: set[int] = set()
        self._begun: set[int] = set()
        self._stepped: set[int] = set()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, optimizer: torch.optim.Optimizer) -> bool:
        return id(optimizer) in self._known

    def known(self) -> list[torch.optim.Optimizer]:
        """The optimizers that are alive, in the order in which they were built."""
        return [optimizer for ref in self._known.values() if (optimizer := ref()) is not None]

    def admit(self, optimizer: torch.optim.Optimizer) -> None:
        """Know an optimizer from now on."""
        self._known[id(optimizer)] = weakref.ref(optimizer)

    def parameters(self) -> list[tuple[torch.optim.Optimizer, list[Tensor]]]:
        """Each optimizer with what it updates."""
        return [(optimizer, parameters_of([optimizer])) for optimizer in self.known()]

    def dismiss(self) -> set[int]:
        """Forget the optimizers that are gone; returns their ids, which others may get."""
        gone = {key for key, ref in self._known.items() if ref() is None}
        for key in gone:
            del self._known[key]
        self._expected -= gone
        return gone

    def expect(self, optimizer: torch.optim.Optimizer) -> None:
        """Count on an optimizer for the first step."""
        self._expected.add(id(optimizer))

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer is about to step."""
        self._begun.add(id(optimizer))

    def end(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer has stepped."""
        self._stepped.add(id(optimizer))

    def stepped(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether an optimizer has had its turn in this step."""
        return id(optimizer) in self._stepped

    @property
    def any_stepped(self) -> bool:
        """Whether the step is under way."""
        return bool(self._stepped)

    @property
    def all_begun(self) -> bool:
        """Whether nobody is waited for whose update has not begun."""
        return self._expected <= self._begun

    @property
    def all_stepped(self) -> bool:
        """Whether the step is complete."""
        return self._expected <= self._stepped

    def complete(self) -> None:
        """End the step; those that took part in it are expected in the next one."""
        self._expected, self._stepped, self._begun = self._stepped, set(), set()

    @property
    def only(self) -> torch.optim.Optimizer | None:
        """The one optimizer expected, where there is exactly one."""
        if len(self._expected) != 1:
            return None
        reference = self._known.get(next(iter(self._expected)))
        return None if reference is None else reference()
