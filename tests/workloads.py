"""Small deterministic training workloads, each written as a person would write it.

``WORKLOADS[name].build()`` seeds everything and returns a :class:`Training`; ``training.step()`` is
one ordinary training step. Nothing here knows flatline. ``probes`` says by hand where each
nonlinearity sits, for :mod:`brute_force` to watch and for the anatomy to be compared with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass
class Training:
    """A training in progress.

    Attributes:
        model: The module being trained, without wrappers.
        optimizer: The optimizer that ends a step.
        step: Runs one step: forward, loss, backward, optimizer step.
        others: Further optimizers and objects whose state must not be disturbed.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Callable[[], object]
    others: dict[str, torch.optim.Optimizer | nn.Module] = field(default_factory=dict)


@dataclass(frozen=True)
class Probe:
    """Where a nonlinearity sits.

    Attributes:
        name: Qualified name of the module whose output is the pre-activation.
        activation: Name of the nonlinearity, as in ``flatline.activations``.
        constants: Its constants, where they are not the defaults.
        watch: Module to watch when it is not ``name``.
        side: ``"output"`` of that module, or its ``"input"`` (after a residual add, for example).
        axis: Axis of the units; axis 0 holds the examples.
        half: Take only this half (0 or 1) along the unit axis: gated units.
        times: Module whose output multiplies the activation: gated units of two layers.
    """

    name: str
    activation: str = "relu"
    constants: tuple[float, ...] = ()
    watch: str = ""
    side: str = "output"
    axis: int = -1
    half: int | None = None
    times: str = ""


@dataclass(frozen=True)
class Workload:
    """A training that can be built again and again, identically each time.

    Attributes:
        name: Its name.
        build: Builds it from nothing.
        steps: Steps enough to show what it is there to show.
        probes: Where its nonlinearities sit.
        eager: Builds the same training without compilation, where ``build`` compiles.
    """

    name: str
    build: Callable[[], Training]
    steps: int
    probes: tuple[Probe, ...]
    eager: Callable[[], Training] | None = None


WORKLOADS: dict[str, Workload] = {}


def workload(steps: int, *probes: Probe | str) -> Callable[..., Callable[..., Training]]:
    """Register a builder; a probe given as a string is a ReLU behind that module."""
    placed = tuple(Probe(probe) if isinstance(probe, str) else probe for probe in probes)

    def register(build: Callable[..., Training]) -> Callable[..., Training]:
        name = build.__name__
        eager = partial(build, compiled=False) if name.startswith("compiled") else None
        WORKLOADS[name] = Workload(name, build, steps, placed, eager)
        return build

    return register


# Data


def clusters(
    *shape: int, classes: int = 4, batch: int = 32, examples: int = 256, seed: int = 0
) -> Batches:
    """Endless batches of noisy cluster centres, reshuffled each epoch by a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, *shape, generator=generator)
    labels = torch.randint(classes, (examples,), generator=generator)
    inputs = centres[labels] + 0.5 * torch.randn(examples, *shape, generator=generator)
    while True:
        for rows in torch.randperm(examples, generator=generator).split(batch):
            yield inputs[rows], labels[rows]


def sequences(length: int, vocabulary: int, batch: int = 16, seed: int = 0) -> Batches:
    """Endless batches of counting sequences and the token that follows each token."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        start = torch.randint(vocabulary, (batch, 1), generator=generator)
        stride = torch.randint(1, 4, (batch, 1), generator=generator)
        tokens = (start + stride * torch.arange(length + 1)) % vocabulary
        yield tokens[:, :-1], tokens[:, 1:]


