"""The Python interface: one training watched in several ways, censuses, metrics, and their ends."""

from __future__ import annotations

import gc
import math
import random
import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatline
from brute_force import known_truth
from flatline.errors import UsageError
from flatline.record.store import Store
from flatline.sense.pacer import Pacer
from flatline.session import Session
from untouched import bits, differences, surroundings
from watching import watched
from workloads import WORKLOADS, clusters, mlp

KINDS = [
    "accumulation",
    "autocast",
    "checkpointing",
    "cnn_batchnorm",
    "compiled_mlp",
    "experts",
    "lbfgs",
    "moving_average",
    "penalty_in_loss",
    "revival",
    "weight_tying",
]


@pytest.fixture
def paced(monkeypatch):
    """Exams come at every fifth step and when the pulse asks, whatever the clock says."""
    monkeypatch.setattr(
        Pacer, "due", lambda self, step, elapsed, event: step % 5 == 0 or bool(event)
    )


def monitored(which, **options):
    workload = WORKLOADS[which]
    training = workload.build()
    with flatline.Monitor(training.model, training.optimizer, **options) as monitor:
        for _ in range(workload.steps):
            training.step()
    return monitor.report()


def what_was_seen(report):
    """A report without what the clock and the store say."""
    found = report.to_dict()
    assert report.lost == ()
    ran = found.pop("run")
    return found | {key: ran[key] for key in ("status", "steps", "examples", "torch", "device")}


# -- one training, watched in two ways ------------------------------------------------------------


@pytest.mark.usefixtures("paced")
@pytest.mark.parametrize("name", KINDS)
def test_a_monitor_and_a_run_see_the_same(name, tmp_path):
    session = Session(tmp_path / "runs.db", quiet=True)
    session.attach()
    training = WORKLOADS[name].build()
    for _ in range(WORKLOADS[name].steps):
        training.step()
    of_run = session.finish("finished")
    assert what_was_seen(of_run) == what_was_seen(monitored(name))
    assert what_was_seen(of_run)["steps"] == WORKLOADS[name].steps


@pytest.mark.parametrize("name", ["functional", "inplace", "revival", "autocast", "norms"])
def test_exact_deaths_of_a_monitor_at_its_own_pace_are_true(name):
    report = monitored(name, budget=1.0)
    exact = [unit for unit in report.units if unit.state == "dead" and unit.since_exact]
    truth = known_truth(name)
    for unit in exact:
        assert unit.since_step == truth[unit.site].last_life[unit.unit] + 1
    assert exact


def test_a_monitor_without_a_budget_has_one_exam_and_the_pulse():
    report = monitored("revival", budget=0)
    assert report.run["overhead"]["exams"] == 1
    assert [site.name for site in report.sites] == ["0", "2"]
    assert len(report.metrics["loss"]) == WORKLOADS["revival"].steps


def test_a_monitor_names_sites_of_a_compiled_model_like_those_of_the_model():
    torch.manual_seed(0)
    plain = mlp()
    compiled = torch.compile(plain, backend="eager", fullgraph=True)
    batches = clusters(16)
    optimizer = torch.optim.SGD(compiled.parameters(), 0.1)
    x, y = next(batches)
    F.cross_entropy(compiled(x), y).backward()  # compiled before anybody watches
    with flatline.Monitor(compiled, optimizer) as monitor:
        for _ in range(3):
            x, y = next(batches)
            optimizer.zero_grad()
            F.cross_entropy(compiled(x), y).backward()
            optimizer.step()
    assert [site.name for site in monitor.report().sites] == ["0", "2"]
    assert monitor.report().sites[0].feeds == ("0.weight", "0.bias")


# -- the life of a monitor ------------------------------------------------------------------------


