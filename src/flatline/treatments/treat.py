"""Treats a training from Python."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import torch
from torch import nn
from torch.optim import Optimizer

from flatline.errors import FlatlineError, UnsupportedError, UsageError
from flatline.treatments.registry import parse_all
from flatline.treatments.seam import Seam


def treat(
    model: nn.Module,
    optimizer: Optimizer,
    *treatments: str,
    batches: Iterable[Any] | None = None,
) -> None:
    """Treat a training from now on; each treatment says on standard error what it changes.

    What is changed about the model waits for its first training batch and is carried out before
    that is used, or at once where ``batches`` are given.

    Args:
        model: The model.
        optimizer: Its optimizer, before its first step where weights are to be set anew.
        *treatments: Such as ``"init=he"`` or ``"clip=norm:1.0"``. They are carried out in the
            order of the registry: activation, input, weights, normalisation, then the step.
        batches: Batches as for :func:`examine`, of which the first is taken.

    Raises:
        UsageError: When ``model`` or ``optimizer`` is not one, there is no batch, or a treatment
            is unknown.
        UnsupportedError: When a treatment does not apply; also from the first call of the model.
            Treatments before it may have changed the model already: build it anew.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> treat(model, optimizer, "clip=norm:1.0")
    """
    for found, kind, expected in (
        (model, torch.nn.Module, "an nn.Module as model"),
        (optimizer, torch.optim.Optimizer, "a torch.optim.Optimizer"),
    ):
        if not isinstance(found, kind):
            raise UsageError(f"expected {expected}, found a {type(found).__name__}; pass it itself")
    seam = Seam(parse_all(treatments), _say, _refuse)
    try:
        seam.treat(model, optimizer)
        if batches is not None:
            seam.treat_now(model, _first(batches))
    except FlatlineError:
        seam.remove()  # what was refused is not to act all the same
        raise


def _first(batches: Iterable[Any]) -> Any:
    """The first of the batches.

    Raises:
        UsageError: There is none.
    """
    for batch in batches:
        return batch
    raise UsageError("expected at least one batch, found none; give a list or a DataLoader")


def _say(line: str) -> None:
    print(f"flatline: {line}", file=sys.stderr)


def _refuse(why: str) -> NoReturn:
    raise UnsupportedError(why)
