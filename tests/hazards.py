"""Trainings that are hard to watch without harm, each written as a person would write it.

Built like the workloads; ``others`` holds whatever else must come out the same.
"""

from __future__ import annotations

import copy
import functools
import io
import itertools
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from workloads import Training, clusters, mlp, sequences, supervised


@dataclass(frozen=True)
class Hazard:
    """A training and how many steps of it are enough."""

    name: str
    build: Callable[[], Training]
    steps: int


HAZARDS: dict[str, Hazard] = {}


def hazard(build: Callable[[], Training]) -> Callable[[], Training]:
    """Register a builder."""
    HAZARDS[build.__name__] = Hazard(build.__name__, build, 5)
    return build


def plain(model: nn.Module | None = None, lr: float = 0.1) -> tuple[nn.Module, Any, Any]:
    """A model, its optimizer and its batches."""
    torch.manual_seed(1)
    model = model or mlp()
    return model, torch.optim.SGD(model.parameters(), lr, momentum=0.9), clusters(16)


def loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Any,
    gradients: Callable[[Tensor, Tensor], object],
    **others: Any,
) -> Training:
    """Each step zeroes the gradients, lets ``gradients(x, y)`` make new ones and updates."""

    def step() -> None:
        inputs, targets = next(batches)
        optimizer.zero_grad()
        gradients(inputs, targets)
        optimizer.step()

    return Training(model, optimizer, step, others)


summed_loss = functools.partial(F.cross_entropy, reduction="sum")  # 0 for no examples, not NaN


# Ways to get gradients


@hazard
def retained_graph() -> Training:
    """Two losses through one graph, differentiated one after the other."""
    model, optimizer, batches = plain()

    def gradients(x: Tensor, y: Tensor) -> None:
        out = model(x)
        F.cross_entropy(out, y).backward(retain_graph=True)
        (0.1 * out.square().mean()).backward()

    return loop(model, optimizer, batches, gradients)


@hazard
def gradient_penalty() -> Training:
    """The gradient's own norm is part of the loss (WGAN-GP)."""
    model, optimizer, batches = plain(mlp(nn.Tanh))

    def gradients(x: Tensor, y: Tensor) -> None:
        x.requires_grad_()
        loss = F.cross_entropy(model(x), y)
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        (loss + 10 * (slope.norm(dim=1) - 1).square().mean()).backward()

    return loop(model, optimizer, batches, gradients)


@hazard
def second_order_backward() -> Training:
    """``backward(create_graph=True)``, then a penalty on the gradients themselves."""
    model, optimizer, batches = plain()

    def gradients(x: Tensor, y: Tensor) -> None:
        parameters = list(model.parameters())
        loss = F.cross_entropy(model(x), y)
        made = torch.autograd.grad(loss, parameters, create_graph=True)
        loss.backward(create_graph=True)
        sum(g.square().sum() for g in made).backward(inputs=parameters)
        for parameter in parameters:
            parameter.grad = parameter.grad.detach()

    return loop(model, optimizer, batches, gradients)


@hazard
def grad_only() -> Training:
    """Gradients by ``torch.autograd.grad``; ``backward`` is never called."""
    model, optimizer, batches = plain()

    def gradients(x: Tensor, y: Tensor) -> None:
        parameters = list(model.parameters())
        made = torch.autograd.grad(F.cross_entropy(model(x), y), parameters)
        for parameter, gradient in zip(parameters, made, strict=True):
            parameter.grad = gradient

    return loop(model, optimizer, batches, gradients)


@hazard
def functional_gradients() -> Training:
    """``torch.func.grad`` over ``functional_call``."""
    model, optimizer, batches = plain()

    def gradients(x: Tensor, y: Tensor) -> None:
        def loss(parameters: dict[str, Tensor]) -> Tensor:
            return F.cross_entropy(torch.func.functional_call(model, parameters, (x,)), y)

        made = torch.func.grad(loss)({k: p.detach() for k, p in model.named_parameters()})
        for name, parameter in model.named_parameters():
            parameter.grad = made[name]

    return loop(model, optimizer, batches, gradients)


