"""The architectures of the zoo, as a person would write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .data import Task

Maker = Callable[[], nn.Module]


class Exp(nn.Module):
    """The exponential as a nonlinearity; it overflows at 89."""

    def forward(self, z: Tensor) -> Tensor:
        return z.exp()


def norm_of(kind: str | None, width: int, images: bool = False) -> list[nn.Module]:
    """A normalisation before the nonlinearity, or none."""
    if kind is None:
        return []
    if kind == "batch":
        return [nn.BatchNorm2d(width) if images else nn.BatchNorm1d(width)]
    return [nn.GroupNorm(4, width) if images else nn.LayerNorm(width)]


def initialise(model: nn.Module, scheme: str | None) -> nn.Module:
    """He or Xavier weights and zero biases; ``None`` leaves what torch drew."""
    for module in model.modules():
        if scheme and isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            draw = nn.init.kaiming_normal_ if scheme == "he" else nn.init.xavier_normal_
            draw(module.weight, **({"nonlinearity": "relu"} if scheme == "he" else {}))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def mlp(
    task: Task,
    widths: Sequence[int] = (64, 64),
    act: Maker = nn.ReLU,
    norm: str | None = None,
    dropout: float = 0.0,
    bias: bool = True,
    init: str | None = "he",
) -> nn.Module:
    """Linear layers with a nonlinearity, and perhaps a normalisation and dropout, between."""
    layers: list[nn.Module] = [nn.Flatten()] if len(task.shape) > 1 else []
    inside = task.shape.numel()
    for width in widths:
        layers += [nn.Linear(inside, width, bias=bias), *norm_of(norm, width), act()]
        layers += [nn.Dropout(dropout)] if dropout else []
        inside = width
    return initialise(nn.Sequential(*layers, nn.Linear(inside, task.outputs)), init)


def cnn(
    task: Task,
    channels: Sequence[int] = (12, 24),
    act: Maker = nn.ReLU,
    norm: str | None = None,
    hidden: int = 32,
    init: str | None = "he",
) -> nn.Module:
    """Convolutions of stride 2, a hidden layer and a head."""
    layers: list[nn.Module] = []
    inside, side = task.shape[0], task.shape[1]
    for width in channels:
        layers += [nn.Conv2d(inside, width, 3, stride=2, padding=1, bias=norm is None)]
        layers += [*norm_of(norm, width, images=True), act()]
        inside, side = width, math.ceil(side / 2)
    layers += [nn.Flatten(), nn.Linear(inside * side * side, hidden), act()]
    return initialise(nn.Sequential(*layers, nn.Linear(hidden, task.outputs)), init)


class Block(nn.Module):
    """Two convolutions, added to what came in."""

    def __init__(self, width: int, act: Maker = nn.ReLU, norm: str | None = "batch") -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm1 = nn.Sequential(*norm_of(norm, width, images=True))
        self.act = act()
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.act(self.norm1(self.first(x))))


def resnet(
    task: Task, width: int = 12, depth: int = 3, act: Maker = nn.ReLU, norm: str | None = "batch"
) -> nn.Module:
    """A stack of residual convolutions."""
    return nn.Sequential(
        nn.Conv2d(task.shape[0], width, 3, stride=2, padding=1),
        *(Block(width, act, norm) for _ in range(depth)),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, task.outputs),
    )  # fmt: skip


class Separable(nn.Module):
    """Depthwise, then pointwise, on purpose with nothing between them."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(inside, inside, 3, stride=2, padding=1, groups=inside, bias=False)
        self.point = nn.Conv2d(inside, outside, 1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.point(self.depth(x)))


def separable(task: Task, width: int = 16) -> nn.Module:
    """Depthwise separable convolutions."""
    return nn.Sequential(
        nn.Conv2d(task.shape[0], width, 3, padding=1), nn.ReLU(),
        Separable(width, width), Separable(width, 2 * width),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, task.outputs),
    )  # fmt: skip


def bottleneck(task: Task, rank: int = 8, width: int = 64) -> nn.Module:
    """Weights of low rank, each made of two linear maps on purpose."""

    def low(inside: int, outside: int) -> list[nn.Module]:
        return [nn.Linear(inside, rank, bias=False), nn.Linear(rank, outside)]

    inside = task.shape.numel()
    model = nn.Sequential(
        *low(inside, width), nn.ReLU(), *low(width, width), nn.ReLU(),
        nn.Linear(width, task.outputs),
    )  # fmt: skip
    return initialise(model, "he")


