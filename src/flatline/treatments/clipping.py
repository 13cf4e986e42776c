"""Gradient clipping before an optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from flatline.errors import UnsupportedError
from flatline.treatments.plan import Part

if TYPE_CHECKING:
    from flatline.treatments.registry import Treatment

#: Below this norm a unit's weights count as this large, so that zero weights can move.
_LEAST_WEIGHT = 1e-3
_LEAST_GRADIENT = 1e-6


def norm(parameters: Sequence[Tensor], limit: float) -> None:
    """Scale all gradients together to a norm of at most ``limit``."""
    torch.nn.utils.clip_grad_norm_(parameters, limit)


def value(parameters: Sequence[Tensor], limit: float) -> None:
    """Clamp each number of each gradient to ``[-limit, limit]``."""
    torch.nn.utils.clip_grad_value_(parameters, limit)


def _unit_norms(tensor: Tensor) -> Tensor:
    """Norm of each output row; of the whole where there is but one dimension."""
    axes = tuple(range(1, tensor.ndim)) or None
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=axes, keepdim=True)
    return norms


def adaptive(parameters: Sequence[Tensor], ratio: float) -> None:
    """Scale each unit's gradient to at most ``ratio`` times the norm of its weights.

    Brock et al. 2021, equation 3.
    """
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            continue
        most = ratio * _unit_norms(parameter.detach()).clamp(min=_LEAST_WEIGHT)
        size = _unit_norms(gradient)
        scale = torch.where(size > most, most / size.clamp(min=_LEAST_GRADIENT), 1.0)
        gradient.mul_(scale)


class Percentile:
    """Clips to a percentile of all norms so far, this one included (AutoClip)."""

    def __init__(self) -> None:
        self._norms: list[float] = []

    def __call__(self, parameters: Sequence[Tensor], percentile: float) -> None:
        """Clip the gradients by their total norm."""
        total = float(torch.nn.utils.get_total_norm(_gradients(parameters)))
        if not np.isfinite(total):
            return  # one such number in the history would leave no percentile
        self._norms.append(total)
        norm(parameters, float(np.percentile(self._norms, percentile)))


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


_SAYS = {
    "norm": "scales all gradients together to a norm of at most {limit:g} before each step",
    "value": "clamps each gradient to [-{limit:g}, {limit:g}] before each step",
    "agc": "scales each unit's gradient to {limit:g} of its weights' norm before each step",
    "auto": "scales gradients to percentile {limit:g} of the norms so far before each step",
}


class Clip(Part):
    """``clip=``: see the functions of this module."""

    def __init__(self, treatment: Treatment) -> None:
        self._kind, self._limit = treatment.value
        clips: dict[str, Callable[[Sequence[Tensor], float], None]] = {
            "norm": norm,
            "value": value,
            "agc": adaptive,
            "auto": Percentile(),
        }
        self._clip = clips[self._kind]
        self.changes = _SAYS[self._kind].format(limit=self._limit)

    def on_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients of all parameters of an optimizer.

        Raises:
            UnsupportedError: The gradients are sparse, or still multiplied by a loss scale.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if any(gradient.is_sparse for gradient in _gradients(parameters)):
            raise UnsupportedError(
                "expected dense gradients to clip, found sparse ones; make embeddings with "
                "sparse=False"
            )
        if getattr(optimizer, "grad_scale", None) is not None:
            raise UnsupportedError(
                "expected gradients without a loss scale, found a fused optimizer that takes it "
                "off inside its step; build it with fused=False"
            )
        self._clip(parameters, self._limit)


BUILD = {"clip": Clip}
