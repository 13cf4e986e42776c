"""Operators that make pre-activations: linear maps, normalisations, embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from flatline.anatomy.atlas import Feed
from flatline.anatomy.inputs import Inputs, of_patches, of_rows
from flatline.anatomy.labels import LINEAR, OUTPUT, Label, Weights
from flatline.anatomy.operators import BATCH_NORMS, Args, Kwargs
from flatline.anatomy.spread import Spread, of_axis

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer

#: Labels the output of the call; ``False`` when the call is none of its kind after all.
Producer = Callable[["Tracer", Args, Kwargs, Any], bool]


def _linear(
    tracer: Tracer,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    *,
    reads: int,
    makes: int,
    axis: int = -1,
    x_axis: int = -1,
    groups: int = 1,
    per_unit: bool = True,
    inputs: Inputs | None = None,
) -> bool:
    """A linear map: ``weight`` pairs its dimension ``reads`` with ``x_axis`` of ``x``.

    Args:
        tracer: The tracer.
        x: Input.
        weight: The map.
        bias: Its bias.
        out: Output, with the units on dimension ``axis``.
        reads: Dimension of the weight that runs over inputs.
        makes: Dimension of the weight that runs over units.
        axis: The unit axis of the output.
        x_axis: The input's dimension that is summed over.
        groups: Groups of a convolution.
        per_unit: Whether ``makes`` runs over all units (not so in a grouped transposed one).
        inputs: What the map was given; taken from the rows of ``x`` when left out.
    """
    weights = tracer.label(weight)
    if not isinstance(weights, Weights) or isinstance(tracer.label(x), Weights):
        return False
    tracer.consume(x, weights, weight, reads, x_axis, groups)
    if inputs is None and x_axis == -1:
        inputs = of_rows(x, data=is_data(tracer, x))
    feeds = weights.feed(makes) if per_unit else tuple(Feed(*f, None) for f in weights.feeds)
    shown = tracer.label(bias) if bias is not None else None
    if isinstance(shown, Weights):
        feeds += shown.feed(0, shift=True)
    tracer.begin(None, feeds, of_axis(out.shape, axis), out, inputs=inputs)
    return True


def is_data(tracer: Tracer, x: Tensor) -> bool:
    """Whether ``x`` is what the model was given, or what parts made of it that are not trained."""
    return tracer.label(x) is None and not x.requires_grad


def _addmm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    return _linear(tracer, args[1], args[2], args[0], out, reads=0, makes=1)


def _mm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    if _linear(tracer, args[0], args[1], None, out, reads=0, makes=1):
        return True
    # W @ x, with the units on the rows
    return _linear(tracer, args[1], args[0], None, out, reads=1, makes=0, axis=0, x_axis=0)


def _bmm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    if args[1].shape[0] != 1:
        return False
    return _linear(tracer, args[0], args[1], None, out, reads=1, makes=2)


def _mv(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    return _linear(tracer, args[1], args[0], None, out, reads=1, makes=0)


def _addmv(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    return _linear(tracer, args[2], args[1], args[0], out, reads=1, makes=0)


def _plain(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    return _linear(tracer, args[0], args[1], bias, out, reads=1, makes=0)


def _convolution(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    transposed = bool(args[6]) if len(args) > 6 else False
    groups = int(args[8]) if len(args) > 8 else 1
    reads, makes = (0, 1) if transposed else (1, 0)
    inputs = None
    if isinstance(tracer.label(args[1]), Weights):
        inputs = of_patches(args[0], args[1], out, args[3:9], data=is_data(tracer, args[0]))
    return _linear(
        tracer,
        args[0],
        args[1],
        args[2],
        out,
        reads=reads,
        makes=makes,
        axis=1,
        x_axis=1,
        groups=1 if transposed else groups,
        per_unit=not (transposed and groups > 1),
        inputs=inputs,
    )


def _embedding(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    weights = tracer.label(args[0])
    if not isinstance(weights, Weights):
        return False
    out = out[0] if isinstance(out, tuple) else out
    tracer.begin(None, weights.feed(1), of_axis(out.shape, -1), out)
    return True


def _normalise(
    tracer: Tracer,
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    out: Tensor,
    spread: Spread | None,
    *,
    across: bool,
) -> bool:
    """A normalisation; ``across`` units (layer, group, RMS) or within each (batch)."""
    label = tracer.label(x)
    label = label if isinstance(label, Label) else None
    own: tuple[Feed, ...] = ()
    for tensor, adds in ((scale, False), (shift, True)):
        shown = tracer.label(tensor) if tensor is not None else None
        if isinstance(shown, Weights):
            if label is not None and label.role == OUTPUT and not adds:
                assert tensor is not None
                reach = tensor.detach().abs().reshape(-1)
                tracer.read(label, shown, None if across else reach)
            feeds = shown.feed(0, shift=adds)
            own += feeds if spread is not None else tuple(replace(f, axis=None) for f in feeds)
    before = label.origin if label is not None and label.role == LINEAR else None
    if before is not None and not before.mixed:
        # A bias in front of a normalisation moves nothing: its gradient says nothing of a unit.
        own = tuple(replace(f, mixes=across or f.shift or f.mixes) for f in before.feeds) + own
    if not own:
        tracer.labels.put(out, label.at(spread) if label is not None else None)
        return True
    if spread is None and label is not None:
        spread = label.spread
    tracer.begin(None, own, spread, out, name=tracer.here_leaf())
    return True


def _batch_norm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    out = out[0]
    return _normalise(tracer, args[0], args[1], args[2], out, of_axis(out.shape, 1), across=False)


def _layer_norm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    spread = of_axis(out[0].shape, -1) if len(args[1]) == 1 else None
    return _normalise(tracer, args[0], args[2], args[3], out[0], spread, across=True)


def _group_norm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    spread = of_axis(out[0].shape, 1)
    return _normalise(tracer, args[0], args[1], args[2], out[0], spread, across=True)


def _rms_norm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    spread = of_axis(out[0].shape, -1) if len(args[1]) == 1 else None
    return _normalise(tracer, args[0], args[2], None, out[0], spread, across=True)


PRODUCERS: dict[str, Producer] = {
    "addmm": _addmm,
    "mm": _mm,
    "bmm": _bmm,
    "mv": _mv,
    "addmv": _addmv,
    "linear": _plain,
    "mkldnn_linear": _plain,
    "convolution": _convolution,
    "convolution_overrideable": _convolution,
    "embedding": _embedding,
    "_embedding_bag": _embedding,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "_fused_rms_norm": _rms_norm,
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
}
