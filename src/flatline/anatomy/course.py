"""How the tensors of one step came about: a graph of its operators that holds no tensor.

The tracer follows units; this follows everything that a parameter or an activation went into, the
loss included, so that it can be said what lies between two layers, or between the last layer and
the loss.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flatline.anatomy import operators, weights
from flatline.anatomy.labels import Weights
from flatline.anatomy.operators import Args, Kwargs, argument, tensors_of
from flatline.anatomy.producers import PRODUCERS

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer

#: Operators that compute a loss from outputs and targets.
KERNELS = {
    **dict.fromkeys(("nll_loss_forward", "nll_loss2d_forward", "nll_loss_nd"), "nll"),
    "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce_with_logits",
    "mse_loss": "mse",
    "l1_loss": "l1",
    **dict.fromkeys(("smooth_l1_loss", "huber_loss"), "smooth_l1"),
    **dict.fromkeys(("soft_margin_loss", "multi_margin_loss"), "hinge"),
    "multilabel_margin_loss_forward": "hinge",
}
#: Functions of all entries along one dimension.
OVER_UNITS = {
    **dict.fromkeys(("_softmax", "softmax"), "softmax"),
    **dict.fromkeys(("_log_softmax", "log_softmax"), "log_softmax"),
}
#: Linear maps with a weight for each pair of input and output.
_MAPS = frozenset(
    [
        *("addmm", "mm", "bmm", "mv", "addmv", "linear", "mkldnn_linear"),
        *("convolution", "convolution_overrideable"),
    ]
)
#: Take an output and something that it is compared with.
_PAIRING = frozenset(["sub", "rsub", "mul", "gather", "index"])


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with parameters that a tensor went through.

    Attributes:
        name: Qualified name of its module.
        linear: It is a linear map or a convolution, no normalisation and no embedding.
        inputs: Number of input features.
        outputs: Number of units.
        groups: Groups of a convolution.
    """

    name: str
    linear: bool
    inputs: int
    outputs: int
    groups: int = 1


@dataclass(eq=False, slots=True)
class Node:
    """One operator that was called.

    Attributes:
        op: Its name; ``"?"`` where it was not seen.
        parents: The operators that made its arguments, data and parameters left out.
        module: The innermost module that was running; ``None`` outside all modules.
        layer: The layer that it is, if it has parameters.
        bend: The nonlinearity that it is, by its name in the table.
        size: Entries that a function of several entries goes over.
        number: The number that it was given beside a tensor.
        mixes: Data or a parameter took part beside the parents.
        data: What the observer made of the data that the result is compared with.
        shown: What the observer made of the result, as the output of the model.
        broadcast: Its operands had different shapes.
        uses: Number of operators that took the result.
        names: Names of the parameters that took part.
        behind: What made data that took part, before it was detached.
    """

    op: str
    parents: tuple[Node, ...] = ()
    module: int | None = None
    layer: Layer | None = None
    bend: str = ""
    size: int = 0
    number: float | None = None
    mixes: bool = False
    data: Any = None
    shown: Any = None
    broadcast: bool = False
    uses: int = 0
    names: tuple[str, ...] = ()
    behind: tuple[Node, ...] = ()


_Made = dict[int, tuple[weakref.ref[Tensor], Node]]


def _get(made: _Made, tensor: Tensor) -> Node | None:
    known = made.get(id(tensor))
    return known[1] if known is not None and known[0]() is tensor else None


def _put(made: _Made, tensor: Tensor, node: Node) -> None:
    """Remember what made a tensor for as long as it lives."""
    key = id(tensor)

    def forget(ref: weakref.ref[Tensor]) -> None:
        if key in made and made[key][0] is ref:
            del made[key]

    made[key] = weakref.ref(tensor, forget), node


def reached(loss: Node) -> set[str]:
    """Names of the parameters that a loss depends on, detached or not."""
    seen, waiting = {loss}, [loss]
    for current in waiting:
        fresh = {*current.parents, *current.behind} - seen
        seen |= fresh
        waiting += fresh
    return {name for node in seen for name in node.names}


