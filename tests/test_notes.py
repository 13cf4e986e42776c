"""Notes on a training as a whole say what was built into it, on real trainings."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
)

import flatline
from looking import Net
from watching import watched

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(64) % 3
NUMBERS = X[:, :1] * 2 - 1
SHARES = torch.rand(64, 1, generator=torch.Generator().manual_seed(2))


def mlp(*last: nn.Module, width: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, width), *last)


def plain_sgd(parameters):
    return torch.optim.SGD(parameters, 0.05)


def noted(model, loss, optimizer=plain_sgd, steps=3, x=X, zero=True, when=None):
    """The last note of each kind of an ordinary training."""
    when = when or (lambda step, event: True)
    with watched(when, models=[model]) as (memory, watcher):
        optimizer = optimizer(model.parameters())
        for _ in range(steps):
            if zero:
                optimizer.zero_grad()
            loss(model(x)).backward()
            optimizer.step()
        watcher.flush()
    assert memory.losses == []
    return {kind: evidence for _, kind, evidence in memory.notes}


def cross_entropy(out):
    return F.cross_entropy(out, CLASSES)


# -- the loss ---------------------------------------------------------------------------------


def written_bce(out):
    """As Keras writes it."""
    out = out.clamp(1e-7, 1 - 1e-7)
    return -(SHARES * out.log() + (1 - SHARES) * (1 - out).log()).mean()


def written_nll(out):
    """As Keras writes it, on outputs that need not add up to 1."""
    shares = out / out.sum(-1, keepdim=True)
    return -(F.one_hot(CLASSES) * shares.clamp(1e-7, 1 - 1e-7).log()).sum(-1).mean()


LOSSES = {
    "cross entropy": (mlp(), cross_entropy, "nll", "none", "log_softmax", 3),
    "after a softmax": (mlp(nn.Softmax(1)), cross_entropy, "nll", "softmax", "log_softmax", 3),
    "smoothed": (
        mlp(), lambda out: F.cross_entropy(out, CLASSES, label_smoothing=0.1),
        "nll", "none", "log_softmax", 3,
    ),
    "shares as targets": (
        mlp(), lambda out: F.cross_entropy(out, F.one_hot(CLASSES).float()),
        "nll", "none", "log_softmax", 3,
    ),
    "the model's own log softmax": (
        mlp(nn.LogSoftmax(1)), lambda out: F.nll_loss(out, CLASSES),
        "nll", "log_softmax", "none", 3,
    ),
    "shares without a logarithm": (
        mlp(nn.Softmax(1)), lambda out: F.nll_loss(out, CLASSES), "nll", "softmax", "none", 3,
    ),
    "one class": (
        mlp(width=1), lambda out: F.cross_entropy(out, 0 * CLASSES),
        "nll", "none", "log_softmax", 1,
    ),
    "picked by hand": (
        mlp(), lambda out: -out.log_softmax(1).gather(1, CLASSES[:, None]).mean(),
        "nll", "none", "log_softmax", 3,
    ),
    "logarithm of a softmax": (
        mlp(nn.Softmax(1)), lambda out: -out[torch.arange(64), CLASSES].log().mean(),
        "nll", "softmax", "log", 3,
    ),
    "written cross entropy": (mlp(nn.Softmax(1)), written_nll, "nll", "softmax", "log", 3),
    "written cross entropy on relu": (mlp(nn.ReLU()), written_nll, "nll", "relu", "log", 3),
    "squares": (
        mlp(width=1), lambda out: F.mse_loss(out, NUMBERS), "mse", "none", "none", 1,
    ),
    "written squares": (
        mlp(nn.Tanh(), width=1), lambda out: (out - NUMBERS).square().mean(),
        "mse", "tanh", "none", 1,
    ),
    "absolute": (
        mlp(nn.Sigmoid(), width=1), lambda out: F.l1_loss(out, NUMBERS), "l1", "sigmoid", "none", 1,
    ),
    "huber": (
        mlp(nn.ReLU(), width=1), lambda out: F.huber_loss(out, NUMBERS),
        "smooth_l1", "relu", "none", 1,
    ),
    "softmax of one": (
        mlp(nn.Softmax(1), width=1), lambda out: F.mse_loss(out, NUMBERS),
        "mse", "softmax", "none", 1,
    ),
    "binary": (
        mlp(nn.Sigmoid(), width=1), lambda out: F.binary_cross_entropy(out, SHARES),
        "bce", "sigmoid", "none", 1,
    ),
    "binary on logits": (
        mlp(width=1), lambda out: F.binary_cross_entropy_with_logits(out, SHARES),
        "bce_with_logits", "none", "sigmoid", 1,
    ),
    "written binary": (mlp(nn.Sigmoid(), width=1), written_bce, "bce", "sigmoid", "log", 1),
    "margins": (
        mlp(), lambda out: F.multi_margin_loss(out, CLASSES), "hinge", "none", "none", 3,
    ),
    "of its own": (mlp(nn.Tanh()), lambda out: out.exp().mean(), "unknown", "tanh", "none", 3),
    "a part of a sum": (
        mlp(), lambda out: cross_entropy(out) / 4 + 1e-3 * out.square().mean(),
        "nll", "none", "log_softmax", 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_and_what_stands_before_it_are_named(name):
    model, loss, op, last, own, width = LOSSES[name]
    found = noted(model, loss, steps=1)["loss"]
    assert (found["op"], found["last"], found["own"], found["width"]) == (op, last, own, width)
    assert not found["broadcast"]


def test_numbers_of_outputs_and_targets_are_those_of_the_batch():
    model = mlp(width=1)
    with torch.no_grad():
        out = model(X)
    found = noted(model, lambda out: F.mse_loss(out, NUMBERS), steps=1)["loss"]
    assert found["output_low"] == pytest.approx(out.min().item())
    assert found["output_high"] == pytest.approx(out.max().item())
    assert found["output_spread"] == pytest.approx(out.std(correction=0).item(), rel=1e-5)
    assert found["target_low"] == NUMBERS.min().item()
    assert found["target_high"] == NUMBERS.max().item()
    assert found["target_spread"] == pytest.approx(NUMBERS.std(correction=0).item(), rel=1e-5)
    assert not found["target_integer"]
    assert found["target_classes"] is None
    assert found["inputs"] == 64


def test_classes_are_counted_without_those_that_the_loss_ignores():
    ignoring = torch.where(CLASSES == 1, -100, CLASSES)
    found = noted(mlp(), lambda out: F.cross_entropy(out, ignoring), steps=1)["loss"]
    assert (found["target_low"], found["target_high"], found["target_classes"]) == (0, 2, 2)
    assert found["target_integer"]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("written", [False, True])
def test_shapes_that_broadcast_against_each_other_are_told(written):
    def loss(out):
        targets = NUMBERS.squeeze(1)
        return (out - targets).square().mean() if written else F.mse_loss(out, targets)

    assert noted(mlp(width=1), loss, steps=1)["loss"]["broadcast"]


def test_targets_of_all_batches_count():
    rising = itertools.count()
    found = noted(mlp(width=1), lambda out: F.mse_loss(out, NUMBERS + next(rising)), steps=5)
    assert found["loss"]["target_low"] == NUMBERS.min().item()
    assert found["loss"]["target_high"] == pytest.approx(NUMBERS.max().item() + 4)


def test_a_scale_behind_the_last_nonlinearity_is_told():
    model = Net(lambda net, x: 3 * net.inner(x), inner=mlp(nn.Tanh(), width=1))
    found = noted(model, lambda out: F.mse_loss(out, NUMBERS), steps=1)["loss"]
    assert (found["last"], found["scaled"]) == ("tanh", True)


def test_an_output_that_is_added_to_the_input_is_not_called_bent():
    model = Net(
        lambda net, x: net.skip(x) + net.inner(x), skip=nn.Linear(8, 3), inner=mlp(nn.ReLU())
    )
    assert noted(model, cross_entropy, steps=1)["loss"]["last"] == "none"


def test_what_a_recurrent_layer_gives_is_not_guessed():
    torch.manual_seed(0)
    model = Net(lambda net, x: net.cell(x[:, None])[0][:, -1], cell=nn.LSTM(8, 3))
    assert noted(model, cross_entropy, steps=1)["loss"]["last"] is None


def test_a_loss_inside_the_model_is_seen_as_one_outside():
    model = Net(lambda net, x: cross_entropy(net.inner(x)), inner=mlp())
    found = noted(model, lambda out: out, steps=1)["loss"]
    assert (found["op"], found["last"], found["own"]) == ("nll", "none", "log_softmax")


def test_a_scaled_loss_in_low_precision_is_seen_through():
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    with watched() as (memory, _):
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(2):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = cross_entropy(model(X))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    found = next(evidence for _, kind, evidence in memory.notes if kind == "loss")
    assert (found["op"], found["last"], found["own"]) == ("nll", "none", "log_softmax")
    assert memory.losses == []


# -- stacked linear maps ----------------------------------------------------------------------


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 3)
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        return self.head(F.dropout(self.conv(x[:, None]).flatten(1), 0.1))


STACKED = {
    "two": (nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 3)), [["0", "1"]]),
    "three": (
        nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.1), nn.Linear(16, 8, bias=False),
                      nn.Linear(8, 3)),
        [["0", "2"], ["2", "3"]],
    ),
    "through a view": (Flat(), [["conv", "head"]]),
}  # fmt: skip
APART = {
    "relu": mlp(),
    "norm": nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 3)),
    "batch norm": nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)),
    "pooling": nn.Sequential(
        nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(12, 3)
    ),
    "a residual connection": Net(
        lambda net, x: net.head(x + net.inner(x)), inner=nn.Linear(8, 8), head=nn.Linear(8, 3)
    ),
    "a gate": Net(
        lambda net, x: net.head(net.a(x) * net.b(x)),
        a=nn.Linear(8, 8), b=nn.Linear(8, 8), head=nn.Linear(8, 3),
    ),
    "read elsewhere too": Net(
        lambda net, x: net.head(z := net.code(x)) + z.square().mean(),
        code=nn.Linear(8, 8), head=nn.Linear(8, 3),
    ),
    "one layer again and again": Net(
        lambda net, x: net.same(net.same(x))[:, :3], same=nn.Linear(8, 8)
    ),
    "attention": Net(
        lambda net, x: net.head(net.attention(x[:, None], x[:, None], x[:, None])[0][:, 0]),
        attention=nn.MultiheadAttention(8, 2, batch_first=True), head=nn.Linear(8, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKED)
def test_linear_maps_with_nothing_between_are_told(name):
    model, pairs = STACKED[name]
    assert noted(model, cross_entropy, steps=1)["stacked"]["pairs"] == pairs


@pytest.mark.parametrize("name", APART)
def test_linear_maps_that_something_keeps_apart_are_not(name):
    assert "stacked" not in noted(APART[name], cross_entropy, steps=1)


def test_widths_and_groups_tell_a_bottleneck_and_a_separable_convolution_apart():
    model = nn.Sequential(
        nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 2, 3, groups=2), nn.Conv1d(2, 6, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(12, 2), nn.Linear(2, 3),
    )  # fmt: skip
    found = noted(model, cross_entropy, steps=1)["stacked"]
    assert found["pairs"] == [["1", "2"], ["5", "6"]]
    assert found["widths"] == [[2, 2, 6], [12, 2, 3]]
    assert found["groups"] == [[2, 1], [1, 1]]


# -- parameters -------------------------------------------------------------------------------


def parameters_of(model, loss=cross_entropy, optimizer=plain_sgd, **options):
    return noted(model, loss, optimizer, **options)["parameters"]


def test_every_parameter_of_an_ordinary_training_moves():
    model = mlp()
    found = parameters_of(model)
    number = sum(p.numel() for p in model.parameters())
    assert (found["total"], found["elements"], found["trained"]) == (4, number, number)
    lists = ("frozen", "unowned", "no_gradient", "still", "unused")
    assert [found[name] for name in lists] == [[]] * 5


def test_frozen_parameters_are_named():
    model = mlp()
    model[0].requires_grad_(False)
    found = parameters_of(model)
    assert found["frozen"] == ["0.weight", "0.bias"]
    assert found["frozen_elements"] == 8 * 16 + 16
    assert found["trained"] == 16 * 3 + 3
    assert found["unowned"] == found["no_gradient"] == []


def test_parameters_that_no_optimizer_was_given_are_named():
    model = mlp()
    found = parameters_of(model, optimizer=lambda _: plain_sgd(model[0].parameters()))
    assert found["unowned"] == ["2.weight", "2.bias"]
    assert found["unowned_elements"] == 16 * 3 + 3


def test_parameters_whose_gradient_never_comes_are_named():
    cut = Net(lambda net, x: net.head(net.body(x).detach()), body=mlp(), head=nn.Linear(3, 3))
    found = parameters_of(cut)
    assert found["no_gradient"] == [f"body.{name}" for name, _ in cut.body.named_parameters()]
    assert found["unused"] == []


def test_gradients_that_are_all_zero_are_none():
    dead = mlp()
    nn.init.constant_(dead[0].bias, -100.0)
    assert parameters_of(dead)["no_gradient"] == ["0.weight", "0.bias", "2.weight"]


def test_parameters_that_nothing_uses_are_named():
    model = Net(lambda net, x: net.inner(x), inner=mlp(), spare=nn.Linear(4, 4))
    found = parameters_of(model)
    assert found["unused"] == found["no_gradient"] == ["spare.weight", "spare.bias"]


def test_parameters_that_an_update_leaves_as_they_are_are_still():
    model = mlp()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]
    found = parameters_of(model, optimizer=lambda _: plain_sgd(groups))
    assert found["still"] == ["0.weight", "0.bias"]
    assert found["trained"] == 16 * 3 + 3


def test_a_large_embedding_of_which_few_rows_move_is_not_still():
    torch.manual_seed(0)
    model = Net(lambda net, x: net.head(net.table(x)), table=nn.Embedding(5000, 3), head=mlp())
    model.head = nn.Linear(3, 3)
    words = torch.full((64,), 4321)
    found = parameters_of(model, x=words)
    assert found["still"] == []


def test_tied_weights_count_once():
    torch.manual_seed(0)
    tied = Net(lambda net, x: F.linear(net.up(x), net.down.weight), up=nn.Linear(8, 3), down=None)
    tied.down = nn.Linear(3, 8)
    tied.again = tied.down
    found = parameters_of(tied, lambda out: cross_entropy(out[:, :3]))
    assert found["total"] == 4
    assert found["no_gradient"] == ["down.bias"]


def test_what_an_optimizer_that_is_not_watched_moves_is_not_unowned():
    torch.manual_seed(0)
    model = nn.Sequential(mlp(), nn.Linear(3, 3))
    first, second = plain_sgd(model[0].parameters()), plain_sgd(model[1].parameters())
    with flatline.Monitor(model, first, budget=1.0) as monitor:
        for _ in range(6):
            model.zero_grad()
            cross_entropy(model(X)).backward()
            first.step()
            second.step()
    notes = monitor._watch.store.load(monitor._watch.writer.id).notes
    found = [note.evidence["unowned"] for note in notes if note.kind == "parameters"]
    assert found == [["1.weight", "1.bias"], []]


def test_two_optimizers_own_what_each_updates():
    with watched() as (memory, _):
        body, head = mlp(), nn.Linear(3, 3)
        model = nn.Sequential(body, head)
        both = [plain_sgd(body.parameters()), torch.optim.Adam(head.parameters(), 1e-3)]
        for _ in range(3):
            model.zero_grad()
            cross_entropy(model(X)).backward()
            for optimizer in both:
                optimizer.step()
    found = {kind: evidence for _, kind, evidence in memory.notes}
    assert found["parameters"]["trained"] == found["parameters"]["elements"]
    assert found["parameters"]["unowned"] == []
    assert [one["class"] for one in found["optimizer"]["optimizers"]] == ["SGD", "Adam"]
    assert memory.losses == []


def test_a_closure_that_is_called_several_times_is_no_trouble():
    with watched() as (memory, _):
        model = mlp()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)

        def closure():
            optimizer.zero_grad()
            loss = cross_entropy(model(X))
            loss.backward()
            return loss

        for _ in range(4):
            optimizer.step(closure)
    found = {kind: evidence for _, kind, evidence in memory.notes}
    assert found["parameters"]["trained"] == found["parameters"]["elements"]
    assert found["loss"]["op"] == "nll"
    assert "stale" not in found
    assert memory.losses == []


# -- gradients that nobody resets -------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [plain_sgd, lambda p: torch.optim.AdamW(p, 1e-3)])
@pytest.mark.parametrize("examined", [range(99), (0,), (3,)])
def test_gradients_that_are_never_reset_are_stale(optimizer, examined):
    found = noted(
        mlp(), cross_entropy, optimizer, 8, zero=False, when=lambda step, event: step in examined
    )
    assert found["stale"] == {"optimizer": type(optimizer([nn.Parameter(X)])).__name__, "steps": 3}


def reset_to_none(optimizer):
    optimizer.zero_grad()


def reset_to_zero(optimizer):
    optimizer.zero_grad(set_to_none=False)


@pytest.mark.parametrize("reset", [reset_to_none, reset_to_zero])
@pytest.mark.parametrize("micro", [1, 4])
def test_gradients_that_are_reset_once_per_update_are_not(reset, micro):
    with watched() as (memory, _):
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        for _ in range(8):
            for _ in range(micro):
                (cross_entropy(model(X)) / micro).backward()
            optimizer.step()
            reset(optimizer)
    assert "stale" not in {kind for _, kind, _ in memory.notes}


def test_gradients_that_another_loss_leaves_behind_are_not():
    """The generator's loss leaves gradients in the critic, which are reset before its own turn."""
    with watched() as (memory, _):
        maker, critic = nn.Linear(4, 8), mlp(width=1)
        first, second = plain_sgd(critic.parameters()), plain_sgd(maker.parameters())
        for _ in range(8):
            made = maker(X[:, :4])
            first.zero_grad()
            (critic(made.detach()).mean() - critic(X).mean()).backward()
            first.step()
            second.zero_grad()
            (-critic(made).mean()).backward()
            second.step()
    assert "stale" not in {kind for _, kind, _ in memory.notes}
    assert memory.losses == []


