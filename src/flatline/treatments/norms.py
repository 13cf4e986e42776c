"""Puts a normalisation between a layer and the nonlinearity that it feeds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from flatline.errors import UnsupportedError
from flatline.sense.lone import untouched
from flatline.treatments.inputs import Arguments, of_first
from flatline.treatments.plan import Part, Patient
from flatline.treatments.swaps import is_activation

if TYPE_CHECKING:
    from flatline.anatomy.atlas import Place
    from flatline.treatments.registry import Treatment

#: Under this name a layer keeps the normalisation of its output.
CHILD = "flatline_norm"


def normalise(layer: nn.Module, args: Any, out: Tensor) -> Tensor:
    """The forward hook of a layer."""
    return _whole(getattr(layer, CHILD), out)


def prepare(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The hook before a nonlinearity's forward pass."""
    return of_first(lambda z: _whole(getattr(module, CHILD), z), module, args, kwargs)


def _whole(norm: nn.Module, z: Tensor) -> Tensor:
    """Units of linear layers lie last, of others second."""
    if isinstance(norm, Rows):
        return _applied(norm, z.reshape(-1, z.shape[-1])).reshape(z.shape)
    return _applied(norm, z)


def _applied(norm: nn.Module, z: Tensor) -> Tensor:
    """One value of a unit has no variance: a last batch of one example gets the running ones."""
    if isinstance(norm, _BatchNorm) and norm.training and z.numel() <= norm.num_features:
        running = norm.running_mean, norm.running_var
        return F.batch_norm(z, *running, norm.weight, norm.bias, eps=norm.eps)
    out: Tensor = norm(z)
    return out


class Rows(nn.BatchNorm1d):
    """Batch normalisation of units that lie last, whatever lies before."""


@dataclass(frozen=True)
class Spot:
    """Where a normalisation is put.

    Attributes:
        name: Name of the module that keeps it.
        host: That module: the layer, whose output is normalised, or the nonlinearity, whose input
            is, where something is added to what the layer makes.
        layer: The layer.
    """

    name: str
    host: nn.Module
    layer: Any

    @property
    def behind(self) -> bool:
        """Whether it stands right behind the layer."""
        return self.host is self.layer

    def add(self, norm: nn.Module) -> None:
        """Put it there."""
        self.host.add_module(CHILD, norm)
        if self.behind:
            self.host.register_forward_hook(normalise)
        else:
            self.host.register_forward_pre_hook(prepare, with_kwargs=True)


_BATCH: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: Rows,
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


class Norm(Part):
    """``norm=``: what a nonlinearity is given is normalised; parameters keep their names."""

    def __init__(self, treatment: Treatment) -> None:
        self._kind, _, start = treatment.value.partition(":")
        self._kept = self._kind == "batch" and start != "standard"
        self.changes = f"adds a {self._kind} normalisation between layers and nonlinearities, " + (
            "scaled so that the first batch comes out as before"
            if self._kept
            else "which changes what the model computes"
        )

    @torch.no_grad()
    def at_data(self, patient: Patient) -> None:
        """Add it.

        Raises:
            UnsupportedError: There is no place for it.
        """
        spots = _spots(patient)
        if not spots:
            raise UnsupportedError(
                "expected a nonlinearity right behind a linear or convolutional layer without "
                "a normalisation, found none; leave this treatment out"
            )
        moments = _moments(patient, spots) if self._kind == "batch" else {}
        for spot in spots:
            layer = spot.layer
            norm = self._make(layer, moments.get(spot.name))
            norm.to(layer.weight.device, layer.weight.dtype).train(layer.training)
            spot.add(norm)
            added: dict[str, Tensor] = {
                f"{spot.name}.{CHILD}.{key}": p for key, p in norm.named_parameters()
            }
            patient.adopt(added, layer.weight if layer.bias is None else layer.bias)
        if self._kind == "batch" and not self._kept:
            _settle(patient, spots)

    def _make(self, layer: Any, moments: tuple[Tensor, Tensor] | None) -> nn.Module:
        units = len(layer.weight)
        if moments is None:
            return nn.LayerNorm(units) if isinstance(layer, nn.Linear) else nn.GroupNorm(1, units)
        norm: Any = next(one for kind, one in _BATCH.items() if isinstance(layer, kind))(units)
        mean, variance = moments
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        if self._kept:
            norm.bias.copy_(mean)
            norm.weight.copy_((variance + norm.eps).sqrt())
        made: nn.Module = norm
        return made


def _spots(patient: Patient) -> list[Spot]:
    """Where normalisations go; says before which nonlinearities none does."""
    scene = patient.look()
    modules = {scene.names.module(one): one for one in patient.model.modules()}
    runs = Counter(stack[-1] for _, stack in scene.sites if stack)
    found: dict[str, Spot] = {}
    for place, stack in scene.sites:
        layer = modules.get(place.name.partition("#")[0])
        host = stack[-1] if place.mixed and stack else layer
        why = _cannot(place, layer)
        if not why and place.mixed and not (host and is_activation(host) and runs[host] == 1):
            why = "something is added to what the layer makes"
        name = "" if host is None else scene.names.module(host)
        if why or host is None or not name:
            patient.say(f"no normalisation is added before {place.name}'s nonlinearity: {why}")
        else:
            found[name] = Spot(name, host, layer)
    return list(found.values())


def _cannot(place: Place, layer: Any) -> str:
    """Why a site gets no normalisation; empty where it gets one."""
    if not any(isinstance(layer, kind) for kind in _BATCH):
        return "it does not read the output of a linear or convolutional layer"
    own = {id(parameter) for parameter in layer.parameters(recurse=False)}
    if any(id(feed.parameter) not in own for feed in place.feeds):
        return "more than one layer makes what it reads"
    if place.units != len(layer.weight):
        return "it reads only a part of the layer's output"
    return ""


def _moments(patient: Patient, spots: list[Spot]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of what is to be normalised, unit by unit, over the first batch."""
    outputs: dict[str, list[Tensor]] = {spot.name: [] for spot in spots}

    def keep(spot: Spot, z: Tensor) -> Tensor:
        units = z if isinstance(spot.layer, nn.Linear) else z.movedim(1, -1)
        outputs[spot.name].append(units.reshape(-1, units.shape[-1]).double())
        return z

    hooks = [
        spot.host.register_forward_hook(lambda host, args, out, spot=spot: keep(spot, out))
        if spot.behind
        else spot.host.register_forward_pre_hook(
            lambda host, args, kwargs, spot=spot: of_first(partial(keep, spot), host, args, kwargs),
            with_kwargs=True,
        )
        for spot in spots
    ]
    try:
        with untouched(patient.model), torch.no_grad():
            patient.model(*patient.args, **patient.kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name, seen in outputs.items():
        values = torch.cat(seen)
        if len(values) < 2:
            raise UnsupportedError(
                f"expected a first batch of several examples, found one at {name}; "
                "use norm=layer, or a larger batch"
            )
        found[name] = values.mean(0), values.var(0, correction=0)
    return found


def _settle(patient: Patient, spots: list[Spot]) -> None:
    """Take running moments of what each normalisation is given now that those before it stand."""
    norms: list[Any] = [getattr(spot.host, CHILD) for spot in spots]
    with untouched(patient.model), torch.no_grad():
        for norm in norms:
            norm.train()
            norm.momentum, usual = 1.0, norm.momentum
        patient.model(*patient.args, **patient.kwargs)
    for norm in norms:
        norm.momentum = usual
        norm.num_batches_tracked.zero_()


BUILD = {"norm": Norm}