class Course:
    """The operators of one step.

    Args:
        tracer: Tells parameters from data, and which module is running.
        measure: Looks at an output of the model or at what it is compared with; what it gives is
            kept with the operator. It must not keep the tensor.
    """

    def __init__(self, tracer: Tracer, measure: Callable[[Tensor], Any]) -> None:
        self.fault: Exception | None = None
        self.layers: list[Node] = []
        self._tracer = tracer
        self._measure = measure
        self._nodes: _Made = {}
        self._detached: _Made = {}

    def clear(self) -> None:
        """Forget everything."""
        self._nodes.clear()
        self._detached.clear()
        self.layers = []

    def node(self, tensor: Tensor) -> Node | None:
        """What made ``tensor``."""
        return _get(self._nodes, tensor)

    def before(self, func: Any, args: Args, kwargs: Kwargs) -> Callable[[Any], None] | None:
        """Look at a call that is about to happen; the result is told its outcome.

        A fault is kept, and ends the following without harm to anybody else.
        """
        if self.fault is not None:
            return None
        try:
            node = self._look(func, args, kwargs)
        except Exception as error:
            self.fault = error
            return None
        if node is None:
            return None

        def after(out: Any) -> None:
            try:
                self._enter(node, out)
            except Exception as error:
                self.fault = error

        return after

    def _enter(self, node: Node, out: Any) -> None:
        """The call of ``node`` gave ``out``."""
        results = tensors_of(out if isinstance(out, tuple | list) else (out,), {})
        if node.layer is not None:
            self.layers.append(node)
        for result in results:
            # What follows a detached tensor takes it for data.
            _put(self._detached if node.op == "detach" else self._nodes, result, node)

    def _look(self, func: Any, args: Args, kwargs: Kwargs) -> Node | None:
        op = operators.base_name(func)
        tensors = tensors_of(args, kwargs)
        if op in operators.FRESH or any(x.is_nested for x in tensors):
            return None
        parents, shown, data = self._sorted(tensors)
        if not parents and not (shown and data):
            return None
        node = Node(op, tuple(node for _, node in parents), module=self._module)
        if op == "detach":
            return node
        node.mixes = bool(shown or data)
        node.names = tuple(one.name for _, label in shown for one in label.shown)
        node.behind = tuple(cut for x in data if (cut := _get(self._detached, x)) is not None)
        for _, parent in parents:
            parent.uses += 1
        self._describe(node, args, kwargs, parents, data)
        if shown and (op in PRODUCERS or not parents):
            node.layer = self._layer(op, args, shown, [x for x, _ in parents] or data)
        elif shown and len(parents) == 1 and op == "add":
            node.op = "bias"
        return node

    def _sorted(
        self, tensors: Sequence[Tensor]
    ) -> tuple[list[tuple[Tensor, Node]], list[tuple[Tensor, Weights]], list[Tensor]]:
        """What was computed so far, what shows parameters, and what is data."""
        parents: list[tuple[Tensor, Node]] = []
        shown: list[tuple[Tensor, Weights]] = []
        data: list[Tensor] = []
        for x in tensors:
            label = self._tracer.label(x)
            if (node := self.node(x)) is not None:
                parents.append((x, node))
            elif isinstance(label, Weights):
                if label.shown:
                    shown.append((x, label))
                elif not label.fresh:
                    data.append(x)
            elif x.requires_grad and not isinstance(x, nn.Parameter):
                parents.append((x, self._unseen(x)))
            elif not isinstance(x, nn.Parameter):
                data.append(x)
        return parents, shown, data

    def _unseen(self, x: Tensor) -> Node:
        """What made ``x`` was not looked at, as the inside of a recurrent layer is not."""
        node = Node("?", module=self._module)
        _put(self._nodes, x, node)
        return node

    @property
    def _module(self) -> int | None:
        stack = self._tracer.stack
        return id(stack[-1]) if stack else None

    def _describe(
        self,
        node: Node,
        args: Args,
        kwargs: Kwargs,
        parents: Sequence[tuple[Tensor, Node]],
        data: Sequence[Tensor],
    ) -> None:
        op = node.op
        if op in OVER_UNITS:
            node.bend = OVER_UNITS[op]
            x, dim = args[0], argument(args, kwargs, 1, "dim", -1)
            node.size = x.shape[dim] if x.ndim else 1
        elif op in operators.NONLINEAR:
            activation = operators.NONLINEAR[op](args, kwargs)
            node.bend = op if activation is None else activation.name
        elif op == "native_dropout" or (op == "mul" and self._is_drawn(args)):
            node.op, node.mixes = "dropout", False
        second = args[1] if len(args) > 1 else None
        if isinstance(second, int | float) and not isinstance(second, bool):
            node.number = float(second)
        outside = node.module is None
        for x, parent in parents:
            leaves = outside and parent.module is not None
            if parent.shown is None and (leaves or op in KERNELS or op in OVER_UNITS):
                parent.shown = self._measure(x)
        if op in KERNELS:
            target = args[1] if isinstance(second, Tensor) else None
            node.data = None if target is None else self._measure(target)
            node.broadcast = any(_is_expanded(x) for x in args[:2] if isinstance(x, Tensor))
        elif outside and op in _PAIRING and len(parents) == 1:
            self._compare(node, parents[0][0], [x for x in data if x.numel() > 1])

    def _compare(self, node: Node, output: Tensor, data: Sequence[Tensor]) -> None:
        """An output meets data outside the model: that may be the target."""
        if data:
            node.data = self._measure(data[-1])
            node.broadcast = node.op in ("sub", "rsub") and data[-1].shape != output.shape

    def _is_drawn(self, args: Args) -> bool:
        """Whether one factor is noise, as a mask of dropout is."""
        labels = (self._tracer.label(x) for x in args[:2] if isinstance(x, Tensor))
        return any(isinstance(label, Weights) and label.drawn for label in labels)

    def _layer(
        self, op: str, args: Args, shown: Sequence[tuple[Tensor, Weights]], inputs: Sequence[Tensor]
    ) -> Layer:
        """The layer whose parameters an operator was given."""
        feeds = shown[-1][1].feed(None)
        for _, label in shown:
            if label.shown[0].parameter.ndim > 1:
                feeds = label.feed(None)
        matrix = next((w for w, label in shown if w.ndim > 1), shown[0][0])
        name = weights.owner(self._tracer, feeds)
        convolves = op.startswith("convolution")
        if convolves:
            transposed, groups = bool(args[6]), int(args[8])
            ends = matrix.shape[1] * groups, matrix.shape[0]
            first, second = (ends[1], ends[0]) if transposed else ends
            return Layer(name, True, int(first), int(second), groups)
        x = inputs[0]
        width = x.shape[-1] if x.ndim else 1
        others = matrix.numel() // max(width, 1) if matrix.ndim > 1 else width
        return Layer(name, op in _MAPS, int(width), int(max(others, 1)))


def _is_expanded(x: Tensor) -> bool:
    """Whether entries are repeated without memory of their own, as broadcasting does."""
    if x.layout is not torch.strided:
        return False
    return any(size > 1 and step == 0 for size, step in zip(x.shape, x.stride(), strict=True))
