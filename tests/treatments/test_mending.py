"""Treatments of what a program forgot or wrote by mistake, against one without the mistake."""

from __future__ import annotations

import copy
import pickle
import threading
import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import flatline
from flatline.errors import UnsupportedError
from flatline.treatments import thaw

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(5))
Y = torch.randint(3, (32,), generator=torch.Generator().manual_seed(6))


class Functional(nn.Module):
    """Ends in a call of a function; another call of a nonlinearity lies in a child."""

    def __init__(self, end) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        self.end = end

    def forward(self, x):
        return self.end(self.body(x))


class Cut(nn.Module):
    def __init__(self, cut) -> None:
        super().__init__()
        self.back, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.cut = cut

    def forward(self, x):
        h = torch.tanh(self.back(x))
        return self.head(h.detach() if self.cut else h)


def trained(model, optimizer, *treatments, steps=4, zero=True, schedule=None, x=X):
    """The weights after some steps of an ordinary loop."""
    if treatments:
        flatline.treat(model, optimizer, *treatments)
    for _ in range(steps):
        F.cross_entropy(model(x), Y).backward()
        optimizer.step()
        if zero:
            optimizer.zero_grad()
        if schedule is not None:
            schedule.step()
    return model.state_dict()


def seeded(make, optimizer=torch.optim.Adam, **options):
    torch.manual_seed(1)
    model = make()
    return model, optimizer(model.parameters(), **({"lr": 0.01} | options))


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def net():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def test_a_loop_without_zero_grad_trains_as_one_with_it():
    want = trained(*seeded(net))

    assert not equal(trained(*seeded(net), zero=False), want)
    assert equal(trained(*seeded(net), "zero_grad=each", zero=False), want)
    assert equal(trained(*seeded(net), "zero_grad=each"), want)


def scaled(model, optimizer, *treatments, zero=False):
    """As :func:`trained`, under a scaler, with a loss that overflows in the second step."""
    if treatments:
        flatline.treat(model, optimizer, *treatments)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for step in range(5):
        loss = F.cross_entropy(model(X), Y)
        scaler.scale(loss * torch.inf if step == 1 else loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if zero:
            optimizer.zero_grad()
    return model.state_dict() | {"scale": torch.tensor(scaler.get_scale())}


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_gradients_of_a_step_that_a_scaler_skipped_are_reset_too(optimizer):
    want = scaled(*seeded(net, optimizer), zero=True)

    assert want["scale"] == 32.0
    assert scaled(*seeded(net, optimizer))["scale"] < 32.0  # all later steps are skipped as well
    assert equal(scaled(*seeded(net, optimizer), "zero_grad=each"), want)
    assert equal(scaled(*seeded(net, optimizer), "zero_grad=each", zero=True), want)


def test_a_part_behind_detach_trains_as_one_that_is_not_cut_off():
    want = trained(*seeded(lambda: Cut(False)))

    assert not equal(trained(*seeded(lambda: Cut(True))), want)
    assert equal(trained(*seeded(lambda: Cut(True)), "detach=off"), want)


def test_detach_outside_the_model_stays_what_it_is_also_after_a_failed_call():
    model, optimizer = seeded(lambda: Cut(True))
    flatline.treat(model, optimizer, "detach=off", batches=[X])

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(X[:, :2])
    assert not model(X).detach().requires_grad


def test_replicas_that_are_called_in_threads_leave_each_the_mode_that_it_entered(monkeypatch):
    """As under ``DataParallel``; the first that enters is the first that leaves."""
    model, optimizer = seeded(lambda: Cut(True))
    flatline.treat(model, optimizer, "detach=off", batches=[X])
    inside, gone = threading.Event(), threading.Event()
    order = []

    class Noted(thaw._Attached):
        def __enter__(self):
            order.append(("enters", threading.current_thread().name, self))
            return super().__enter__()

        def __exit__(self, *error):
            order.append(("leaves", threading.current_thread().name, self))
            return super().__exit__(*error)

    def first():
        model(X)
        gone.set()

    def wait(*_):
        if threading.current_thread().name == "first":
            inside.wait(30)
        else:
            inside.set()
            gone.wait(30)

    monkeypatch.setattr(thaw, "_Attached", Noted)
    model.back.register_forward_hook(wait)
    threads = [threading.Thread(target=first, name="first")]
    threads.append(threading.Thread(target=model, args=(X,), name="second"))
    threads[0].start()
    while not order:
        time.sleep(0.001)
    threads[1].start()
    for thread in threads:
        thread.join(60)

    assert [(what, name) for what, name, _ in order] == [
        *(("enters", "first"), ("enters", "second"), ("leaves", "first"), ("leaves", "second"))
    ]
    assert order[0][2] is order[2][2]
    assert order[1][2] is order[3][2]


def test_frozen_and_forgotten_parts_train_like_the_others():
    want = trained(*seeded(net, torch.optim.SGD, momentum=0.9))
    model, _ = seeded(net)
    model[0].bias.requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.01, momentum=0.9)

    assert equal(trained(model, optimizer, "unfreeze=all"), want)
    names = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(names) == sorted(map(id, model.parameters()))