class ResidualMLP(nn.Module):
    """Blocks of two linear layers around one stream, normalised first."""

    def __init__(self, task: Task, width: int = 48, depth: int = 4, act: Maker = nn.GELU) -> None:
        super().__init__()
        self.stem = nn.Linear(task.shape.numel(), width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.ups = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.acts = nn.ModuleList(act() for _ in range(depth))
        self.downs = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.head = nn.Linear(width, task.outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, up, act, down in zip(self.norms, self.ups, self.acts, self.downs, strict=True):
            x = x + down(act(up(norm(x))))
        return self.head(x)


class Transformer(nn.Module):
    """A small causal transformer over characters."""

    def __init__(
        self,
        task: Task,
        width: int = 32,
        depth: int = 2,
        act: Maker = nn.GELU,
        tied: bool = False,
        norm: bool = True,
        skip: float = 1.0,
    ) -> None:
        super().__init__()
        self.skip = skip
        self.embed = nn.Embedding(task.outputs, width)
        self.place = nn.Embedding(task.shape[0], width)
        made = nn.LayerNorm if norm else (lambda _: nn.Identity())
        self.norms = nn.ModuleList(made(width) for _ in range(2 * depth))
        self.mixes = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(depth))
        self.projects = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.ups = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(depth))
        self.acts = nn.ModuleList(act() for _ in range(depth))
        self.downs = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(depth))
        self.last = made(width)
        self.head = nn.Linear(width, task.outputs, bias=False)
        if tied:
            self.head.weight = self.embed.weight
            nn.init.normal_(self.embed.weight, std=0.1)
            nn.init.normal_(self.place.weight, std=0.1)

    def attend(self, mixed: Tensor) -> Tensor:
        batch, length, triple = mixed.shape
        query, key, value = mixed.view(batch, length, 3, 4, triple // 12).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return seen.transpose(1, 2).reshape(batch, length, triple // 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.place.weight[: tokens.shape[1]]
        for i, up in enumerate(self.ups):
            mixed = self.attend(self.mixes[i](self.norms[2 * i](x)))
            x = self.skip * x + self.projects[i](mixed)
            x = self.skip * x + self.downs[i](self.acts[i](up(self.norms[2 * i + 1](x))))
        return self.head(self.last(x))


class Recurrent(nn.Module):
    """A recurrent net written out, whose nonlinearity can be seen."""

    def __init__(self, task: Task, width: int = 48, act: Maker = nn.Tanh) -> None:
        super().__init__()
        self.embed = nn.Embedding(task.outputs, 24)
        self.cell = nn.Linear(24 + width, width)
        self.act = act()
        self.head = nn.Linear(width, task.outputs)
        self.width = width

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = torch.zeros(len(tokens), self.width)
        seen = []
        for x in self.embed(tokens).unbind(1):
            hidden = self.act(self.cell(torch.cat([x, hidden], 1)))
            seen.append(hidden)
        return self.head(torch.stack(seen, 1))


class Gated(nn.Module):
    """A GRU or LSTM of torch over characters, and a hidden layer on its output."""

    def __init__(self, task: Task, cell: type[nn.GRU] | type[nn.LSTM] = nn.GRU) -> None:
        super().__init__()
        self.embed = nn.Embedding(task.outputs, 24)
        self.cell = cell(24, 48, batch_first=True)
        self.mix = nn.Linear(48, 48)
        self.act = nn.ReLU()
        self.head = nn.Linear(48, task.outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.act(self.mix(self.cell(self.embed(tokens))[0])))


class Scan(nn.Module):
    """A recurrent net that reads an image row by row and answers at its end."""

    def __init__(self, task: Task, width: int = 48, act: Maker = nn.Tanh) -> None:
        super().__init__()
        self.cell = nn.Linear(task.shape[-1] + width, width)
        self.act = act()
        self.head = nn.Linear(width, task.outputs)
        self.width = width

    def forward(self, image: Tensor) -> Tensor:
        hidden = torch.zeros(len(image), self.width)
        for row in image.squeeze(1).unbind(1):
            hidden = self.act(self.cell(torch.cat([row, hidden], 1)))
        return self.head(hidden)


class Autoencoder(nn.Module):
    """Squeezes its input through a narrow layer, linear on purpose, and restores it."""

    def __init__(
        self,
        task: Task,
        code: int = 12,
        width: int = 48,
        act: Maker = nn.ReLU,
        tied: bool = False,
        last: Maker = nn.Identity,
    ) -> None:
        super().__init__()
        inside = task.shape.numel()
        self.encode = nn.Sequential(nn.Linear(inside, width), act(), nn.Linear(width, code), last())
        self.decode = nn.Sequential(nn.Linear(code, width), act(), nn.Linear(width, inside))
        initialise(self, "he")
        if tied:
            del self.decode[2]
            self.bias = nn.Parameter(torch.zeros(inside))
        self.tied = tied

    def forward(self, x: Tensor) -> Tensor:
        restored = self.decode(self.encode(x))
        if self.tied:
            return nn.functional.linear(restored, self.encode[0].weight.t(), self.bias)
        return restored


class Towers(nn.Module):
    """Two towers that look at the upper and the lower half of one digit."""

    def __init__(self, task: Task, width: int = 48, act: Maker = nn.ReLU, code: int = 16) -> None:
        super().__init__()
        self.half = task.shape[0] // 2
        self.left, self.right = (
            nn.Sequential(
                nn.Linear(self.half, width), act(), nn.Linear(width, width), act(),
                nn.Linear(width, code),
            )
            for _ in range(2)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.left(x[:, : self.half]), self.right(x[:, self.half :])], 1)


