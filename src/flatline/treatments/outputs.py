"""Puts another function, or none, in the place of the last nonlinearity of a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flatline.errors import UnsupportedError
from flatline.treatments.plan import Part, Patient
from flatline.treatments.scout import FAMILIES, Scene, family
from flatline.treatments.swaps import Swapping, is_activation, stand_in

if TYPE_CHECKING:
    from flatline.treatments.registry import Treatment

#: Under this name a module keeps what its last nonlinearity is given to instead.
CHILD = "flatline_output"
_MAKE: dict[str, Callable[[int], nn.Module]] = {
    "identity": lambda classes: nn.Identity(),
    "sigmoid": lambda classes: nn.Sigmoid(),
    "softmax": nn.Softmax,
    "log_softmax": nn.LogSoftmax,
}


def _made(kind: str, output: torch.Size) -> nn.Module:
    """What takes the last nonlinearity's place; of images the classes are the channels."""
    return _MAKE[kind](1 if len(output) > 3 else -1)


def squeeze(model: nn.Module, args: Any, out: Any) -> Tensor:
    """The forward hook of ``output=squeeze``."""
    return _one(out).squeeze(-1)


def behind(model: nn.Module, args: Any, out: Any) -> Tensor:
    """The forward hook where there was no nonlinearity to replace."""
    changed: Tensor = getattr(model, CHILD)(_one(out))
    return changed


def _one(out: Any) -> Tensor:
    """An output, which may be another in training than it was when the model was looked at."""
    if isinstance(out, Tensor):
        return out
    raise UnsupportedError(
        "output: expected a model whose output is one tensor in training as in evaluation, found "
        f"a {type(out).__name__}; leave this treatment out"
    )


@cache
def _ending(kind: Any, name: str, place: int) -> type[nn.Module]:
    """A class like ``kind`` in whose forward pass a call of a nonlinearity goes to a child."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        with Swapping(FAMILIES[name], getattr(self, CHILD), place) as swap:
            out = kind.forward(self, *args, **kwargs)
        if swap.calls != place:
            raise UnsupportedError(
                f"output: expected {place} calls of {name} in each forward pass, of which the last "
                f"gives the output, found {swap.calls}; leave this treatment out"
            )
        return out

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return _empty, (kind, name, place), self.__dict__.copy()

    members = {"forward": forward, "__reduce_ex__": __reduce_ex__, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)


def _empty(kind: Any, name: str, place: int) -> nn.Module:
    """What pickle fills with the state of a model of such a class."""
    like = _ending(kind, name, place)
    model: nn.Module = like.__new__(like)
    return model


class Output(Part):
    """``output=``: what the loss is given."""

    def __init__(self, treatment: Treatment) -> None:
        self._kind: str = treatment.value
        self.changes = {
            "identity": "takes the last nonlinearity of the model away",
            "squeeze": "takes the last dimension, of size 1, off the model's output",
        }.get(self._kind, f"makes {self._kind} the last nonlinearity of the model")

    def at_data(self, patient: Patient) -> None:
        """Replace it.

        Raises:
            UnsupportedError: The output is no tensor, or its nonlinearity cannot be reached.
        """
        scene = patient.look()
        if scene.output is None:
            raise UnsupportedError(
                "expected a model whose output is one tensor, found another; "
                "leave this treatment out"
            )
        if self._kind == "squeeze":
            if scene.output[-1:] != (1,):
                raise UnsupportedError(
                    f"expected outputs with a last dimension of 1, found {list(scene.output)}; "
                    "leave this treatment out"
                )
            patient.model.register_forward_hook(squeeze)
        elif scene.bent:
            self._replace(patient.model, scene, _made(self._kind, scene.output))
        elif self._kind == "identity":
            raise UnsupportedError(
                "expected a model whose output is that of a nonlinearity, found another; "
                "leave this treatment out"
            )
        else:
            patient.model.add_module(CHILD, _made(self._kind, scene.output))
            patient.model.register_forward_hook(behind)

    def _replace(self, model: nn.Module, scene: Scene, fresh: nn.Module) -> None:
        func, stack = scene.bends[-1]
        owner = stack[-1]
        once = sum(where[-1] is owner for _, where in scene.bends) == 1
        if is_activation(owner) and owner is not model and once:
            stand_in(model, owner, fresh)
            return
        name = family(func)
        place = sum(one in FAMILIES[name] for one, _ in scene.bends)
        model.add_module(CHILD, fresh)
        kind: Any = type(model)
        model.__class__ = _ending(kind, name, place)


BUILD = {"output": Output}
