"""Bugs of scale: inputs or targets of a size that layers, as initialised, cannot work with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data import iris, mnist, one_hot, standardised
from .keras import (
    adam,
    binary_crossentropy,
    categorical_crossentropy,
    glorot,
    normal,
    rmsprop,
    sgd,
    uniform,
)
from .program import Watch, accuracy, binary_accuracy, error, fit, program


@program("55328966", metric="accuracy", bad=0.3, good=0.8)
def pixels_up_to_255(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    pixels, classes = mnist()
    pixels, classes = pixels[:2500], classes[:2500]
    x, y = (pixels / 255 if repaired else pixels), one_hot(classes)
    model = glorot(
        nn.Sequential(
            nn.Linear(784, 784), nn.Linear(784, 50), nn.ReLU(),
            nn.Linear(50, 10), nn.Softmax(dim=-1) if repaired else nn.Sigmoid(),
        )
    )  # fmt: skip
    optimizer = adam(model, 0.0001) if repaired else sgd(model, 0.0001)
    with watch(model, optimizer):
        fit(model, optimizer, categorical_crossentropy, x, y, epochs=5, batch=32)
    return accuracy(model, x, classes)


@program("39525358", metric="accuracy", bad=0.75, good=0.95)
def letters_as_numbers(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    words = torch.tensor([[65.0, 66, 67], [68, 69, 70], [65, 66, 70], [68, 69, 67]])
    chosen = torch.arange(24) % 4
    x, y = words[chosen], (chosen % 2).float().unsqueeze(1)
    if repaired:
        x = standardised(x)
    model = nn.Sequential(
        nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 1), nn.Sigmoid()
    )
    optimizer = adam(uniform(model))
    with watch(model, optimizer):
        fit(model, optimizer, binary_crossentropy, x, y, epochs=80, batch=1)
    return binary_accuracy(model, x, y)


def census(count: int) -> tuple[Tensor, Tensor]:
    """People: age, weight in the census, school, gains, hours, nine codes; rich or not."""
    age = 17 + 70 * torch.rand(count)
    weight = 12_000 + 300_000 * torch.rand(count)
    school = torch.randint(1, 17, (count,)).float()
    gain = torch.where(torch.rand(count) < 0.08, 90_000 * torch.rand(count), 0.0)
    hours = 40 + 12 * torch.randn(count)
    codes = torch.randint(0, 10, (count, 9)).float()
    merit = (age - 40) / 20 + (school - 8) / 3 + (hours - 40) / 12 + gain / 20_000
    x = torch.cat([torch.stack([age, weight, school, gain, hours], 1), codes], 1)
    return x, (merit + 0.5 * torch.randn(count) > 0.8).long()


@program("47724077", metric="accuracy", bad=0.75, good=0.85)
def a_census_as_it_came(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x, y = census(3000)
    if repaired:
        x = standardised(x)
    model = glorot(nn.Sequential(nn.Linear(14, 21), nn.ReLU(), nn.Linear(21, 2)))
    optimizer = adam(model)
    with watch(model, optimizer):
        fit(model, optimizer, F.cross_entropy, x, y, epochs=20, batch=100)
    return accuracy(model, x, y)


@program("59278771", metric="accuracy", bad=0.7, good=0.9)
def flowers_in_centimetres(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(2)  # no unit lives in two runs of eight
    x, classes = iris()
    model = nn.Sequential(nn.Linear(4, 4), nn.SELU() if repaired else nn.ReLU(), nn.Linear(4, 3))
    normal(model).append(nn.Softmax(dim=-1) if repaired else nn.Sigmoid())
    if repaired:
        x = standardised(x)
    optimizer = sgd(model) if repaired else adam(model)
    with watch(model, optimizer):
        fit(model, optimizer, categorical_crossentropy, x, one_hot(classes), epochs=100, batch=5)
    return accuracy(model, x, classes)


@program("52800582", metric="loss", bad=0.95, good=0.1)
def fourth_powers(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.arange(-200, 200).float().unsqueeze(1) / 2
    y = x**4
    if repaired:
        x, y = standardised(x), standardised(y)
    model = glorot(
        nn.Sequential(nn.Linear(1, 50), nn.Sigmoid(), nn.Linear(50, 50), nn.ELU(), nn.Linear(50, 1))
    )
    optimizer = adam(model)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, y, epochs=1500, batch=len(x))
    return error(model, x, y)


@program("34673164", metric="accuracy", bad=0.8, good=0.9)
def money_and_shares_in_one_table(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    plain = torch.randn(200, 16)
    y = (plain[:, 3:10].sum(1) > 0).float()
    size = torch.tensor(
        [2e5, 2.0, 80.0, 60.0, 4.0, 4.0, 6e4, 8e4, 0.1, 8.0, 4.0, 7.0, 3e4, 1, 1, 0.2]
    )
    x = plain * size + 1.5 * size
    model = uniform(
        nn.Sequential(
            nn.Linear(16, 64), nn.Tanh(), nn.Dropout(0.5),
            nn.Linear(64, 64), nn.Tanh(), nn.Dropout(0.5), nn.Linear(64, 2),
        )
    )  # fmt: skip
    if repaired:
        model.insert(0, nn.BatchNorm1d(16))
        model.append(nn.Sigmoid())
    else:
        model.append(nn.Softmax(dim=-1))
    optimizer = sgd(model, 0.1, momentum=0.9)
    with watch(model, optimizer):
        loss_fn = binary_crossentropy if repaired else F.mse_loss
        fit(model, optimizer, loss_fn, x, one_hot(y.long()), epochs=20, batch=16)
    return accuracy(model, x, y.long())


def packets(count: int) -> tuple[Tensor, Tensor]:
    """Network packets: two addresses as numbers, fields, ports, counters; harmless or not."""
    y = (torch.rand(count) < 0.62).float()
    base = torch.tensor([3.232235776e9, 3.232235779e9, 6.0, 128.0, 5.0e5, 2.7e4, 6, 6e3, 2, 0, 60])
    spread = torch.tensor([3.0, 0, 0, 0, 2e4, 2.7e4, 6, 1.9e4, 2, 0, 80])
    x = base + spread * torch.rand(count, 11)
    x[:, 6] = torch.where(y > 0, 12.0, 0.0)
    x[:, 8] = torch.where(y > 0, 5.0, 1.0)
    return x, y.unsqueeze(1)


@program("44066044", metric="accuracy", bad=0.7, good=0.95)
def addresses_as_numbers(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x, y = packets(40)
    if repaired:
        x = standardised(x)
    model = normal(
        nn.Sequential(
            nn.Linear(11, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 1),
            nn.Sigmoid() if repaired else nn.ReLU(),
        )
    )  # fmt: skip
    optimizer = adam(model)
    with watch(model, optimizer):
        fit(model, optimizer, binary_crossentropy, x, y, epochs=100, batch=5)
    return binary_accuracy(model, x, y)


def passengers(count: int) -> tuple[Tensor, Tensor]:
    """Passengers with codes of names, tickets and cabins among small numbers; survived or not."""
    columns = [
        torch.randint(1, 4, (count,)),  # class
        torch.randint(0, 1307, (count,)),  # name
        torch.randint(0, 2, (count,)),  # sex
        torch.randint(1, 80, (count,)),  # age
        torch.randint(0, 6, (count,)),
        torch.randint(0, 6, (count,)),
        torch.randint(0, 929, (count,)),  # ticket
        512 * torch.rand(count) ** 4,  # fare
        torch.randint(0, 187, (count,)),  # cabin
        torch.randint(0, 4, (count,)),
    ]
    x = torch.stack([column.float() for column in columns], 1)
    merit = 2.5 * (0.5 - x[:, 2]) + (2 - x[:, 0]) + 0.5 * torch.randn(count)
    return x, (merit > 0).long()


@program("31627380", metric="accuracy", bad=0.7, good=0.8)
def codes_of_names_and_tickets(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x, y = passengers(890)
    if repaired:
        x = standardised(x)
    model = nn.Sequential(nn.Linear(10, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 2))
    optimizer = adam(glorot(model))
    with watch(model, optimizer):
        fit(model, optimizer, F.cross_entropy, x, y, epochs=10, batch=4)
    return accuracy(model, x, y)


@program("41600519", metric="accuracy", bad=0.7, good=0.8)
def collisions_with_missing_values_at_minus_999(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    plain = torch.randn(1000, 30)
    y = (plain[:, :6].sum(1) > 1).float().unsqueeze(1)
    x = 100 + 60 * plain
    x[:, 20:][torch.rand(1000, 10) < 0.4] = -999
    if repaired:
        x = standardised(x)
    model = glorot(
        nn.Sequential(
            nn.Linear(30, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(),
            nn.Linear(200, 50), nn.ReLU(), nn.Linear(50, 1), nn.Sigmoid(),
        )
    )  # fmt: skip
    optimizer = rmsprop(model)
    with watch(model, optimizer):
        fit(model, optimizer, binary_crossentropy, x, y, epochs=1, batch=1)
    return binary_accuracy(model, x, y)


@program("46995209", metric="loss", bad=0.4, good=0.2)
def a_sine_over_a_thousand_steps(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    steps = torch.arange(1000).float().unsqueeze(1)
    y = torch.sin(2 * torch.pi * steps / 500)
    x = standardised(steps) if repaired else steps
    layers: list[nn.Module]
    if repaired:
        layers = [nn.Linear(1, 10), nn.ReLU(), nn.Linear(10, 25), nn.ReLU(), nn.Linear(25, 1)]
    else:
        layers = [nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 90), nn.Tanh(), nn.Linear(90, 10)]
        for _ in range(8):
            layers += [nn.ReLU(), nn.Linear(10, 10)]
        layers += [nn.ReLU(), nn.Linear(10, 1)]
    model = glorot(nn.Sequential(*layers))
    optimizer = adam(model)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, y, epochs=60, batch=50)
    return error(model, x, y)
