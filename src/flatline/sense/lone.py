"""One census of a model on data, without training it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flatline.anatomy.atlas import Atlas
from flatline.anatomy.roots import Names
from flatline.anatomy.site import Site, Unplaced
from flatline.anatomy.tracer import Tracer
from flatline.errors import UnsupportedError, UsageError
from flatline.sense.ablation import Silencer, ablate
from flatline.sense.exam import Exam
from flatline.sense.gradients import Movement
from flatline.sense.harvest import drawn, fetch, gathered
from flatline.sense.histogram import Histograms
from flatline.sense.staff import Staff
from flatline.sense.vitals import Vitals, merge

LossFunction = Callable[..., Tensor]


@contextmanager
def untouched(model: nn.Module) -> Any:
    """Evaluation mode, with every flag, gradient and random state as before at the end."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    drawn = torch.get_rng_state(), np.random.get_state(), random.getstate()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    model.eval()
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, gradient in gradients:
            parameter.grad = gradient
        torch.set_rng_state(drawn[0])
        np.random.set_state(drawn[1])
        random.setstate(drawn[2])
        if on_gpu is not None:
            torch.cuda.set_rng_state_all(on_gpu)


def arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """What a model is called with for one batch, and the targets that came with it."""
    inputs, targets = batch, None
    if isinstance(batch, tuple | list) and len(batch) == 2:
        inputs, targets = batch
    if isinstance(inputs, dict):
        return (), inputs, targets
    if isinstance(inputs, tuple | list):
        return tuple(inputs), {}, targets
    return (inputs,), {}, targets


def _apply(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """The model's output for one batch, and the targets that came with it."""
    args, kwargs, targets = arguments(batch)
    return model(*args, **kwargs), targets


def loss_of(model: nn.Module, batch: Any, loss_fn: LossFunction | None) -> Tensor | None:
    """The loss of one batch; the model's own `.loss` without a function, if it has one."""
    if loss_fn is None:
        out, _ = _apply(model, batch)
        loss = getattr(out, "loss", None)
        return loss if isinstance(loss, Tensor) else None
    if isinstance(batch, tuple | list) and len(batch) == 2:
        out, targets = _apply(model, batch)
        return loss_fn(out, targets)
    return loss_fn(model, batch)


def _plainly(work: Callable[..., Any], *args: Any) -> Any:
    """Run work whose faults are ours to tell."""
    return work(*args)


class Examination:
    """What one census found.

    Attributes:
        sites: The sites, in the order of the forward pass.
        unplaced: Nonlinearities that could not be placed.
        vitals: Vitals by site.
        measures: Numbers about each site as a whole.
        histograms: Where pre-activations lay in the last batch, by site.
        batches: Number of batches seen.
    """

    def __init__(self) -> None:
        self.sites: tuple[Site, ...] = ()
        self.unplaced: tuple[Unplaced, ...] = ()
        self.vitals: dict[str, Vitals] = {}
        self.measures: dict[str, dict[str, float]] = {}
        self.histograms: dict[str, Histograms] = {}
        self.batches = 0


def examine(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: LossFunction | None = None,
    *,
    ablation: bool = False,
) -> Examination:
    """Examine a model on data; no weight, buffer, gradient or random state changes.

    Args:
        model: The model.
        batches: Batches: ``(inputs, targets)``, inputs alone, or what ``loss_fn(model, batch)``
            takes. Each row of an input is one example.
        loss_fn: ``loss_fn(outputs, targets)``, or ``loss_fn(model, batch)`` where a batch is not a
            pair. Without one there are no gradients, and a model's own ``.loss`` is used.
        ablation: Also measure what the loss loses by live units, in three more passes over the
            batches per site.

    Raises:
        UsageError: When there is no batch, or no loss to ablate units by.
        UnsupportedError: When flatline itself failed on this model.
    """
    found = Examination()
    atlas, names = Atlas(), Names([model])
    tracer = Tracer(names, atlas, Staff())
    total: dict[Any, Vitals] = {}
    with untouched(model):
        for batch in batches:
            exam = Exam(tracer, lambda module: names.module(module) is not None, _plainly)
            exam.open()
            try:
                loss = loss_of(model, batch, loss_fn)
            finally:
                exam.close()
            _differentiate(model, loss)
            read = exam.finish()
            known = set(atlas.settle())
            pending = [entry for entry in read if entry[0].place in known]
            places = dict.fromkeys(reading.place for reading, _ in pending)
            movements = {place: Movement(place, updated=True) for place in places}
            with np.errstate(all="ignore"):
                samples = gathered(reading for reading, _ in pending)
                harvest = fetch(pending, movements, samples=samples)
                for place, part in harvest.vitals.items():
                    total[place] = merge(total[place], part) if place in total else part
                    found.measures[place.name] = harvest.measures[place]
                found.histograms |= drawn(harvest)
            found.batches += 1
            _expect_no_fault(exam, model)
        if ablation and found.batches:
            live = {place: np.flatnonzero(~one.silent) for place, one in total.items()}
            for place, lost in ablate(live, _mean_loss(model, batches, loss_fn, tracer)).items():
                found.measures[place.name] |= lost
    if not found.batches:
        raise UsageError(
            "expected batches to examine the model on, found none; give an iterable of "
            "(inputs, targets) that can be iterated anew"
        )
    found.sites = tuple(place.site("none") for place in atlas.settle())
    found.unplaced = atlas.unplaced
    found.vitals = {place.name: vitals for place, vitals in total.items()}
    return found


def _mean_loss(
    model: nn.Module, batches: Iterable[Any], loss_fn: LossFunction | None, tracer: Tracer
) -> Callable[[Silencer | None], float]:
    """Gives the model's mean loss over the batches while units are silenced."""

    def of(silencer: Silencer | None) -> float:
        losses = [one(batch, silencer) for batch in batches]
        if not losses:
            raise UsageError(
                "expected batches that can be iterated anew to ablate units, found an iterator "
                "that is used up; give a list or a DataLoader"
            )
        return float(np.mean(losses))

    def one(batch: Any, silencer: Silencer | None) -> float:
        exam = Exam(tracer, lambda module: tracer.names.module(module) is not None)
        tracer.observer = silencer or tracer.observer
        exam.open()
        try:
            loss = loss_of(model, batch, loss_fn)
        finally:
            exam.close()
        _expect_no_fault(exam, model)  # after one, units may not have been silenced
        if loss is None:
            raise UsageError(
                "expected a loss to ablate units by, found none; give loss_fn, or a model whose "
                "output has .loss"
            )
        return float(loss.detach().float().mean())

    return of


def _expect_no_fault(exam: Exam, model: nn.Module) -> None:
    if exam.fault is not None:
        raise UnsupportedError(
            f"expected to follow {type(model).__name__}, found a fault inside flatline "
            f"({type(exam.fault).__name__}: {exam.fault}); please report it"
        ) from exam.fault


def _differentiate(model: nn.Module, loss: Tensor | None) -> None:
    """Put the loss's gradients where training would; taken away by :func:`untouched`."""
    if loss is None or not loss.requires_grad:
        return
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
