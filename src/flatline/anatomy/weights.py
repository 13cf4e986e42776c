"""Parameters on their way to being used: cast, transposed, normalised, composed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from flatline.anatomy.atlas import Feed
from flatline.anatomy.labels import Shown, Weights
from flatline.anatomy.operators import Call, tensors_of

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer

#: Modules in here without parts make one output of all their parameters.
_ONE_LAYER = ("torch.nn.modules.linear", "torch.nn.modules.conv", "torch.nn.modules.sparse")
Axes = tuple[int | None, ...]

_MULTIPLYING = frozenset(["mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot"])
#: Leave each element in its place, though torch does not call them elementwise.
_KEEPING = frozenset(["tril", "triu", "_to_copy", "detach", "alias", "_weight_norm_interface"])


def of_parameter(tracer: Tracer, tensor: Tensor) -> Weights | None:
    """What ``tensor`` shows by itself: a parameter, or a buffer, which is a constant."""
    if is_lazy(tensor):
        return None
    parameter = tracer.names.find(tensor)
    if parameter is None and isinstance(tensor, nn.Parameter):
        adopted = (tracer.names.adopt(tensor, module) for module in reversed(tracer.stack[-2:]))
        parameter = tensor if any(adopted) else None
    name = None if parameter is None else tracer.names.parameter(parameter)
    if parameter is None or name is None:
        return Weights() if tracer.names.is_buffer(tensor) else None
    axes = tuple(range(tensor.ndim)) if tensor.shape == parameter.shape else None
    return Weights((Shown(name, parameter, axes),))


def fresh(tracer: Tracer, call: Call, drawn: bool) -> None:
    """Label new constants, unless it is a parameter that they are written into."""
    for out in call.results:
        parameter = of_parameter(tracer, out)
        tracer.labels.put(out, parameter or Weights(fresh=True, drawn=drawn))


def compose(tracer: Tracer, call: Call, drawn: bool) -> None:
    """Label the results of an operator on parameters and constants.

    Where a tensor without a label takes part, data does, and the result is none of these.
    """
    operands = []
    for tensor in tensors_of(call.args, call.kwargs):
        label = tracer.label(tensor)
        if not isinstance(label, Weights):
            for out in call.results:
                tracer.labels.put(out, None)
            return
        operands.append((tensor, label))
    fresh = not operands or any(label.fresh for _, label in operands)
    drawn |= any(label.drawn for _, label in operands)
    product = call.op in _MULTIPLYING or any(label.product for _, label in operands)
    for index, out in enumerate(call.results):
        shown = _once(
            replace(one, axes=_carried(call, tensor.shape, out.shape, one.axes))
            for tensor, label in operands
            for one in label.shown
        )
        whole = Weights(shown, None, fresh, drawn, product)
        tracer.labels.put(out, _part(call, operands, index, whole))


def _once(shown: Iterable[Shown]) -> tuple[Shown, ...]:
    """Each parameter once; one that is used in two ways has no axis of its own any more."""
    found: dict[str, Shown] = {}
    for one in shown:
        known = found.setdefault(one.name, one)
        if known.axes != one.axes:
            found[one.name] = replace(one, axes=None)
    return tuple(found.values())


def _part(
    call: Call, operands: list[tuple[Tensor, Weights]], index: int, whole: Weights
) -> Weights:
    """One slice of a stack of matrices is the weight of one expert."""
    if call.op not in ("select", "unbind") or operands[0][0].ndim < 3:
        parts = [label.part for _, label in operands if label.shown]
        return replace(whole, part=parts[0]) if len(parts) == 1 else whole
    if call.get(1, "dim", 0) != 0 or len(whole.shown) != 1 or operands[0][1].part is not None:
        return whole
    return replace(whole, part=index if call.op == "unbind" else int(call.get(2, "index", 0)))


def _carried(call: Call, old: Sequence[int], new: Sequence[int], axes: Axes | None) -> Axes | None:
    """The axes of a parameter after a call."""
    if axes is None:
        return None
    if call.op == "t":
        return axes[::-1]
    if call.op == "transpose":
        order = list(axes)
        first, second = call.args[1], call.args[2]
        order[first], order[second] = order[second], order[first]
        return tuple(order)
    if call.op == "permute":
        return tuple(axes[place] for place in call.args[1])
    if call.op == "repeat" and len(old) == len(new) == 1:
        return axes  # again and again the same entries, in the same order
    if call.pointwise or call.op in _KEEPING:
        return _aligned(old, new, axes)
    if call.op in ("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "expand"):
        return _refitted(old, new, axes)
    return None


def _aligned(old: Sequence[int], new: Sequence[int], axes: Axes) -> Axes | None:
    """Axes after broadcasting."""
    more = len(new) - len(old)
    if more < 0:
        return None
    kept = (
        a if size == new[more + i] else None
        for i, (a, size) in enumerate(zip(axes, old, strict=True))
    )
    return (None,) * more + tuple(kept)


def _refitted(old: Sequence[int], new: Sequence[int], axes: Axes) -> Axes | None:
    """Axes after dimensions of size 1 came or went."""
    wide = [axis for axis, size in zip(axes, old, strict=True) if size != 1]
    if [size for size in old if size != 1] != [size for size in new if size != 1]:
        return None
    left = iter(wide)
    return tuple(next(left) if size != 1 else None for size in new)


def owner(tracer: Tracer, feeds: Sequence[Feed]) -> str:
    """Name of the module whose output these parameters make, else of the first of them."""
    here = next((m for m in reversed(tracer.stack) if tracer.names.module(m) is not None), None)
    name = None if here is None else tracer.names.module(here)
    if here is not None and name is not None:
        prefix = f"{name}." if name else ""
        matrices = sum(p is not None and p.ndim > 1 for p in here._parameters.values())
        single = not here._modules and (matrices <= 1 or type(here).__module__ in _ONE_LAYER)
        for feed in feeds:
            rest = feed.name.removeprefix(prefix)
            parametrized = rest.startswith("parametrizations.")
            if not feed.name.startswith(prefix) or ("." in rest and not parametrized):
                continue
            if name and (single or parametrized or rest in ("weight", "bias")):
                return _numbered(name, feed)
            return _numbered(feed.name, feed)
    return _numbered(feeds[0].name.removesuffix(".weight").removesuffix(".bias"), feeds[0])


def _numbered(name: str, feed: Feed) -> str:
    """One name for each slice of a stack of weights: the third expert's ends in ``#3``."""
    return f"{name}#{feed.part + 1}" if feed.part else name
