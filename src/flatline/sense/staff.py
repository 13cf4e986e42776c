"""Takes the readings of one exam, as the tracer calls for them."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from flatline.anatomy.atlas import Place
from flatline.anatomy.inputs import Inputs
from flatline.anatomy.spread import Spread
from flatline.sense.gauge import Batch, Reading
from flatline.sense.sample import Sampler, Spare


class Staff:
    """Hears from the tracer and takes the readings of one exam.

    Args:
        spare: Runs the drawing of samples; without it none are drawn.
    """

    def __init__(self, spare: Spare | None = None) -> None:
        self.batch = Batch(1)
        self.staged: list[Reading] = []
        self.done: list[Reading] = []
        self.inputs: set[int] = set()
        self.hooks: list[RemovableHandle] = []
        self._draws = 0
        self._sampler = Sampler()
        self._draw = None if spare is None else partial(spare, self._sampler.draw)

    def before(self, place: Place, z: Tensor, spread: Spread, inputs: Inputs | None) -> Reading:
        """Read a pre-activation; see :class:`flatline.anatomy.tracer.Observer`."""
        reading = Reading.of(place, z, spread, self.batch, self._draw)
        reading.inputs = inputs
        self.staged.append(reading)
        return reading

    def after(self, token: Reading, h: Tensor) -> None:
        """Read an output."""
        token.take(h)

    def gated(self, token: Reading, place: Place, product: Tensor) -> None:
        """Read the gated product in the output's place."""
        token.place = place
        token.take(product)

    def forget(self, token: Reading) -> None:
        """Drop what turned out to be a part of a formula, and nothing more."""
        token.dropped = not token.used

    def read(self, token: Reading, columns: Tensor | None) -> None:
        """Note how strongly the units are read."""
        token.used, token.dropped = True, False
        self.listen(token)
        if columns is None:
            token.leaked = True
        else:
            token.read(columns)

    def leak(self, token: Reading) -> None:
        """Note a use that no parameter shows."""
        self.listen(token)
        token.leaked = True

    def listen(self, reading: Reading) -> None:
        """Hear the gradient of a reading's output as it passes."""
        if not reading.dropped and (hook := reading.listen()) is not None:
            self.hooks.append(hook)

    def commit(self) -> None:
        """The staged forward passes were trained on: merge what shares a place."""
        merged: dict[tuple[Place, int], Reading] = {}
        for reading in self.staged:
            if reading.fault is not None:
                raise reading.fault
            if reading.dropped or reading.h_sum is None:
                continue
            key = reading.place, reading.batch.draw
            known = merged.get(key)
            if known is None or not known.absorb(reading):
                if known is not None:
                    self._finish(known)
                merged[key] = reading
        for reading in merged.values():
            self._finish(reading)
        self._sampler.keep()
        self.staged = []
        self.inputs = set()

    def discard(self) -> None:
        """The staged forward passes will not be trained on."""
        self._sampler.forget()
        self.staged = []

    def draw(self, x: Tensor) -> int:
        """Number of the draw of examples that ``x`` is, given to a call from outside the model.

        What was computed from earlier calls, or lies in the same memory as their inputs (a time
        step of a sequence, the same batch once more), is about the same examples.
        """
        home = x.untyped_storage().data_ptr() if x.layout is torch.strided else id(x)
        if self.staged and not x.requires_grad and home not in self.inputs:
            self._draws += 1
        self.inputs.add(home)
        return self._draws

    def _finish(self, reading: Reading) -> None:
        reading.place.seen = True
        self.done.append(reading)