def test_a_report_can_be_asked_for_at_any_time_and_changes_nothing():
    bare = WORKLOADS["cnn_batchnorm"].build()
    training = WORKLOADS["cnn_batchnorm"].build()
    with flatline.Monitor(training.model, training.optimizer) as monitor:
        empty = monitor.report()
        assert (empty.sites, empty.run["steps"], empty.run["status"]) == ((), 0, "running")
        for done in range(1, 9):
            training.step()
            report = monitor.report()
            assert report.run["steps"] == done
            assert report.run["status"] == "running"
            assert len(report.sites) == 3
            assert [step for step, _ in report.metrics["loss"]] == [*range(done)]
    for _ in range(8):
        bare.step()
    assert not differences(bits(bare.model), bits(training.model))
    assert monitor.report().run["status"] == "finished"


def test_a_report_names_the_device_that_the_training_runs_on():
    model = mlp().to("meta")  # the only device beside the CPU that is everywhere
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, _ = next(clusters(16))
    with flatline.Monitor(model, optimizer) as monitor:
        model(x.to("meta")).sum().backward()
        optimizer.step()
    assert monitor.report().run["device"] == "meta"


def test_a_monitor_may_be_closed_twice_and_sees_nothing_after_that():
    before = surroundings()
    training = WORKLOADS["mlp_relu"].build()
    monitor = flatline.Monitor(training.model, training.optimizer)
    for _ in range(3):
        training.step()
    monitor.close()
    assert not differences(before, surroundings())
    monitor.close()
    training.step()
    assert monitor.report().run["steps"] == 3
    assert monitor.report().to_dict() == monitor.report().to_dict()


def test_one_monitor_after_another_counts_from_0_again():
    training = WORKLOADS["mlp_relu_killed"].build()
    reports = []
    for _ in range(2):
        with flatline.Monitor(training.model, training.optimizer) as monitor:
            for _ in range(4):
                training.step()
        reports.append(monitor.report())
    assert [report.run["steps"] for report in reports] == [4, 4]
    assert [[step for step, _ in report.metrics["loss"]] for report in reports] == [
        [0, 1, 2, 3]
    ] * 2
    losses = [[loss for _, loss in report.metrics["loss"]] for report in reports]
    assert losses[0] != losses[1]


def test_a_training_that_raises_leaves_a_failed_run_and_its_own_error():
    before = surroundings()
    training = WORKLOADS["mlp_relu"].build()
    monitor = flatline.Monitor(training.model, training.optimizer)

    def train():
        with monitor:
            training.step()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert monitor.report().run["status"] == "failed"
    assert not differences(before, surroundings())


def test_a_monitor_writes_the_store_it_is_given(tmp_path):
    path = tmp_path / "runs.db"
    report = monitored("mlp_relu", path=path, name="mine")
    with Store(path) as store:
        (run,) = store.runs()
    assert (run["name"], run["id"], run["steps"]) == ("mine", report.run["id"], 40)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": 3}, "expected an nn.Module as model, found 3; pass the model itself$"),
        ({"optimizer": "sgd"}, "expected a torch.optim.Optimizer, found 'sgd'; pass the model"),
        ({"optimizer": mlp()}, "found an object of type Sequential; pass the model, then"),
        ({"budget": 2}, "expected a budget from 0 to 1, found 2; write 0.01 for 1 %"),
        ({"budget": -0.1}, "expected a budget from 0 to 1, found -0.1"),
        ({"budget": math.nan}, "expected a budget from 0 to 1, found nan"),
        ({"thresholds": 3}, "expected a mapping of thresholds, found 3"),
        ({"thresholds": {"burst": 1}}, "in thresholds, found 'burst'; did you mean burst_share"),
        ({"thresholds": {"burst_share": 2}}, "burst_share in thresholds to be a number from 0 to"),
    ],
)
def test_what_a_monitor_refuses(change, expected):
    before = surroundings()
    training = WORKLOADS["mlp_relu"].build()
    arguments = {"model": training.model, "optimizer": training.optimizer} | change
    with pytest.raises(UsageError, match=expected):
        flatline.Monitor(**arguments)
    assert not differences(before, surroundings())