def supervised(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Training:
    """The plainest loop there is."""

    def step() -> Tensor:
        inputs, targets = next(batches)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Training(model, optimizer, step)


def mlp(act: Callable[[], nn.Module] = nn.ReLU, width: int = 24, hidden: int = 2) -> nn.Sequential:
    """16 inputs, ``hidden`` layers of ``width`` units, 4 classes."""
    layers: list[nn.Module] = []
    for size in [16] + [width] * (hidden - 1):
        layers += [nn.Linear(size, width), act()]
    return nn.Sequential(*layers, nn.Linear(width, 4))


# Fully connected


@workload(40, "0", "2")
def mlp_relu() -> Training:
    """Nothing wrong with it."""
    torch.manual_seed(3)
    model = mlp()
    return supervised(model, torch.optim.SGD(model.parameters(), 0.05), clusters(16))


@workload(60, "0", "2")
def mlp_relu_killed() -> Training:
    """A learning rate large enough to kill units within a few steps."""
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.8, momentum=0.9)
    return supervised(model, optimizer, clusters(16))


@workload(40, "0", "2")
def mlp_relu_collapsed() -> Training:
    """A whole layer dies, so that the living units below it get no gradient any more."""
    torch.manual_seed(0)
    model = mlp()
    return supervised(model, torch.optim.SGD(model.parameters(), 2.0), clusters(16))


@workload(20, "0", "2")
def diverging() -> Training:
    """A squared error overflows within a few steps, and everything is NaN after that."""
    torch.manual_seed(36)
    model = mlp()

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, F.one_hot(targets, 4).float())

    return supervised(model, torch.optim.SGD(model.parameters(), 20.0), clusters(16), loss_fn)


class Functional(nn.Module):
    """Only functions and methods: no activation module to hook."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 24)
        self.second = nn.Linear(24, 24)
        self.third = nn.Linear(24, 24)
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        x = self.second(x).relu()
        x = self.third(x).clamp(min=0)
        return self.head(x)


@workload(40, "first", "second", "third")
def functional() -> Training:
    torch.manual_seed(1)
    model = Functional()
    return supervised(model, torch.optim.SGD(model.parameters(), 0.5), clusters(16))


@workload(40, "0", "2")
def inplace() -> Training:
    torch.manual_seed(2)
    model = mlp(partial(nn.ReLU, inplace=True))
    return supervised(model, torch.optim.SGD(model.parameters(), 0.8), clusters(16))


@workload(30, *(Probe(str(2 * i), "sigmoid") for i in range(5)))
def deep_sigmoid() -> Training:
    """Large inputs saturate the first layer, and depth starves it."""
    torch.manual_seed(3)
    model = mlp(nn.Sigmoid, hidden=5)
    batches = ((100 * x, y) for x, y in clusters(16))
    return supervised(model, torch.optim.SGD(model.parameters(), 0.5), batches)


@workload(30, Probe("0", "tanh"), Probe("2", "tanh"))
def tanh() -> Training:
    torch.manual_seed(4)
    model = mlp(nn.Tanh)
    return supervised(model, torch.optim.Adam(model.parameters(), 1e-2), clusters(16))


@workload(
    30,
    Probe("0", "leaky_relu", (0.01,)),
    Probe("2", "elu", (1.0,)),
    Probe("4", "silu"),
    Probe("6", "hardswish"),
    Probe("8", "sigmoid", half=1),
    Probe("10", "relu6"),
    Probe("12", "softplus", (1.0, 20.0)),
)
def zoo() -> Training:
    """One activation of each kind, a gated linear unit among them."""
    torch.manual_seed(5)
    kinds = [nn.LeakyReLU(), nn.ELU(), nn.SiLU(), nn.Hardswish(), nn.GLU(), nn.ReLU6()]
    layers: list[nn.Module] = []
    size = 16
    for kind in [*kinds, nn.Softplus()]:
        wide = isinstance(kind, nn.GLU)
        layers += [nn.Linear(size, 40 if wide else 20), kind]
        size = 20
    model = nn.Sequential(*layers, nn.Linear(20, 4))
    return supervised(model, torch.optim.Adam(model.parameters(), 1e-2), clusters(16))


class SwiGLU(nn.Module):
    """A gated block: the product of gate and value is the unit's output."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 24, bias=False)
        self.value = nn.Linear(16, 24, bias=False)
        self.down = nn.Linear(24, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.value(x))


