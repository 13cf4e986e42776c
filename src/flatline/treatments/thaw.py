"""Lets parameters be trained that are left out of the training."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from flatline.anatomy.roots import parameters_of
from flatline.errors import UnsupportedError
from flatline.treatments.plan import Part, Patient

if TYPE_CHECKING:
    from flatline.treatments.registry import Treatment

_DETACH = frozenset((Tensor.detach, torch.detach))
#: Whose own calls are left as they are.
_SPARED = ("flatline", "torch")


class Unfreeze(Part):
    """``unfreeze=all``: every parameter asks for a gradient, and has an optimizer."""

    changes = (
        "trains every parameter of the model: those with requires_grad=False ask for gradients, "
        "those that no optimizer has join the first one"
    )

    def __init__(self, treatment: Treatment) -> None:
        """It has no settings."""

    def at_data(self, patient: Patient) -> None:
        """Thaw.

        Raises:
            UnsupportedError: Everything is trained already.
        """
        trained = {id(p): p for p in parameters_of(patient.optimizers)}
        beside = {
            name.rpartition(".")[2]: p
            for name, p in patient.model.named_parameters()
            if id(p) in trained
        }
        left_out = {
            name: p
            for name, p in patient.model.named_parameters()
            if p.is_floating_point() and not (id(p) in trained and p.requires_grad)
        }
        if not left_out:
            raise UnsupportedError(
                "expected parameters that are not trained, found none; leave this treatment out"
            )
        for name, parameter in left_out.items():
            parameter.requires_grad_(True)
            if id(parameter) not in trained:
                patient.adopt({name: parameter}, beside.get(name.rpartition(".")[2]))


class _Attached(TorchFunctionMode):
    """Calls of ``detach()`` by the model give the tensor with its history."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _DETACH and torch.is_grad_enabled():
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.partition(".")[0] not in _SPARED:
                tensor = args[0]
                return tensor.view_as(tensor)
        return func(*args, **(kwargs or {}))


class _UnderWay(threading.local):
    """The modes of the calls under way; replicas of a model are called in threads of their own."""

    def __init__(self) -> None:
        self.modes: list[Any] = []


_under_way = _UnderWay()


def _enter(model: nn.Module, args: tuple[Any, ...]) -> None:
    mode: Any = _Attached()
    mode.__enter__()
    _under_way.modes.append(mode)


def _leave(model: nn.Module, args: tuple[Any, ...], out: Any) -> None:
    _under_way.modes.pop().__exit__(None, None, None)


class Attach(Part):
    """``detach=off``: gradients pass where the model cuts them off."""

    changes = "lets gradients pass the calls of detach() inside the model's forward pass"

    def __init__(self, treatment: Treatment) -> None:
        """It has no settings."""

    def at_data(self, patient: Patient) -> None:
        """Watch every call of the model from now on, the one under way included."""
        patient.model.register_forward_pre_hook(_enter, prepend=True)
        patient.model.register_forward_hook(_leave, always_call=True)


BUILD = {"unfreeze": Unfreeze, "detach": Attach}