def test_a_monitor_and_a_census_judge_by_the_thresholds_they_are_given():
    torch.manual_seed(0)
    model = mlp()
    with torch.no_grad():
        model[0].bias[:3] = -100.0
    batches = [next(clusters(16, batch=256)) for _ in range(2)]
    share = 3 / model[0].out_features
    for limit, verdict in ((share / 2, "warning"), (share * 1.1, "healthy")):
        report = flatline.examine(model, batches, thresholds={"warning_share": limit})
        assert report.verdict == verdict
        assert report.to_dict()["thresholds"] == {"warning_share": limit}
    report = monitored("mlp_relu", thresholds={"critical_units": 4})
    assert report.thresholds.critical_units == 4
    assert monitored("mlp_relu").to_dict()["thresholds"] == {}


def test_nothing_of_a_step_outlives_it():
    torch.manual_seed(0)
    model, batches = mlp(), clusters(16)
    with watched() as (memory, _):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(4):
            x, y = next(batches)
            optimizer.zero_grad()
            out = model(x)
            loss = F.cross_entropy(out, y)
            loss.backward()
            mortal = [weakref.ref(one) for one in (x, y, out, loss)]
            mortal += [weakref.ref(p.grad) for p in model.parameters()]
            optimizer.step()
            optimizer.zero_grad()
            del x, y, out, loss
            assert [ref() for ref in mortal] == [None] * len(mortal)
    assert len(memory.exams) == 4


def test_a_monitored_model_is_freed_with_its_monitor():
    training = WORKLOADS["mlp_relu"].build()
    monitor = flatline.Monitor(training.model, training.optimizer)
    training.step()
    monitor.close()
    refs = [weakref.ref(one) for one in (training.model, training.optimizer, monitor)]
    del training, monitor
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


def test_between_exams_64_bytes_per_unit_two_means_of_inputs_and_what_data_were_like_are_kept():
    torch.manual_seed(0)
    widths = [96, 9000, 60, 9000]  # enough of them for the fewest rows of the pulse to wait
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(9000, 4))
    with watched(lambda step, event: step < 3) as (_, watcher):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for x, y in (next(clusters(96)) for _ in range(20)):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        inputs = 2 * 4 * sum(widths[:-1])
        data = 4 * 4 * widths[0]  # the first mean and deviation, the least and the greatest value
        assert 0 < watcher.nbytes <= 64 * sum(widths[1:]) + inputs + data


# -- loss and learning rate -----------------------------------------------------------------------


