"""Models, data and things done to a model that are hard to watch without harm.

Built like the workloads; ``others`` holds whatever else must come out the same.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import itertools
import re
import threading
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hazard import hazard, loop, plain
from workloads import Training, clusters, mlp, sequences, supervised

summed_loss = functools.partial(F.cross_entropy, reduction="sum")  # 0 for no examples, not NaN


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
def interrupted() -> Training:
    """Ctrl-C in the forward pass, in a gradient hook and before the update; the loop goes on."""
    model, optimizer, batches = plain()
    steps = itertools.count()
    wanted = ""

    def interrupt(place: str) -> None:
        if place == wanted:
            raise KeyboardInterrupt

    model[1].register_forward_hook(lambda *_: interrupt("forward"))
    model[2].bias.register_hook(lambda gradient: interrupt("backward"))
    optimizer.register_step_pre_hook(lambda *_: interrupt("step"))
    training = supervised(model, optimizer, batches)
    plain_step = training.step

    def step() -> None:
        nonlocal wanted
        wanted = ("forward", "", "backward", "", "step")[next(steps) % 5]
        with contextlib.suppress(KeyboardInterrupt):
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
