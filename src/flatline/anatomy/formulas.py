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
_OVERWRITTEN = "its pre-activation is overwritten before its formula is complete"
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
    if a.base is not None and b.base is not None:
        return a.base is b.base
    # A view of the pre-activation, or one from before the formula began.
    return a.origin is not None and a.origin is b.origin and _units(a) == _units(b) is not None


def _units(label: Label) -> tuple[int, ...] | None:
    """Which units of its layer a label is about."""
    if label.role == OUTPUT and len(label.tokens) == 1:
        place = label.tokens[0].place
        return place.units, place.start, place.step
    spread = label.spread
    return None if spread is None else (spread.count, spread.start, spread.step)


def join(tracer: Tracer, op: str, a: Label, b: Label, out: Tensor) -> None:
    """Two parts of one formula meet: is the whole an activation of the table?"""
    if a.role == b.role == LINEAR and op in ("add", "sub", "rsub"):
        tracer.labels.put(out, replace(a, form=f"{a.form}{b.form}~"))
        return
    part = a if len(a.path) >= len(b.path) else b
    path = (*a.path, *b.path, op)[-_LONGEST:]
    part = replace(part, path=path, base=a.base or b.base, over="")
    if not recognise(tracer, part, out):
        if a.role == b.role == OUTPUT and a.tokens == b.tokens:
            tracer.labels.put(out, part)  # h * h: a function of the unit's output alone
            return
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
    if base is None or label.origin is None or label.spread is None:
        return False
    if out.shape != base.shape or not out.is_floating_point():
        return False
    activation = _match(tracer, label, base, out)
    z = base.tensor()
    if activation is None or activation.name == "composite" or z is None or _shares(z, out):
        return False
    token = tracer.enter_site(z, replace(label, spread=base.spread), activation)
    tracer.observer.after(token, out)
    whole = replace(label, role=OUTPUT, hold=None, tokens=(token,))
    tracer.labels.put(out, replace(whole, spread=replace(base.spread, start=0, step=1)))
    return True


def _shares(z: Tensor, out: Tensor) -> bool:
    """Whether ``out`` was written over the pre-activation."""
    return z.untyped_storage().data_ptr() == out.untyped_storage().data_ptr()


def _match(tracer: Tracer, label: Label, base: Base, out: Tensor) -> Activation | None:
    """The table's entry behind ``out``: searched for once, only confirmed afterwards."""
    assert label.origin is not None
    key = (label.origin.name, label.form, label.path)
    known = tracer.matched.get(key)
    if known is not None and known.name == "composite":
        return known
    z, h = (part.double().cpu().numpy() for part in (base.sample, sample(out)))
    tolerance = _TOLERANCES.get(out.dtype, 3e-6)
    if known is not None and activations.match(z, h, tolerance, [known.name]) in (known, None):
        return known  # it was told before, and these numbers agree
    found = activations.match(z, h, tolerance, _candidates(label.path))
    if known is None and found is not None:
        tracer.matched[key] = found
    return found


def _candidates(path: tuple[str, ...]) -> list[str]:
    """The formulas that may have been written with these operators."""
    used = set(path)
    return [name for name in activations.COMPOSITES if _NEEDS.get(name, used) & used]


def unfinished(tracer: Tracer, label: Label) -> str:
    """Why a formula that ended here was not placed."""
    assert label.origin is not None
    found = tracer.matched.get((label.origin.name, label.form, label.path))
    if found is None:
        return _UNCLEAR
    return _UNKNOWN if found.name == "composite" else _OVERWRITTEN


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
        if call.op in ("maximum", "minimum") and first.role == LINEAR:
            tracer.miss(first, call.op, "it picks one of several layers' outputs")
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