class Script:
    """A training that notes its losses and learning rates itself."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = mlp()
        self.batches = clusters(16)
        self.noted: list[tuple[float | None, float]] = []

    def loss(self):
        x, y = next(self.batches)
        return F.cross_entropy(self.model(x), y)

    def note(self, loss, optimizer):
        lr = optimizer.param_groups[0]["lr"]
        loss = loss.item() if isinstance(loss, torch.Tensor) else loss
        self.noted.append((loss, float(lr)))


def plain(self, optimizer):
    loss = self.loss()
    loss.backward()
    self.note(loss, optimizer)
    optimizer.step()
    optimizer.zero_grad()


def accumulated(self, optimizer):
    total = 0.0
    for _ in range(4):
        loss = self.loss() / 4
        total += loss.item()
        loss.backward()
    self.note(total, optimizer)
    optimizer.step()
    optimizer.zero_grad()


def function_instead_of_method(self, optimizer):
    loss = self.loss()
    torch.autograd.backward([loss])
    self.note(loss, optimizer)
    optimizer.step()


def no_scalar(self, optimizer):
    x, _ = next(self.batches)
    out = self.model(x)
    out.backward(torch.ones_like(out))
    self.note(None, optimizer)
    optimizer.step()


def inside_a_closure(self, optimizer):
    x, y = next(self.batches)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        return loss

    lr = optimizer.param_groups[0]["lr"]
    self.noted.append((optimizer.step(closure).item(), lr))


def sgd(script):
    return torch.optim.SGD(script.model.parameters(), 0.1)


def two_groups(script):
    head = list(script.model[-1].parameters())
    rest = [p for p in script.model.parameters() if all(p is not q for q in head)]
    return torch.optim.Adam([{"params": rest, "lr": 0.03}, {"params": head, "lr": 0.3}])


def tensor_rate(script):
    return torch.optim.SGD(script.model.parameters(), torch.tensor(0.125))


def lbfgs(script):
    return torch.optim.LBFGS(script.model.parameters(), lr=0.5, max_iter=3)


@pytest.mark.parametrize(
    ("make", "step"),
    [
        pytest.param(sgd, plain, id="plain"),
        pytest.param(two_groups, plain, id="two groups"),
        pytest.param(tensor_rate, plain, id="a rate that is a tensor"),
        pytest.param(sgd, accumulated, id="accumulation"),
        pytest.param(sgd, function_instead_of_method, id="torch.autograd.backward"),
        pytest.param(sgd, no_scalar, id="backward from no scalar"),
        pytest.param(sgd, inside_a_closure, id="a closure"),
        pytest.param(lbfgs, inside_a_closure, id="LBFGS"),
    ],
)
def test_loss_and_rate_are_those_that_the_script_computed(make, step):
    script = Script()
    with watched(lambda step, event: step % 3 == 0) as (memory, _):
        optimizer = make(script)
        for _ in range(7):
            step(script, optimizer)
    assert [row[0] for row in memory.rows] == list(range(7))
    assert [row[1:3] for row in memory.rows] == [
        (loss if loss is None else pytest.approx(loss, rel=1e-6), pytest.approx(lr))
        for loss, lr in script.noted
    ]


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    ],
    ids=["steps", "one cycle", "a function"],
)
def test_the_rate_of_a_step_is_the_one_it_was_made_with(schedule):
    script = Script()
    with watched() as (memory, _):
        optimizer = sgd(script)
        scheduler = schedule(optimizer)
        for _ in range(8):
            plain(script, optimizer)
            scheduler.step()
    assert [row[2] for row in memory.rows] == [pytest.approx(lr) for _, lr in script.noted]
    assert len({lr for _, lr in script.noted}) > 2


def test_under_a_gradient_scaler_the_loss_is_the_one_before_scaling():
    script = Script()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
    with watched() as (memory, _):
        optimizer = sgd(script)
        for _ in range(5):
            loss = script.loss()
            scaler.scale(loss).backward()
            script.note(loss, optimizer)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert [row[1] for row in memory.rows] == [pytest.approx(loss) for loss, _ in script.noted]


def test_a_step_that_the_scaler_skips_is_none():
    script = Script()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
    losses = []
    with watched() as (memory, watcher):
        optimizer = sgd(script)
        for i in range(6):
            loss = script.loss() * (math.inf if i == 2 else 1)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert watcher.step == 5
    assert [row[0] for row in memory.rows] == [0, 1, 2, 3, 4]
    assert [row[1] for row in memory.rows] == [loss for loss in losses if math.isfinite(loss)]
    assert memory.losses == []


def test_losses_of_two_optimizers_that_take_turns_add_up():
    script = Script()
    noted = []
    with watched() as (memory, _):
        first = torch.optim.SGD(script.model[0].parameters(), 0.1)
        second = torch.optim.SGD(script.model[2:].parameters(), 0.2)
        for _ in range(4):
            losses = []
            for optimizer in (first, second):
                script.model.zero_grad()
                loss = script.loss()
                loss.backward()
                losses.append(loss.item())
                optimizer.step()
            noted.append(sum(losses))
    assert [row[0] for row in memory.rows] == [0, 1, 2, 3]
    assert [row[1] for row in memory.rows] == [pytest.approx(loss) for loss in noted]
    assert {row[2] for row in memory.rows} == {0.1}


# -- metrics --------------------------------------------------------------------------------------


def test_a_metric_belongs_to_the_step_it_was_logged_at():
    training = WORKLOADS["mlp_relu"].build()
    with flatline.Monitor(training.model, training.optimizer) as monitor:
        flatline.log("accuracy", 0.1)
        for i in range(3):
            training.step()
            flatline.log("accuracy", torch.tensor(0.2 + i))
        flatline.log("other", np.float32(7))
    assert monitor.report().metrics["accuracy"] == [
        (0, 0.1),
        (1, pytest.approx(0.2)),
        (2, pytest.approx(1.2)),
        (3, pytest.approx(2.2)),
    ]
    assert monitor.report().metrics["other"] == [(3, 7.0)]


def test_outside_of_a_run_a_metric_goes_nowhere():
    flatline.log("accuracy", 0.5)
    flatline.log("accuracy", "no number")  # nor is it looked at
    training = WORKLOADS["mlp_relu"].build()
    with flatline.Monitor(training.model, training.optimizer) as monitor:
        training.step()
    flatline.log("accuracy", 0.7)
    assert "accuracy" not in monitor.report().metrics


def test_of_two_runs_the_one_begun_last_gets_the_metric():
    one, other = WORKLOADS["mlp_relu"].build(), WORKLOADS["tanh"].build()
    with flatline.Monitor(one.model, one.optimizer) as outer:
        with flatline.Monitor(other.model, other.optimizer) as inner:
            flatline.log("accuracy", 1)
        flatline.log("accuracy", 2)
    assert inner.report().metrics["accuracy"] == [(0, 1.0)]
    assert outer.report().metrics["accuracy"] == [(0, 2.0)]


@pytest.mark.parametrize("value", ["good", None, [1, 2], torch.zeros(2)])
def test_a_metric_is_a_number(value):
    training = WORKLOADS["mlp_relu"].build()
    with (
        flatline.Monitor(training.model, training.optimizer),
        pytest.raises(UsageError, match="expected a number for the metric 'accuracy', found"),
    ):
        flatline.log("accuracy", value)


# -- a census -------------------------------------------------------------------------------------


class Mixed(nn.Module):
    """Everything that a census could change: statistics, dropout, flags, frozen parts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.up = nn.Linear(6 * 9, 20)
        self.head = nn.Linear(20, 4)
        self.norm.eval()
        self.conv.weight.requires_grad_(False)
        self.up.weight.grad = torch.ones_like(self.up.weight)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x))).flatten(1)
        return self.head(torch.tanh(self.up(self.drop(x))))