def test_gradients_that_are_set_by_hand_are_not():
    with watched() as (memory, _):
        model = mlp()
        optimizer = plain_sgd(model.parameters())
        for _ in range(8):
            copy = mlp()
            cross_entropy(copy(X)).backward()
            for mine, other in zip(model.parameters(), copy.parameters(), strict=True):
                mine.grad = other.grad
            optimizer.step()
    assert "stale" not in {kind for _, kind, _ in memory.notes}


# -- data -------------------------------------------------------------------------------------


class Endless(IterableDataset):
    def __iter__(self):
        return iter([(x, y) for x, y in zip(X, CLASSES, strict=True)])


DATA = TensorDataset(X, CLASSES)
LOADERS = {
    "shuffled": (
        lambda: DataLoader(DATA, 16, shuffle=True),
        {"examples": 64, "batch_size": 16, "shuffle": True, "drop_last": False},
    ),
    "in order": (
        lambda: DataLoader(Subset(DATA, range(40)), 8, drop_last=True),
        {"examples": 40, "batch_size": 8, "shuffle": False, "drop_last": True},
    ),
    "batches by hand": (
        lambda: DataLoader(DATA, batch_sampler=BatchSampler(RandomSampler(DATA), 32, True)),
        {"examples": 64, "batch_size": 32, "shuffle": True, "drop_last": True},
    ),
    "a stream": (
        lambda: DataLoader(Endless(), 16),
        {"examples": None, "batch_size": 16, "shuffle": None, "drop_last": False},
    ),
}


