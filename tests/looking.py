"""Looking at one training step of a model from a test: what anatomy says, and the numbers read.

The truth comes from a second, plain run, in which ordinary hooks keep what each module gave; φ is
torch's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flatline.anatomy.site import Site, Unplaced
from flatline.sense import pulse
from flatline.sense.attach import Attachment
from flatline.sense.vitals import Vitals
from flatline.sense.watcher import Watcher
from watching import examine_when


@dataclass
class Seen:
    """What anatomy found in a model, and what the exams read."""

    sites: dict[str, Site]
    unplaced: dict[str, str]
    vitals: dict[str, Vitals]
    noisy: frozenset[str]

    def only(self) -> Site:
        """The one site there is."""
        (site,) = self.sites.values()
        return site

    def described(self) -> dict[str, tuple[str, int]]:
        """Activation and number of units of each site."""
        return {name: (site.activation.name, site.units) for name, site in self.sites.items()}

    def reads(self) -> dict[str, list[str]]:
        """Who reads each site."""
        return {name: list(site.reads) for name, site in self.sites.items()}


def summed(out: Any) -> Tensor:
    """A loss for any output: everything in it that can be differentiated, summed up."""
    if isinstance(out, Tensor):
        return out.float().sum() if out.requires_grad else torch.zeros(())
    values = out.values() if isinstance(out, Mapping) else out
    return sum((summed(value) for value in values), torch.zeros(()))


class _Recorder:
    """Keeps what the watcher hands over about anatomy and exams."""

    def __init__(self) -> None:
        self.unplaced: tuple[Unplaced, ...] = ()
        self.vitals: dict[str, Vitals] = {}
        self.losses: list[tuple[str, str]] = []

    def anatomy(self, sites: Any, unplaced: Sequence[Unplaced]) -> None:
        self.unplaced = tuple(unplaced)

    def exam(self, step: int, vitals: Mapping[str, Vitals], *more: Any) -> None:
        self.vitals.update(vitals)

    def lost(self, what: str, why: str) -> None:
        self.losses.append((what, why))

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **named: None


def look(
    model: nn.Module | Callable[..., Any],
    *inputs: Any,
    roots: list[nn.Module] | None = None,
    loss: Callable[[Any], Tensor] = summed,
    train: bool = True,
    steps: int = 1,
    **named: Any,
) -> Seen:
    """Watch ``steps`` training steps that change nothing, with an exam of each.

    Args:
        model: The model, or a function that uses several.
        *inputs: What it is called with.
        roots: The models, where ``model`` is a function.
        loss: Makes a number of the output, outside the model.
        train: Training or evaluation mode.
        steps: Number of steps.
        **named: What it is called with by name.
    """
    roots = [model] if roots is None else roots
    recorder = _Recorder()
    watcher = Watcher(recorder, 0.01, models=roots)
    examine_when(watcher.pacer, lambda step, event: True)
    attachment = Attachment(watcher)
    try:
        for root in roots:
            root.train(train)
        parameters = (p for root in roots for p in root.parameters())
        optimizer = torch.optim.SGD(parameters, 0.0)
        for _ in range(steps):
            number = loss(model(*inputs, **named))
            if number.requires_grad:
                number.backward()
            optimizer.step()
    finally:
        attachment.remove()
        watcher.close()
    assert recorder.losses == [], recorder.losses
    places = watcher._atlas.settle()
    return Seen(
        {place.name: place.site(pulse.kind(place, False)) for place in places},
        {one.name: one.because for one in watcher._atlas.unplaced},
        {place.name: Vitals.empty(place.units) for place in places} | recorder.vitals,
        frozenset(place.name for place in places if place.noisy),
    )


@dataclass(frozen=True)
class Unit:
    """Where a plain hook finds the pre-activations of a site.

    Attributes:
        module: The module whose output they are.
        function: φ, as torch computes it.
        axis: Dimension of the units; dimension 0 holds the examples.
        part: The units of the layer that belong to the site.
        times: Another part of the layer, or another module, that the output is multiplied by.
    """

    module: str
    function: Callable[[Tensor], Tensor] = torch.relu
    axis: int = -1
    part: slice = field(default_factory=lambda: slice(None))
    times: slice | str | None = None


def outputs_of(model: nn.Module, *inputs: Any, **named: Any) -> dict[str, Tensor]:
    """What each module gave in a plain run; several calls of one shape stand side by side."""
    kept: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            out = out[0] if isinstance(out, tuple) else out
            if isinstance(out, Tensor):
                kept.setdefault(name, []).append(out.detach().clone())

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in model.named_modules()]
    model(*inputs, **named)
    for hook in hooks:
        hook.remove()
    return {
        name: calls[0] if len(calls) == 1 else torch.stack(calls, 1)
        for name, calls in kept.items()
        if len({call.shape for call in calls}) == 1
    }


def check_numbers(seen: Vitals, unit: Unit, outputs: dict[str, Tensor], fires: Any) -> None:
    """Compare vitals with numbers computed directly.

    Args:
        seen: What the exam read.
        unit: Where the truth is.
        outputs: From :func:`outputs_of`.
        fires: The activation's intervals in which a unit fires.
    """
    z = _rows(outputs[unit.module], unit.axis)
    h = unit.function(z[..., unit.part])
    if isinstance(unit.times, slice):
        h = h * z[..., unit.times]
    elif unit.times is not None:
        h = h * _rows(outputs[unit.times], unit.axis)
    z, h = z[..., unit.part].double().numpy(), h.double().numpy()
    fired = np.zeros(z.shape, bool)
    for low, high in fires:
        fired |= (z > low) & (z < high)
    close = {"rtol": 2e-5, "atol": 2e-6}
    assert seen.examples == len(z)
    assert seen.fired.tolist() == fired.any(axis=1).sum(axis=0).tolist()
    np.testing.assert_allclose(seen.z_min, z.min(axis=(0, 1)), **close)
    np.testing.assert_allclose(seen.z_max, z.max(axis=(0, 1)), **close)
    np.testing.assert_allclose(seen.z_sum, z.mean(axis=1).sum(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(seen.h_min, h.min(axis=(0, 1)), **close)
    np.testing.assert_allclose(seen.h_max, h.max(axis=(0, 1)), **close)
    np.testing.assert_allclose(seen.h_abs, abs(h).mean(axis=1).sum(axis=0), rtol=1e-4, atol=1e-4)


def params(name: str, *, bias: bool = True) -> tuple[str, ...]:
    """The names of a layer's parameters."""
    return (f"{name}.weight", f"{name}.bias") if bias else (f"{name}.weight",)


def check(
    model, *inputs, name, units, feeds, reads, pulse="exact", axis=-1, module=None, fn=torch.relu
):
    """The one site of a model, compared in every respect."""
    seen = look(model, *inputs)
    site = seen.only()
    assert (site.name, site.units) == (name, units)
    assert site.feeds == feeds
    assert list(site.reads) == list(reads)
    assert site.pulse == pulse
    assert seen.unplaced == {}
    unit = Unit(module or name, fn, axis)
    check_numbers(seen.vitals[name], unit, outputs_of(model, *inputs), site.activation.fires)


def _rows(tensor: Tensor, axis: int) -> Tensor:
    """As ``(examples, positions, units)``."""
    tensor = tensor.float().movedim(axis, -1)
    return tensor.reshape(len(tensor), math.prod(tensor.shape[1:-1]), tensor.shape[-1])


class Net(nn.Module):
    """A model written in place: its parts by name, and its forward pass as a function of both."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.run(self, *inputs, **named)