@hazard
def gradients_of_examples() -> Training:
    """Per-example gradients by ``vmap``, clipped one by one (DP-SGD)."""
    model, optimizer, batches = plain()

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        out = torch.func.functional_call(model, parameters, (x[None],))
        return F.cross_entropy(out, y[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

    def gradients(x: Tensor, y: Tensor) -> None:
        made = each({k: p.detach() for k, p in model.named_parameters()}, x, y)
        for name, parameter in model.named_parameters():
            parameter.grad = made[name].clamp(-0.1, 0.1).mean(dim=0)

    return loop(model, optimizer, batches, gradients)


@hazard
def forward_mode() -> Training:
    """A directional derivative in forward mode is part of the loss."""
    model, optimizer, batches = plain(mlp(nn.Tanh))
    import torch.autograd.forward_ad as fwd

    def gradients(x: Tensor, y: Tensor) -> None:
        with fwd.dual_level():
            out, slope = fwd.unpack_dual(model(fwd.make_dual(x, torch.ones_like(x))))
            (F.cross_entropy(out, y) + slope.square().mean()).backward()

    return loop(model, optimizer, batches, gradients)


@hazard
def several_roots() -> Training:
    """``torch.autograd.backward`` of several tensors, and of a tensor with a given gradient."""
    model, optimizer, batches = plain()

    def gradients(x: Tensor, y: Tensor) -> None:
        out = model(x)
        out.backward(torch.full_like(out, 1e-3), retain_graph=True)
        losses = F.cross_entropy(out, y, reduction="none").unbind()
        torch.autograd.backward(losses, inputs=list(model.parameters()))

    return loop(model, optimizer, batches, gradients)


@hazard
def failed_backward() -> Training:
    """Backward fails in one step, is caught, and the batch is tried again."""
    model, optimizer, batches = plain()
    tries = itertools.count()

    def gradients(x: Tensor, y: Tensor) -> None:
        loss = F.cross_entropy(model(x), y)
        if next(tries) % 2:
            loss.backward()
            try:
                loss.backward()
            except RuntimeError:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
        else:
            loss.backward()

    return loop(model, optimizer, batches, gradients)


class Reentrant(nn.Module):
    """Both blocks are recomputed in backward, by a backward pass inside the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(16, 24)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Dropout(0.1)) for _ in range(2)
        )
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=True)
        return self.head(x)


@hazard
def reentrant_checkpointing() -> Training:
    model, optimizer, batches = plain(Reentrant())
    return supervised(model, optimizer, batches)


@hazard
def saved_tensors_hooks() -> Training:
    """Saved activations are packed, as when they are moved off the device."""
    model, optimizer, batches = plain()
    packed: list[tuple[int, ...]] = []

    def pack(tensor: Tensor) -> Tensor:
        packed.append(tuple(tensor.shape))
        return tensor

    def gradients(x: Tensor, y: Tensor) -> None:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            F.cross_entropy(model(x), y).backward()

    return loop(model, optimizer, batches, gradients, packed=packed)


@hazard
def anomaly_mode() -> Training:
    model, optimizer, batches = plain()

    def gradients(x: Tensor, y: Tensor) -> None:
        with torch.autograd.set_detect_anomaly(True, check_nan=True):
            F.cross_entropy(model(x), y).backward()

    return loop(model, optimizer, batches, gradients)


# Optimizers


@hazard
def optimizer_in_backward() -> Training:
    """Each parameter has an optimizer of its own, which steps as soon as its gradient is there."""
    torch.manual_seed(1)
    model, batches = mlp(), clusters(16)
    optimizers = {p: torch.optim.AdamW([p], 1e-2, foreach=False) for p in model.parameters()}

    def update(parameter: Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in optimizers:
        parameter.register_post_accumulate_grad_hook(update)
    first, *others = optimizers.values()

    def step() -> None:
        x, y = next(batches)
        F.cross_entropy(model(x), y).backward()

    return Training(model, first, step, {str(i): one for i, one in enumerate(others)})


@hazard
def fused_and_foreach() -> Training:
    """Two optimizers over halves of the model: one fused, one on lists of tensors."""
    torch.manual_seed(1)
    model, batches = mlp(), clusters(16)
    fused = torch.optim.AdamW(model[:2].parameters(), 1e-2, fused=True)
    foreach = torch.optim.Adam(model[2:].parameters(), 1e-2, foreach=True)

    def step() -> None:
        x, y = next(batches)
        model.zero_grad(set_to_none=False)
        F.cross_entropy(model(x), y).backward()
        fused.step()
        foreach.step()

    return Training(model, fused, step, {"foreach": foreach})


class Words(nn.Module):
    """A bag of words with sparse gradients of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 12, sparse=True)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.rest(self.embed(tokens)).transpose(1, 2)


@hazard
def sparse_gradients() -> Training:
    torch.manual_seed(1)
    model, batches = Words(), sequences(6, 16)
    sparse = torch.optim.SparseAdam(model.embed.parameters(), 1e-2)
    dense = torch.optim.Adam(model.rest.parameters(), 1e-2)

    def step() -> None:
        x, y = next(batches)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        sparse.step()
        dense.step()

    return Training(model, sparse, step, {"dense": dense})


@hazard
def sharpness_aware() -> Training:
    """Two forward and backward passes for each update, the second at other weights (SAM)."""
    model, optimizer, batches = plain()

    def gradients(x: Tensor, y: Tensor) -> None:
        F.cross_entropy(model(x), y).backward()
        moves = [0.05 * p.grad.sign() for p in model.parameters()]
        with torch.no_grad():
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter.add_(move)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter.sub_(move)

    return loop(model, optimizer, batches, gradients)


@hazard
def skipped_updates() -> Training:
    """The scaler finds infinities and skips the optimizer's step."""
    model, optimizer, batches = plain()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    scales: list[float] = []

    def step() -> None:
        x, y = next(batches)
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())

    return Training(model, optimizer, step, {"scales": scales, "scaler": scaler.state_dict()})


