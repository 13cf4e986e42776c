"""Treatments that change how wide a model is, what it is scaled to, and where functions end."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm
from torch.testing import assert_close

import flatline
from flatline.errors import UnsupportedError
from flatline.treatments import floor

LOG = torch.log
X = torch.randn(32, 6, generator=torch.Generator().manual_seed(5))


class Averaged(nn.Module):
    """A layer whose output the average over the batch is added to."""

    def __init__(self, inner) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        h = self.inner(x)
        return 0.05 * h + 0.95 * h.mean(0, keepdim=True)


class Views(nn.Module):
    """Depends on the width of its layer in a place where no parameter says so."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)).reshape(-1, 2, 2).flatten(1))


class Pair(nn.Module):
    """Gives its features away beside its output, or in a mapping what depends on their number."""

    def __init__(self, *, mapping: bool) -> None:
        super().__init__()
        self.a, self.b, self.mapping = nn.Linear(6, 2), nn.Linear(2, 3), mapping

    def forward(self, x):
        h = torch.relu(self.a(x))
        out = self.b(h / (1 + h.mean(-1, keepdim=True)))
        return {"out": out} if self.mapping else (self.b(h), [h])


class Shared(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.i, self.a, self.b, self.o = (
            nn.Linear(k, n) for k, n in ((6, 4), (4, 4), (4, 4), (4, 3))
        )
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.o(torch.tanh(self.b(torch.tanh(self.a(torch.tanh(self.i(x)))))))


def computed_weight():
    model = nn.Sequential(nn.Linear(6, 2, bias=False), nn.Tanh(), nn.Linear(2, 3))
    spectral_norm(model[0])
    return spectral_norm(model[2]) and model


class Asserts(Views):
    """Insists on the width that it was written for."""

    def forward(self, x):
        h = torch.relu(self.a(x))
        assert h.shape[1] == 4
        return self.b(h)


class Averages(Views):
    """Divides by the width, and hands its output out in a dictionary."""

    def forward(self, x):
        h = torch.relu(self.a(x))
        return {"logits": self.b(h / h.shape[1])}


def pinched():
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1), nn.ReLU(), nn.Linear(1, 16), nn.ReLU(),
        nn.Linear(16, 3),
    )  # fmt: skip


def treated(make, *treatments, x=X):
    torch.manual_seed(1)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    flatline.treat(model, optimizer, *treatments, batches=[x])
    return model, optimizer


def fresh(make):
    torch.manual_seed(1)
    return make()


def test_a_wider_layer_computes_the_same_and_its_new_units_are_trained():
    model, optimizer = treated(pinched, "widen=8")

    assert torch.allclose(model(X), fresh(pinched)(X), atol=1e-6)
    assert [tuple(p.shape) for p in model.parameters() if p.ndim > 1] == [
        *((16, 6), (8, 16), (16, 8), (3, 16))
    ]
    assert (model[2].out_features, model[4].in_features) == (8, 8)
    assert torch.equal(model[4].weight[:, 1:], torch.zeros(16, 7))
    assert len({tuple(row) for row in model[2].weight.tolist()}) == 8
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):  # in the first step nothing reads the new units
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
    moved = (model[2].weight - before["2.weight"]).abs().sum(1) > 0
    assert moved.sum() >= 3  # about half of them are silent on any input, as ReLU units are
    assert (model[4].weight[:, 1:] != 0).any()


def test_gradients_and_numbers_of_before_the_first_batch_do_not_stop_widening():
    model = fresh(pinched)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    flatline.treat(model, optimizer, "widen=8", batches=[torch.full((4, 6), torch.nan)])

    optimizer.zero_grad(set_to_none=False)
    model(X).square().sum().backward()
    optimizer.step()
    assert model[2].weight.grad.shape == (8, 16)


@pytest.mark.parametrize("treatment", ["widen=8", "init=he", "init=orthogonal", "init=asymmetric"])
def test_weights_are_drawn_alike_whatever_the_default_device(treatment):
    plain, _ = treated(pinched, treatment)
    model = fresh(pinched)
    optimizer = torch.optim.Adam(model.parameters())
    with torch.device("meta"):
        flatline.treat(model, optimizer, treatment, batches=[X])

    assert all(map(torch.equal, model.parameters(), plain.parameters()))


