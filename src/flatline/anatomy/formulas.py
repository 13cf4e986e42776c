"""Activations that are written out as formulas: following one until the table knows it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from flatline import activations
from flatline.activations import Activation, Array
from flatline.anatomy.labels import LINEAR, NOISE, OUTPUT, TAINT, Base, Label, sample
from flatline.anatomy.operators import CHOOSING, Args, Kwargs, tensors_of

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer


def same(a: Label, b: Label) -> bool:
    """Whether two tensors are parts of one formula: functions of the same pre-activation."""
    return a.base is not None and a.base is b.base


def join(tracer: Tracer, a: Label, b: Label, out: Tensor) -> None:
    """Two parts of one formula meet: is the whole an activation of the table?"""
    if a.role == b.role == LINEAR:
        tracer.labels.put(out, replace(a, form=f"{a.form}{b.form}~"))
        return
    part = a if len(a.path) >= len(b.path) else b
    part = replace(part, path=f"{part.path} join", base=a.base or b.base)
    if not recognise(tracer, part, out):
        if a.role == b.role == OUTPUT:
            tokens = tuple(dict.fromkeys(a.tokens + b.tokens))
            tracer.labels.put(out, replace(a, tokens=tokens))
            return
        _taint(tracer, part, out)
    for token in a.tokens + b.tokens:
        tracer.observer.forget(token)


def _taint(tracer: Tracer, label: Label, out: Tensor) -> None:
    hold = label.base.tensor() if label.base is not None else None
    tracer.labels.put(out, replace(label, role=TAINT, hold=hold, tokens=()))


def recognise(tracer: Tracer, label: Label, out: Tensor) -> bool:
    """Place ``out`` as a function of its formula's pre-activation, if the table has that one."""
    base = label.base
    z = None if base is None else base.tensor()
    if base is None or z is None or label.origin is None or label.spread is None:
        return False
    if out.shape != base.shape or not out.is_floating_point():
        return False
    activation = _match(tracer, label, base, out)
    if activation.name == "composite":
        return False
    place = tracer.place(label, activation)
    token = tracer.observer.before(place, z, label.spread, label.inputs)
    tracer.observer.after(token, out)
    spread = replace(label.spread, start=0, step=1)
    whole = replace(label, role=OUTPUT, spread=spread, path="", hold=None, tokens=(token,))
    tracer.labels.put(out, whole)
    return True


def _match(tracer: Tracer, label: Label, base: Base, out: Tensor) -> Activation:
    """The table's entry behind ``out``: searched for once, only confirmed afterwards."""
    assert label.origin is not None
    key = (label.origin.name, label.form, label.path)
    known = tracer.matched.get(key)
    z, h = (part.double().cpu().numpy() for part in (base.sample, sample(out)))
    if known is None or (known.name != "composite" and not _explains(known, z, h)):
        tolerance = 2e-3 if out.dtype in (torch.float32, torch.float64) else 2e-2
        known = tracer.matched[key] = activations.match(z, h, tolerance)
    return known


def _explains(activation: Activation, z: Array, h: Array) -> bool:
    assert activation.function is not None
    error = np.abs(activation.function(z) - h).max(initial=0.0)
    return bool(error <= 2e-2 * np.abs(h).max(initial=0.0))


def follow(
    tracer: Tracer,
    op: str,
    units: list[tuple[Tensor, Label]],
    args: Args,
    kwargs: Kwargs,
    results: list[Tensor],
) -> None:
    """Label the result of an operator that has no rule of its own.

    It is the next step of a formula when it acts elementwise on functions of one pre-activation
    and on numbers; anything else ends what can be followed.
    """
    labels = [label for _, label in units]
    first, out = labels[0], results[0]
    known = {id(x) for x, _ in units}
    constants = op in CHOOSING  # where(x > 0, x, zeros): the other tensors are constants
    elementwise = (
        len(results) == 1
        and first.role != NOISE
        and out.shape == units[0][0].shape
        and all(x is first or same(x, first) for x in labels)
        and (constants or all(x.numel() <= 1 or id(x) in known for x in tensors_of(args, kwargs)))
    )
    if not elementwise:
        tracer.end(units, results)
        return
    if all(x.role == OUTPUT for x in labels):
        tracer.labels.put(out, first)  # a squared ReLU and the like: the unit is still the unit
        return
    part = next((x for x in labels if x.role == TAINT), first)
    base = next((x.base for x in labels if x.base is not None), None)
    if base is None and units[0][0] is not out:
        base = tracer.base(units[0][0])
    if op == "neg" and part.role == LINEAR:
        tracer.labels.put(out, replace(part, form=part.form + "-", base=base))
        return
    part = replace(part, path=f"{part.path} {op}", base=base)
    if recognise(tracer, part, out):
        for token in (token for x in labels for token in x.tokens):
            tracer.observer.forget(token)
    elif constants and len(tensors_of(args, kwargs)) > len(known):
        tracer.end(units, results)
    else:
        _taint(tracer, part, out)