@pytest.mark.parametrize("name", LOADERS)
def test_the_size_of_the_data_set_is_that_of_the_loader(name):
    build, expected = LOADERS[name]
    with watched() as (memory, _):
        model = mlp()
        optimizer = plain_sgd(model.parameters())
        for x, y in build():
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert [evidence for _, kind, evidence in memory.notes if kind == "data"] == [expected]


def test_the_loader_that_validates_is_not_taken_for_the_one_that_trains():
    training, validating = DataLoader(DATA, 16), DataLoader(Subset(DATA, range(20)), 5)
    with watched() as (memory, _):
        model = mlp()
        optimizer = plain_sgd(model.parameters())
        for x, y in training:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            for held_out, _ in validating:
                model(held_out)
    (found,) = [evidence for _, kind, evidence in memory.notes if kind == "data"]
    assert found["examples"] == 64


def test_a_sampler_of_the_users_own_is_only_asked_for_what_every_loader_asks():
    class Own:
        def __iter__(self):
            return iter(range(64))

    with watched() as (memory, _):
        model = mlp()
        optimizer = plain_sgd(model.parameters())
        for x, y in DataLoader(DATA, 16, sampler=Own()):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    (found,) = [evidence for _, kind, evidence in memory.notes if kind == "data"]
    assert (found["examples"], found["shuffle"]) == (64, None)
    assert memory.losses == []


