"""Operators that make pre-activations: linear maps, normalisations, embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from flatline.anatomy import experts, readers
from flatline.anatomy.atlas import Feed
from flatline.anatomy.inputs import Inputs, of_patches, of_rows
from flatline.anatomy.labels import LINEAR, TAINT, Label, Weights
from flatline.anatomy.operators import BATCH_NORMS, Args, Kwargs, argument
from flatline.anatomy.spread import Spread, of_axis

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer

#: Labels the output of the call; ``False`` when the call is none of its kind after all.
Producer = Callable[["Tracer", Args, Kwargs, Any], bool]


def _parameters(tracer: Tracer, tensor: Tensor | None) -> Weights | None:
    """The parameters that ``tensor`` shows, if it shows any."""
    label = tracer.label(tensor) if tensor is not None else None
    return label if isinstance(label, Weights) and label.shown else None


def _is_weight(tracer: Tracer, tensor: Tensor) -> bool:
    """Whether ``tensor`` is a parameter or made of parameters and constants, not of data."""
    label = tracer.label(tensor)
    return isinstance(label, Weights) and (bool(label.shown) or not label.fresh)


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
    weights = _parameters(tracer, weight)
    if weights is None or (bias is None and _is_weight(tracer, x)):
        return False  # a product of two matrices may be a weight itself
    rows = out.numel() // max(out.shape[axis], 1)
    readers.consume(tracer, x, weights, weight, reads, x_axis, groups, rows)
    if inputs is None and x_axis == -1:
        inputs = of_rows(x, data=_is_data(tracer, x))
    feeds = weights.feed(makes if per_unit else None)
    shown = _parameters(tracer, bias)
    if shown is not None:
        feeds += shown.feed(0, shift=True)
    tracer.begin(None, feeds, of_axis(out.shape, axis), out, inputs=inputs)
    return True


def _is_data(tracer: Tracer, x: Tensor) -> bool:
    """Whether ``x`` is what the model was given, or what parts made of it that are not trained."""
    return not isinstance(tracer.label(x), Label) and not x.requires_grad


def _addmm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    bias = args[0] if _parameters(tracer, args[0]) else None
    return _linear(tracer, args[1], args[2], bias, out, reads=0, makes=1)


def _mm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    if _linear(tracer, args[0], args[1], None, out, reads=0, makes=1):
        return True
    # W @ x, with the units on the rows
    return _linear(tracer, args[1], args[0], None, out, reads=1, makes=0, axis=0, x_axis=0)


def _bmm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    x, weight = args[0], args[1]
    if weight.shape[0] == 1:
        return _linear(tracer, x, weight, None, out, reads=1, makes=2)
    return _stacked(tracer, x, weight, out)


def _stacked(tracer: Tracer, x: Tensor, weight: Tensor, out: Tensor) -> bool:
    """One matrix for each slice of ``x``."""
    if _parameters(tracer, weight) is None or _is_weight(tracer, x):
        return False
    experts.multiply(tracer, x, weight, out, tuple(range(1, len(weight) + 1)))
    return True


def _grouped(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    """Rows sorted by expert, and one matrix for each expert."""
    x, weight, offsets = args[0], args[1], argument(args, kwargs, 2, "offs", None)
    if offsets is None or weight.ndim != 3 or _parameters(tracer, weight) is None:
        return False
    ends = tuple(offsets.tolist())
    if not ends or ends[-1] != len(x):
        return False
    experts.multiply(tracer, x, weight, out, ends)
    return True


def _mv(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    return _linear(tracer, args[1], args[0], None, out, reads=1, makes=0)


def _addmv(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    bias = args[0] if _parameters(tracer, args[0]) else None
    return _linear(tracer, args[2], args[1], bias, out, reads=1, makes=0)


def _plain(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    bias = argument(args, kwargs, 2, "bias", None)
    return _linear(tracer, args[0], args[1], bias, out, reads=1, makes=0)


def _convolution(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    transposed = bool(args[6]) if len(args) > 6 else False
    groups = int(args[8]) if len(args) > 8 else 1
    reads, makes = (0, 1) if transposed else (1, 0)
    inputs = None
    if _parameters(tracer, args[1]) is not None:
        inputs = of_patches(args[0], args[1], out, args[3:9], data=_is_data(tracer, args[0]))
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


def _trilinear(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    """``nn.Bilinear``: unit u is ``x1 · W[u] · x2``."""
    weights = _parameters(tracer, args[1])
    if weights is None or args[1].ndim != 3 or out.ndim != 2:
        return False
    readers.consume(tracer, args[0], weights, args[1], 1, -1)
    readers.consume(tracer, args[2], weights, args[1], 2, -1)
    tracer.begin(None, weights.feed(0), of_axis(out.shape, -1), out)
    return True


def _embedding(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    weights = _parameters(tracer, args[0])
    if weights is None:
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
    axis: int | None,
    *,
    across: bool,
) -> bool:
    """A normalisation; ``across`` units (layer, group, RMS) or within each (batch).

    It keeps the units of its input. Only where its input has none, or lies as the normalisation's
    own parameters do, are those parameters one per unit.
    """
    label = tracer.label(x)
    label = label if isinstance(label, Label) else None
    if label is not None and label.role == TAINT:
        tracer.stuck(label)
        label = None
    before = label if label is not None and label.role == LINEAR else None
    kept = before.spread if before is not None else None
    own = None if axis is None else _own_units(tracer, scale, shift, out, axis)
    fits = own is not None and (kept is None or (kept.count, kept.inner) == (own.count, own.inner))
    added: tuple[Feed, ...] = ()
    for tensor, adds in ((scale, False), (shift, True)):
        shown = _parameters(tracer, tensor)
        if shown is None:
            continue
        assert tensor is not None
        if label is not None and label.tokens and not adds:
            aligned = fits and not across and label.spread == own
            tracer.read(label, shown, tensor.detach().abs().reshape(-1) if aligned else None)
        added += shown.feed(0 if fits and tensor.ndim == 1 else None, shift=adds)
    whole = kept is not None and (not added or (kept.start, kept.step) == (0, 1))
    if (
        before is not None
        and before.origin is not None
        and not before.origin.mixed
        and not before.lost
    ):
        # A bias in front of a normalisation moves nothing: its gradient says nothing of a unit.
        added = (
            *(
                replace(f, mixes=across or f.shift or f.mixes, axis=f.axis if whole else None)
                for f in before.origin.feeds
            ),
            *added,
        )
    if not added:
        tracer.labels.put(out, label.at(label.spread) if label is not None else None)
        return True
    tracer.begin(None, added, kept if whole else own, out, name=tracer.here_leaf())
    return True


def _own_units(
    tracer: Tracer, scale: Tensor | None, shift: Tensor | None, out: Tensor, axis: int
) -> Spread:
    """The units that the parameters of a normalisation speak of.

    An instance norm repeats them for each example, and puts examples and channels on one axis.
    """
    spread = of_axis(out.shape, axis)
    for tensor in (scale, shift):
        shown = _parameters(tracer, tensor)
        if shown is not None and len(shown.shown) == 1:
            units = shown.shown[0].parameter.numel()
            return replace(spread, count=units) if spread.count % units == 0 else spread
    return spread


def _batch_norm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    return _normalise(tracer, args[0], args[1], args[2], out[0], 1, across=False)


def _layer_norm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    axis = -1 if len(args[1]) == 1 else None
    return _normalise(tracer, args[0], args[2], args[3], out[0], axis, across=True)


def _group_norm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    return _normalise(tracer, args[0], args[1], args[2], out[0], 1, across=True)


def _rms_norm(tracer: Tracer, args: Args, kwargs: Kwargs, out: Any) -> bool:
    axis = -1 if len(args[1]) == 1 else None
    return _normalise(tracer, args[0], args[2], None, out[0], axis, across=True)


PRODUCERS: dict[str, Producer] = {
    "addmm": _addmm,
    "mm": _mm,
    "bmm": _bmm,
    "_grouped_mm": _grouped,
    "mv": _mv,
    "addmv": _addmv,
    "linear": _plain,
    "mkldnn_linear": _plain,
    "convolution": _convolution,
    "convolution_overrideable": _convolution,
    "_trilinear": _trilinear,
    "embedding": _embedding,
    "_embedding_bag": _embedding,
    "_embedding_bag_forward_only": _embedding,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "_fused_rms_norm": _rms_norm,
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
}
