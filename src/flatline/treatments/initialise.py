"""Sets the weights of linear and convolutional layers anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Generator, Tensor, nn

from flatline.errors import UnsupportedError
from flatline.sense.lone import untouched
from flatline.treatments.plan import Part, Patient

if TYPE_CHECKING:
    from flatline.anatomy.atlas import Place
    from flatline.treatments.registry import Treatment
    from flatline.treatments.scout import Scene

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.LayerNorm, nn.GroupNorm),
)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: Keeps what is drawn here apart from what the program drew from the same seed.
_SALT = 0x5EED_F1A7
#: Lu et al. 2020, appendix: standard deviation of the symmetric part, times the root of the fan-in.
_ASYMMETRIC = 0.6007
_TOLERANCE = 0.1
_ROUNDS = 10


def he(weight: Tensor, place: Place | None, generator: Generator) -> None:
    """Variance 2 / fan-in before a nonlinearity (over 1 + a² for a leaky one), else 1 / fan-in."""
    if place is None:
        nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=generator)
        return
    slope = place.activation.constants[0] if place.activation.name == "leaky_relu" else 0.0
    nn.init.kaiming_normal_(weight, a=slope, generator=generator)


def xavier(weight: Tensor, place: Place | None, generator: Generator) -> None:
    """Variance 2 / (fan-in + fan-out), uniform."""
    nn.init.xavier_uniform_(weight, generator=generator)


def orthogonal(weight: Tensor, place: Place | None, generator: Generator) -> None:
    """Orthonormal rows or columns, times the gain of ReLU before a nonlinearity."""
    gain = 1.0 if place is None else nn.init.calculate_gain("relu")
    nn.init.orthogonal_(weight, gain, generator=generator)


def unit_variance(weight: Tensor, place: Place | None, generator: Generator) -> None:
    """Where LSUV begins: orthonormal."""
    nn.init.orthogonal_(weight, generator=generator)


def asymmetric(weight: Tensor, bias: Tensor | None, generator: Generator) -> None:
    """Each unit's weights and bias are normal, but for one of them, which is positive: Beta(2, 1).

    Without a bias the positive one is always a weight.
    """
    rows = weight.reshape(len(weight), -1)
    fan_in = rows.shape[1]
    count = fan_in + (bias is not None)
    drawn = torch.randn(len(rows), count, generator=generator) * _ASYMMETRIC / fan_in**0.5
    chosen = torch.randint(count, (len(rows), 1), generator=generator)
    drawn.scatter_(1, chosen, torch.rand(len(rows), 1, generator=generator).sqrt())
    weight.copy_(drawn[:, :fan_in].reshape(weight.shape))
    if bias is not None:
        bias.copy_(drawn[:, -1])


_DRAW: dict[str, Callable[[Tensor, Place | None, Generator], None]] = {
    "he": he,
    "xavier": xavier,
    "orthogonal": orthogonal,
    "lsuv": unit_variance,
    "asymmetric": he,  # of the layers without a nonlinearity
}
_SAYS = {
    "he": "normal with variance 2 / fan-in (1 / fan-in where no nonlinearity follows)",
    "xavier": "uniform with variance 2 / (fan-in + fan-out)",
    "orthogonal": "orthogonal",
    "lsuv": "orthogonal, scaled so that outputs have variance 1 on the first batch",
    "asymmetric": "normal but for one positive weight or bias per unit (where a nonlinearity "
    "follows; else normal with variance 1 / fan-in)",
}


class Init(Part):
    """``init=``: biases become 0, except under ``asymmetric``, which draws them too."""

    def __init__(self, treatment: Treatment) -> None:
        self._kind: str = treatment.value
        self.changes = (
            "draws the weights of all trained linear and convolutional layers anew, "
            f"{_SAYS[self._kind]}; their biases become "
            + ("part of that" if self._kind == "asymmetric" else "0")
            + "; normalisations before a nonlinearity get scale 1 and offset 0"
        )

    @torch.no_grad()
    def at_data(self, patient: Patient) -> None:
        """Draw; from a generator of its own, so that the program's random numbers stay the same.

        Raises:
            UnsupportedError: The weights are not fresh, or there are none.
        """
        if patient.trained:
            raise UnsupportedError(
                f"expected a model with fresh weights to initialise, found that {patient.trained}; "
                "start from scratch, or leave this treatment out"
            )
        layers = _layers(patient)
        if not layers:
            raise UnsupportedError(
                "expected trained linear or convolutional layers to initialise, found none; "
                "leave this treatment out"
            )
        scene = patient.look()
        generator = Generator().manual_seed((torch.initial_seed() ^ _SALT) % 2**63)
        with torch.device("cpu"):  # the same numbers on every device
            for layer in layers:
                self._draw(layer, scene.feeding(layer.weight), generator)
        norms = [one for one in patient.model.modules() if _feeds(one, scene)]
        for norm in norms:
            norm.reset_parameters()
        if self._kind == "lsuv":
            _scale(patient, layers)
        patient.forget([p for one in (*layers, *norms) for p in one.parameters(recurse=False)])

    def _draw(self, layer: Layer, place: Place | None, generator: Generator) -> None:
        weight = torch.empty(layer.weight.shape)
        if self._kind == "asymmetric" and place is not None:
            bias = None if layer.bias is None else torch.empty(layer.bias.shape)
            asymmetric(weight, bias, generator)
        else:
            bias = None if layer.bias is None else torch.zeros(layer.bias.shape)
            _DRAW[self._kind](weight, place, generator)
        layer.weight.copy_(weight)
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias)


def _layers(patient: Patient) -> list[Layer]:
    """Layers that are trained, each weight once; not those whose weight is an embedding's too."""
    model = patient.model
    taken = {id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding)}
    trained = {
        id(p) for o in patient.optimizers for group in o.param_groups for p in group["params"]
    }
    found: list[Layer] = []
    for module in model.modules():
        if not isinstance(module, _LAYERS):
            continue
        weight = module._parameters.get("weight")  # else it is computed from others
        if weight is not None and id(weight) in trained and id(weight) not in taken:
            taken.add(id(weight))
            found.append(module)
    return found


def _feeds(module: nn.Module, scene: Scene) -> TypeGuard[nn.BatchNorm1d]:
    """Whether a module is a normalisation with parameters right before a nonlinearity."""
    if not isinstance(module, _NORMS):
        return False
    return any(scene.feeding(one) is not None for one in module.parameters(recurse=False))


def _scale(patient: Patient, layers: list[Layer]) -> None:
    """Scale each layer's weights, the first to run first, until its output has variance 1."""
    waiting = {id(layer) for layer in layers}

    def after(layer: Any, args: tuple[Any, ...], out: Tensor) -> Tensor | None:
        if id(layer) not in waiting:
            return None
        waiting.discard(id(layer))
        for _ in range(_ROUNDS):
            variance = out.float().var(correction=0)
            if not variance.isfinite() or variance == 0 or abs(variance - 1) < _TOLERANCE:
                break
            layer.weight.div_(variance.sqrt())
            out = layer.forward(*args)
        return out

    hooks = [layer.register_forward_hook(after) for layer in layers]
    try:
        with untouched(patient.model), torch.no_grad():
            patient.model(*patient.args, **patient.kwargs)
    finally:
        for hook in hooks:
            hook.remove()


BUILD = {"init": Init}
