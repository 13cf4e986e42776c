"""Bugs of the learning rate or the optimizer: steps too large, or too small to get anywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data import mnist, standardised
from .keras import adam, binary_crossentropy, glorot, rmsprop, sgd, uniform
from .program import Watch, accuracy, binary_accuracy, error, fit, predict, program


@program("31556268", metric="accuracy", bad=0.75, good=1.0)
def xor_by_small_steps(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    y = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    model = glorot(nn.Sequential(nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 1), nn.Sigmoid()))
    optimizer = adam(model, 0.01) if repaired else sgd(model, 0.05, momentum=0.11)
    with watch(model, optimizer):
        loss_fn = F.mse_loss if repaired else F.l1_loss
        fit(model, optimizer, loss_fn, x, y, epochs=3000 if repaired else 1000, batch=4)
    return binary_accuracy(model, x, y)


@program("50306988", metric="accuracy", bad=0.6, good=0.95)
def two_clouds_by_small_steps(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.cat([0.2 + 0.2 * torch.rand(100, 2), 0.5 + 0.2 * torch.rand(100, 2)])
    y = torch.arange(2).repeat_interleave(100)
    model = glorot(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2)))
    optimizer = adam(model, 0.1 if repaired else 0.001)
    with watch(model, optimizer):
        fit(model, optimizer, F.cross_entropy, x, y, epochs=10 if repaired else 5, batch=32)
    return accuracy(model, x, y)


@program("48934338", metric="loss", bad=0.9, good=0.3)
def a_parabola_by_large_steps(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.arange(50).float().unsqueeze(1) / 10
    y = 5 * x.square() + torch.randn(50, 1) ** 3
    model = nn.Sequential(nn.Linear(1, 50), nn.ReLU(), nn.Linear(50, 30), nn.ReLU())
    uniform(glorot(model)[2])
    model.append(glorot(nn.Linear(30, 1)))
    optimizer = sgd(model, 0.001 if repaired else 0.1)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, y, epochs=500, batch=32)
    return error(model, x, y)


def stripes(count: int) -> tuple[Tensor, Tensor]:
    """Noisy images of 3 x 24 x 24 of two classes: a bright left or a bright right half."""
    y = torch.arange(count) % 2
    x = 0.8 * torch.rand(count, 3, 24, 24)
    x[y == 0, :, :, :12] += 0.2
    x[y == 1, :, :, 12:] += 0.2
    return x, y


@program("37624102", metric="accuracy", bad=0.6, good=0.95)
def a_convolutional_net_by_large_steps(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x, y = stripes(100)
    model = glorot(
        nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(),
            nn.MaxPool2d(2), nn.Dropout(0.25),
            nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(),
            nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
            nn.Linear(32 * 9, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 2),
        )
    )  # fmt: skip
    optimizer = sgd(model, 0.01 if repaired else 0.1, momentum=0.9)
    with watch(model, optimizer):
        fit(model, optimizer, F.cross_entropy, x, y, epochs=10, batch=32)
    return accuracy(model, x, y)


class Tagger(nn.Module):
    """A plain recurrent layer and a class for each time step."""

    def __init__(self, features: int, units: int, classes: int) -> None:
        super().__init__()
        self.recurrent = nn.RNN(features, units, batch_first=True)
        self.head = nn.Linear(units, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0])


@program("41977498", metric="accuracy", bad=0.7, good=0.95)
def a_recurrent_net_by_small_steps(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.randn(60, 10, 4)
    y = (x[..., 0] > 0).long() + (x[..., 1] > 0).long()
    model = glorot(Tagger(4, 20, 3))
    optimizer = adam(model, 0.01) if repaired else rmsprop(model)

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    with watch(model, optimizer):
        fit(model, optimizer, loss_fn, x, y, epochs=100 if repaired else 10, batch=32)
    return float((predict(model, x).argmax(-1) == y).float().mean())


@program("44998910", metric="loss", bad=0.25, good=0.05)
def a_polynomial_by_small_steps(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.rand(2000, 1)
    y = x**4 + x**3 - x
    model = glorot(
        nn.Sequential(nn.Linear(1, 200), nn.ReLU(), nn.Linear(200, 45), nn.ReLU(), nn.Linear(45, 1))
    )
    optimizer = sgd(model, 0.03 if repaired else 0.01)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, y, epochs=60 if repaired else 20, batch=50)
    return error(model, x, y)


@program("51181393", metric="loss", bad=5.0, good=0.1)
def a_straight_line_by_small_steps(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.linspace(1, 2, 200).unsqueeze(1)
    y = 5 * x
    model = glorot(nn.Sequential(nn.Linear(1, 1)))
    optimizer = rmsprop(model, 0.1 if repaired else 0.001)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, y, epochs=200, batch=32)
    return error(model, x, y)


@program("56380303", metric="accuracy", bad=0.65, good=0.9)
def remainders_of_raw_numbers_by_large_steps(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    numbers = torch.randint(0, 100, (4000,))
    x, y = numbers.float().unsqueeze(1), numbers % 50 // 25
    model = glorot(
        nn.Sequential(nn.Linear(1, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 2))
    )
    optimizer = adam(model, 0.01) if repaired else sgd(model)
    with watch(model, optimizer):
        fit(model, optimizer, F.cross_entropy, x, y, epochs=40, batch=50)
    return accuracy(model, x, y)


def life(boards: Tensor) -> Tensor:
    """The next state of toroidal boards of the Game of Life."""
    padded = F.pad(boards, (1, 1, 1, 1), mode="circular")
    neighbours = F.conv2d(padded, torch.ones(1, 1, 3, 3)) - boards
    return ((neighbours == 3) | ((neighbours == 2) & (boards > 0))).float()


@program("gol_nn", metric="accuracy", bad=0.9, good=0.97)
def the_game_of_life_by_small_steps(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    boards = (torch.rand(2000, 1, 3, 3) < 0.5).float()
    x, y = F.pad(boards, (1, 1, 1, 1), mode="circular"), life(boards)
    model = glorot(
        nn.Sequential(
            nn.Conv2d(1, 10, 3), nn.ReLU(), nn.Conv2d(10, 20, 1), nn.ReLU(),
            nn.Conv2d(20, 1, 1), nn.Sigmoid(),
        )
    )  # fmt: skip
    optimizer = adam(model, 0.01 if repaired else 0.001)
    with watch(model, optimizer):
        loss_fn = F.mse_loss if repaired else binary_crossentropy
        fit(model, optimizer, loss_fn, x, y, epochs=10 if repaired else 5, batch=64)
    return binary_accuracy(model, x, y)


@program("FacialKeypointsDetection", metric="loss", bad=1.0, good=0.7)
def keypoints_by_large_steps(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = mnist()[0][:1000] / 255
    y = standardised(x @ torch.randn(784, 30)) / 5
    model = glorot(nn.Sequential(nn.Linear(784, 50), nn.Linear(50, 100), nn.Linear(100, 30)))
    optimizer = sgd(model, 0.01, momentum=0.9) if repaired else adam(model, 0.1)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, y, epochs=30, batch=32)
    return error(model, x, y)
