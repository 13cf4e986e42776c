"""Puts a normalisation between a layer and the nonlinearity that it feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flatline.errors import UnsupportedError
from flatline.sense.lone import untouched
from flatline.treatments.plan import Part, Patient

if TYPE_CHECKING:
    from flatline.anatomy.atlas import Place
    from flatline.treatments.registry import Treatment
    from flatline.treatments.scout import Scene

#: Under this name a layer keeps the normalisation of its output.
CHILD = "flatline_norm"
_BATCH: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: nn.BatchNorm1d,
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


def normalise(layer: nn.Module, args: Any, out: Tensor) -> Tensor:
    """The forward hook; features of a linear layer lie last, channels second."""
    norm = getattr(layer, CHILD)
    if isinstance(norm, nn.BatchNorm1d) and isinstance(layer, nn.Linear):
        flat: Tensor = norm(out.reshape(-1, out.shape[-1]))
        return flat.reshape(out.shape)
    whole: Tensor = norm(out)
    return whole


class Norm(Part):
    """``norm=``: a layer's output is normalised; its parameters keep their names."""

    def __init__(self, treatment: Treatment) -> None:
        self._kind: str = treatment.value
        kept = "scaled so that the first batch comes out as before"
        self.changes = f"adds a {self._kind} normalisation between layers and nonlinearities, " + (
            kept if self._kind == "batch" else "which changes what the model computes"
        )

    @torch.no_grad()
    def at_data(self, patient: Patient) -> None:
        """Add it.

        Raises:
            UnsupportedError: There is no place for it.
        """
        scene = patient.look()
        layers = _layers(patient, scene)
        if not layers:
            raise UnsupportedError(
                "expected a nonlinearity right behind a linear or convolutional layer without "
                "a normalisation, found none; leave this treatment out"
            )
        moments = _moments(patient, layers) if self._kind == "batch" else {}
        for name, layer in layers.items():
            norm = self._make(layer, moments.get(name))
            norm.to(layer.weight.device, layer.weight.dtype).train(layer.training)
            layer.add_module(CHILD, norm)
            layer.register_forward_hook(normalise)
            added: dict[str, Tensor] = {
                f"{name}.{CHILD}.{key}": p for key, p in norm.named_parameters()
            }
            patient.adopt(added, layer.weight if layer.bias is None else layer.bias)

    def _make(self, layer: Any, moments: tuple[Tensor, Tensor] | None) -> nn.Module:
        units = len(layer.weight)
        if moments is None:
            return nn.LayerNorm(units) if isinstance(layer, nn.Linear) else nn.GroupNorm(1, units)
        norm: Any = next(one for kind, one in _BATCH.items() if isinstance(layer, kind))(units)
        mean, variance = moments
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.bias.copy_(mean)
        norm.weight.copy_((variance + norm.eps).sqrt())
        made: nn.Module = norm
        return made


def _layers(patient: Patient, scene: Scene) -> dict[str, Any]:
    """The layers to treat, by name; says which are left as they are."""
    modules = {scene.names.module(one): one for one in patient.model.modules()}
    found: dict[str, Any] = {}
    for place in dict.fromkeys(place for place, _ in scene.sites):
        layer = modules.get(place.name.partition("#")[0])
        why = _cannot(place, layer)
        if why:
            patient.say(f"no normalisation is added before {place.name}'s nonlinearity: {why}")
        else:
            found[place.name.partition("#")[0]] = layer
    return found


def _cannot(place: Place, layer: Any) -> str:
    """Why a site gets no normalisation; empty where it gets one."""
    if not any(isinstance(layer, kind) for kind in _BATCH):
        return "it does not read the output of a linear or convolutional layer"
    own = {id(parameter) for parameter in layer.parameters(recurse=False)}
    if place.mixed or any(id(feed.parameter) not in own for feed in place.feeds):
        return "more than one layer makes what it reads"
    if place.units != len(layer.weight):
        return "it reads only a part of the layer's output"
    return ""


def _moments(patient: Patient, layers: dict[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of each unit's pre-activation over the first batch."""
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str, layer: nn.Module, out: Tensor) -> None:
        units = out if isinstance(layer, nn.Linear) else out.movedim(1, -1)
        outputs[name].append(units.reshape(-1, units.shape[-1]).double())

    hooks = [
        layer.register_forward_hook(lambda one, _, out, name=name: keep(name, one, out))
        for name, layer in layers.items()
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


BUILD = {"norm": Norm}
