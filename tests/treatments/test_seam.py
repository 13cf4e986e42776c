"""Treatments at work on models and optimizers of a Python caller."""

from __future__ import annotations

import copy
import gc
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import flatline
from flatline.errors import UnsupportedError, UsageError

X = torch.randn(48, 6, generator=torch.Generator().manual_seed(3)) * 2 + 1


class Mixed(nn.Module):
    """A module, a function, a method and an in-place function, one layer run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.act, self.out = nn.ReLU(), nn.Linear(12, 3)

    def forward(self, x):
        x = self.act(self.a(x))
        x = F.relu(self.b(x))
        x = self.c(x).relu()
        z = self.c(x)
        torch.relu_(z)
        return self.out(z)


class Encoder(nn.Module):
    """A layer of torch's own that has a fused path for evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x):
        return self.layer(x)


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3, padding=1)
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        return self.out(F.relu(self.conv(x), inplace=True).mean((2, 3)))


def build(kind=Mixed, optimizer=torch.optim.Adam, **options):
    torch.manual_seed(0)
    model = kind()
    return model, optimizer(model.parameters(), lr=0.01, **options)


def step(model, optimizer, x=X):
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def bits(model):
    return {name: one.clone() for name, one in model.state_dict().items()}


def batch_of(kind):
    return (
        X if kind is Mixed else torch.randn(8, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    )


@pytest.mark.parametrize("kind", [Mixed, Conv])
def test_prelu_begins_as_relu_and_is_trained(kind):
    model, optimizer = build(kind)
    x = batch_of(kind)
    before, old = model(x), bits(model)

    flatline.treat(model, optimizer, "activation=prelu", batches=[x])

    assert torch.equal(model(x), before)
    assert all(torch.equal(bits(model)[name], old[name]) for name in old)
    slopes = [p for name, p in model.named_parameters() if name not in old]
    assert len(slopes) == (2 if kind is Mixed else 1)
    step(model, optimizer, x)
    assert all(slope.item() != 0 for slope in slopes)


@pytest.mark.parametrize(
    ("kind", "function"),
    [("leaky_relu", F.leaky_relu), ("elu", F.elu), ("gelu", F.gelu), ("silu", F.silu)],
)
def test_swapped_calls_of_every_kind_compute_the_other_function(kind, function):
    model, optimizer = build()
    flatline.treat(model, optimizer, f"activation={kind}", batches=[X])

    x = function(model.a(X))
    x = function(model.b(x))
    want = model.out(function(model.c(function(model.c(x)))))
    assert torch.allclose(model(X), want, atol=1e-6)
    model(X).sum().backward()


@pytest.mark.parametrize("treatment", ["activation=silu", "norm=layer"])
def test_fused_paths_compute_what_training_does(treatment):
    model, optimizer = build(Encoder)
    x = X.reshape(6, 8, 6)
    flatline.treat(model, optimizer, treatment, batches=[x])

    with torch.no_grad():
        trained = model(x)
        assert torch.allclose(model.eval()(x), trained, atol=1e-6)


def test_a_call_that_is_no_nonlinearity_of_units_is_left_alone_and_named(capsys):
    class Gate(Mixed):
        def forward(self, x):
            return super().forward(x) * F.relu(x.mean())

    model, optimizer = build(Gate)
    flatline.treat(model, optimizer, "activation=elu", batches=[X])

    said = capsys.readouterr().err
    assert isinstance(model.act, nn.ELU)
    assert type(model) is Gate
    assert "leaves Gate as it is: of 5 calls of relu in its forward pass 4" in said


@pytest.mark.parametrize("kind", [Mixed, Conv])
def test_batch_normalisation_keeps_the_first_batch(kind):
    model, optimizer = build(kind)
    model.double()
    x = batch_of(kind).double()
    before, old = model(x), bits(model)

    flatline.treat(model, optimizer, "norm=batch", batches=[x])

    assert torch.allclose(model.eval()(x), before, atol=1e-12)
    if kind is Conv:  # a layer that runs twice on one batch has two distributions in training
        assert torch.allclose(model.train()(x), before, atol=1e-12)
    assert all(torch.equal(bits(model)[name], old[name]) for name in old)


@pytest.mark.parametrize("treatment", ["norm=layer", "norm=batch"])
@pytest.mark.parametrize("kind", [Mixed, Conv])
def test_normalisations_are_trained_saved_and_loaded(kind, treatment):
    x = batch_of(kind)
    model, optimizer = build(kind)
    flatline.treat(model, optimizer, treatment, batches=[x])
    step(model, optimizer, x)
    added = [p for name, p in model.named_parameters() if "flatline" in name]
    assert added
    assert all(p in optimizer.state for p in added)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)

    file.seek(0)
    saved = torch.load(file)
    twin, other = build(kind)
    flatline.treat(twin, other, treatment, batches=[x])
    twin.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    step(model, optimizer, x)
    step(twin, other, x)

    assert all(torch.equal(one, bits(twin)[name]) for name, one in bits(model).items())


