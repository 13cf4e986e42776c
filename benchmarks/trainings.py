"""The trainings whose cost of being watched is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Training:
    """A model, its optimizer and one whole training step."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Callable[[], None]


Build = Callable[[str], Training]


def train(model: nn.Module, batches: list[tuple[Tensor, Tensor]], compiled: bool) -> Training:
    """A step: next batch, forward, loss, backward, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    called = torch.compile(model) if compiled else model
    following = cycle(batches)

    def step() -> None:
        inputs, targets = next(following)
        optimizer.zero_grad()
        outputs = called(inputs)
        F.cross_entropy(outputs.flatten(0, -2), targets.flatten()).backward()
        optimizer.step()

    return Training(model, optimizer, step)


def images(device: str, *shape: int, batch: int = 64) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return [
        (torch.randn(batch, *shape, device=device), torch.randint(10, (batch,), device=device))
        for _ in range(8)
    ]


def texts(device: str, batch: int = 4, length: int = 64) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    chunks = [torch.randint(256, (batch, length + 1), device=device) for _ in range(8)]
    return [(chunk[:, :-1], chunk[:, 1:]) for chunk in chunks]


def mlp(device: str, compiled: bool = False) -> Training:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
        nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10),
    ).to(device)  # fmt: skip
    return train(model, images(device, 784), compiled)


def mlp_compiled(device: str) -> Training:
    return mlp(device, compiled=True)


def cnn(device: str) -> Training:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inside, outside in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(outside), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10)).to(device)
    return train(model, images(device, 3, 32, 32, batch=32), compiled=False)


class Block(nn.Module):
    """Attention and an MLP with GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.mix = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        mixed = self.mix(self.norms[0](x)).view(batch, length, 3, 4, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(mixed[0], mixed[1], mixed[2], is_causal=True)
        x = x + self.project(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class GPT(nn.Module):
    """Four blocks of width 256 over 256 tokens."""

    def __init__(self, width: int = 256, depth: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.place = nn.Parameter(0.02 * torch.randn(64, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, 256)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(tokens) + self.place))


def gpt(device: str) -> Training:
    torch.manual_seed(0)
    return train(GPT().to(device), texts(device), compiled=False)


class Logits(nn.Module):
    """Only the logits of a Transformers model."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: Tensor) -> Tensor:
        return self.inner(tokens).logits


def gpt2(device: str) -> Training:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 256, "n_positions": 64, "n_embd": 256, "n_layer": 4, "n_head": 4}
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    return train(Logits(GPT2LMHeadModel(config)).to(device), texts(device), compiled=False)


def wide(device: str, units: int) -> Training:
    """One very wide layer, so that bytes per unit stand out from the noise of the allocator."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, units), nn.ReLU(), nn.Linear(units, 10)).to(device)
    return train(model, images(device, 4, batch=4), compiled=False)


TRAININGS: dict[str, Build] = {
    "mlp": mlp,
    "cnn": cnn,
    "gpt": gpt,
    "gpt2": gpt2,
    "mlp_compiled": mlp_compiled,
}