@hazard
def interrupted_closure() -> Training:
    """The closure of LBFGS raises in every other step."""
    torch.manual_seed(1)
    model, batches = mlp(), clusters(16)
    optimizer = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=3)
    calls = itertools.count()

    def step() -> None:
        x, y = next(batches)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if next(calls) % 4 == 3:
                raise ValueError("no more of this")
            loss.backward()
            return loss

        try:
            optimizer.step(closure)
        except ValueError:
            optimizer.zero_grad()

    return Training(model, optimizer, step)


# Hooks and modes of the user's own


@hazard
def hooks_of_the_user() -> Training:
    """Hooks on modules, parameters and activations, some of which change what they see."""
    model, optimizer, batches = plain()
    heard: list[str] = []
    model[0].register_forward_hook(lambda m, args, out: heard.append("forward") or out * 0.9)
    model[1].register_forward_pre_hook(lambda m, args: heard.append("before"))
    model[2].register_full_backward_hook(lambda m, gi, go: heard.append("backward"))
    model[2].weight.register_hook(lambda g: heard.append("gradient") or g.clamp(-0.1, 0.1))
    model[4].bias.register_post_accumulate_grad_hook(lambda p: heard.append(str(p.shape)))

    def gradients(x: Tensor, y: Tensor) -> None:
        h = model[:3](x)
        h.register_hook(lambda g: heard.append("activation") or g * 2)
        h.retain_grad()
        F.cross_entropy(model[3:](h), y).backward()
        heard.append(str(float(h.grad.sum())))

    return loop(model, optimizer, batches, gradients, heard=heard)


class Diary(TorchDispatchMode):
    """Writes down every operator."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class FunctionDiary(TorchFunctionMode):
    """Writes down every function of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


@hazard
def mode_around_forward() -> Training:
    """A dispatch mode that begins before the forward pass and ends before the backward pass."""
    model, optimizer, batches = plain()
    diary = Diary()

    def gradients(x: Tensor, y: Tensor) -> None:
        with diary:
            out = model(x)
        F.cross_entropy(out, y).backward()

    return loop(model, optimizer, batches, gradients, seen=diary.seen)


