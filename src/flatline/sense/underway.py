"""Which steps of optimizers are under way: a step may call another one, even of its own optimizer.

Torch calls the hooks once for each ``step`` that it has wrapped, and it wraps that of every class
whose objects are built. A subclass that calls ``super().step()`` is so heard once or twice, as
its base class is in use elsewhere in the program or not.
"""

from __future__ import annotations

import sys
import threading

import torch

#: What torch puts around every ``step``, and what calls the hooks.
_WRAPPER = torch.optim.Optimizer.profile_hook_step(lambda: None).__code__


class Underway(threading.local):
    """The steps under way in this thread."""

    def __init__(self) -> None:
        self._open: list[int] = []

    def begin(self, optimizer: torch.optim.Optimizer) -> bool:
        """A step begins; returns whether it is no part of another one of the same optimizer."""
        if self._open:
            self._forget()
        alone = id(optimizer) not in self._open
        self._open.append(id(optimizer))
        return alone

    def end(self, optimizer: torch.optim.Optimizer) -> bool:
        """A step ended; returns whether it was no part of another one of the same optimizer."""
        if self._open:
            self._open.pop()
        return id(optimizer) not in self._open

    def _forget(self) -> None:
        """Strike out the steps that raised, whose end is never heard."""
        frame, depth = sys._getframe(), -1  # the step that begins is on the stack already
        while (above := frame.f_back) is not None:
            frame = above
            depth += frame.f_code is _WRAPPER
        del self._open[max(depth, 0) :]