def test_a_model_may_be_widened_within_the_first_step_of_lbfgs():
    model = fresh(pinched)
    optimizer = torch.optim.LBFGS(model.parameters())
    flatline.treat(model, optimizer, "widen=8")

    def closure():
        optimizer.zero_grad()
        loss = model(X).square().mean()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(2)]
    assert losses[1] < losses[0]
    assert model[2].out_features == 8


def test_an_optimizer_that_prepares_its_state_has_not_trained():
    model = fresh(pinched)
    optimizer = torch.optim.Adagrad(model.parameters())
    flatline.treat(model, optimizer, "widen=8", batches=[X])

    model(X).square().sum().backward()
    optimizer.step()
    assert optimizer.state[model[2].weight]["sum"].shape == (8, 16)
    with pytest.raises(UnsupportedError, match="it was trained already"):
        flatline.treat(model, optimizer, "init=he", batches=[X])


def test_widening_draws_nothing_of_the_programs_and_leaves_the_old_weights():
    model, _ = treated(pinched, "widen=8")
    drawn = torch.rand(3)

    old = fresh(pinched)
    assert torch.equal(torch.rand(3), drawn)
    assert torch.equal(model[2].weight[:1], old[2].weight)
    assert torch.equal(model[4].weight[:, :1], old[4].weight)
    for name in ("0.weight", "0.bias", "4.bias", "6.weight", "6.bias"):
        assert torch.equal(model.state_dict()[name], old.state_dict()[name])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), "fewer than 4 units"),
        (lambda: nn.Sequential(nn.Linear(6, 2), nn.Tanh()), "that read it, found none"),
        (Views, "found that with more units mat1"),
        (Asserts, "found that with more units (AssertionError|assert)"),
        (Averages, "found that with more units it computes something else"),
        (
            lambda: nn.Sequential(nn.Linear(6, 2), nn.Tanh(), nn.LayerNorm(2), nn.Linear(2, 3)),
            "found that with more units|found none",
        ),
        (lambda: Pair(mapping=False), "more units it computes something else"),
        (lambda: Pair(mapping=True), "more units it computes something else"),
        (Shared, "found that with more units"),
        (computed_weight, "that read it, found none"),
    ],
)
def test_what_cannot_be_widened_is_refused(make, why):
    width = 9 if make in (Views, Asserts, Averages, Shared) else 4

    model, old = fresh(make), fresh(make)
    optimizer = torch.optim.Adam(model.parameters())

    with pytest.raises(UnsupportedError, match=why):
        flatline.treat(model, optimizer, f"widen={width}", batches=[X])
    assert str(model) == str(old)
    assert [p.shape for p in model.parameters()] == [p.shape for p in old.parameters()]
    assert all(map(torch.equal, model.parameters(), old.parameters()))
    assert_close(model.eval()(X), old.eval()(X), rtol=0, atol=0)


@pytest.mark.parametrize("act", [nn.Tanh, nn.ReLU])
def test_a_standard_normalisation_gives_units_mean_0_and_variance_1(act):
    seen = []
    model, _ = treated(
        lambda: nn.Sequential(nn.Linear(6, 8), act(), nn.Linear(8, 3)), "norm=batch:standard"
    )
    model[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(X)

    assert torch.allclose(seen[0].mean(0), torch.zeros(8), atol=1e-6)
    assert torch.allclose(seen[0].var(0, correction=0), torch.ones(8), atol=1e-3)


def smoothed():
    return nn.Sequential(Averaged(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 3))


def test_what_is_added_to_a_layers_output_is_normalised_with_it():
    model, optimizer = treated(smoothed, "norm=batch:standard")

    z = Averaged.forward(model[0], X)
    want = torch.tanh((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt())
    assert torch.allclose(model(X), model[2](want), atol=1e-5)
    assert "1.flatline_norm.weight" in dict(model.named_parameters())
    assert any(model[1].flatline_norm.weight is p for p in optimizer.param_groups[0]["params"])
    twin = pickle.loads(pickle.dumps(model.eval()))
    assert torch.equal(twin(X), model(X))


@pytest.mark.parametrize("rows", [1, 0])
def test_a_last_batch_of_one_example_is_normalised_by_the_running_moments(rows):
    model, optimizer = treated(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), "norm=batch:standard"
    )
    model(X)
    running = copy.deepcopy(model.state_dict())

    out = model(X[:rows])
    out.sum().backward()
    optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())
    model.load_state_dict(running)
    assert torch.equal(out, model.eval()(X[:rows]))


def test_a_normalisation_of_a_sum_keeps_the_first_batch():
    model, _ = treated(smoothed, "norm=batch")

    assert torch.allclose(model.eval()(X), fresh(smoothed).eval()(X), atol=1e-5)