@hazard
def mode_around_steps() -> Training:
    """A dispatch mode that sees whole steps, updates included."""
    model, optimizer, batches = plain()
    training = supervised(model, optimizer, batches)
    diary, plain_step = Diary(), training.step

    def step() -> None:
        with diary:
            plain_step()

    training.step = step
    training.others["seen"] = diary.seen
    return training


@hazard
def mode_around_backward() -> Training:
    """A dispatch mode that begins between forward and backward and ends after the update."""
    model, optimizer, batches = plain()
    diary = Diary()

    def step() -> None:
        x, y = next(batches)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        with diary:
            loss.backward()
            optimizer.step()

    return Training(model, optimizer, step, {"seen": diary.seen})


@hazard
def function_mode() -> Training:
    """A function mode that sees whole steps."""
    model, optimizer, batches = plain()
    training = supervised(model, optimizer, batches)
    diary, plain_step = FunctionDiary(), training.step

    def step() -> None:
        with diary:
            plain_step()

    training.step = step
    training.others["seen"] = diary.seen
    return training


@hazard
def counting_flops() -> Training:
    from torch.utils.flop_counter import FlopCounterMode

    model, optimizer, batches = plain()
    counts: list[int] = []

    def gradients(x: Tensor, y: Tensor) -> None:
        with FlopCounterMode(display=False) as counter:
            F.cross_entropy(model(x), y).backward()
        counts.append(counter.get_total_flops())

    return loop(model, optimizer, batches, gradients, counts=counts)


@hazard
def higher_order_operators() -> Training:
    """A branch by ``torch.cond``, which modes must let through on purpose."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))
            return self.net(x)

    model, optimizer, batches = plain(Branches())
    return supervised(model, optimizer, batches)


# What goes through the model


class Failing(nn.Module):
    """Raises in the middle of its forward pass when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 24), nn.Linear(24, 4)
        self.fail = False

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        if self.fail:
            raise ValueError("a bad example")
        return self.second(x)


@hazard
def failed_forward() -> Training:
    """Every other forward pass fails; the loop goes on with the next batch."""
    model, optimizer, batches = plain(Failing())
    training = supervised(model, optimizer, batches)
    plain_step, tries = training.step, itertools.count()

    def step() -> None:
        model.fail = next(tries) % 2 == 0
        try:
            plain_step()
        except ValueError:
            model.fail = False
            plain_step()

    training.step = step
    return training


@hazard
def nan_loss() -> Training:
    """The loss is NaN from the third step on, and everything after it too."""
    model, optimizer, batches = plain()
    spoilt = ((x if i < 2 else x / 0, y) for i, (x, y) in enumerate(batches))
    return supervised(model, optimizer, spoilt)


@hazard
def exploding() -> Training:
    model, optimizer, batches = plain(lr=1e9)
    return supervised(model, optimizer, batches, lambda out, y: 1e9 * out.square().sum())


@hazard
def ragged_batches() -> Training:
    """Batches of all sizes, the empty one among them."""
    model, optimizer, batches = plain()
    sizes = itertools.cycle([32, 1, 7, 0, 5])
    cut = ((x[:n], y[:n]) for n, (x, y) in zip(sizes, batches, strict=False))
    return supervised(model, optimizer, cut, summed_loss)


@hazard
def empty_images() -> Training:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sizes = itertools.cycle([4, 0])
    batches = zip(sizes, clusters(3, 8, 8), strict=False)
    cut = ((x[:n], y[:n]) for n, (x, y) in batches)
    return supervised(model, optimizer, cut, summed_loss)


@hazard
def no_batch_dimension() -> Training:
    model, optimizer, batches = plain()
    one = ((x[0], y[0]) for x, y in batches)
    return supervised(model, optimizer, one)


@hazard
def integer_inputs() -> Training:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Embedding(16, 12), nn.Flatten(), nn.Linear(72, 24), nn.ReLU(),
                          nn.Linear(24, 16))  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    last = ((x, y[:, -1]) for x, y in sequences(6, 16))
    return supervised(model, optimizer, last)


