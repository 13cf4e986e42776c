"""Activations that are written out as formulas: following one until the table knows it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flatline import activations
from flatline.activations import Activation
from flatline.anatomy.labels import LINEAR, OUTPUT, TAINT, Base, Label, sample
from flatline.anatomy.operators import CHOOSING, NONLINEAR, Call, tensors_of

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer

_UNKNOWN = "its nonlinearity is a formula that is not in the table"
_UNCLEAR = "its formula cannot be told from others on these numbers"
#: Largest error of a formula computed in a precision.
_TOLERANCES = {torch.float16: 2e-3, torch.bfloat16: 1e-2}
#: Operators of a formula that are remembered.
_LONGEST = 64
#: An operator that a formula of this name cannot do without, where others come close to it.
_NEEDS = {
    "gelu": {"erf", "erfc", "special_ndtr", "special_erf"},
    "gelu_tanh": {"tanh"},
    "mish": {"tanh", "softplus", "exp", "expm1", "log1p", "logaddexp"},
}


def same(a: Label, b: Label) -> bool:
    """Whether two tensors are parts of one formula: functions of the same pre-activation."""
    return a.base is not None and a.base is b.base


def join(tracer: Tracer, op: str, a: Label, b: Label, out: Tensor) -> None:
    """Two parts of one formula meet: is the whole an activation of the table?"""
    if a.role == b.role == LINEAR and op in ("add", "sub", "rsub"):
        tracer.labels.put(out, replace(a, form=f"{a.form}{b.form}~"))
        return
    part = a if len(a.path) >= len(b.path) else b
    path = (*a.path, *b.path, op)[-_LONGEST:]
    part = replace(part, path=path, base=a.base, origin=part.origin, over="")
    if not recognise(tracer, part, out):
        taint(tracer, part, out)
    for token in a.tokens + b.tokens:
        tracer.observer.forget(token)


def taint(tracer: Tracer, label: Label, out: Tensor) -> None:
    """``out`` is a part of an unfinished formula."""
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
    if activation is None or activation.name == "composite":
        return False
    place = tracer.place(label, activation)
    token = tracer.observer.before(place, z, label.spread, label.inputs)
    tracer.observer.after(token, out)
    spread = replace(label.spread, start=0, step=1)
    whole = replace(label, role=OUTPUT, spread=spread, hold=None, tokens=(token,))
    tracer.labels.put(out, whole)
    return True


def _match(tracer: Tracer, label: Label, base: Base, out: Tensor) -> Activation | None:
    """The table's entry behind ``out``: searched for once, only confirmed afterwards."""
    assert label.origin is not None
    key = (label.origin.name, label.form, label.path)
    known = tracer.matched.get(key)
    if known is not None and known.name == "composite":
        return known
    z, h = (part.double().cpu().numpy() for part in (base.sample, sample(out)))
    tolerance = _TOLERANCES.get(out.dtype, 3e-6)
    among = [known.name] if known is not None else _candidates(label.path)
    found = activations.match(z, h, tolerance, among)
    if found is None and known is not None:
        return known  # it was told before; these numbers agree
    if found is not None:
        tracer.matched[key] = found
    return found


def _candidates(path: tuple[str, ...]) -> list[str]:
    """The formulas that may have been written with these operators."""
    used = set(path)
    return [name for name in activations.COMPOSITES if _NEEDS.get(name, used) & used]


def unfinished(tracer: Tracer, label: Label) -> str:
    """Why a formula that ended here was not placed."""
    assert label.origin is not None
    key = (label.origin.name, label.form, label.path)
    return _UNKNOWN if key in tracer.matched else _UNCLEAR


def follow(tracer: Tracer, units: list[tuple[Tensor, Label]], call: Call) -> None:
    """Label the result of an operator that has no rule of its own.

    It is the next step of a formula when it acts elementwise on functions of one pre-activation
    and on numbers; anything else ends what can be followed.
    """
    labels = [label for _, label in units]
    first, out = labels[0], call.out
    known = {id(x) for x, _ in units}
    others = [x for x in tensors_of(call.args, call.kwargs) if id(x) not in known]
    choosing = call.op in CHOOSING  # where(x > 0, x, zeros): the other tensors are constants
    elementwise = (
        call.pointwise
        and out.shape == units[0][0].shape
        and all(x is first or same(x, first) for x in labels)
        and (choosing or all(x.numel() <= 1 for x in others))
    )
    if not elementwise:
        tracer.end(units, call.results)
        return
    part = max(labels, key=lambda label: (label.role == TAINT, len(label.path)))
    base = next((x.base for x in labels if x.base is not None), None)
    if base is None and units[0][0] is not out:
        base = tracer.base(units[0][0])
    if call.op == "neg" and part.role == LINEAR:
        tracer.labels.put(out, replace(part, form=part.form + "-", base=base))
        return
    part = replace(part, path=(*part.path, call.op), base=base)
    _step(tracer, labels, part, call, whole=not choosing or not others)


def _step(tracer: Tracer, labels: list[Label], part: Label, call: Call, *, whole: bool) -> None:
    """One more operator of a formula; ``whole`` when nothing else takes part."""
    tokens = [token for label in labels for token in label.tokens]
    if recognise(tracer, replace(part, over=""), call.out):
        for token in tokens:
            tracer.observer.forget(token)
    elif all(label.role == OUTPUT for label in labels):
        # A scaled ReLU and the like: the unit is still the unit.
        over = call.op if call.op in NONLINEAR else ""
        tracer.labels.put(call.out, replace(part, over=part.over or over))
    elif not whole:
        tracer.end([(call.out, label) for label in labels], call.results)
    else:
        taint(tracer, part, call.out)