class Tuned(nn.Module):
    """A backbone, trained before or not, under a new head."""

    def __init__(self, task: Task, width: int = 64, act: Maker = nn.ReLU) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(task.shape.numel(), width), act(), nn.Linear(width, width), act()
        )
        self.hidden = nn.Linear(width, 32)
        self.act = act()
        self.head = nn.Linear(32, task.outputs)
        initialise(self, "he")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.hidden(self.features(x))))

    def features(self, x: Tensor) -> Tensor:
        return self.backbone(x)


class Experts(nn.Module):
    """Experts that share the work: each example goes to one by a fixed hash, or to all of them."""

    def __init__(
        self,
        task: Task,
        experts: int = 4,
        width: int = 32,
        act: Maker = nn.ReLU,
        dense: bool = False,
    ) -> None:
        super().__init__()
        inside = task.shape.numel()
        self.route = nn.Linear(inside, experts, bias=False)
        self.prefer = nn.Parameter(torch.zeros(experts))
        if not dense:
            self.route.requires_grad_(False)
            self.prefer.requires_grad_(False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(inside, width), act(), nn.Linear(width, task.outputs))
            for _ in range(experts)
        )
        self.dense = dense

    def forward(self, x: Tensor) -> Tensor:
        score = self.route(x)
        score = score - score.mean(0) + self.prefer
        if self.dense:
            answers = torch.stack([expert(x) for expert in self.experts], -1)
            return (answers * score.softmax(-1)[:, None]).sum(-1)
        chosen = score.argmax(-1)
        out = torch.zeros(len(x), self.experts[0][-1].out_features)
        for index, expert in enumerate(self.experts):
            rows = (chosen == index).nonzero().squeeze(1)
            out = out.index_add(0, rows, expert(x[rows]))
        return out


class Bag(nn.Module):
    """Averages the embeddings of the words of a text."""

    def __init__(self, task: Task, width: int = 32, sparse: bool = False) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(400, 24, mode="mean", sparse=sparse)
        self.hidden = nn.Linear(24, width)
        self.act = nn.ReLU()
        self.head = nn.Linear(width, task.outputs)

    def forward(self, bag: Tensor) -> Tensor:
        return self.head(self.act(self.hidden(self.embed(bag))))


class GLU(nn.Module):
    """A gated hidden layer, as in the feed-forward part of newer transformers."""

    def __init__(self, task: Task, width: int = 48) -> None:
        super().__init__()
        self.gate = nn.Linear(task.shape.numel(), width)
        self.value = nn.Linear(task.shape.numel(), width)
        self.act = nn.SiLU()
        self.head = nn.Linear(width, task.outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.gate(x)) * self.value(x))
