"""What lies between the last layer of a network and its loss, from the graph of a step's operators.

A loss is one operator (``mse_loss``), or written out: the square of a difference, a logarithm that
is multiplied by the target or picked by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from flatline.anatomy import operators
from flatline.anatomy.course import KERNELS, OVER_UNITS, Node

#: Give the same numbers again, or some of them.
_SAME = frozenset(
    [
        *operators.RESHAPING,
        *("t", "transpose", "permute", "expand", "slice", "select", "unbind", "split"),
        *("split_with_sizes", "index", "gather", "index_select", "masked_select", "dropout"),
        *("constant_pad_nd", "bias", "masked_fill"),
    ]
)
#: Average neighbours.
_AVERAGING = frozenset(["mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d"])
#: Change scale and offset alone.
_AFFINE = _AVERAGING | {"add", "sub", "rsub", "mul", "div", "neg", "sum"}
#: Numbers that are added only to keep a logarithm from 0.
_TINY = 1e-3
#: Put several tensors beside each other.
_JOINING = frozenset(["cat", "stack"])
_LOGARITHMS = {"log": "log", "log1p": "log", "log_sigmoid_forward": "sigmoid"}
#: Operators behind a loss that are looked at, at most.
_FAR = 10_000


@dataclass(frozen=True)
class Ending:
    """How a network ends.

    Attributes:
        op: The loss: ``nll``, ``bce``, ``bce_with_logits``, ``mse``, ``l1``, ``smooth_l1``,
            ``hinge`` or ``unknown``.
        own: What the loss itself applied to the outputs: ``log_softmax``, ``sigmoid``, ``log`` or
            ``none``.
        last: The last nonlinearity behind the last layer, ``none`` for none; ``None`` where that
            could not be followed.
        width: Number of units; ``None`` where that is not known.
        scaled: A scale or an offset was applied behind that nonlinearity.
        broadcast: Outputs and targets had different shapes.
        output: What was measured of the outputs.
        target: What was measured of the targets.
    """

    op: str
    own: str = "none"
    last: str | None = None
    width: int | None = None
    scaled: bool = False
    broadcast: bool = False
    output: Any = None
    target: Any = None


@dataclass(frozen=True)
class _Term:
    """A part of a loss: what it is, of which outputs, and what these are compared with."""

    op: str
    output: Node
    own: str = "none"
    target: Any = None
    width: int | None = None
    broadcast: bool = False
    complement: bool = False


def ending(loss: Node) -> Ending:
    """How the network ends on whose loss ``backward()`` is called.

    Of several terms the one counts that is nearest to the sum.
    """
    nodes = list(_inside(loss))
    terms = [term for node in nodes if (term := _term(node)) is not None]
    if not terms:
        output = next((node for node in nodes if node.shown is not None), None)
        return Ending("unknown") if output is None else _described(_Term("unknown", output))
    first = next((term for term in terms if not term.complement), terms[0])
    if first.op == "nll" and any(term.complement for term in terms):
        first = replace(first, op="bce", width=None)
    return _described(first)


def _inside(loss: Node) -> Iterator[Node]:
    """The operators behind a loss, the nearest first, down to the last layers."""
    seen, waiting = {loss}, [loss]
    for current in waiting:
        yield current
        if current.layer is None and len(waiting) < _FAR:
            fresh = [parent for parent in dict.fromkeys(current.parents) if parent not in seen]
            seen.update(fresh)
            waiting += fresh


def _down(node: Node, through: frozenset[str]) -> Iterator[Node]:
    """A node and those before it, as long as the operators are among ``through``."""
    yield node
    while (node.op in through or _is_guard(node)) and len(node.parents) == 1:
        (node,) = node.parents
        yield node


def _is_guard(node: Node) -> bool:
    """Whether the node only keeps a loss from what it cannot take, outside the model."""
    return node.op in operators.GUARDS and node.module is None


def _term(node: Node) -> _Term | None:
    if node.op in KERNELS:
        return _kernel(node)
    return _difference(node) or _likelihood(node)


def _kernel(node: Node) -> _Term | None:
    """A loss that is one operator."""
    if not node.parents:
        return None
    op, output = KERNELS[node.op], node.parents[0]
    if op == "nll":
        *_, below = _down(output, _SAME)
        return replace(_softened(below, node, output), op="nll", target=node.data)
    own = "sigmoid" if op == "bce_with_logits" else "none"
    return _Term(op, output, own, node.data, broadcast=node.broadcast)


def _softened(logarithm: Node, user: Node, output: Node) -> _Term:
    """What a likelihood was computed from: before the loss's own softmax, behind the model's."""
    own = logarithm.module is None or logarithm.module == user.module
    if logarithm.bend == "log_softmax" and own and logarithm.parents:
        return _Term("nll", logarithm.parents[0], "log_softmax", width=logarithm.size)
    return _Term("nll", output)


def _difference(node: Node) -> _Term | None:
    """The square or the size of a difference."""
    squares = node.op == "pow" and node.number == 2
    squares |= node.op == "mul" and len(node.parents) == 2 and len(set(node.parents)) == 1
    if not node.parents or not (squares or node.op == "abs"):
        return None
    *_, below = _down(node.parents[0], frozenset(operators.RESHAPING))
    if below.op not in ("sub", "rsub") or below.data is None:
        return None
    op, output = "mse" if squares else "l1", below.parents[0]
    return _Term(op, output, target=below.data, broadcast=below.broadcast)


def _likelihood(node: Node) -> _Term | None:
    """A logarithm that is multiplied by the target or picked by it, before or after."""
    if node.op in _LOGARITHMS:
        chosen = [below for below in _down(node, _SAME | {node.op}) if below.data is not None]
        return _logarithm(node, node, chosen[0].data) if chosen else None
    if node.data is None or node.op not in ("mul", "gather", "index") or not node.parents:
        return None
    *_, below = _down(node.parents[0], _SAME | {"neg"})
    return _logarithm(below, node, node.data)


def _logarithm(node: Node, user: Node, target: Any) -> _Term | None:
    """What a logarithm was taken of."""
    if node.bend == "log_softmax":
        return replace(_softened(node, user, node), target=target)
    if node.op not in _LOGARITHMS or not node.parents:
        return None
    own, output = _LOGARITHMS[node.op], node.parents[0]
    below = list(_down(output, _SAME | {"add", "rsub", "neg"}))
    complement = any(one.op in ("rsub", "neg") for one in below[:-1])
    return _Term("nll", output, own, target, complement=complement or own == "sigmoid")


# Behind the last layer


@dataclass(frozen=True)
class _Bend:
    """The last nonlinearity before a tensor, and how many units it has."""

    name: str | None
    width: int | None = None
    scaled: bool = False


def _described(term: _Term) -> Ending:
    bend = _bend(term.output)
    width = term.width if term.width is not None else bend.width
    shown = next((node.shown for node in _towards(term.output) if node.shown is not None), None)
    return Ending(
        term.op, term.own, bend.name, width, bend.scaled, term.broadcast, shown, term.target
    )


def _towards(node: Node) -> Iterator[Node]:
    """A node and the first parents before it, down to the last layer."""
    yield node
    while node.layer is None and node.parents:
        node = node.parents[0]
        yield node


def _bend(node: Node, depth: int = 0) -> _Bend:
    """The last nonlinearity behind the last layer."""
    scaled = False
    while True:
        if node.layer is not None:
            return _Bend("none", node.layer.outputs, scaled)
        if node.bend and not _is_guard(node):
            return _Bend(node.bend, _width(node), scaled)
        affine = node.op in _AFFINE
        if len(node.parents) > 1:
            return _joined(node, scaled, depth)
        if not node.parents or not (affine or node.op in _SAME or _is_guard(node)):
            return _Bend(None, None, scaled)
        scaled |= affine and _rescales(node)
        (node,) = node.parents


def _rescales(node: Node) -> bool:
    """Whether a change of scale or offset changes what a nonlinearity can give."""
    guards = node.op in ("add", "sub") and node.number is not None and abs(node.number) <= _TINY
    return not guards and node.op not in _AVERAGING


def _width(node: Node) -> int | None:
    """Entries that a nonlinearity is over, or units of the layer that it stands behind."""
    if node.bend in OVER_UNITS.values():
        return node.size
    while node.layer is None:
        if len(node.parents) != 1:
            return None
        (node,) = node.parents
    return node.layer.outputs


def _joined(node: Node, scaled: bool, depth: int) -> _Bend:
    """Several tensors in one."""
    first = node.parents[0]
    if node.op in ("div", "mul") and any(first in _towards(one) for one in node.parents[1:]):
        whole, *_ = node.parents[1:]
        bend = _bend(first, depth)  # shares of a sum: those of a softmax stay what they are
        return replace(bend, scaled=bend.scaled or (bend.name, whole.op) != ("softmax", "sum"))
    related = any(
        one in _towards(other) for one in node.parents for other in node.parents if one is not other
    )
    if related or depth > 3 or node.op not in _JOINING | {"add", "sub"}:
        return _Bend(None, None, scaled)
    found = [_bend(parent, depth + 1) for parent in node.parents]
    names = {one.name for one in found}
    if node.op in _JOINING:
        name = names.pop() if len(names) == 1 else None
    else:
        # One part that is not bent reaches every number.
        name = "none" if "none" in names else None
    return _Bend(name, found[0].width, scaled or any(one.scaled for one in found))
