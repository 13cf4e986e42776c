"""A nonlinearity passes by: a site, a part of a formula, or something that has no place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from flatline.activations import Activation
from flatline.anatomy.labels import LINEAR, MOVED, OUTPUT, Base, Label, Weights
from flatline.anatomy.operators import GUARDS, NONLINEAR, Args, Kwargs

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer

_UNKNOWN = "its input is not the output of one known layer"
_PARAMETERS = "its input is made of parameters alone"
_OUTSIDE = "it is applied outside the model, as a loss is, and no layer reads it"


def read(tracer: Tracer, op: str, args: Args, kwargs: Kwargs) -> Callable[[Any], None] | None:
    """Read a nonlinearity that is about to be applied; the result is told its outcome.

    Returns:
        ``None`` where it is a part of a formula, stands on top of another nonlinearity, or has no
        place, which is noted.
    """
    z = args[0]
    label = tracer.label(z)
    if not isinstance(label, Label):
        if op not in GUARDS and tracer.stack:
            _unknown(tracer, op, z, label)
        return None
    activation = NONLINEAR[op](args, kwargs)
    if label.role != LINEAR or activation is None:
        return None
    if label.spread is None or label.origin is None:
        tracer.miss(label, op, label.lost or MOVED)
        return None
    if z.is_complex():
        tracer.miss(label, op, "its numbers are complex")
        return None
    return _site(tracer, z, label, activation)


def _unknown(tracer: Tracer, op: str, z: Tensor, label: object) -> None:
    """Note a nonlinearity on what no layer made, unless it is one on mere parameters or numbers."""
    if isinstance(label, Weights):
        if label.product and label.shown:
            tracer.miss(None, op, _PARAMETERS)
    elif z.requires_grad and z.numel() > 1:
        tracer.miss(None, op, _UNKNOWN)


def _site(tracer: Tracer, z: Tensor, label: Label, activation: Activation) -> Callable[[Any], None]:
    assert label.spread is not None
    begun = base(tracer, z)
    token = enter(tracer, z, label, activation)
    tracer.leak(label)  # what a residual connection brought along
    spread = replace(label.spread, start=0, step=1)  # readers count the site's own units
    done = replace(
        label, role=OUTPUT, spread=spread, base=begun, path=(activation.name,), tokens=(token,)
    )

    def after(out: Any) -> None:
        out = out[0] if isinstance(out, tuple) else out
        tracer.observer.after(token, out)
        tracer.labels.put(out, done)

    return after


def base(tracer: Tracer, z: Tensor) -> Base | None:
    """The beginning of the formula that ``z`` is in, or ``z`` itself as one."""
    label = tracer.labels.get(z)
    if not isinstance(label, Label) or label.base is not None or label.spread is None:
        return label.base if isinstance(label, Label) else None
    begun = Base(z, label.spread, bool(tracer.stack))
    tracer.labels.put(z, replace(label, base=begun))
    return begun


def enter(tracer: Tracer, z: Tensor, label: Label, activation: Activation) -> Any:
    """Tell the observer of a nonlinearity on ``z``, which has this label; returns its handle."""
    origin, spread = label.origin, label.spread
    assert origin is not None
    assert spread is not None
    place = tracer.atlas.place(
        origin.name,
        activation,
        origin.feeds,
        label.form,
        spread.count,
        spread.start,
        spread.step,
    )
    place.mixed = origin.mixed
    if not tracer.stack:
        place.doubts.setdefault(_OUTSIDE)
    return tracer.observer.before(place, z, spread, label.inputs)
