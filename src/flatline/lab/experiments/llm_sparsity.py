"""Sparse is not dead: in a trained transformer few units fire at once, and nearly all somewhere."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import flatline
from flatline.lab import training
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, curve

WIDTH, HIDDEN, HEADS, LAYERS, LENGTH = 32, 128, 4, 2, 32
STEPS, BATCH, HELD = 400, 16, 500
RANKS = 33


class Block(nn.Module):
    """Causal attention and an MLP with ReLU, each behind a layer norm and beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mixed = nn.Linear(WIDTH, 3 * WIDTH)
        self.joined = nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, place, width)."""
        rows, length, _ = x.shape
        mixed = self.mixed(self.norm1(x)).view(rows, length, 3, HEADS, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.joined(attended.transpose(1, 2).reshape(x.shape))
        return x + self.down(functional.relu(self.up(self.norm2(x))))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Guesses the next byte at each place of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = nn.Embedding(256, WIDTH)
        self.places = nn.Parameter(0.1 * torch.randn(LENGTH, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.guess = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256)

    def forward(self, x: Tensor) -> Tensor:
        """Give (batch, place, next byte)."""
        return self.guess(self.norm(self.blocks(self.bytes(x) + self.places)))  # type: ignore[no-any-return]


@cache
def text() -> Tensor:
    """The sources of asyncio, which come with Python, as bytes."""
    folder = Path(str(asyncio.__file__)).parent
    found = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    return torch.tensor(list(found))


def windows(source: Tensor, count: int) -> Tensor:
    """Windows drawn from a text, each with the byte that follows it."""
    starts = torch.randint(len(source) - LENGTH, (count, 1))
    return source[starts + torch.arange(LENGTH + 1)]


def loss_of(model: nn.Module, batch: Tensor) -> Tensor:
    """The mean cross-entropy of the next byte, in nats."""
    return functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


def train(model: nn.Module, source: Tensor, steps: int) -> None:
    """Train on windows of a text."""
    optimizer = torch.optim.Adam(model.parameters(), 0.01, fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, windows(source, BATCH)).backward()
        optimizer.step()


@torch.no_grad()
def fired(model: Transformer, x: Tensor) -> Tensor:
    """Which unit of any MLP fires at which byte: (window, place, unit)."""
    found = []

    def note(module: nn.Module, args: object, z: Tensor) -> None:
        found.append(z > 0)

    ups = [block.up for block in model.blocks.children() if isinstance(block, Block)]
    hooks = [up.register_forward_hook(note) for up in ups]
    model(x)
    for hook in hooks:
        hook.remove()
    return torch.cat(found, -1)


def ranked(rates: Tensor) -> list[float]:
    """Rates at evenly spaced ranks, highest first."""
    quantiles: list[float] = rates.quantile(torch.linspace(1, 0, RANKS)).tolist()
    return quantiles


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Firing rates on held-out text, at birth and after training; in the null there is none."""
    source = text()
    cut = len(source) * 9 // 10
    torch.manual_seed(seed)
    held = windows(source[cut:], HELD)
    x = held[:, :-1]
    model = Transformer()
    born = fired(model, x).float().mean((0, 1))
    train(model, source[:cut], 0 if null else STEPS // 2 if fast else STEPS)
    fires = fired(model, x)
    rates = fires.float().mean((0, 1))
    dead = float((rates == 0).float().mean())
    with torch.no_grad():
        loss = loss_of(model, held).item()
    return {
        "born": ranked(born),
        "trained": ranked(rates),
        "rate": float(rates.mean()),
        "fall": float(born.mean() - rates.mean()),
        "dead": dead,
        "loss": loss,
        "one_window": 1 - float(fires.any(1).float().mean()),
        "disagreement": abs(training.share(flatline.examine(model, [x]), "dead") - dead),
    }


def plot(measurements: Measurements) -> Plot:
    """Firing rates of all units, by rank, before and after training."""
    ranks = [100 * rank / (RANKS - 1) for rank in range(RANKS)]
    return Plot(
        "Firing rates of a transformer's units on held-out text, by rank",
        "units, from the most to the least active, in %",
        "share of bytes at which a unit fires",
        (
            curve("at birth", ranks, measurements, "born", SHARE),
            curve("trained", ranks, measurements, "trained", SHARE),
        ),
    )


EXPERIMENT = Experiment(
    id="llm-sparsity",
    claim="Sparse is not dead: in a trained transformer, few units fire at once, but hardly any "
    "never fires.",
    protocol=(
        f"A transformer of {LAYERS} layers, width {WIDTH} and {HIDDEN} ReLU units in each MLP "
        f"learns the next byte of Python's asyncio sources, by {STEPS} steps of Adam at a rate of "
        f"0.01 with {BATCH} windows of {LENGTH} bytes. Firing rates are counted on {HELD} windows "
        "of the last tenth, which it was not trained on: as the share of bytes at which a unit "
        "fires. Dead is a unit that fires at none of them, an upper bound of 0.9 % of windows at "
        "99 % confidence."
    ),
    measure=measure,
    criterion=(
        Check("at most 0.3 of the units fire at a byte, on average", "rate", high=0.3),
        Check("training lowers that share by at least 0.15", "fall", low=0.15),
        Check("at most 0.02 of the units are dead", "dead", high=0.02),
        Check(
            "it has learned: the loss on held-out text is at most 2.8 nats, of ln 256 = 5.5",
            "loss",
            high=2.8,
        ),
        Check(
            "one window is enough to tell: on average, at most 0.05 of the units are silent in it",
            "one_window",
            high=0.05,
            role="scope",
            otherwise=(
                "Over enough text only: on a single window many units are silent, and would be "
                "counted as dead."
            ),
        ),
        Check(
            "flatline.examine counts the dead units that a direct count finds",
            "disagreement",
            high=1e-9,
            role="tool",
            each=True,
        ),
    ),
    plot=plot,
    null="the network is not trained",
    command="flatline examine model.py:case",
    advice="gives each unit's firing rate with its upper bound, and counts no rare unit as dead",
)
