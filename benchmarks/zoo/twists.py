"""What looks like a fault and is none: trainings that a hasty doctor would call sick."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .data import Pair
from .fault import changes, feeders, layers, spoils
from .faults.drifts import penalise
from .faults.loops import altered
from .training import Adam, AdamW, Recipe, Training

# Schedules


@changes(None)
def to_zero(recipe: Recipe) -> Recipe:
    """The rate falls to 0 in a straight line, as most schedules end."""
    return recipe.but(schedule=lambda step: max(0.0, 1 - step / recipe.steps))


@changes(None)
def one_cycle(recipe: Recipe, warm: int = 60, peak: float = 2.0) -> Recipe:
    """Up from 0, then down to 0 along a cosine: the first and the last steps move nothing."""

    def factor(step: int) -> float:
        if step < warm:
            return peak * step / warm
        return peak * (1 + math.cos(math.pi * (step - warm) / (recipe.steps - warm))) / 2

    return recipe.but(schedule=factor)


@changes(None)
def restarts(recipe: Recipe, period: int = 75) -> Recipe:
    """Cosine decay with warm restarts: the rate jumps up, to where it was before."""
    return recipe.but(schedule=lambda step: (1 + math.cos(math.pi * (step % period) / period)) / 2)


# The loop


@changes(None)
def accumulated(recipe: Recipe, number: int = 4) -> Recipe:
    """Gradients of four batches are added up on purpose."""
    return recipe.but(accumulate=number, batch=max(recipe.batch // number, 4))


@changes(None)
def batch_of(recipe: Recipe, size: int = 8, lr: float = 0.02) -> Recipe:
    """Small batches: noisy gradients and losses."""
    return recipe.but(batch=size).stepped(lr=lr)


@changes(None)
def clipped(recipe: Recipe, norm: float = 0.3) -> Recipe:
    """Gradients are clipped at every step."""
    return recipe.but(clip=norm)


@changes(None)
def updated_by(
    recipe: Recipe, kind: type[torch.optim.Optimizer], lr: float, **options: Any
) -> Recipe:
    """Another optimizer."""
    return recipe.but(optimizer=partial(kind, lr=lr, **options))


@changes(None)
def modest_decay(recipe: Recipe) -> Recipe:
    """AdamW with a decay of 0.1 for weights and biases alike."""
    return recipe.but(optimizer=partial(AdamW, lr=3e-3, weight_decay=0.1))


@changes(None)
def smoothed_labels(recipe: Recipe) -> Recipe:
    """Label smoothing: the loss ends far from 0."""
    return recipe.but(loss=nn.CrossEntropyLoss(label_smoothing=0.1))


@spoils(None)
def validated(training: Training) -> None:
    """A pass over held-out data, ten times as large as they were trained on, every 10 steps."""

    def validate(step: int) -> None:
        if step % 10 == 0:
            training.model.eval()
            with torch.no_grad():
                training.model(10 * training.task.test[0])
            training.model.train()

    training.after.append(validate)


@spoils(None)
def averaged(training: Training) -> None:
    """A moving average of the weights, as evaluation models are made."""
    kept = [p.detach().clone() for p in training.model.parameters()]

    def follow(_: int) -> None:
        with torch.no_grad():
            for old, new in zip(kept, training.model.parameters(), strict=True):
                old.lerp_(new, 0.05)

    training.after.append(follow)


@spoils(None)
def light_sparsity(training: Training, strength: float = 0.002) -> None:
    """An L1 penalty on activations that makes them sparse and leaves them alive."""
    penalise(training, 0, strength)


# Data


@spoils(None)
def noisy_labels(training: Training, share: float = 0.2) -> None:
    """A fifth of the labels is wrong."""
    x, y = training.task.train
    draw = torch.Generator().manual_seed(1)
    wrong = torch.rand(len(y), generator=draw) < share
    other = torch.randint(training.task.outputs, (len(y),), generator=draw)
    noisy = torch.where(wrong, other, y)
    order = {row.numpy().tobytes(): label for row, label in zip(x, noisy, strict=True)}

    def alter(inputs: Tensor, _: Tensor) -> Pair:
        return inputs, torch.stack([order[row.numpy().tobytes()] for row in inputs])

    altered(training, alter)


@spoils(None)
def augmented(training: Training, noise: float = 0.4) -> None:
    """Noise and erased features in each batch."""

    def alter(x: Tensor, y: Tensor) -> Pair:
        return (x + noise * torch.randn_like(x)) * (torch.rand_like(x) > 0.1), y

    altered(training, alter)


@changes(None)
def imbalanced(recipe: Recipe) -> Recipe:
    """Half of the classes are ten times as rare as the others, and weighted for it."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        rare = (targets % 2 == 0) & (torch.arange(len(targets)) % 10 > 0)
        return nn.functional.cross_entropy(outputs[~rare], targets[~rare])

    return recipe.but(loss=loss)