@pytest.mark.parametrize("treatment", ["activation=prelu", "activation=silu", "norm=batch"])
def test_treated_models_are_copied_and_pickled(treatment):
    model, optimizer = build()
    flatline.treat(model, optimizer, treatment, batches=[X])
    model.eval()
    want = model(X)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    twin = copy.deepcopy(model)

    assert torch.equal(torch.load(file, weights_only=False)(X), want)
    assert torch.equal(twin(X), want)
    with torch.no_grad():
        twin.out.weight.zero_()
    assert torch.equal(model(X), want)


def test_new_parameters_join_the_group_of_the_layers_bias():
    torch.manual_seed(0)
    model = Mixed()
    weights = [("w" + str(i), p) for i, p in enumerate(model.parameters()) if p.ndim > 1]
    biases = [("b" + str(i), p) for i, p in enumerate(model.parameters()) if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": weights}, {"params": biases, "weight_decay": 0.0}], lr=0.1, weight_decay=0.1
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    flatline.treat(model, optimizer, "norm=layer", "activation=prelu", batches=[X])
    step(model, optimizer)
    schedule.step()

    assert len(optimizer.param_groups[0]["params"]) == len(weights)
    assert len(optimizer.param_groups[1]["params"]) > len(biases)
    assert "b.flatline_norm.weight" in optimizer.param_groups[1]["param_names"]
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05]


@pytest.mark.parametrize("value", ["he", "xavier", "lsuv", "orthogonal", "asymmetric"])
def test_initialisation_sets_trained_layers_alone_and_draws_nothing_of_the_programs(value):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(9, 6), nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3)
    )
    model[4].requires_grad_(False)
    optimizer = torch.optim.Adam(model[:4].parameters())
    old, state = bits(model), torch.get_rng_state()

    flatline.treat(model, optimizer, f"init={value}", batches=[torch.arange(9)])

    changed = {name for name, one in bits(model).items() if not torch.equal(one, old[name])}
    assert changed == {"1.weight", "1.bias"}
    assert torch.equal(torch.get_rng_state(), state)


def test_lsuv_gives_every_layer_an_output_of_variance_one():
    model, optimizer = build()
    variances = {}
    flatline.treat(model, optimizer, "init=lsuv", batches=[X])
    for name in ("a", "b", "out"):
        getattr(model, name).register_forward_hook(
            lambda layer, args, out, name=name: variances.update({name: out.var().item()})
        )
    model(X)

    assert all(abs(variance - 1) < 0.1 for variance in variances.values()), variances


@pytest.mark.parametrize("treatment", ["init=lsuv", "norm=layer+init=he", "standardize=input"])
def test_a_model_is_treated_under_autocast_as_without(treatment):
    """The copies of weights that autocast keeps are those of the treated weights."""
    treated = []
    for enabled in (False, True):
        model, optimizer = build()
        flatline.treat(model, optimizer, treatment)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model(X)  # also the first call after the treatment
            treated.append(model(X).float())

    assert torch.allclose(*treated, atol=0.1), treated


def test_tied_weights_are_drawn_once_and_stay_tied():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    flatline.treat(model, optimizer, "init=orthogonal", batches=[X])

    assert model[2].weight is model[0].weight
    assert torch.allclose(model[0].weight @ model[0].weight.T, 2 * torch.eye(6), atol=1e-5)


