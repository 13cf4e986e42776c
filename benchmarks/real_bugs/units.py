"""Bugs of the layers themselves: no nonlinearity, units that die, gradients that do not arrive."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import init

from .data import mnist, one_hot
from .keras import LastState, adam, categorical_crossentropy, glorot, normal, sgd
from .program import Watch, accuracy, error, fit, predict, program


@program("48385830", metric="accuracy", bad=0.2, good=0.85)
def two_linear_layers_and_steps_of_three(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    pixels, classes = mnist()
    pixels, classes = pixels[:2500], classes[:2500]
    x, y = pixels / 255, one_hot(classes)
    model = nn.Sequential(nn.Linear(784, 30), nn.Linear(30, 10))
    for layer in model:
        init.normal_(layer.weight)
        init.normal_(layer.bias)
    if repaired:
        model = nn.Sequential(model[0], nn.Sigmoid(), model[1], nn.Softmax(dim=-1))
    optimizer = sgd(model, 0.5 if repaired else 3.0)
    with watch(model, optimizer):
        loss_fn = categorical_crossentropy if repaired else F.mse_loss
        fit(model, optimizer, loss_fn, x, y, epochs=10, batch=10)
    return accuracy(model, x, classes)


@program("39217567", metric="loss", bad=0.95, good=0.4)
def three_sigmoid_layers(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 8)
    y = x[:, torch.randperm(8)]
    hidden = nn.ReLU if repaired else nn.Sigmoid
    model = normal(
        nn.Sequential(
            nn.Linear(8, 8), hidden(), nn.Linear(8, 8), hidden(), nn.Linear(8, 8), nn.Sigmoid()
        )
    )
    optimizer = sgd(model, 1.0 if repaired else 0.01)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, y, epochs=60, batch=4 if repaired else 50)
    return error(model, x, y)


@program("42514960", metric="loss", bad=0.9, good=0.2)
def an_autoencoder_of_relus(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(11)  # both units of the code die in one run of eight
    x = (1 + torch.tanh(torch.randn(1000, 2) @ torch.randn(2, 5))) / 2
    hidden = nn.Tanh if repaired else nn.ReLU
    model = glorot(
        nn.Sequential(
            nn.Linear(5, 10), hidden(), nn.Linear(10, 10), hidden(), nn.Linear(10, 2), hidden(),
            nn.Linear(2, 10), hidden(), nn.Linear(10, 10), hidden(),
            nn.Linear(10, 5), nn.Sigmoid(),
        )
    )  # fmt: skip
    optimizer = adam(model)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, x, epochs=25, batch=32)
    return error(model, x, x)


@program("47932589", metric="loss", bad=3.9, good=0.3)
def frequencies_by_a_relu(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(2)  # dead at the start in one run of eight
    y = torch.arange(1, 101).float().unsqueeze(1)
    phase = torch.zeros(1)
    if repaired:  # few frequencies, each seen often
        y = y[:10].repeat(20, 1)
        phase = 2 * torch.pi * torch.rand(200, 1)
    x = torch.sin(y * torch.linspace(0, 2 * torch.pi, 200) + phase).unsqueeze(-1)
    if repaired:
        x, y = x[:, ::4], (y - 1) / 9
    last = nn.Identity() if repaired else nn.ReLU()
    model = glorot(LastState(1, 50, nn.Sequential(nn.Linear(50, 1), last)))
    optimizer = adam(model, 0.01 if repaired else 0.001)
    with watch(model, optimizer):
        fit(model, optimizer, F.l1_loss, x, y, epochs=40, batch=32)
    return error(model, x, y)


class Bottleneck(nn.Module):
    """Six cubes become one example; a single rectified filter reads what a convolution found."""

    def __init__(self) -> None:
        super().__init__()
        self.cubes = nn.Conv3d(3, 16, 4, stride=2, padding=1)
        self.filter = nn.Conv1d(6 * 16, 1, 1)
        self.head = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        found = torch.relu(self.cubes(x.flatten(0, 1))).mean((2, 3, 4))
        return self.head(torch.relu(self.filter(found.view(len(x), -1, 1))).squeeze(2))


@program("58237726", metric="accuracy", bad=0.55, good=0.95)
def one_rectified_filter(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(2)  # dead at the start in five runs of eight
    y = torch.arange(2).repeat_interleave(60)
    model: nn.Module
    if repaired:
        model = nn.Sequential(
            nn.Conv3d(3, 16, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv3d(16, 8, 4, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 2),
        )  # fmt: skip
        x = y.view(-1, 1, 1, 1, 1).float().expand(-1, 3, 8, 8, 8)
    else:
        model = Bottleneck()
        x = y.view(-1, 1, 1, 1, 1, 1).float().expand(-1, 6, 3, 8, 8, 8)
    optimizer = adam(glorot(model), 0.01 if repaired else 0.001)
    with watch(model, optimizer):
        fit(model, optimizer, F.cross_entropy, x, y, epochs=20, batch=6 if repaired else 12)
    return float((predict(model, x).argmax(1) == y).float().mean())


def signs(count: int) -> tuple[Tensor, Tensor]:
    """Coloured signs of 3 x 32 x 32 on grey, values up to 255: four shapes in three colours."""
    classes = torch.randint(12, (count,))
    rows, columns = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(32) - 15.5, indexing="ij")
    distance = torch.stack(
        [
            (rows**2 + columns**2).sqrt(),
            torch.maximum(rows.abs(), columns.abs()),
            rows.abs() + columns.abs(),
            torch.maximum(rows, columns.abs() - rows / 2),
        ]
    )
    inside = distance[classes % 4] < 6 + 6 * torch.rand(count, 1, 1)
    colours = torch.tensor([[200.0, 30.0, 40.0], [30.0, 60.0, 180.0], [220.0, 190.0, 20.0]])
    light = 0.12 + 0.36 * torch.rand(count, 1, 1, 1)
    ground = 90 + 60 * torch.rand(count, 3, 32, 32)
    images = torch.where(inside[:, None], colours[classes // 4][:, :, None, None], ground)
    return light * images, classes


@program("Traffic-Sign-Classifier", metric="accuracy", bad=0.85, good=0.9)
def three_rectified_colours(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(3)  # two of the three colours never fire
    x, y = signs(800)
    x = x / 255 - 0.5
    smooth = nn.ELU if repaired else nn.ReLU
    model = glorot(
        nn.Sequential(
            nn.Conv2d(3, 3, 1), smooth(), nn.Conv2d(3, 16, 5, stride=2), smooth(),
            nn.Conv2d(16, 32, 3), smooth(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5),
            nn.Linear(32 * 16, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 12),
        )
    )  # fmt: skip
    optimizer = adam(model)
    with watch(model, optimizer):
        fit(model, optimizer, F.cross_entropy, x, y, epochs=10, batch=25)
    return accuracy(model, x, y)