def images(sizes=(5, 8, 3), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, 3, 5, 5, generator=generator), torch.randint(4, (n,), generator=generator))
        for n in sizes
    ]


def random_states():
    return bits([torch.get_rng_state(), np.random.get_state(), random.getstate()])


@pytest.mark.parametrize("loss_fn", [None, F.cross_entropy], ids=["no loss", "a loss"])
def test_a_census_changes_nothing(loss_fn):
    model, around = Mixed(), surroundings()
    before, chance = bits(model), random_states()

    def batches():
        for x, y in images():
            # Data may be drawn at random, by whatever generator.
            yield x + torch.randn(1) + np.random.rand() + random.random(), y

    flatline.examine(model, batches(), loss_fn)
    assert not differences(before, bits(model))
    assert not differences(chance, random_states())
    assert not differences(around, surroundings())


@pytest.mark.parametrize("where", ["batches", "model", "loss"])
def test_a_census_that_fails_changes_nothing(where):
    model, around = Mixed(), surroundings()
    before, chance = bits(model), random_states()

    class Wrong(Exception):
        pass

    def fail(*_):
        raise Wrong

    def batches():
        yield images()[0]
        if where == "batches":
            fail()
        yield images()[1]

    handle = model.head.register_forward_hook(fail) if where == "model" else None
    with pytest.raises(Wrong):
        flatline.examine(model, batches(), fail if where == "loss" else F.cross_entropy)
    if handle is not None:
        handle.remove()
        model.head._forward_hooks_always_called.clear()
    assert not differences(before, bits(model))
    assert not differences(chance, random_states())
    assert not differences(around, surroundings())


def by_hand(model, batches):
    """Counts of the census in plain NumPy: fired, examples, mean |h|, by site."""
    model = model.eval()
    with torch.no_grad():
        z = [model.norm(model.conv(x)) for x, _ in batches]
        up = [model.up(F.relu(one).flatten(1)) for one in z]
    z = np.concatenate([one.flatten(2).numpy() for one in z])
    up = np.concatenate([one.numpy() for one in up])
    steep = 1 - np.tanh(up.astype(np.float64)) ** 2 > 0.01
    return {
        "norm": ((z > 0).any(axis=2).sum(axis=0), np.maximum(z, 0).mean(axis=2).sum(axis=0)),
        "up": (steep.sum(axis=0), abs(np.tanh(up)).sum(axis=0)),
    }