class Complex(nn.Module):
    """Complex layers with a complex tanh, then a real head with a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 12, dtype=torch.complex64)
        self.rest = mlp()[2:]
        self.join = nn.Linear(12, 24)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(self.first(torch.complex(x, x.flip(1))))
        return self.rest(F.relu(self.join(z.abs())))


@hazard
def complex_numbers() -> Training:
    model, optimizer, batches = plain(Complex())
    return supervised(model, optimizer, batches)


@hazard
def half_precision() -> Training:
    model, optimizer, batches = plain(mlp().bfloat16())
    return supervised(model, optimizer, ((x.bfloat16(), y) for x, y in batches))


@hazard
def double_precision() -> Training:
    model, optimizer, batches = plain(mlp().double())
    return supervised(model, optimizer, ((x.double() * 1e200, y) for x, y in batches))


@hazard
def padded_sequences() -> Training:
    """Packed sequences through an LSTM, keyword arguments, a dictionary as output."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(4, 8, 2, bidirectional=True)
            self.head = nn.Linear(16, 4)

        def forward(self, *, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            _, (h, _) = self.cell(packed)
            return {"logits": self.head(F.relu(torch.cat([h[-1], h[-2]], dim=1)))}

    model, optimizer, _ = plain(Reader())
    lengths = torch.tensor([1, 4, 2, 3])

    def gradients(x: Tensor, y: Tensor) -> None:
        out = model(x=x[:4].reshape(4, 4, 4).transpose(0, 1), lengths=lengths)
        F.cross_entropy(out["logits"], y[:4]).backward()

    return loop(model, optimizer, clusters(16), gradients)


class Tagged(Tensor):
    """A subclass that follows the tensors made from it."""


@hazard
def tensor_subclass() -> Training:
    model, optimizer, batches = plain()
    return supervised(model, optimizer, ((x.as_subclass(Tagged), y) for x, y in batches))


@hazard
def nested_tensors() -> Training:
    """A jagged batch: sequences of different lengths without padding."""
    model, optimizer, batches = plain()

    def gradients(x: Tensor, y: Tensor) -> None:
        parts = [x[:3], x[3:4], x[4:9]]
        nested = torch.nested.nested_tensor(parts, layout=torch.jagged)
        F.cross_entropy(model(nested).values(), y[:9]).backward()

    return loop(model, optimizer, batches, gradients)


# Models


class Frozen(nn.Module):
    """Frozen backbones, one in evaluation mode and one in inference mode, and a part unused."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(16, 24), nn.BatchNorm1d(24), nn.ReLU())
        self.teacher = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4), nn.Sigmoid())
        self.unused = nn.Linear(3, 3)
        self.head = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4))
        self.backbone.requires_grad_(False).eval()
        self.teacher.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            seen = self.backbone(x)
        with torch.inference_mode():
            wanted = self.teacher(x)
        return self.head(seen) - wanted.clone()


@hazard
def frozen_backbone() -> Training:
    model, optimizer, batches = plain(Frozen())
    return supervised(model, optimizer, batches)


@hazard
def spectral_norm() -> Training:
    """Buffers change in each forward pass of training."""
    torch.manual_seed(1)
    model = mlp(nn.LeakyReLU)
    for place in (0, 2):
        nn.utils.parametrizations.spectral_norm(model[place])
    return supervised(*plain(model))


@hazard
def lazy_layers() -> Training:
    """Parameters without a shape until the first forward pass, after the optimizer is built."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.LazyLinear(24), nn.ReLU(), nn.LazyLinear(4))
    return supervised(*plain(model))


@hazard
def scripted() -> Training:
    torch.manual_seed(1)
    return supervised(*plain(torch.jit.script(mlp())))


@hazard
def data_parallel() -> Training:
    model, optimizer, batches = plain()
    training = supervised(nn.DataParallel(model), optimizer, batches)
    training.model = model
    return training


class Lines(nn.Module):
    """The forward pass is a generator, and stops early."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: Tensor) -> Any:
        for layer in self.layers:
            x = F.relu(layer(x))
            if x.shape[0] < 2:
                return
            yield x


@hazard
def generator_forward() -> Training:
    model, optimizer, batches = plain(Lines())

    def gradients(x: Tensor, y: Tensor) -> None:
        for depth, h in enumerate(model(x)):
            loss = h.square().mean()
            if depth == 2:
                break
        loss.backward()

    return loop(model, optimizer, batches, gradients)


@hazard
def own_call() -> Training:
    """A module with a ``__call__`` of its own, and one whose ``forward`` is called directly."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.rest = nn.Linear(16, 24), mlp()[2:]

        def __call__(self, x: Tensor) -> Tensor:
            return self.rest.forward(F.relu(super().__call__(x)))

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x)

    return supervised(*plain(Odd()))


