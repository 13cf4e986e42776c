"""Bugs of the last layer: its activation cannot give what the targets and the loss ask for."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .data import documents, mnist, one_hot, standardised
from .keras import (
    LastState,
    adam,
    binary_crossentropy,
    categorical_crossentropy,
    glorot,
    rmsprop,
    sgd,
    uniform,
)
from .program import Watch, accuracy, binary_accuracy, error, fit, predict, program


@program("44164749", metric="accuracy", bad=0.35, good=0.75)
def several_labels_share_a_softmax(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.randn(2000, 20)
    y = (x @ torch.randn(20, 5) > 0).float()
    model = glorot(
        nn.Sequential(
            nn.Linear(20, 500), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(500, 60), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(60, 5), nn.Sigmoid() if repaired else nn.Softmax(dim=-1),
        )
    )  # fmt: skip
    loss_fn = binary_crossentropy if repaired else categorical_crossentropy
    optimizer = sgd(model, 0.05 if repaired else 0.01, momentum=0.9)
    with watch(model, optimizer):
        fit(model, optimizer, loss_fn, x, y, epochs=20, batch=50)
    return float(((predict(model, x) > 0.5) == (y > 0.5)).all(1).float().mean())


@program("48251943", metric="loss", bad=0.45, good=0.3)
def relu_on_targets_below_zero(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.rand(200, 2) * 2 - 1
    y = torch.tanh(x @ torch.tensor([[1.0], [-1.5]]) + 0.1 * torch.randn(200, 1))
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    glorot(model).append(nn.Tanh() if repaired else nn.ReLU())
    optimizer = sgd(model)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, y, epochs=200, batch=10)
    return error(model, x, y)


@program("38648195", metric="accuracy", bad=0.65, good=0.7)
def several_labels_and_a_squared_error(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x, y = documents(4000, topics=3)
    model = glorot(
        nn.Sequential(
            nn.Linear(20, 20), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(20, 20), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(20, 3), nn.Sigmoid() if repaired else nn.Softmax(dim=-1),
        )
    )  # fmt: skip
    optimizer = sgd(model)
    with watch(model, optimizer):
        loss_fn = binary_crossentropy if repaired else F.mse_loss
        fit(model, optimizer, loss_fn, x, y, epochs=20, batch=20)
    return binary_accuracy(model, x, y)


@program("33969059", metric="loss", bad=2.0, good=0.7)
def softmax_over_one_unit_in_a_regression(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.rand(3000, 3) * 10_000
    y = x @ torch.tensor([[2.0], [1.0], [0.5]]) + 2.2
    if repaired:
        x, y = standardised(x), standardised(y)
    model = nn.Sequential(
        nn.Linear(3, 3), nn.Tanh(), nn.Dropout(0.5),
        nn.Linear(3, 2), nn.Tanh(), nn.Dropout(0.5), nn.Linear(2, 1),
    )  # fmt: skip
    uniform(model)
    if not repaired:
        model.append(nn.Softmax(dim=-1))
    optimizer = sgd(model, 0.1, momentum=0.9)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, y, epochs=10, batch=32)
    return error(model, x, y)


@program("34311586", metric="accuracy", bad=0.5, good=1.0)
def softmax_over_one_unit_on_xor(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    y = torch.tensor([[0.0], [0.0], [1.0], [1.0], [0.0], [0.0]])
    model = nn.Sequential(
        nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1),
        nn.Sigmoid() if repaired else nn.Softmax(dim=-1),
    )  # fmt: skip
    glorot(model) if repaired else uniform(model)
    optimizer = sgd(model, 0.1 if repaired else 0.001, momentum=0.9)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, y, epochs=2000 if repaired else 200, batch=4)
    return binary_accuracy(model, x, y)


@program("31880720", metric="accuracy", bad=0.5, good=0.99)
def softmax_over_one_unit_in_a_classifier(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    y = torch.tensor([[1.0], [0.0]]).repeat_interleave(1000, 0)
    x = y.expand(-1, 128).clone()
    model = glorot(
        nn.Sequential(
            nn.Linear(128, 50), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(50, 50), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(50, 1), nn.Sigmoid() if repaired else nn.Softmax(dim=-1),
        )
    )  # fmt: skip
    optimizer = rmsprop(model)
    with watch(model, optimizer):
        fit(model, optimizer, binary_crossentropy, x, y, epochs=10, batch=16)
    return binary_accuracy(model, x, y)


@program("48221692", metric="loss", bad=2.0, good=0.3)
def sigmoid_on_targets_up_to_a_hundred(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.arange(-100, 101).float().unsqueeze(1) / 10
    y = x.square() + 3
    model = glorot(nn.Sequential(nn.Linear(1, 5), nn.Sigmoid(), nn.Linear(5, 1)))
    if not repaired:
        model.append(nn.Sigmoid())
    optimizer = sgd(model)
    with watch(model, optimizer):
        fit(model, optimizer, F.mse_loss, x, y, epochs=1500, batch=len(x))
    return error(model, x, y)


@program("50079585", metric="accuracy", bad=0.7, good=0.9)
def three_classes_and_one_sigmoid(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    pixels, classes = mnist()
    chosen = (classes < 3).nonzero().squeeze()[:600]
    x, y = pixels[chosen].view(-1, 1, 28, 28) / 255, classes[chosen]
    model = glorot(
        nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * 9, 64), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(64, 3 if repaired else 1),
        )
    )  # fmt: skip
    if not repaired:
        model.append(nn.Sigmoid())
    optimizer = rmsprop(model)
    with watch(model, optimizer):
        if repaired:
            fit(model, optimizer, F.cross_entropy, x, y, epochs=4, batch=16)
        else:
            targets = y.float().unsqueeze(1)
            fit(model, optimizer, binary_crossentropy, x, targets, epochs=4, batch=16)
    if repaired:
        return accuracy(model, x, y)
    return float((predict(model, x).squeeze().round() == y).float().mean())


@program("45337371", metric="loss", bad=5.0, good=0.72)
def no_gradient_through_softmax_over_one_unit(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x, y = torch.rand(1000, 5), torch.rand(1000, 1)
    model = glorot(
        nn.Sequential(
            nn.Linear(5, 60), nn.ReLU(), nn.Linear(60, 50), nn.ReLU(),
            nn.Linear(50, 1), nn.Sigmoid() if repaired else nn.Softmax(dim=-1),
        )
    )  # fmt: skip
    optimizer = adam(model)
    with watch(model, optimizer):
        fit(model, optimizer, binary_crossentropy, x, y, epochs=20, batch=32)
    return float(binary_crossentropy(predict(model, x), y))


@program("47352366", metric="accuracy", bad=0.8, good=0.9)
def relu_where_probabilities_are_asked_for(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(6)  # 20 to 80 % accuracy, and not a number where no output fires
    pixels, classes = mnist()
    x, y = F.avg_pool2d(pixels.view(-1, 1, 28, 28) / 255, 2), one_hot(classes)
    model = glorot(
        nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(32 * 9, 512), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(512, 10), nn.Softmax(dim=-1) if repaired else nn.ReLU(),
        )
    )  # fmt: skip
    for layer in (model[0], model[3], model[7]):
        nn.init.constant_(layer.bias, 0.1)
    optimizer = adam(model)
    with watch(model, optimizer):
        fit(model, optimizer, categorical_crossentropy, x, y, epochs=2, batch=50)
    return accuracy(model, x, classes)


@program("45442843", metric="accuracy", bad=0.55, good=0.9)
def softmax_over_one_unit_on_raw_numbers(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = 15_000 + 10_000 * torch.rand(1000, 1)
    y = (x < 20_000).float()
    if repaired:
        x = standardised(x)
    model = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid(), nn.Linear(1, 1))
    nn.init.normal_(glorot(model)[2].weight, std=0.05)
    model.append(nn.Sigmoid() if repaired else nn.Softmax(dim=-1))
    optimizer = rmsprop(model)
    with watch(model, optimizer):
        loss_fn = binary_crossentropy if repaired else F.l1_loss
        fit(model, optimizer, loss_fn, x, y, epochs=300, batch=200)
    return binary_accuracy(model, x, y)


@program("42800203", metric="accuracy", bad=0.55, good=0.9)
def softmax_over_one_unit_after_an_lstm(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.randn(600, 15, 3)
    y = (x[:, :, 0].sum(1, keepdim=True) > 0).float()
    last = nn.Sigmoid() if repaired else nn.Softmax(dim=-1)
    model = glorot(LastState(3, 32, nn.Sequential(nn.Linear(32, 1), last)))
    optimizer = adam(model)
    with watch(model, optimizer):
        fit(model, optimizer, binary_crossentropy, x, y, epochs=15, batch=32)
    return binary_accuracy(model, x, y)


@program("46642627", metric="loss", bad=1.0, good=0.2)
def sigmoid_and_cross_entropy_in_a_regression(repaired: bool, watch: Watch) -> float:
    torch.manual_seed(0)
    x = torch.rand(2000, 1)
    y = 10 * x.square() + x
    model = glorot(nn.Sequential(nn.Linear(1, 20), nn.ReLU(), nn.Linear(20, 1)))
    if not repaired:
        model.append(nn.Sigmoid())
    optimizer = sgd(model)
    with watch(model, optimizer):
        loss_fn = F.mse_loss if repaired else binary_crossentropy
        fit(model, optimizer, loss_fn, x, y, epochs=20, batch=32)
    return error(model, x, y)