def test_inputs_are_standardised_feature_by_feature_and_the_moments_are_saved():
    model, optimizer = build()
    x = X.clone()
    x[:, 2] = 5.0
    seen = []
    flatline.treat(model, optimizer, "standardize=input")
    model.a.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))

    model(x)

    want = (x - x.mean(0)) / x.std(0, correction=0).where(x.std(0) > 0, torch.tensor(1.0))
    assert torch.allclose(seen[-1], want, atol=1e-5)
    assert {"flatline_input_mean", "flatline_input_scale"} <= model.state_dict().keys()


@pytest.mark.parametrize("compiled", [False, True])
def test_the_model_is_treated_on_its_first_training_batch(compiled):
    model, optimizer = build()
    called = torch.compile(model, backend="eager") if compiled else model
    with torch.no_grad():
        model.eval()
        untreated = called(X)
    flatline.treat(model, optimizer, "activation=elu", "norm=layer")
    with torch.no_grad():
        assert torch.equal(called(X), untreated)

    model.train()
    step(called, optimizer)

    assert isinstance(model.act, nn.ELU)
    assert not hasattr(nn.Module.__call__, "__wrapped__")
    added = [p for name, p in model.named_parameters() if "flatline" in name]
    assert all(p in optimizer.state for p in added)


def test_rates_are_those_of_the_treatment_within_the_step_alone():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    model = nn.Module()
    model.p = parameter
    flatline.treat(model, optimizer, "lr=x0.1", "warmup=4")

    moved = []
    for _ in range(6):
        parameter.grad = torch.ones(1)
        before = parameter.item()
        optimizer.step()
        moved.append(before - parameter.item())
        schedule.step()

    want = [0.1 * min(1, (t + 1) / 4) * 0.5 * 0.5**t for t in range(6)]
    assert moved == pytest.approx(want, rel=1e-4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5**7)


def test_clipped_gradients_are_what_the_step_uses():
    model, optimizer = build(optimizer=torch.optim.SGD)
    old = bits(model)
    flatline.treat(model, optimizer, "clip=norm:0.001")

    step(model, optimizer)

    moved = sum((one - old[name]).square().sum() for name, one in bits(model).items()).sqrt()
    assert moved.item() == pytest.approx(0.01 * 0.001, rel=1e-2)


@pytest.mark.parametrize("by_name", [False, True])
def test_steps_with_a_closure_are_treated_as_those_without(by_name):
    model, optimizer = build(optimizer=torch.optim.SGD)
    twin, other = build(optimizer=torch.optim.SGD)
    for one in ((model, optimizer), (twin, other)):
        flatline.treat(*one, "activation=elu", "clip=norm:0.01", "lr=x0.5")

    def closure():
        optimizer.zero_grad()
        loss = model(X).square().mean()
        loss.backward()
        return loss

    loss = optimizer.step(closure=closure) if by_name else optimizer.step(closure)
    assert loss.item() > 0
    step(twin, other)

    assert all(torch.equal(one, bits(twin)[name]) for name, one in bits(model).items())


def test_a_model_that_is_never_called_as_a_whole_is_refused():
    model, optimizer = build()
    flatline.treat(model, optimizer, "norm=batch")
    model.a(X).sum().backward()

    with pytest.raises(UnsupportedError, match="expected the model to be called as a whole"):
        optimizer.step()
    model(X)  # or it would wait on


def test_nothing_waits_for_a_model_that_is_gone():
    model, optimizer = build()
    flatline.treat(model, optimizer, "norm=batch")
    assert hasattr(nn.Module.__call__, "__wrapped__")
    del model, optimizer
    gc.collect()

    nn.Linear(1, 1)(torch.ones(1))

    assert not hasattr(nn.Module.__call__, "__wrapped__")