@workload(30, Probe("gate", "silu", times="value"))
def swiglu() -> Training:
    torch.manual_seed(6)
    model = SwiGLU()
    return supervised(model, torch.optim.AdamW(model.parameters(), 1e-2), clusters(16))


@workload(30, "0", "3")
def dropout() -> Training:
    """Draws from the global random number generator at every step."""
    torch.manual_seed(7)
    model = nn.Sequential(
        nn.Linear(16, 24), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(24, 24), nn.ReLU(), nn.Dropout(0.3), nn.Linear(24, 4),
    )  # fmt: skip
    return supervised(model, torch.optim.SGD(model.parameters(), 0.5), clusters(16))


# Convolutional and residual


@workload(15, Probe("1", axis=1), Probe("4", axis=1), "8")
def cnn_batchnorm() -> Training:
    torch.manual_seed(8)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(4),
        nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 4),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.3, momentum=0.9)
    return supervised(model, optimizer, clusters(3, 8, 8, batch=16))


@workload(
    10,
    Probe("1", axis=1),
    Probe("3", axis=1),
    Probe("7"),
    Probe("10"),
)
def norms() -> Training:
    """Group, layer and root-mean-square norms, a transposed convolution, a weight norm."""
    torch.manual_seed(25)
    model = nn.Sequential(
        nn.Conv1d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(),
        nn.ConvTranspose1d(8, 6, 2, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(96, 20), nn.LayerNorm(20), nn.ReLU(),
        nn.utils.parametrizations.weight_norm(nn.Linear(20, 20)), nn.RMSNorm(20), nn.ReLU(),
        nn.Linear(20, 4),
    )  # fmt: skip
    return supervised(model, torch.optim.SGD(model.parameters(), 0.2), clusters(3, 8))


class Residual(nn.Module):
    """Two rounds through one shared layer, each added to its input before the ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(16, 24)
        self.shared = nn.Linear(24, 24)
        self.after = nn.ReLU()
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for _ in range(2):
            x = self.after(x + self.shared(x))
        return self.head(x)


@workload(40, "stem", Probe("shared", watch="after", side="input"))
def residual_shared() -> Training:
    torch.manual_seed(9)
    model = Residual()
    return supervised(model, torch.optim.SGD(model.parameters(), 0.4), clusters(16))


# Sequences


class Language(nn.Module):
    """A two-layer transformer over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 24)
        self.place = nn.Parameter(0.1 * torch.randn(12, 24))
        layer = nn.TransformerEncoderLayer(
            24, 2, 48, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        x = self.blocks(self.embed(tokens) + self.place, mask=mask, is_causal=True)
        return self.head(self.norm(x)).transpose(1, 2)


@workload(10, *(Probe(f"blocks.layers.{i}.linear1", "gelu") for i in range(2)))
def transformer() -> Training:
    torch.manual_seed(10)
    model = Language()
    return supervised(model, torch.optim.AdamW(model.parameters(), 1e-3), sequences(12, 16))


@workload(10, *(Probe(f"blocks.layers.{i}.linear1", "gelu") for i in range(2)))
def weight_tying() -> Training:
    """Embedding and head share one parameter."""
    torch.manual_seed(11)
    model = Language()
    model.head.weight = model.embed.weight
    return supervised(model, torch.optim.AdamW(model.parameters(), 1e-3), sequences(12, 16))


class Recurrent(nn.Module):
    """A recurrent cell, and a linear head on its output at each place."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 12)
        self.cell = cell(12, 20, batch_first=True)
        self.head = nn.Linear(20, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        out, _ = self.cell(self.embed(tokens))
        return self.head(out).transpose(1, 2)


@workload(10, Probe("cell", "lstm"))
def lstm() -> Training:
    torch.manual_seed(12)
    model = Recurrent(nn.LSTM)
    return supervised(model, torch.optim.Adam(model.parameters(), 1e-2), sequences(10, 16))


@workload(10, Probe("cell", "gru"))
def gru() -> Training:
    torch.manual_seed(12)
    model = Recurrent(nn.GRU)
    return supervised(model, torch.optim.Adam(model.parameters(), 1e-2), sequences(10, 16))


# Ways to run a step


@workload(30, "0", "2")
def accumulation() -> Training:
    """Four micro-batches for each update."""
    torch.manual_seed(13)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.8)
    batches = clusters(16, batch=8)

    def step() -> None:
        for _ in range(4):
            inputs, targets = next(batches)
            (F.cross_entropy(model(inputs), targets) / 4).backward()
        optimizer.step()
        optimizer.zero_grad()

    return Training(model, optimizer, step)


@workload(8, "0", "2")
def loader_workers() -> Training:
    """One epoch from a DataLoader with worker processes."""
    torch.manual_seed(26)
    model = mlp()
    inputs, targets = next(clusters(16, batch=256))
    loader = DataLoader(TensorDataset(inputs, targets), 32, shuffle=True, num_workers=2)
    return supervised(model, torch.optim.SGD(model.parameters(), 0.5), iter(loader))


@workload(30, "0", "2")
def autocast() -> Training:
    """bfloat16 autocast with a gradient scaler."""
    torch.manual_seed(14)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.8)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    batches = clusters(16)

    def step() -> None:
        inputs, targets = next(batches)
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(inputs), targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return Training(model, optimizer, step)


@workload(5, "0", "2")
def lbfgs() -> Training:
    """The optimizer calls the closure, and so forward and backward, several times a step."""
    torch.manual_seed(15)
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    batches = clusters(16, batch=64)

    def step() -> None:
        inputs, targets = next(batches)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            return loss

        optimizer.step(closure)

    return Training(model, optimizer, step)


@workload(30, "0", "2")
def clipped_schedule() -> Training:
    """AdamW, gradient clipping, a warm-up and cosine schedule, a validation pass every 5 steps."""
    torch.manual_seed(16)
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-2, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-2, total_steps=100)
    batches, held_out = clusters(16), clusters(16, seed=1)
    done = 0

    def step() -> None:
        nonlocal done
        inputs, targets = next(batches)
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(model(inputs), targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        done += 1
        if done % 5 == 0:
            model.eval()
            with torch.no_grad():
                model(next(held_out)[0])
            model.train()

    return Training(model, optimizer, step)


class Checkpointed(nn.Module):
    """Activations of both blocks are recomputed in backward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(16, 24)
        self.first = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Dropout(0.1))
        self.second = nn.Sequential(nn.Linear(24, 24), nn.ReLU())
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in (self.first, self.second):
            x = checkpoint(block, x, use_reentrant=False)
        return self.head(x)


