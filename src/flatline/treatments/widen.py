"""Gives narrow hidden layers more units."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Generator, Tensor, nn
from torch.utils._pytree import tree_leaves

from flatline.errors import UnsupportedError
from flatline.sense.lone import untouched
from flatline.treatments.initialise import he
from flatline.treatments.plan import Part, Patient
from flatline.treatments.ranks import expect_one

if TYPE_CHECKING:
    from flatline.anatomy.atlas import Place
    from flatline.treatments.registry import Treatment

#: Keeps what is drawn here apart from what the program drew from the same seed.
_SALT = 0x51DE_57EB


class Widen(Part):
    """``widen=``: new units read their inputs by He's initialisation, and are read with weight 0.

    So the model computes what it did (Chen et al. 2016 split units to that end; new ones that are
    not read yet start apart from the old ones and from each other).
    """

    def __init__(self, treatment: Treatment) -> None:
        self._units: int = treatment.value
        self.changes = (
            f"gives hidden linear layers of fewer than {self._units} units as many, the new ones "
            "with outgoing weights of 0, so that the model computes what it did"
        )

    @torch.no_grad()
    def at_data(self, patient: Patient) -> None:
        """Widen.

        Raises:
            UnsupportedError: The weights are not fresh, there is no such layer, something else
                in the model depends on its width, or several processes train the model.
        """
        expect_one()
        if patient.trained:
            raise UnsupportedError(
                f"expected a model with fresh weights to widen, found that {patient.trained}; "
                "start from scratch, or leave this treatment out"
            )
        narrow = _narrow(patient, self._units)
        if not narrow:
            raise UnsupportedError(
                f"expected a linear layer of fewer than {self._units} units between a nonlinearity "
                "and linear layers that read it, found none; leave this treatment out"
            )
        before = _outputs(patient)
        touched = dict.fromkeys(one for _, layer, readers in narrow for one in (layer, *readers))
        old = [(one, vars(one).copy(), _data(one)) for one in touched]
        generator = Generator().manual_seed((torch.initial_seed() ^ _SALT) % 2**63)
        try:
            with torch.device("cpu"):  # the same numbers on every device
                for place, layer, readers in narrow:
                    _grow(place, layer, readers, self._units, generator)
            same = _alike(before, _outputs(patient))
            why = "" if same else "it computes something else"
        except Exception as error:  # whatever a model raises where its shapes are not those it knew
            why = str(error).partition("\n")[0] or type(error).__name__
        if why:
            for one, sizes, data in old:
                vars(one).update(sizes)
                for parameter, numbers, gradient in data:
                    parameter.data, parameter.grad = numbers, gradient
            raise UnsupportedError(
                "expected a model in which only the next layers depend on how wide a layer is, "
                f"found that with more units {why}; leave this treatment out"
            )
        patient.forget([parameter for one in touched for parameter in one.parameters()])


def _data(layer: nn.Module) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    return [(parameter, parameter.data, parameter.grad) for parameter in layer.parameters()]


def _narrow(patient: Patient, units: int) -> list[tuple[Place, nn.Linear, list[nn.Linear]]]:
    """Sites with fewer units, with the layer that feeds each and those that read it."""
    modules = dict(patient.model.named_modules())
    found = []
    for place in dict.fromkeys(place for place, _ in patient.look().sites):
        layer = modules.get(place.name)
        readers = [modules.get(name.rpartition(".")[0]) for name in place.reads]
        if place.units < units and _plain(layer) and layer.out_features == place.units:
            linear = [one for one in readers if _plain(one) and one.in_features == place.units]
            if readers and len(linear) == len(readers):
                found.append((place, layer, linear))
    return found


def _plain(layer: nn.Module | None) -> TypeGuard[nn.Linear]:
    """Whether it is a linear layer of no kind of its own, whose weight is not computed anew."""
    return type(layer) is nn.Linear and "weight" in layer._parameters


def _grow(
    place: Place, layer: nn.Linear, readers: list[nn.Linear], units: int, generator: Generator
) -> None:
    weight, more = layer.weight, units - layer.out_features
    fresh = torch.empty(more, layer.in_features)
    he(fresh, place, generator)
    weight.data = torch.cat([weight.data, fresh.to(weight)])
    if layer.bias is not None:
        layer.bias.data = torch.cat([layer.bias.data, layer.bias.data.new_zeros(more)])
    layer.out_features = units
    for reader in readers:
        known = reader.weight.data
        reader.weight.data = torch.cat([known, known.new_zeros(len(known), more)], 1)
        reader.in_features = units
    for parameter in (one for each in (layer, *readers) for one in each.parameters()):
        parameter.grad = None  # of before the first batch, and of another size


def _outputs(patient: Patient) -> object:
    with untouched(patient.model), torch.no_grad():
        return patient.model(*patient.args, **patient.kwargs)


def _alike(one: object, other: object) -> bool:
    """Whether the tensors of two outputs are the same within rounding; nothing else is compared."""
    leaves, others = tree_leaves(one), tree_leaves(other)
    return len(leaves) == len(others) and all(map(_close, leaves, others))


def _close(one: object, other: object) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return True
    rough = 4 * torch.finfo(one.dtype).eps if one.is_floating_point() else 0.0
    return one.shape == other.shape and torch.allclose(
        one, other, rtol=max(1e-3, rough), atol=max(1e-5, rough), equal_nan=True
    )


BUILD = {"widen": Widen}