def test_a_thawed_bias_joins_the_group_of_biases():
    model, _ = seeded(net)
    groups = [
        {"params": [model[2].weight], "weight_decay": 0.1},
        {"params": [model[2].bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    flatline.treat(model, optimizer, "unfreeze=all", batches=[X])

    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays[id(model[0].weight)] == 0.1
    assert decays[id(model[0].bias)] == 0.0


@pytest.mark.parametrize(
    ("kind", "function"),
    [("relu", F.relu), ("leaky_relu", F.leaky_relu), ("elu", F.elu), ("gelu", F.gelu)],
)
def test_a_nonlinearity_is_put_between_two_linear_maps_and_nowhere_else(kind, function):
    model, optimizer = seeded(
        lambda: nn.Sequential(
            nn.Linear(6, 8), nn.Dropout(0.0), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)
        )
    )
    flatline.treat(model, optimizer, f"nonlinearity={kind}", batches=[X])

    h = torch.tanh(model[2].forward(function(model[0].forward(X))))
    assert torch.equal(model(X), model[4].forward(h))
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(twin(X), model(X))
    assert set(model.state_dict()) == {f"{i}.{n}" for i in (0, 2, 4) for n in ("weight", "bias")}


class Named(nn.Module):
    """Gives its layers their input by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x, scale=1.0):
        return self.second(input=self.first(input=x)) * scale


@pytest.mark.parametrize(
    "treatment", ["standardize=input", "nan_to_num=input", "nonlinearity=relu"]
)
def test_what_is_given_by_name_is_treated_as_what_is_not(treatment):
    model, optimizer = seeded(Named)
    plain = model(X)
    x = X.clone()
    x[0, 0] = torch.inf if treatment.startswith("nan") else 0
    flatline.treat(model, optimizer, treatment, batches=[x])

    assert torch.equal(model(x=x), model(x))
    assert torch.equal(model(scale=2.0, x=x), 2 * model(x))
    assert not torch.equal(model(x=x), plain)


def test_a_bottleneck_gets_no_nonlinearity():
    model, optimizer = seeded(
        lambda: nn.Sequential(nn.Linear(6, 2), nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    )

    with pytest.raises(UnsupportedError, match="without a nonlinearity between, found none"):
        flatline.treat(model, optimizer, "nonlinearity=relu", batches=[X])


ENDS = {
    "module": nn.ReLU(),
    "function": F.relu,
    "method": lambda z: z.sigmoid(),
    "in place": lambda z: torch.relu_(z),
    "shares": lambda z: F.softmax(z, dim=1),
    "viewed": lambda z: torch.tanh(z).view(-1, 3),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("identity", lambda z: z),
        ("sigmoid", torch.sigmoid),
        ("log_softmax", lambda z: z.log_softmax(-1)),
    ],
)
def test_the_last_nonlinearity_is_replaced_and_no_other(end, kind, function):
    model, optimizer = seeded(lambda: Functional(end))
    old = copy.deepcopy(model.state_dict())
    flatline.treat(model, optimizer, f"output={kind}", batches=[X])

    assert torch.allclose(model(X), function(model.body(X)), atol=1e-6)
    assert (model.body[0](X) < 0).any()
    assert equal(model.state_dict(), old)
    model(X).sum().backward()


def test_an_output_without_nonlinearity_can_get_one_and_lose_none():
    with pytest.raises(UnsupportedError, match="whose output is that of a nonlinearity"):
        flatline.treat(*seeded(net), "output=identity", batches=[X])

    model, optimizer = seeded(net)
    plain = model(X)
    flatline.treat(model, optimizer, "output=log_softmax", batches=[X])
    assert torch.allclose(model(X), plain.log_softmax(-1))


def test_the_classes_of_an_image_are_its_channels():
    images = torch.randn(2, 3, 4, 4)
    model, optimizer = seeded(lambda: nn.Conv2d(3, 5, 1))
    plain = model(images)
    flatline.treat(model, optimizer, "output=log_softmax", batches=[images])
    assert torch.allclose(model(images), plain.log_softmax(1))


def test_a_function_that_serves_inside_as_well_is_replaced_at_the_end_alone():
    model, optimizer = seeded(lambda: Functional(lambda z: F.relu(F.relu(z) - 1)))
    flatline.treat(model, optimizer, "output=identity", batches=[X])

    assert torch.equal(model(X), F.relu(model.body(X)) - 1)
    assert torch.equal(copy.deepcopy(model)(X), model(X))
    model.end = F.relu
    with pytest.raises(UnsupportedError, match=r"3 calls of relu in each forward pass, .* found 2"):
        model(X)


def test_outputs_of_one_column_lose_their_last_dimension():
    model, optimizer = seeded(lambda: nn.Linear(6, 1))
    plain = model(X)
    flatline.treat(model, optimizer, "output=squeeze", batches=[X])
    assert torch.equal(model(X), plain[:, 0])

    model, optimizer = seeded(net)
    with pytest.raises(UnsupportedError, match=r"last dimension of 1, found \[32, 3\]"):
        flatline.treat(model, optimizer, "output=squeeze", batches=[X])


class Aside(nn.Module):
    """Gives something beside its output while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 1)

    def forward(self, x):
        out = self.head(x)
        return (out, x) if self.training else out


@pytest.mark.parametrize("treatment", ["output=squeeze", "output=sigmoid"])
def test_an_output_that_is_another_in_training_is_refused_in_words(treatment):
    model, optimizer = seeded(Aside)
    flatline.treat(model, optimizer, treatment, batches=[X])
    with pytest.raises(UnsupportedError, match=r"one tensor in training .*, found a tuple"):
        model(X)


def test_missing_values_count_as_zero_before_anything_is_measured_by_them():
    holes, filled = X.clone(), X.clone()
    holes[0, 0], holes[3, 2] = torch.nan, torch.inf
    filled[0, 0] = filled[3, 2] = 0

    want = trained(*seeded(net), "standardize=input", "init=lsuv", x=filled)
    found = trained(*seeded(net), "nan_to_num=input", "standardize=input", "init=lsuv", x=holes)
    assert equal(found, want)


def test_a_schedule_is_held_at_its_first_rate_and_sees_only_its_own_work():
    want = trained(*seeded(net))
    model, optimizer = seeded(net)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)

    assert equal(trained(model, optimizer, "schedule=constant", schedule=schedule), want)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.1**4)


