"""What a recorder sees of a training: calls, steps and epochs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

#: Nonlinearities that come as modules, by the name of their class.
MODULES: dict[type[nn.Module], str] = {
    nn.CELU: "celu",
    nn.ELU: "elu",
    nn.GELU: "gelu",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Hardswish: "hardswish",
    nn.Hardtanh: "hardtanh",
    nn.LeakyReLU: "leaky_relu",
    nn.LogSoftmax: "log_softmax",
    nn.Mish: "mish",
    nn.PReLU: "prelu",
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.SELU: "selu",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Softmax: "softmax",
    nn.Softplus: "softplus",
    nn.Softsign: "softsign",
    nn.Tanh: "tanh",
}
NONLINEAR = frozenset(MODULES.values()) | {"exp"}
WEIGHTED = ("Linear", "Conv1d", "Conv2d", "Conv3d")
#: Layers that come after the last one without being it.
PASSIVE = ("Dropout", "Flatten", "Identity", "Unflatten")


@dataclass
class Call:
    """One call of a module, or of a nonlinearity that is a function, in a forward pass.

    Attributes:
        name: Qualified name of the module; of a function, that of the module it was called in and
            its own.
        kind: ``relu`` and so on for a nonlinearity, else the name of the module's class.
        output: What it returned, where that is a tensor.
        input: What a nonlinearity was given.
        grad: Gradient of the loss by the output.
        module: Whether it is a module: many peers see nothing else.
        leaf: Whether no module lies inside it.
        axis: Axis of the units.
    """

    name: str
    kind: str
    output: Tensor | None
    input: Tensor | None = None
    grad: Tensor | None = None
    module: bool = True
    leaf: bool = True
    axis: int = -1

    @property
    def nonlinear(self) -> bool:
        return self.kind in NONLINEAR

    @property
    def weighted(self) -> bool:
        return self.module and self.kind in WEIGHTED

    def columns(self, tensor: Tensor | None = None) -> Tensor:
        """The output, or another tensor of its shape, with a column for each unit."""
        values = self.output if tensor is None else tensor
        assert values is not None
        return values.movedim(self.axis, -1).reshape(-1, values.shape[self.axis])

    def receive(self, grad: Tensor) -> None:
        self.grad = grad.detach().clone()


Tensors = dict[str, Tensor]


@dataclass
class Step:
    """One step of a training, from forward pass to update.

    Attributes:
        index: Number of the step, from 0.
        loss: Sum of what ``backward`` was called on.
        lr: Largest learning rate of the optimizer's groups.
        calls: All calls of training forward passes, in order.
        weights: All parameters before the update.
        grads: Their gradients; a parameter without one is absent.
        updated: All parameters after the update.
        inputs: First argument of the model.
        criterion: Name of the loss function, where it is one of :mod:`torch.nn.functional`.
        outputs: What the loss function was given.
        targets: What it compared them with.
    """

    index: int = 0
    loss: float = 1.0
    lr: float = 1e-3
    calls: list[Call] = field(default_factory=list)
    weights: Tensors = field(default_factory=dict)
    grads: Tensors = field(default_factory=dict)
    updated: Tensors = field(default_factory=dict)
    inputs: Tensor | None = None
    criterion: str = ""
    outputs: Tensor | None = None
    targets: Tensor | None = None

    def layers(self) -> list[Call]:
        """What Keras would call the layers: the latest call of each leaf, in order."""
        return layers(self.calls)

    def nonlinearities(self, *kinds: str) -> Iterator[Call]:
        """The nonlinear calls, of these kinds where any are named."""
        return (call for call in self.calls if call.nonlinear and (not kinds or call.kind in kinds))

    @property
    def classifies(self) -> bool:
        return self.criterion in ("cross_entropy", "nll_loss") or self.is_binary

    @property
    def is_binary(self) -> bool:
        return self.criterion.startswith("binary_cross_entropy")

    @property
    def accuracy(self) -> float | None:
        """Share of the batch that is classified rightly, where there are classes."""
        if self.outputs is None or self.targets is None or not self.classifies:
            return None
        if self.is_binary:
            limit = 0.0 if self.criterion.endswith("with_logits") else 0.5
            right = (self.outputs > limit) == (self.targets > 0.5)
        elif self.targets.is_floating_point():
            return None
        else:
            right = self.outputs.argmax(1) == self.targets
        return share(right)

    def output_kind(self) -> str:
        """The nonlinearity that made what the loss was given; ``linear`` where none did.

        Where the loss is no known function, the nonlinearity of the last layer.
        """
        found = [call for call in self.layers() if call.kind not in PASSIVE]
        if self.outputs is None:
            return found[-1].kind if found and found[-1].nonlinear else "linear"
        given = self.outputs.flatten()
        for call in reversed(found):
            assert call.output is not None
            if call.nonlinear and torch.equal(call.output.flatten(), given):
                return call.kind
        return "linear"

    def answer(self) -> tuple[str, Tensor | None]:
        """Nonlinearity of the output layer and its outputs, as a Keras program would have them.

        There softmax and sigmoid belong to the model; here they often belong to the loss.
        """
        kind = self.output_kind()
        if self.outputs is None:
            return kind, None
        if kind == "linear" and self.criterion == "cross_entropy":
            return "softmax", self.outputs.softmax(1)
        if kind == "linear" and self.criterion.endswith("with_logits"):
            return "sigmoid", self.outputs.sigmoid()
        if kind == "log_softmax":
            return "softmax", self.outputs.exp()
        return kind, self.outputs


def layers(calls: list[Call]) -> list[Call]:
    """The latest call of each leaf whose output is a tensor, in order of the first calls."""
    return list({c.name: c for c in calls if c.leaf and c.output is not None}.values())


@dataclass
class Epoch:
    """One epoch of a training.

    Attributes:
        index: Number of the epoch, from 0.
        last: Its last step.
        loss: Mean loss of its steps.
        accuracy: Mean accuracy of its steps.
        val_loss: Loss on held-out data.
        val_accuracy: Accuracy on held-out data.
        census: Calls of the model, as it is at the end of the epoch and in evaluation mode, on the
            inputs of a whole epoch together.
    """

    index: int = 0
    last: Step = field(default_factory=Step)
    loss: float = 1.0
    accuracy: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    census: list[Call] = field(default_factory=list)

    def first_batch(self) -> list[Call]:
        """The census of as many examples as the last step had."""
        inputs = self.last.inputs
        if inputs is None:
            return layers(self.census)
        size = len(inputs)
        return [
            Call(
                **{
                    **vars(call),
                    "output": _head(call.output, size),
                    "input": _head(call.input, size),
                }
            )
            for call in layers(self.census)
        ]


def _head(tensor: Tensor | None, size: int) -> Tensor | None:
    return None if tensor is None else tensor[:size]


def finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def mean_abs(tensor: Tensor) -> float:
    return float(tensor.abs().mean())


def norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))


def share(condition: Tensor) -> float:
    """Share of the entries that are true, exactly."""
    return int(condition.sum()) / condition.numel()
