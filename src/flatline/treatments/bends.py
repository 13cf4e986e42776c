"""Puts a nonlinearity between linear maps that have none between them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F

from flatline.errors import UnsupportedError
from flatline.treatments.inputs import Arguments, of_first
from flatline.treatments.plan import Part, Patient

if TYPE_CHECKING:
    from flatline.treatments.registry import Treatment

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
}


def bend(kind: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The hook before the forward pass of the second of two maps."""
    return of_first(_FUNCTIONS[kind], layer, args, kwargs)


class Nonlinearity(Part):
    """``nonlinearity=``: the second of two maps reads the bent output of the first."""

    def __init__(self, treatment: Treatment) -> None:
        self._kind: str = treatment.value
        self.changes = f"puts {self._kind} between linear maps that have no nonlinearity between"

    def at_data(self, patient: Patient) -> None:
        """Insert.

        Raises:
            UnsupportedError: There is no such pair.
        """
        modules = dict(patient.model.named_modules())
        seconds = [
            modules[second.name]
            for first, second in patient.look().stacked
            if second.name in modules
            # A bottleneck makes a map of lower rank on purpose, and groups a separable one.
            and first.outputs >= min(first.inputs, second.outputs)
            and max(first.groups, second.groups) == 1
        ]
        if not seconds:
            raise UnsupportedError(
                "expected two linear maps one behind the other without a nonlinearity between, "
                "found none; leave this treatment out"
            )
        for second in seconds:
            second.register_forward_pre_hook(partial(bend, self._kind), with_kwargs=True)


BUILD = {"nonlinearity": Nonlinearity}
