"""Brings the model's input into the range that a training needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flatline.errors import UnsupportedError
from flatline.treatments.plan import Part, Patient

if TYPE_CHECKING:
    from flatline.treatments.registry import Treatment

#: Buffers of the model, so that they are saved with it.
MEAN, SCALE = "flatline_input_mean", "flatline_input_scale"


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def of_first(
    change: Callable[[Any], Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Arguments:
    """Arguments of a call of which the first is changed, given by its name or not.

    Raises:
        UnsupportedError: There is no first argument, which is not to be left as it is unnoticed.
    """
    if args:
        return (change(args[0]), *args[1:]), kwargs
    name = next(iter(inspect.signature(module.forward).parameters), "")
    if name not in kwargs:
        raise UnsupportedError(
            f"expected the input of {type(module).__name__} as its first argument, as in the first "
            "training batch, found none; pass it so, or leave this treatment out"
        )
    return args, {**kwargs, name: change(kwargs[name])}


def standardize(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The hook before the model's forward pass; the first argument is its input."""
    mean, scale = getattr(model, MEAN), getattr(model, SCALE)
    return of_first(lambda x: (x - mean) * scale, model, args, kwargs)


class Standardize(Part):
    """``standardize=input``: by the mean and deviation of the first training batch."""

    changes = (
        "brings each input feature (or channel) to mean 0 and variance 1, as measured on the "
        "first training batch, in training and in evaluation"
    )

    def __init__(self, treatment: Treatment) -> None:
        """It has no settings."""

    def at_data(self, patient: Patient) -> None:
        """Measure, and treat every input from now on.

        Raises:
            UnsupportedError: The input is no batch of real numbers.
        """
        x = patient.args[0] if patient.args else None
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2 or len(x) < 2:
            found = type(x).__name__ if not isinstance(x, Tensor) else f"{x.dtype} {list(x.shape)}"
            raise UnsupportedError(
                "expected a model whose first argument is a batch of real numbers, found "
                f"{found}; leave this treatment out"
            )
        axis = _axis(patient.model, x)
        others = [dim for dim in range(x.ndim) if dim != axis]
        wide = x.detach().double()
        mean = wide.mean(others, keepdim=True)[0]
        deviation = wide.std(others, correction=0, keepdim=True)[0]
        scale = torch.where(deviation > 0, 1 / deviation, 1.0)  # what never varies is centred
        patient.model.register_buffer(MEAN, mean.to(x.dtype))
        patient.model.register_buffer(SCALE, scale.to(x.dtype))
        patient.model.register_forward_pre_hook(standardize, with_kwargs=True)


def fill(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The hook before the model's forward pass; the first argument is its input."""
    return of_first(lambda x: torch.where(x.isfinite(), x, 0.0), model, args, kwargs)


class Fill(Part):
    """``nan_to_num=input``."""

    changes = "replaces NaN and infinity in the model's input by 0, in training and in evaluation"

    def __init__(self, treatment: Treatment) -> None:
        """It has no settings."""

    def at_data(self, patient: Patient) -> None:
        """Replace them from now on, in the batch that has come as well.

        Raises:
            UnsupportedError: The input is no tensor of real numbers.
        """
        x = patient.args[0] if patient.args else None
        if not isinstance(x, Tensor) or not x.is_floating_point():
            found = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise UnsupportedError(
                "expected a model whose first argument is a tensor of real numbers, found "
                f"{found}; leave this treatment out"
            )
        patient.args, _ = fill(patient.model, patient.args, {})
        patient.model.register_forward_pre_hook(fill, with_kwargs=True)


def _axis(model: nn.Module, x: Tensor) -> int:
    """The axis of features: channels for convolutions, else the last."""
    if x.ndim > 3:
        return 1
    layers = (one for one in model.modules() if isinstance(one, nn.Linear | nn.Conv1d))
    return 1 if isinstance(next(layers, None), nn.Conv1d) else x.ndim - 1


BUILD = {"standardize": Standardize, "nan_to_num": Fill}