class Doubled(torch.autograd.Function):
    """A function in place with a backward pass of its own, in which it differentiates again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        with torch.enable_grad():
            twice = gradient.detach().requires_grad_()
            (2 * twice).sum().backward()
        return gradient * twice.grad


@hazard
def own_function() -> Training:
    class Custom(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.rest = nn.Linear(16, 24), mlp()[2:]

        def forward(self, x: Tensor) -> Tensor:
            return self.rest(F.relu(Doubled.apply(self.first(x))))

    return supervised(*plain(Custom()))


# Things done to a model while it trains


@hazard
def copies() -> Training:
    """The model and the optimizer are pickled and copied inside the step."""
    model, optimizer, batches = plain()
    made: list[Any] = []

    def gradients(x: Tensor, y: Tensor) -> None:
        out = model(x)
        saved = io.BytesIO()
        torch.save([model, optimizer.state_dict()], saved)
        made.append(torch.load(io.BytesIO(saved.getvalue()), weights_only=False))
        made.append(copy.deepcopy((model, optimizer)))
        F.cross_entropy(out, y).backward()
        saved = io.BytesIO()
        torch.save(out, saved)
        made.append(out.detach().clone())

    return loop(model, optimizer, batches, gradients, made=made)


@hazard
def exports() -> Training:
    """The model is traced, exported and measured inside the step."""
    from torch.fx.experimental.proxy_tensor import make_fx

    model, optimizer, batches = plain()
    made: list[str] = []

    def gradients(x: Tensor, y: Tensor) -> None:
        made.append(re.sub(r"\.___torch_mangle_\d+", "", str(torch.jit.trace(model, x).graph)))
        made.append(torch.fx.symbolic_trace(model).code)
        made.append(make_fx(model, tracing_mode="fake", _allow_non_fake_inputs=True)(x).code)
        with torch.device("meta"):
            made.append(str(copy.deepcopy(model).to("meta")(torch.empty(2, 16)).shape))
        F.cross_entropy(model(x), y).backward()

    return loop(model, optimizer, batches, gradients, made=made)


@hazard
def exported() -> Training:
    """``torch.export`` in the middle of training."""
    model, optimizer, batches = plain()
    made: list[str] = []

    def gradients(x: Tensor, y: Tensor) -> None:
        made.append(torch.export.export(model, (x,), strict=False).graph_module.code)
        F.cross_entropy(model(x), y).backward()

    return loop(model, optimizer, batches, gradients, made=made)


@hazard
def averaged() -> Training:
    """Stochastic weight averaging, and batch statistics gathered anew in the end."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(16, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 4))
    model, optimizer, batches = plain(model)
    average = torch.optim.swa_utils.AveragedModel(model)
    training = supervised(model, optimizer, batches)
    plain_step = training.step
    kept = [next(clusters(16, seed=2))[0]]

    def step() -> None:
        plain_step()
        average.update_parameters(model)
        torch.optim.swa_utils.update_bn(kept, average)

    training.step = step
    training.others["average"] = average
    return training


@hazard
def evaluated_elsewhere() -> Training:
    """Another thread evaluates the model while a step is in progress."""
    model, optimizer, batches = plain()
    held_out, said = next(clusters(16, seed=3))[0], []

    def evaluate() -> None:
        with torch.no_grad():
            said.append(model(held_out))

    def gradients(x: Tensor, y: Tensor) -> None:
        out = model(x)
        thread = threading.Thread(target=evaluate)
        thread.start()
        thread.join()
        F.cross_entropy(out, y).backward()

    return loop(model, optimizer, batches, gradients, said=said)
