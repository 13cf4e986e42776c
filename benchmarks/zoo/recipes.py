"""Trainings that work, one for each way of building a net: what healthy runs are made of."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from . import data
from .data import Task
from .nets import (
    GLU,
    Autoencoder,
    Bag,
    Experts,
    Gated,
    Recurrent,
    ResidualMLP,
    Scan,
    Towers,
    Transformer,
    Tuned,
    bottleneck,
    cnn,
    mlp,
    resnet,
    separable,
)
from .training import SGD, Adam, AdamW, Recipe


def contrast(codes: Tensor, _: Tensor) -> Tensor:
    """Pull the two halves of one digit together and push those of different digits apart."""
    left, right = nn.functional.normalize(codes, dim=-1).unbind(1)
    return nn.functional.cross_entropy(8 * left @ right.t(), torch.arange(len(left)))


def matched(model: nn.Module, task: Task) -> float:
    """How often the right partner is among the nearest 10 %, above chance."""
    left, right = nn.functional.normalize(model(task.test[0]), dim=-1).unbind(1)
    close = left @ right.t()
    rank = (close > close.diag()[:, None]).sum(1)
    return ((rank < len(left) // 10).float().mean().item() - 0.1) / 0.9


steep = partial(Adam, lr=1e-2)
sgd, adam, adamw = (partial(kind, lr=lr) for kind, lr in ((SGD, 0.1), (Adam, 3e-3), (AdamW, 3e-3)))
momentum = partial(SGD, lr=0.03, momentum=0.9)
language = Recipe(
    data.text, Transformer, partial(AdamW, lr=1e-2), steps=200, batch=24, clip=1.0, enough=0.12
)

RECIPES: dict[str, Recipe] = {
    # Multilayer perceptrons
    "mlp": Recipe(data.digits, mlp, sgd, steps=400),
    "mlp-deep": Recipe(data.digits, partial(mlp, widths=(64,) * 6), partial(SGD, lr=0.05)),
    "mlp-wide": Recipe(data.digits, partial(mlp, widths=(256,)), momentum),
    "mlp-adam": Recipe(data.digits, partial(mlp, widths=(64, 64, 64)), adam),
    "mlp-leaky": Recipe(data.digits, partial(mlp, act=nn.LeakyReLU), sgd),
    "mlp-tanh": Recipe(data.digits, partial(mlp, act=nn.Tanh, init="xavier"), sgd),
    "mlp-sigmoid": Recipe(
        data.digits, partial(mlp, widths=(48,), act=nn.Sigmoid, init="xavier"), steep
    ),
    "mlp-elu": Recipe(data.digits, partial(mlp, act=nn.ELU), sgd),
    "mlp-gelu": Recipe(data.digits, partial(mlp, act=nn.GELU), adamw),
    "mlp-silu": Recipe(data.digits, partial(mlp, act=nn.SiLU), adam),
    "mlp-selu": Recipe(data.digits, partial(mlp, act=nn.SELU), sgd),
    "mlp-prelu": Recipe(data.digits, partial(mlp, act=nn.PReLU), sgd),
    "mlp-softplus": Recipe(data.digits, partial(mlp, act=nn.Softplus), sgd),
    "mlp-hardtanh": Recipe(data.digits, partial(mlp, act=nn.Hardtanh, init="xavier"), sgd),
    "mlp-tanh-deep": Recipe(
        data.digits,
        partial(mlp, widths=(48,) * 8, act=nn.Tanh, init="xavier"),
        partial(SGD, lr=0.05),
    ),
    "mlp-sigmoid-3": Recipe(
        data.digits, partial(mlp, widths=(48,) * 3, act=nn.Sigmoid, init="xavier"), steep
    ),
    "mlp-batchnorm": Recipe(data.digits, partial(mlp, widths=(64,) * 3, norm="batch"), momentum),
    "mlp-layernorm": Recipe(data.digits, partial(mlp, widths=(64,) * 3, norm="layer"), adam),
    "mlp-dropout": Recipe(data.digits, partial(mlp, widths=(128, 64), dropout=0.3), adam),
    "mlp-mnist": Recipe(data.mnist_flat, partial(mlp, widths=(96, 48)), momentum),
    "mlp-cancer": Recipe(data.cancer, partial(mlp, widths=(32, 16)), sgd, batch=32),
    "mlp-wine": Recipe(data.wine, partial(mlp, widths=(24, 24)), sgd, batch=16),
    "mlp-rings": Recipe(data.rings, partial(mlp, widths=(32, 32)), steep, steps=400),
    "mlp-rings-deep": Recipe(data.rings, partial(mlp, widths=(24,) * 4), steep, steps=400),
    "glu": Recipe(data.digits, GLU, adam),
    # Regression
    "regression": Recipe(
        data.diabetes, partial(mlp, widths=(32, 32)), partial(SGD, lr=0.01), batch=32, enough=0.2
    ),
    "regression-adam": Recipe(
        data.diabetes, partial(mlp, widths=(32, 16)), partial(Adam, lr=1e-3), batch=32, enough=0.2
    ),
    "regression-tanh": Recipe(
        data.diabetes,
        partial(mlp, widths=(32,), act=nn.Tanh, init="xavier"),
        partial(SGD, lr=0.03),
        batch=32,
        enough=0.2,
    ),
    "regression-rare": Recipe(
        data.rare, partial(mlp, widths=(64, 32)), partial(Adam, lr=2e-3), enough=0.6
    ),
    # Convolutions
    "cnn": Recipe(data.images, cnn, partial(SGD, lr=0.05, momentum=0.9), steps=250),
    "cnn-batchnorm": Recipe(data.images, partial(cnn, norm="batch"), momentum, steps=200),
    "cnn-mnist": Recipe(
        partial(data.mnist, 14), partial(cnn, channels=(8, 16)), adam, steps=250, batch=32
    ),
    "cnn-tanh": Recipe(data.images, partial(cnn, act=nn.Tanh, init="xavier"), adam, steps=200),
    "cnn-relu6": Recipe(data.images, partial(cnn, act=nn.ReLU6), adam, steps=250),
    "resnet": Recipe(data.images, resnet, momentum, steps=150, batch=32),
    "resnet-group": Recipe(data.images, partial(resnet, norm="group"), adam, steps=150, batch=32),
    "separable": Recipe(data.images, separable, steep, steps=250, batch=32),
    "bottleneck": Recipe(data.digits, bottleneck, adam),
    "residual-mlp": Recipe(data.digits, ResidualMLP, adamw, steps=200),
    "residual-relu": Recipe(data.digits, partial(ResidualMLP, act=nn.ReLU), adam, steps=200),
    # Sequences
    "transformer": language,
    "transformer-relu": language.built(act=nn.ReLU),
    "transformer-tied": language.built(tied=True),
    "rnn": Recipe(data.text, Recurrent, steep, batch=16, clip=1.0, enough=0.12),
    "rnn-scan": Recipe(data.images, Scan, adam, steps=200, batch=32),
    "gru": Recipe(data.text, Gated, steep, steps=260, batch=16, enough=0.12),
    "lstm": Recipe(
        data.text,
        partial(Gated, cell=nn.LSTM),
        steep,
        steps=260,
        batch=16,
        enough=0.12,
    ),
    "bag": Recipe(data.words, Bag, steep, batch=32),
    "bag-sparse": Recipe(data.words, partial(Bag, sparse=True), partial(SGD, lr=2.0), batch=32),
    # Others
    "autoencoder": Recipe(data.digits_copy, Autoencoder, adam, steps=400, enough=0.35),
    "autoencoder-tied": Recipe(
        data.digits_copy,
        partial(Autoencoder, tied=True, act=nn.ELU, last=nn.ELU),
        adam,
        steps=400,
        enough=0.35,
    ),
    "towers": Recipe(data.pairs, Towers, adam, steps=300, loss=contrast, skill=matched, enough=0.3),
    "finetune": Recipe(data.digits, Tuned, adam),
    "experts": Recipe(data.digits, Experts, partial(Adam, lr=2e-3), steps=400),
    "experts-rings": Recipe(data.rings, partial(Experts, act=nn.LeakyReLU), steep),
    "experts-cancer": Recipe(data.cancer, Experts, sgd, batch=32),
    "experts-dense": Recipe(data.digits, partial(Experts, dense=True), adam, steps=250),
}