# -- optimizers -------------------------------------------------------------------------------


def test_settings_are_noted_again_when_more_than_the_rate_changes():
    with watched() as (memory, _):
        model = mlp()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1)
        for step in range(4):
            optimizer.param_groups[0]["lr"] = 1e-3 / (step + 1)
            optimizer.param_groups[0]["weight_decay"] = 0.1 if step < 2 else 0.2
            optimizer.zero_grad()
            cross_entropy(model(X)).backward()
            optimizer.step()
    found = [(s, e["optimizers"][0]) for s, kind, e in memory.notes if kind == "optimizer"]
    assert [(step, one["weight_decay"]) for step, one in found] == [(0, 0.1), (2, 0.2)]
    first = found[0][1]
    assert (first["class"], first["lr"], first["momentum"]) == ("AdamW", 1e-3, 0.9)
    assert first["decoupled"]
    assert first["parameters"] == 4


def decays(optimizer, steps=3):
    """What the last exam says of the decay at the first layer, and the layer itself."""
    with watched() as (memory, _):
        model = mlp()
        optimizer = optimizer(model.parameters())
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(X)).backward()
            optimizer.step()
    return memory.exams[-1].measures["0"], model[0].weight, optimizer


def rms(tensor):
    return tensor.detach().square().mean().sqrt().item()