def test_a_schedule_that_starts_at_zero_is_held_at_its_first_rate_above():
    model, optimizer = seeded(net)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: [0, 1, 9, 9][step])
    used = []
    flatline.treat(model, optimizer, "schedule=constant", "lr=x2")
    optimizer.register_step_pre_hook(lambda one, *_: used.append(one.param_groups[0]["lr"]))
    trained(model, optimizer, steps=3, schedule=schedule)

    assert used == [0, 0.02, 0.02]


def test_treatments_joined_in_one_text_are_those_of_several():
    want = trained(*seeded(net), "init=he", "lr=x0.5")

    assert equal(trained(*seeded(net), "init=he+lr=x0.5"), want)


@pytest.mark.parametrize("treatment", ["activation=gelu", "output=sigmoid"])
def test_whoever_listens_to_a_module_that_is_replaced_goes_on_listening(treatment):
    model, optimizer = seeded(lambda: nn.Sequential(nn.Linear(6, 3), nn.ReLU()))
    heard = []
    handle = model[1].register_forward_hook(lambda module, args, out: heard.append(out))
    end = nn.Sequential(model, nn.Linear(3, 3)) if treatment == "activation=gelu" else model
    flatline.treat(end, optimizer, treatment, batches=[X])

    heard.clear()
    want = model(X)
    assert len(heard) == 1
    assert torch.equal(heard[0], want)
    handle.remove()
    model(X)
    assert len(heard) == 1