@workload(30, "first.0", "second.0")
def checkpointing() -> Training:
    torch.manual_seed(17)
    model = Checkpointed()
    return supervised(model, torch.optim.SGD(model.parameters(), 0.8), clusters(16))


@workload(12, "0", "2")
def compiled_mlp(compiled: bool = True) -> Training:
    """``torch.compile`` with the eager backend: the graph is captured, the arithmetic unchanged."""
    torch.manual_seed(18)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.8)
    called = torch.compile(model, backend="eager", fullgraph=True) if compiled else model
    training = supervised(called, optimizer, clusters(16))
    training.model = model
    return training


@workload(30, "0", "2")
def moving_average() -> Training:
    """A second model, never trained, follows the first one and is evaluated beside it."""
    torch.manual_seed(19)
    model = mlp()
    average = copy.deepcopy(model).requires_grad_(False)
    training = supervised(model, torch.optim.SGD(model.parameters(), 0.8), clusters(16))
    held_out = clusters(16, seed=1)
    plain_step = training.step

    def step() -> None:
        plain_step()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, 0.1)
        average(next(held_out)[0])

    training.step = step
    training.others["average"] = average
    return training


class Adversaries(nn.Module):
    """Generator and discriminator in one module."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 16))
        self.discriminator = nn.Sequential(nn.Linear(16, 24), nn.LeakyReLU(0.2), nn.Linear(24, 1))


@workload(30, "generator.0", Probe("discriminator.0", "leaky_relu", (0.2,)))
def two_optimizers() -> Training:
    """A GAN: two optimizers step in turn, and each backward reaches both networks."""
    torch.manual_seed(20)
    model = Adversaries()
    make, judge = model.generator, model.discriminator
    of_make = torch.optim.Adam(make.parameters(), 2e-2, betas=(0.5, 0.999))
    of_judge = torch.optim.Adam(judge.parameters(), 2e-2, betas=(0.5, 0.999))
    noise = torch.Generator().manual_seed(1)
    batches = clusters(16)
    bce = F.binary_cross_entropy_with_logits

    def step() -> None:
        real, _ = next(batches)
        fake = make(torch.randn(len(real), 8, generator=noise))
        of_judge.zero_grad()
        said_real, said_fake = judge(real), judge(fake.detach())
        ones, zeros = torch.ones_like(said_real), torch.zeros_like(said_fake)
        (bce(said_real, ones) + bce(said_fake, zeros)).backward()
        of_judge.step()
        of_make.zero_grad()
        bce(judge(fake), ones).backward()
        of_make.step()

    return Training(model, of_make, step, {"discriminator": of_judge})


# Zeros that are not silence, and silence that hides behind something else


@workload(60, "0", "2")
def penalty_in_loss() -> Training:
    """An L2 penalty inside the loss: the bias gradient of a silent unit is not 0."""
    torch.manual_seed(21)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.8, momentum=0.9)

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        penalty = sum((p**2).sum() for p in model.parameters())
        return F.cross_entropy(outputs, targets) + 1e-4 * penalty

    return supervised(model, optimizer, clusters(16), loss_fn)


@workload(20, "0", "2")
def saturated_loss() -> Training:
    """A margin loss that is exactly flat after a few steps: zero gradients, living units."""
    torch.manual_seed(22)
    model = mlp()
    batches = ((3 * x, y) for x, y in clusters(16, examples=64))
    return supervised(model, torch.optim.SGD(model.parameters(), 1.0), batches, F.multi_margin_loss)


@workload(20, "0", "2", "4")
def dead_downstream() -> Training:
    """The middle layer is silent for every input: nothing comes back to the living first one."""
    torch.manual_seed(23)
    model = mlp(hidden=3)
    with torch.no_grad():
        model[2].bias.fill_(-100.0)
    return supervised(model, torch.optim.SGD(model.parameters(), 0.05), clusters(16))


@workload(20, "0", "2")
def zero_outgoing() -> Training:
    """Six units of the first layer fire, but every weight that reads them is 0 and frozen there."""
    torch.manual_seed(24)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)

    def cut() -> None:
        with torch.no_grad():
            model[2].weight[:, :6] = 0

    cut()
    training = supervised(model, optimizer, clusters(16))
    plain_step = training.step

    def step() -> None:
        plain_step()
        cut()

    training.step = step
    return training


@workload(30, "0", "2")
def masked_targets() -> Training:
    """One class has no targets: units that fire only for it get no gradient, and are alive."""
    torch.manual_seed(27)
    model = mlp()
    inputs, labels = next(clusters(16, batch=256))
    centre = inputs[labels == 0].mean(dim=0)
    with torch.no_grad():
        model[0].weight[:4] = centre / centre.norm()
        model[0].bias[:4] = -0.8 * centre.norm()
    batches = ((x, y.masked_fill(y == 0, -100)) for x, y in clusters(16))
    return supervised(model, torch.optim.SGD(model.parameters(), 0.05), batches)


@workload(40, "0", "2")
def gradient_noise() -> Training:
    """Hooks add noise to every gradient, so that silent units seem alive."""
    torch.manual_seed(28)
    model = mlp()
    noise = torch.Generator().manual_seed(28)
    for parameter in model.parameters():
        parameter.register_hook(lambda g: g + 1e-3 * torch.randn(g.shape, generator=noise))
    with torch.no_grad():
        model[2].bias[:3] = -5.0
    return supervised(model, torch.optim.SGD(model.parameters(), 0.3), clusters(16))


@workload(60, "0", "2")
def weight_decay() -> Training:
    """Decay and momentum move units whose gradient is 0."""
    torch.manual_seed(29)
    model = mlp()
    with torch.no_grad():
        model[0].bias[:4] = -12.0
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.5, weight_decay=0.15)
    return supervised(model, optimizer, clusters(16))


@workload(50, "0", "2")
def revival() -> Training:
    """Biases are pushed down and let go: units die, come back, and one of them dies again."""
    torch.manual_seed(30)
    model = mlp()
    training = supervised(model, torch.optim.SGD(model.parameters(), 0.05), clusters(16))
    plain_step = training.step
    pushes = {10: (slice(0, 6), -50.0), 24: (slice(0, 4), 50.0), 37: (slice(0, 1), -50.0)}
    done = 0

    def step() -> None:
        nonlocal done
        if done in pushes:
            units, by = pushes[done]
            with torch.no_grad():
                model[0].bias[units] += by
        plain_step()
        done += 1

    training.step = step
    return training


# Other shapes of data and parameters


@workload(40, "0", "2")
def no_bias() -> Training:
    """Without biases, silence shows in the weights' gradients alone."""
    torch.manual_seed(31)
    model = nn.Sequential(
        nn.Linear(16, 24, bias=False), nn.ReLU(),
        nn.Linear(24, 24, bias=False), nn.ReLU(), nn.Linear(24, 4, bias=False),
    )  # fmt: skip
    return supervised(model, torch.optim.SGD(model.parameters(), 0.8), clusters(16))