def test_a_sum_that_a_nonlinearity_is_given_by_name_is_normalised():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.act = Averaged(nn.Linear(6, 8)), nn.Tanh()

        def forward(self, x):
            return self.act(input=self.body(x))

    model, _ = treated(Named, "norm=batch")

    assert hasattr(model.act, "flatline_norm")
    assert_close(model.eval()(X), fresh(Named).eval()(X), rtol=0, atol=1e-5)


def test_a_nonlinearity_that_runs_twice_on_sums_is_left_alone_and_named(capsys):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Averaged(nn.Linear(6, 6)), nn.Linear(6, 6)
            self.act, self.out = nn.ReLU(), nn.Linear(6, 3)

        def forward(self, x):
            return self.out(self.act(self.b(self.act(self.a(x)))))

    model, _ = treated(Twice, "norm=batch")

    assert hasattr(model.b, "flatline_norm")
    assert not hasattr(model.act, "flatline_norm")
    assert "before a.inner's nonlinearity: something is added to what" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def plain():
    """Gives torch's functions back at the end of a test in which a floor stands for them."""
    yield
    floor._TREATED.clear()
    floor._FLOORS.clear()
    floor._give_back()
    assert torch.log is LOG
    assert "log" not in vars(torch.Tensor)  # it inherits that


@pytest.mark.parametrize(
    ("loss", "steps"),
    [
        (lambda out: -(out.softmax(-1) * 0).log().mean(), 3),
        (lambda out: (out - out.detach()).square().sum(-1).sqrt().mean() + out.square().mean(), 3),
        (lambda out: -torch.log(torch.relu(out - 100)).mean(), 3),
    ],
)
def test_a_floor_keeps_losses_and_gradients_finite(loss, steps):
    floored = nn.Sequential(nn.Linear(6, 3))
    optimizer = torch.optim.SGD(floored.parameters(), lr=0.1)
    assert not loss(floored(X)).isfinite() or _gradient(floored, loss).isnan().any()
    flatline.treat(floored, optimizer, "floor=1e-12")
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(floored(X))
        value.backward()
        optimizer.step()

        assert value.isfinite()
        assert all(p.isfinite().all() for p in floored.parameters())
        assert torch.log(torch.zeros(1, requires_grad=True)).isinf()


def _gradient(model, loss):
    return torch.autograd.grad(loss(model(X)), model[0].weight)[0]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_floor_holds_where_the_function_is_looked_up_before_the_model_runs(kind):
    model = nn.Sequential(nn.Linear(6, 3)).to(kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flatline.treat(model, optimizer, "floor=1e-12")
    for _ in range(2):
        loss = torch.log(torch.relu(model(X.to(kind)) - 100)).mean()
        loss.backward()
        optimizer.step()

        assert loss.isfinite()
        assert all(p.isfinite().all() for p in model.parameters())


def test_a_floor_holds_in_closures_and_ends_with_their_step():
    model = nn.Sequential(nn.Linear(6, 3))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)
    flatline.treat(model, optimizer, "floor=1e-12")

    def closure():
        optimizer.zero_grad()
        loss = torch.log(torch.relu(model(X) - 100)).mean()
        loss.backward()
        return loss

    assert optimizer.step(closure).isfinite()
    assert torch.log(torch.zeros(1, requires_grad=True)).isinf()


def test_a_floor_leaves_what_has_no_order_and_the_programs_own_functions_alone(monkeypatch):
    model, plain = nn.Sequential(nn.Linear(6, 3)), torch.sqrt
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flatline.treat(model, optimizer, "floor=1e-12")
    wave = torch.fft.fft(model(X))
    assert torch.equal(torch.sqrt(wave), plain(wave))
    with pytest.raises(TypeError):
        torch.log(3.0)

    def mine(x):
        return x

    monkeypatch.setattr(torch, "log", mine)
    wave.abs().sum().backward()
    optimizer.step()
    assert torch.log is mine


def test_a_model_that_keeps_a_function_with_a_floor_is_pickled():
    model = nn.Sequential(nn.Linear(6, 3))
    flatline.treat(model, torch.optim.SGD(model.parameters(), lr=0.1), "floor=1e-12")
    model.ending, model.root = torch.log, torch.Tensor.sqrt

    twin = pickle.loads(pickle.dumps(model))
    assert twin.ending is torch.log
    assert twin.root is torch.Tensor.sqrt