@pytest.mark.parametrize(
    ("optimizer", "decay"),
    [
        (lambda p: torch.optim.SGD(p, 0.05, weight_decay=0.5), 0.5),
        (lambda p: torch.optim.Adam(p, 0.001, weight_decay=0.5), math.nan),
    ],
)
def test_decay_that_joins_the_gradient_is_compared_with_it(optimizer, decay):
    found, weight, _ = decays(optimizer)
    assert found["decay"] == pytest.approx(decay, nan_ok=True)
    assert found["decay_ratio"] == pytest.approx(0.5 * rms(weight) / rms(weight.grad), rel=1e-4)


def test_decoupled_decay_is_compared_with_the_step_of_adam():
    found, weight, optimizer = decays(lambda p: torch.optim.AdamW(p, 0.002, weight_decay=0.3))
    state = optimizer.state[weight]
    first, second = state["exp_avg"] / (1 - 0.9**3), state["exp_avg_sq"] / (1 - 0.999**3)
    step = first / (second.sqrt() + 1e-8)
    assert (found["lr"], found["decay"]) == (0.002, 0.3)
    assert found["decay_ratio"] == pytest.approx(0.3 * rms(weight) / rms(step), rel=1e-4)


def test_without_decay_it_pulls_at_nothing():
    found, _, _ = decays(plain_sgd)
    assert (found["lr"], found["decay"], found["decay_ratio"]) == (0.05, 0.0, 0.0)


# -- what is not finite -----------------------------------------------------------------------


def test_the_first_loss_that_is_no_number_is_noted():
    scale = iter([1.0, 1.0, math.inf, math.nan, math.nan])
    with watched() as (memory, watcher):
        model = mlp()
        optimizer = plain_sgd(model.parameters())
        for _ in range(5):
            optimizer.zero_grad()
            (cross_entropy(model(X)) * next(scale)).backward()
            optimizer.step()
        watcher.flush()
    assert [note for note in memory.notes if note[1] == "nonfinite"] == [
        (2, "nonfinite", {"what": "loss"})
    ]


# -- compiled ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_is_noted_as_an_ordinary_one_is():
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 3), nn.Softmax(1))
    plain = noted(model, cross_entropy, steps=2)
    compiled = torch.compile(model, backend="eager")
    again = noted(compiled, cross_entropy, steps=2)
    assert again["stacked"] == plain["stacked"]
    for name in ("op", "last", "own", "width"):
        assert again["loss"][name] == plain["loss"][name]
    assert again["parameters"]["trained"] == plain["parameters"]["trained"]
