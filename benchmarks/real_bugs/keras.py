"""Keras' defaults in PyTorch: the programs of the posts were written against these.

Learning-rate decays of 1e-6 per step are left out: over the steps run here they change nothing.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import init

Model = TypeVar("Model", bound=nn.Module)
#: Keras keeps probabilities this far from 0 and 1 before it takes a logarithm.
EPSILON = 1e-7


def glorot(model: Model) -> Model:
    """Initialise every layer as Keras does: Glorot uniform, biases 0."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d | nn.Conv1d):
            init.xavier_uniform_(layer.weight)
            init.zeros_(layer.bias)
        elif isinstance(layer, nn.LSTM | nn.RNN):
            recurrent(layer)
    return model


def recurrent(layer: nn.LSTM | nn.RNN) -> None:
    """Glorot for the input kernels, orthogonal recurrent ones, forget gates at 1."""
    for name, parameter in layer.named_parameters():
        if name.startswith("weight_ih"):
            for gate in parameter.data.split(layer.hidden_size):
                init.xavier_uniform_(gate)
        elif name.startswith("weight_hh"):
            for gate in parameter.data.split(layer.hidden_size):
                init.orthogonal_(gate)
        else:
            init.zeros_(parameter)
            if isinstance(layer, nn.LSTM) and name.startswith("bias_ih"):
                parameter.data[layer.hidden_size : 2 * layer.hidden_size] = 1.0


def uniform(model: Model) -> Model:
    """``init="uniform"``: weights within ±0.05, biases 0."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            init.uniform_(layer.weight, -0.05, 0.05)
            init.zeros_(layer.bias)
    return model


def normal(model: Model) -> Model:
    """``init="normal"``: weights of deviation 0.05, biases 0."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            init.normal_(layer.weight, std=0.05)
            init.zeros_(layer.bias)
    return model


class LastState(nn.Module):
    """What ``LSTM`` gives without ``return_sequences``: its last output, read by a head."""

    def __init__(self, features: int, units: int, head: nn.Module) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(features, units, batch_first=True)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


def adam(model: nn.Module, rate: float = 0.001) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=rate, eps=EPSILON)


def rmsprop(model: nn.Module, rate: float = 0.001) -> torch.optim.RMSprop:
    return torch.optim.RMSprop(model.parameters(), lr=rate, alpha=0.9, eps=EPSILON)


def sgd(model: nn.Module, rate: float = 0.01, momentum: float = 0.0) -> torch.optim.SGD:
    """SGD; with a momentum, Nesterov's, which is how all these posts use it."""
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum, nesterov=momentum > 0)


def categorical_crossentropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of outputs taken as probabilities, whatever they are: their sum is divided out.

    Args:
        outputs: One row per example.
        targets: One-hot rows, or rows with several ones.
    """
    shares = outputs / outputs.sum(-1, keepdim=True)
    return -(targets * shares.clamp(EPSILON, 1 - EPSILON).log()).sum(-1).mean()


def binary_crossentropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of outputs taken as probabilities; targets may lie anywhere."""
    outputs = outputs.clamp(EPSILON, 1 - EPSILON)
    return -(targets * outputs.log() + (1 - targets) * (1 - outputs).log()).mean()