def test_a_floor_leaves_other_numbers_and_functions_outside_the_training_as_they_are():
    model = nn.Sequential(nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    zero, log = torch.zeros(1), torch.Tensor.log
    flatline.treat(model, optimizer, "floor=1e-6")

    chance = model(X).softmax(-1)
    assert torch.equal(chance.log(), log(chance))
    assert torch.log(zero).isinf()  # no gradient is asked for
    assert torch.log(torch.tensor(-1.0, requires_grad=True)).isnan()
    assert torch.log(torch.tensor(torch.nan, requires_grad=True)).isnan()
    chance.sum().backward()
    optimizer.step()
    assert torch.log(zero.clone().requires_grad_()).isinf()
    with torch.no_grad():
        model(X)
    assert torch.log(zero.clone().requires_grad_()).isinf()
    model.eval()(X)  # an evaluation that forgot no_grad()
    assert torch.log(zero.clone().requires_grad_()).isinf()


def _floors(model):
    """Whether a logarithm has a floor after a forward pass in training."""
    model(X)
    return _floored()


def _floored():
    return torch.log(torch.zeros(1, requires_grad=True)).isfinite().all()


def test_a_floor_ends_with_the_treating_whatever_ended_it():
    model = nn.Sequential(nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with pytest.raises(UnsupportedError, match="widen=8"):
        flatline.treat(model, optimizer, "floor=1e-6", "widen=8", batches=[X])
    assert not _floors(model)


def test_a_copy_of_a_model_replaces_nothing_in_a_process_that_treats_nothing(monkeypatch):
    model, _ = treated(lambda: nn.Sequential(nn.Linear(6, 3)), "floor=1e-6")
    twin = pickle.loads(pickle.dumps(model))

    monkeypatch.setattr(floor, "_TREATED", set())
    assert not _floors(twin)


def test_a_floor_ends_with_a_step_that_calls_the_model_itself_and_with_one_that_is_skipped():
    model = nn.Sequential(nn.Linear(6, 3))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)
    flatline.treat(model, optimizer, "floor=1e-6", batches=[X])
    inside = []

    def closure():
        optimizer.zero_grad()
        inside.append(_floors(model))
        loss = model(X).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert inside
    assert all(inside)
    assert not _floored()

    model = nn.Sequential(nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flatline.treat(model, optimizer, "floor=1e-6", batches=[X])
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(X).sum() * torch.inf).backward()
    assert _floored()
    scaler.step(optimizer)
    assert not _floored()


def test_a_floor_holds_in_half_precision_and_leaves_complex_numbers_alone():
    model = nn.Sequential(nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flatline.treat(model, optimizer, "floor=1e-12", batches=[X])
    zero = torch.zeros(2, dtype=torch.float16, requires_grad=True)
    turn = torch.ones(2, dtype=torch.complex64, requires_grad=True)

    assert _floors(model)
    logarithm = torch.log(zero)
    logarithm.sum().backward()
    assert logarithm.isfinite().all()
    assert torch.equal(zero.grad, torch.zeros_like(zero))
    assert torch.equal(torch.log(turn), LOG(turn))
    optimizer.step()


def test_two_models_have_a_floor_each_from_forward_pass_to_step():
    models = [nn.Sequential(nn.Linear(6, 3)) for _ in range(2)]
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in models]
    for one, optimizer, least in zip(models, optimizers, ("1e-6", "1e-2"), strict=True):
        flatline.treat(one, optimizer, f"floor={least}", batches=[X])

    outs = [one(X) for one in models]
    sum(out.sum() for out in outs).backward()
    assert torch.log(torch.zeros(1, requires_grad=True)).exp().item() == pytest.approx(1e-2)
    optimizers[1].step()
    assert torch.log(torch.zeros(1, requires_grad=True)).exp().item() == pytest.approx(1e-6)
    optimizers[0].step()
    assert not _floored()


def test_running_moments_of_standard_normalisations_are_those_behind_the_others():
    def deep():
        return nn.Sequential(
            nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(),
            nn.Linear(8, 3),
        )  # fmt: skip

    model, _ = treated(deep, "norm=batch:standard")
    before = copy.deepcopy(model.state_dict())
    trained = model(X)

    model.load_state_dict(before)
    # Running variances are unbiased ones.
    assert_close(model.eval()(X), trained, rtol=0, atol=0.1)
    assert {norm.momentum for norm in model.modules() if isinstance(norm, nn.BatchNorm1d)} == {0.1}