# The net


@spoils(None)
def spare_dead(training: Training, share: float = 0.2) -> None:
    """A fifth of a wide layer is dead from the start; existence is not harm."""
    bias = feeders(training)[0].bias
    with torch.no_grad():
        bias[: int(share * len(bias))] = -30.0


@spoils(None)
def pruned_weights(training: Training, share: float = 0.7) -> None:
    """Unstructured pruning: small weights are held at 0, and each unit keeps some."""
    masks = [
        (w, w.abs() > w.abs().flatten().kthvalue(int(share * w.numel())).values)
        for w in (layer.weight.detach() for layer in layers(training.model)[:-1])
    ]

    def prune(_: int) -> None:
        for weight, mask in masks:
            weight.mul_(mask)

    prune(0)
    training.after.append(prune)


@spoils(None)
def zero_head(training: Training) -> None:
    """The last layer starts at 0, so that the first outputs are even.

    It is no hidden layer, and its rows part at the first step.
    """
    head = layers(training.model)[-1]
    nn.init.zeros_(head.weight)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


@spoils(None)
def zero_branches(training: Training) -> None:
    """The last layer of each residual branch starts at 0 (Fixup, SkipInit).

    Nothing reads the branch until the first step.
    """
    downs = getattr(training.model, "downs", None)
    ends = downs or [m.second for m in training.model.modules() if hasattr(m, "second")]
    for layer in ends:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def pretrain(training: Training, steps: int = 150) -> None:
    """Train everything for a while, as the makers of a backbone did."""
    optimizer = Adam(training.model.parameters(), lr=3e-3)
    for _ in range(steps):
        inputs, targets = next(training.batches)
        training.loss(training.model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()


@spoils(None)
def frozen_backbone(training: Training, listed: bool = True) -> None:
    """A trained backbone is frozen on purpose, and a new head learns.

    The optimizer may list what is frozen or not.
    """
    pretrain(training)
    training.model.backbone.requires_grad_(False)
    for layer in (training.model.hidden, training.model.head):
        layer.reset_parameters()
    if not listed:
        for group in training.optimizer.param_groups:
            group["params"] = [p for p in group["params"] if p.requires_grad]


@spoils(None)
def features_only(training: Training) -> None:
    """A trained backbone is run without gradients on purpose, and only the head is optimized."""
    pretrain(training)
    model = training.model
    backbone = model.backbone.eval().requires_grad_(False)
    model.features = torch.no_grad()(backbone.forward)
    for group in training.optimizer.param_groups:
        group["params"] = [*model.hidden.parameters(), *model.head.parameters()]


class LowRank(nn.Module):
    """A frozen layer and a learned change of low rank that starts at 0 (Hu et al. 2022)."""

    def __init__(self, layer: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x) + self.up(self.down(x))
        return out


@spoils(None)
def adapted(training: Training) -> None:
    """Fine-tuning by low-rank adapters beside frozen layers.

    Two linear maps on purpose, one of them 0 at first.
    """
    pretrain(training, 60)
    backbone = training.model.backbone
    for index in (0, 2):
        backbone[index] = LowRank(backbone[index])
    training.optimizer = Adam([p for p in training.model.parameters() if p.requires_grad], lr=3e-3)


@spoils(None)
def frozen_norms(training: Training) -> None:
    """Fine-tuning with batch normalisation held in evaluation mode and its parameters frozen."""
    pretrain(training, 80)
    for module in training.model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.requires_grad_(False)
            module.eval()