@workload(20, "0", "2")
def double_precision() -> Training:
    torch.manual_seed(32)
    model = mlp().double()
    batches = ((x.double(), y) for x, y in clusters(16))
    return supervised(model, torch.optim.SGD(model.parameters(), 0.5), batches)


@workload(20, "0", "2")
def half_precision() -> Training:
    """Weights, activations and gradients in bfloat16."""
    torch.manual_seed(33)
    model = mlp().bfloat16()
    batches = ((x.bfloat16(), y) for x, y in clusters(16))
    return supervised(model, torch.optim.SGD(model.parameters(), 0.5), batches)


@workload(20, "0", "2")
def pairs() -> Training:
    """The model sees two batches before one backward pass."""
    torch.manual_seed(34)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    batches = clusters(16)

    def step() -> None:
        (a, of_a), (b, of_b) = next(batches), next(batches)
        optimizer.zero_grad()
        alike = (of_a == of_b).float()
        distance = (model(a) - model(b)).square().mean(dim=1)
        F.binary_cross_entropy_with_logits(1 - distance, alike).backward()
        optimizer.step()

    return Training(model, optimizer, step)


class Experts(nn.Module):
    """Each example goes to one of three experts; nothing ever goes to the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(len(x), 4)
        chosen = (x[:, 0] > 0).long()
        for i, expert in enumerate(self.experts):
            rows = (chosen == i).nonzero().squeeze(1)
            out = out.index_add(0, rows, expert(x[rows]))
        return out


@workload(30, "experts.0.0", "experts.1.0", "experts.2.0")
def experts() -> Training:
    torch.manual_seed(35)
    model = Experts()
    return supervised(model, torch.optim.SGD(model.parameters(), 0.5), clusters(16))
