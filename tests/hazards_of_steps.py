"""Ways to run a training step that are hard to watch without harm.

Built like the workloads; ``others`` holds whatever else must come out the same.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from hazard import hazard, loop, plain
from workloads import Training, clusters, mlp, sequences, supervised

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
