"""Watches a plain PyTorch training for the peers, and changes nothing in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .peer import Peer
from .recording import MODULES, WEIGHTED, Call, Epoch, Step

#: Each way of writing a nonlinearity, or a linear map, as a function.
FUNCTIONS: dict[Any, str] = {
    getattr(home, name): name
    for name in ("relu", "sigmoid", "tanh", "softmax", "log_softmax", "elu", "selu", "celu", "gelu",
                 "silu", "mish", "relu6", "hardtanh", "hardswish", "hardsigmoid", "leaky_relu",
                 "softplus", "softsign", "prelu", "exp")
    for home in (torch, F, Tensor)
    if hasattr(home, name)
}  # fmt: skip
FUNCTIONS |= {torch.relu_: "relu", Tensor.relu_: "relu", F.linear: "Linear"}
FUNCTIONS |= {Tensor.sigmoid_: "sigmoid", Tensor.tanh_: "tanh"}
CRITERIA: dict[Any, str] = {
    getattr(F, name): name
    for name in ("cross_entropy", "nll_loss", "binary_cross_entropy",
                 "binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "smooth_l1_loss",
                 "huber_loss")
}  # fmt: skip
#: Loss on held-out data, and accuracy where there are classes.
Validation = tuple[float, float | None]
#: Arguments of a call of the model.
Batch = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass
class _Frame:
    """A module whose forward is under way.

    Attributes:
        module: The module.
        before: What it was given, where it is a nonlinearity.
        functions: Nonlinear functions called in it so far, by name.
    """

    module: nn.Module | None = None
    before: Tensor | None = None
    functions: Counter[str] = field(default_factory=Counter)


#: What peers compute is none of the training's calls.
unseen: Callable[[], Any] = torch._C.DisableTorchFunction


class _Functions(TorchFunctionMode):
    """Hands every call of a torch function to the recorder."""

    def __init__(self, seen: Callable[..., Any]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.seen(func, args, kwargs or {})


class Recorder:
    """A context in which a training is watched by peers.

    Args:
        model: The model in training.
        optimizer: Its optimizer; each of its updates ends a step.
        peers: Who watches.
        steps_per_epoch: Steps after which an epoch ends.
        validate: Called at the end of each epoch, in evaluation mode and without gradients.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        peers: Sequence[Peer],
        steps_per_epoch: int,
        validate: Callable[[], Validation] | None = None,
    ) -> None:
        self.model, self.optimizer, self.peers = model, optimizer, peers
        self.steps_per_epoch, self.validate = steps_per_epoch, validate
        self._context = ExitStack()
        self._names = {module: name for name, module in model.named_modules()}
        self._open = [_Frame()]
        self._census: list[Call] | None = None
        self._batches: list[Batch] = []
        self._whole: list[Batch] = []
        self._history: list[tuple[float, float | None]] = []
        self._axis, self._epochs = -1, 0
        self._step = self._last = Step(loss=0.0)

    def __enter__(self) -> Recorder:
        for peer in self.peers:
            peer.begin(self.model)
        for name, module in self.model.named_modules():
            enter = module.register_forward_pre_hook(self._enter, with_kwargs=True)
            leave = module.register_forward_hook(partial(self._leave, name), always_call=True)
            self._context.callback(enter.remove)
            self._context.callback(leave.remove)
        before = self.optimizer.register_step_pre_hook(self._before_update)
        after = self.optimizer.register_step_post_hook(self._after_update)
        self._context.callback(before.remove)
        self._context.callback(after.remove)
        self._context.enter_context(_Functions(self._function))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with self._context:
            if self._history:
                self._end_epoch()
        with unseen():
            for peer in self.peers:
                peer.end()

    def _watching(self) -> bool:
        """Whether this forward pass counts: it trains, and is no checkpoint's recomputation."""
        if self._census is not None:
            return True
        return torch.is_grad_enabled() and torch._C._current_graph_task_id() < 0

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        before = None
        if self._watching():
            if type(module) in MODULES:
                before = _copy(args[0])
            if module is self.model and self._census is None:
                self._batches.append((_copies(args), {k: _copy(v) for k, v in kwargs.items()}))
        self._open.append(_Frame(module, before))

    def _leave(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        before = self._open.pop().before
        if not self._watching():
            return
        kind = MODULES.get(type(module), type(module).__name__)
        if kind in WEIGHTED:
            self._axis = 1 if kind.startswith("Conv") else -1
        leaf = next(module.children(), None) is None
        self._note(Call(name, kind, None, before, leaf=leaf, axis=self._axis), output)

    def _note(self, call: Call, output: Any) -> None:
        """Keep a call with its output, and ask for the gradient of that; not one on no example."""
        if isinstance(output, Tensor):
            if not output.numel():
                return
            call.output = output.detach().clone()
        calls = self._step.calls if self._census is None else self._census
        calls.append(call)
        # Of a tuple the first tensor's gradient, as backward hooks of modules are mostly read.
        first = output[0] if isinstance(output, tuple) and output else output
        if self._census is None and isinstance(first, Tensor) and first.requires_grad:
            first.register_hook(call.receive)

    def _function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is Tensor.backward:
            self._step.loss += float(args[0].detach())
        if not self._watching() or not (func in FUNCTIONS or func in CRITERIA):
            return func(*args, **kwargs)
        if func in CRITERIA:
            result = func(*args, **kwargs)
            if self._census is None:
                self._compare(CRITERIA[func], args, kwargs)
            return result
        owner, kind = self._open[-1].module, FUNCTIONS[func]
        told = type(owner) in MODULES or type(owner).__name__ in WEIGHTED
        if told or (owner is None and kind == "exp"):
            return func(*args, **kwargs)  # its module tells of it; it is arithmetic
        before = None if kind in WEIGHTED else _copy(args[0] if args else kwargs["input"])
        result = func(*args, **kwargs)
        call = Call(self._name(kind), kind, None, before, module=False, axis=self._axis)
        self._note(call, result)
        return result

    def _name(self, kind: str) -> str:
        """Name of a function called where the forward pass now is: ``net.relu``, ``net.relu#2``."""
        frame = self._open[-1]
        frame.functions[kind] += 1
        count = frame.functions[kind]
        place = self._names[frame.module] if frame.module is not None else ""
        return ".".join(filter(None, (place, kind if count == 1 else f"{kind}#{count}")))

    def _compare(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note what a loss function was given."""
        given = dict(zip(("input", "target"), args, strict=False)) | kwargs
        self._step.criterion = name
        self._step.outputs, self._step.targets = _copy(given["input"]), _copy(given["target"])

    def _before_update(self, *_: Any) -> None:
        step = self._step
        step.lr = max(float(group["lr"]) for group in self.optimizer.param_groups)
        with unseen():
            step.weights = self._weights()
            for name, parameter in self.model.named_parameters():
                if parameter.grad is not None:
                    step.grads[name] = parameter.grad.detach().to_dense().clone()

    def _after_update(self, *_: Any) -> None:
        step = self._step
        step.updated = self._weights()
        args = self._batches[-1][0] if self._batches else ()
        step.inputs = args[0] if args and isinstance(args[0], Tensor) else None
        with unseen():
            for peer in self.peers:
                peer.step(step)
        self._history.append((step.loss, step.accuracy))
        self._last = step
        self._step = Step(index=step.index + 1, loss=0.0)
        self._open = [_Frame()]
        if len(self._history) == self.steps_per_epoch:
            self._whole = self._batches
            self._end_epoch()

    def _weights(self) -> dict[str, Tensor]:
        with unseen():
            return {name: p.detach().clone() for name, p in self.model.named_parameters()}

    def _end_epoch(self) -> None:
        losses, accuracies = zip(*self._history, strict=True)
        known = [accuracy for accuracy in accuracies if accuracy is not None]
        accuracy = float(np.mean(known)) if known else None
        epoch = Epoch(self._epochs, self._last, float(np.mean(losses)), accuracy)
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            if self.validate is not None:
                epoch.val_loss, epoch.val_accuracy = self.validate()
            epoch.census = self._take_census()
        with unseen():
            for peer in self.peers:
                peer.epoch(epoch)
        for module, mode in modes:
            module.training = mode
        self._epochs += 1
        self._history, self._batches = [], []

    def _take_census(self) -> list[Call]:
        """Run the model on a whole epoch's inputs, and join the calls of all batches."""
        joined: dict[tuple[str, int], list[Call]] = {}
        for args, kwargs in self._whole or self._batches:
            self._census = []
            try:
                self.model(*args, **kwargs)
                seen: dict[str, int] = {}
                for call in self._census:
                    count = seen[call.name] = seen.get(call.name, 0) + 1
                    joined.setdefault((call.name, count), []).append(call)
            finally:
                self._census = None
        return [_join(calls) for calls in joined.values()]


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _copies(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_copy(value) for value in values)


def _join(calls: list[Call]) -> Call:
    """One call on the examples of all; of those with several shapes, the last."""
    last = calls[-1]

    def joined(tensors: list[Tensor | None]) -> Tensor | None:
        found = [tensor for tensor in tensors if tensor is not None and tensor.dim()]
        if len({tensor.shape[1:] for tensor in found}) == 1:
            return torch.cat(found)
        return found[-1] if found else None

    output, inputs = joined([c.output for c in calls]), joined([c.input for c in calls])
    return Call(last.name, last.kind, output, inputs, None, last.module, last.leaf, last.axis)