def test_a_census_equals_counting_by_hand():
    from flatline.sense.lone import examine

    found = examine(Mixed(), images(), F.cross_entropy)
    assert [site.name for site in found.sites] == ["norm", "up"]
    for name, (fired, h_abs) in by_hand(Mixed(), images()).items():
        vitals = found.vitals[name]
        assert vitals.examples == 16
        np.testing.assert_array_equal(vitals.fired, fired)
        np.testing.assert_allclose(vitals.h_abs, h_abs, rtol=1e-5)
        assert np.isnan(vitals.update).all()


def test_gradients_of_a_census_are_those_of_its_loss():
    from flatline.sense.lone import examine

    found = examine(Mixed(), images((6,)), F.cross_entropy)
    model = Mixed().eval()
    ((x, y),) = images((6,))
    F.cross_entropy(model(x), y).backward()
    gradient = model.up.weight.grad - 1  # it began as ones
    rms = gradient.square().mean(dim=1).sqrt().numpy()
    np.testing.assert_allclose(found.vitals["up"].gradient, rms, rtol=1e-4)
    assert np.isnan(examine(Mixed(), images((6,))).vitals["up"].gradient).all()


def test_a_census_reports_states_with_their_certainty():
    torch.manual_seed(0)
    model = mlp()
    with torch.no_grad():
        model[0].bias[:3] = -100.0
        model[2].weight[:, 5] = 0
    batches = [next(clusters(16, batch=256)) for _ in range(2)]
    report = flatline.examine(model, batches)
    dead = [unit for unit in report.units if unit.site == "0" and unit.state == "dead"]
    assert [(unit.unit, unit.certain, unit.examples) for unit in dead] == [
        (u, True, 512) for u in range(3)
    ]
    assert [u.unit for u in report.units if u.state == "ignored"] == [5]
    assert report.run["steps"] == 0
    assert report.to_dict()["kind"] == "examination"
    few = flatline.examine(model, batches[:1])
    assert [u.certain for u in few.units if u.state == "dead" and u.site == "0"] == [False] * 3


@pytest.mark.parametrize(
    "batches",
    [
        pytest.param(lambda x, y: [x], id="inputs"),
        pytest.param(lambda x, y: [(x, y)], id="pairs"),
        pytest.param(lambda x, y: [{"input": x}], id="keywords"),
        pytest.param(lambda x, y: [((x,), y)], id="several inputs"),
    ],
)
def test_batches_come_in_several_shapes(batches):
    torch.manual_seed(0)
    model = mlp()
    x, y = next(clusters(16))
    report = flatline.examine(model, batches(x, y))
    assert [site.examples for site in report.sites] == [32, 32]


def test_a_loss_may_take_model_and_batch():
    torch.manual_seed(0)
    model = mlp()
    batches = [{"x": x, "y": y} for x, y in (next(clusters(16)) for _ in range(2))]
    report = flatline.examine(
        model, batches, lambda model, batch: F.cross_entropy(model(batch["x"]), batch["y"])
    )
    assert [site.examples for site in report.sites] == [64, 64]
    assert all(site.gradient_rms > 0 for site in report.sites)


def test_a_census_of_a_compiled_model_names_it_as_it_is():
    torch.manual_seed(0)
    model = torch.compile(mlp(), backend="eager")
    report = flatline.examine(model, [next(clusters(16))])
    assert [site.name for site in report.sites] == ["0", "2"]


def test_what_a_census_refuses():
    with pytest.raises(UsageError, match=r"expected an nn\.Module as model, found"):
        flatline.examine("model", [])
    with pytest.raises(UsageError, match="expected batches to examine the model on, found none"):
        flatline.examine(mlp(), [])
