"""The way of nearly every step: one optimizer, no exam under way, nothing that must be decided.

Between two steps of a training the caches are full of other things, and whatever is touched must
be fetched anew. So such steps only collect: they run one operator and a few lines, and touch
nothing else. All that is decided about them is decided together, after the last of a stride.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import torch

from flatline.sense.pulse import Pulse
from flatline.sense.taps import Taps, rate_of
from flatline.sense.unseen import alone


class Stride:
    """Some steps in a row that need no closer look.

    Attributes:
        step: The step under way.
        starts: When each step's hook began.
        spent: Seconds spent in hooks.
        fault: The part that failed and how, if one did; nothing more is collected then.
        backwards: Calls of ``backward()`` since the last step.
        most: Most such calls in one step.

    Args:
        optimizer: The one optimizer.
        pulses: Its pulses; each has room for ``steps`` rows.
        taps: The taps.
        step: The first step.
        steps: How many steps this stride may take.
        until: When it ends at the latest, on the clock of ``perf_counter``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        pulses: Sequence[Pulse],
        taps: Taps,
        step: int,
        steps: int,
        until: float,
    ) -> None:
        self.step = step
        self.starts: list[float] = []
        self.spent = 0.0
        self.fault: tuple[str, Exception] | None = None
        self.backwards = self.most = 0
        self._optimizer = id(optimizer)  # which nothing here may keep alive
        self._pulses = pulses
        self._taps = taps
        self._end = step + steps
        self._until = until
        self._thread = threading.get_ident()

    def backward(self, tensors: Any) -> bool:
        """``backward()`` is about to run; returns whether that is all there is to do."""
        if threading.get_ident() != self._thread or not alone():
            return False
        if torch._C._current_graph_task_id() != -1:
            return True  # a backward pass inside another one is no loss's
        self.backwards += 1
        try:
            self._taps.backward(tensors)
        except Exception as error:
            self.fault = "taps", error
        return True

    def beat(
        self, optimizer: torch.optim.Optimizer, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> bool:
        """``optimizer.step(*args, **kwargs)`` is about to run.

        Returns:
            Whether that is all there is to do; else the stride is over, and this step is none of
            its own.
        """
        start = perf_counter()
        if (
            id(optimizer) != self._optimizer
            or self.step == self._end
            or start > self._until
            or len(args) > 1  # the first is the optimizer
            or kwargs
            or self.fault is not None
            or threading.get_ident() != self._thread
            or not alone()
        ):
            return False
        part = "pulse"
        try:
            for pulse in self._pulses:
                pulse.beat(self.step)
            part = "taps"
            self._taps.step(self.step, rate_of(optimizer))
        except Exception as error:
            self.fault = part, error
        self.step += 1
        if self.backwards > self.most:
            self.most = self.backwards
        self.backwards = 0
        self.starts.append(start)
        self.spent += perf_counter() - start
        return True