def test_weight_decay_leaves_groups_without_alone():
    model, _ = build()
    groups = [{"params": [model.a.weight]}, {"params": [model.a.bias], "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.1)

    flatline.treat(model, optimizer, "weight_decay=0.003")

    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.003, 0]


def test_what_remembers_old_weights_is_dropped_and_nothing_else():
    model, optimizer = build()
    step(model, optimizer)
    with pytest.raises(UnsupportedError, match=r"init=he: expected a model with fresh weights"):
        flatline.treat(model, optimizer, "init=he", batches=[X])
    state = {p: {key: one.clone() for key, one in s.items()} for p, s in optimizer.state.items()}

    flatline.treat(model, optimizer, "norm=batch", "activation=leaky_relu", batches=[X])

    assert optimizer.state.keys() == state.keys()
    for p, old in state.items():
        assert all(torch.equal(optimizer.state[p][key], one) for key, one in old.items())


@pytest.mark.parametrize(
    ("model", "treatment", "message"),
    [
        (nn.Sequential(nn.Linear(6, 4)), "activation=elu", "nonlinearity that can be replaced"),
        (nn.Sequential(nn.Linear(6, 4)), "norm=batch", "a nonlinearity right behind"),
        (nn.Sequential(nn.LayerNorm(6)), "init=he", "linear or convolutional layers"),
        (nn.Sequential(nn.Embedding(9, 6)), "standardize=input", "batch of real numbers"),
    ],
)
def test_what_does_not_apply_is_refused(model, treatment, message):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.arange(9) if isinstance(model[0], nn.Embedding) else X
    with pytest.raises(UnsupportedError, match=f"{treatment}: expected .*{message}"):
        flatline.treat(model, optimizer, treatment, batches=[x])


def test_what_was_refused_does_not_act_all_the_same():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    model = nn.Module()
    model.p = parameter
    with pytest.raises(UnsupportedError):
        flatline.treat(model, optimizer, "lr=x0.1", "norm=batch", batches=[torch.ones(2, 3)])

    parameter.grad = torch.ones(1)
    optimizer.step()
    assert parameter.item() == -1.0


@pytest.mark.parametrize(
    ("factor", "dtype"),
    [("1e308", torch.float32), ("1e40", torch.bfloat16), ("1e6", torch.float16)],
)
def test_a_rate_that_no_parameter_can_hold_is_refused_with_the_factors_that_can(factor, dtype):
    model = nn.Linear(2, 2, dtype=dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UnsupportedError, match=r"found 0\.1 times 1e") as no:
        flatline.treat(model, optimizer, f"lr=x{factor}")
    _, most = str(no.value).split("give a factor above 0 and at most ")

    flatline.treat(model, optimizer, f"lr=x{most}")
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    assert model.weight.isfinite().all()
    assert float(most) * 0.1 > 0.98 * torch.finfo(dtype).max


def test_a_rate_may_be_as_large_as_parameters_can_hold():
    model = nn.Linear(2, 2, dtype=torch.float64)
    flatline.treat(model, torch.optim.SGD(model.parameters(), lr=0.1), "lr=x1e308")


def test_wrong_calls_are_refused():
    model, optimizer = build()
    with pytest.raises(UsageError, match="did you mean init=he"):
        flatline.treat(model, optimizer, "init=hee")
    with pytest.raises(UsageError, match=r"expected a torch\.optim\.Optimizer"):
        flatline.treat(model, model, "init=he")
    with pytest.raises(UsageError, match="at least one batch"):
        flatline.treat(model, optimizer, "init=he", batches=[])


def test_without_treatments_nothing_changes():
    model, optimizer = build()
    twin, other = build()
    flatline.treat(model, optimizer)
    for _ in range(3):
        step(model, optimizer)
        step(twin, other)

    assert all(torch.equal(one, bits(twin)[name]) for name, one in bits(model).items())


def test_the_rate_that_is_recorded_is_the_one_of_the_treated_step():
    model, optimizer = build()
    flatline.treat(model, optimizer, "lr=x0.1")
    with flatline.Monitor(model, optimizer, budget=1.0) as monitor:
        for _ in range(40):  # some are examined, most only collected
            step(model, optimizer)
        rates = [rate for _, rate in monitor.report().metrics["lr"]]
    assert rates == [pytest.approx(0.001)] * 40
