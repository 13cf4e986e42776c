"""What fails inside flatline does no harm to a training, and the report says what is lost."""

from __future__ import annotations

import functools
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import contextmanager

import pytest
import torch
import torch._dynamo.eval_frame as eval_frame
import torch.nn.functional as F
from torch import nn
from torch.utils import _python_dispatch
from torch.utils.data import DataLoader

import flatline
from flatline import session
from flatline.anatomy import atlas, course, labels, producers, roots, tracer
from flatline.record import schema
from flatline.record.writer import RunWriter
from flatline.sense import (
    census,
    delivery,
    drift,
    exam,
    examiner,
    gauge,
    gradients,
    guard,
    harvest,
    histogram,
    layers,
    loaders,
    lossside,
    notes,
    optimizers,
    pacer,
    parameters,
    patch,
    pulse,
    roll,
    sample,
    staff,
    stale,
    stance,
    stride,
    taps,
    turns,
    underway,
    watcher,
    window,
)
from untouched import differences, trained
from watching import watched
from workloads import Training, clusters


class Model(nn.Module):
    """Most of what the watching has to deal with, from gates to what it cannot place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 24)
        self.second = nn.Linear(24, 24, bias=False)
        self.shared = nn.Linear(24, 24)
        self.norm = nn.LayerNorm(24)
        self.gate = nn.Linear(24, 12, bias=False)
        self.value = nn.Linear(24, 12, bias=False)
        self.conv = nn.Conv1d(3, 4, 3, bias=False)
        self.cell = nn.GRU(8, 6, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = F.relu(self.second(F.relu(self.first(x))))
        for _ in range(2):
            x = F.dropout(F.relu(self.norm(self.shared(x))), 0.1)
        x = F.silu(self.gate(x)) * self.value(x)
        x = F.relu(torch.bmm(x[:, :, None], x[:, None])).mean(dim=1) + x.clamp(-9, 9).sigmoid()
        x = self.conv(x.reshape(-1, 3, 4).repeat(1, 1, 3)).transpose(1, 2)
        x = 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.045 * x**3)))
        x, _ = self.cell(x.repeat(1, 1, 2))
        return self.head(F.relu(torch.cat([x[:, -1], x[:, 0]], dim=1)))


def program() -> Training:
    """Two optimizers and a scaler."""
    torch.manual_seed(5)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    second = torch.optim.Adam([model.head.bias], 1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    batches = clusters(16, batch=8)

    def step():
        x, y = next(batches)
        model.zero_grad()
        y[0] = -100  # an example that sends no gradient
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.step(second)
        scaler.update()

    return Training(model, optimizer, step, {"second": second})


def run(training, steps):
    for _ in range(steps):
        training.step()


STEPS = 4
KINDS = (
    watcher.Watcher, examiner.Examiner, delivery.Delivery, guard.Guard, guard.Home,
    census.Census, exam.Exam, staff.Staff, tracer.Tracer, atlas.Atlas, atlas.Place,
    labels.Labels, roots.Names, gauge.Reading, pulse.Pulse, pulse.Source, roll.Roll, window.Window,
    taps.Taps, pacer.Pacer, gradients.Movement, drift.Drift, layers.Layer, patch.Patch,
    stance.Stance, RunWriter, notes.Notes, parameters.Parameters, stale.Stale, loaders.Loaders,
    lossside.LossSide, optimizers.Pull, course.Course, turns.Turns,
    sample.Sampler, sample.Sample, histogram.Histograms,
)  # fmt: skip
FUNCTIONS = (
    (exam, "unseen"), (exam, "simulated"), (exam, "lay_below"), (exam, "withdraw"),
    (census, "fetch"), (census, "shifts"), (gauge, "unseen"), (harvest, "measure"),
    (harvest, "ranks"), (harvest, "concentration"), (harvest, "twins"), (producers, "of_rows"),
    (producers, "of_patches"), (gauge, "joined"),
    (harvest, "joined"), (harvest, "histograms"), (sample, "lattice"), (histogram, "pack"),
    (census, "gathered"), (census, "drawn"),
)  # fmt: skip
#: Called before the program starts, where an error is the user's to see.
BEFORE = {"RunWriter.__init__"}
#: What takes hooks and modes away cannot take them away when it fails itself.
UNDOING = {
    "Watcher.close", "Examiner.drop", "Exam.close", "Exam._pull", "exam.withdraw",
    "Patch.remove", "Stance.give_back",
}  # fmt: skip


def entries():
    """Every method, property and function of the watching."""
    methods = (type(entries), property, classmethod, staticmethod)
    for kind in KINDS:
        fields = getattr(kind, "__dataclass_fields__", ())
        for name, value in vars(kind).items():
            if isinstance(value, methods) and name not in fields:
                yield kind, name
    yield from FUNCTIONS


ENTRIES = {
    f"{owner.__name__.rpartition('.')[2]}.{name}": (owner, name) for owner, name in entries()
}


def before_each_call(monkeypatch, entry, act):
    """Has ``act()`` run before each call of an entry."""
    owner, name = ENTRIES[entry]
    original = vars(owner)[name]
    if isinstance(original, property):
        wrapped = property(lambda self: act() or original.fget(self))
    elif isinstance(original, classmethod | staticmethod):
        inner = original.__func__
        wrapped = type(original)(lambda *args, **kwargs: act() or inner(*args, **kwargs))
    else:

        def wrapped(*args, **kwargs):
            act()
            return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapped)


class Watch:
    """Watches a program with a monitor from its first step to its last."""

    def __init__(self, path=None, program=program):
        self.path = path
        self.program = program
        self.report = None
        self.monitor = None

    def build(self):
        training = self.program()
        self.monitor = flatline.Monitor(training.model, training.optimizer, path=self.path)
        return training

    @contextmanager
    def __call__(self):
        yield
        self.monitor.close()
        self.report = self.monitor.report()


@functools.cache
def bare():
    return trained(program, STEPS)


@pytest.fixture(autouse=True)
def calls_do_not_depend_on_the_clock(monkeypatch):
    """Every other step is examined, and every step handed over."""
    monkeypatch.setattr(delivery, "FLUSH_SECONDS", -1.0)
    monkeypatch.setattr(pacer.Pacer, "due", lambda self, step, elapsed, event: step % 2 == 0)
    monkeypatch.setattr(pacer.Pacer, "quiet", staticmethod(lambda step: 1))


@functools.cache
def calls():
    """How often the program calls each entry."""
    counts = dict.fromkeys(ENTRIES, 0)

    def count(entry):
        counts[entry] += 1

    with pytest.MonkeyPatch.context() as monkeypatch:
        for entry in ENTRIES:
            before_each_call(monkeypatch, entry, functools.partial(count, entry))
        watch = Watch()
        trained(watch.build, STEPS, watch)
    return counts


def test_the_program_calls_most_entries():
    reached = [entry for entry, count in calls().items() if count]
    assert len(reached) > 0.8 * len(ENTRIES)


class Fault:
    """Raises at the calls that ``when`` chooses by their number."""

    def __init__(self, when):
        self.calls = 0
        self.raised = 0
        self.when = when

    def __call__(self):
        self.calls += 1
        if self.when(self.calls):
            self.raised += 1
            raise RuntimeError("injected")


@contextmanager
def put_right():
    """Takes away what could not be taken away."""
    owners = [
        (nn.Module, "__call__"),
        (torch.autograd, "backward"),
        (torch.amp.GradScaler, "scale"),
        (torch.amp.GradScaler, "step"),
        (DataLoader, "__iter__"),
    ]
    before = [(owner, name, vars(owner)[name]) for owner, name in owners]
    was = eval_frame._stance
    yield
    for owner, name, value in before:
        setattr(owner, name, value)
    eval_frame._stance = was
    while _python_dispatch._get_current_dispatch_mode_stack():
        _python_dispatch._pop_mode()


@pytest.mark.parametrize("mode", ["always", "once, later"])
@pytest.mark.parametrize("entry", sorted(ENTRIES.keys() - BEFORE))
def test_a_fault_anywhere_leaves_the_training_alone(entry, mode, monkeypatch, caplog):
    count = calls()[entry]
    if not count:
        pytest.skip("not on the way of this program")
    # How many batches the writer's thread makes is a matter of chance.
    later = min(count, 2) if entry.startswith("RunWriter._") else 1 + count // 2
    fault = Fault(lambda call: mode == "always" or call == later)
    expected, watch = bare(), Watch()
    before_each_call(monkeypatch, entry, fault)

    with put_right():
        found = trained(watch.build, STEPS, watch, leaves=entry in UNDOING)

    assert fault.raised
    assert not differences(expected, found)
    lines = [record.getMessage() for record in caplog.records if record.name == "flatline"]
    assert any("injected" in line for line in lines)
    assert len(lines) == 1 or (mode == "always" and len({*lines}) == len(lines))
    assert any("injected" in why for _, why in watch.report.lost)


@pytest.mark.parametrize(
    "entry", ["Sampler.draw", "sample.lattice", "census.gathered", "harvest.histograms"]
)
def test_a_fault_in_histograms_costs_nothing_else(entry, monkeypatch, caplog):
    watch = Watch()
    before_each_call(monkeypatch, entry, Fault(lambda call: True))

    trained(watch.build, STEPS, watch)

    (what,) = [what for what, why in watch.report.lost if "injected" in why]
    assert what == "how pre-activations are distributed (histograms)"
    assert [step for step, _ in watch.report.exams] == [0, 2]
    assert watch.report.lives.histograms == {}


@pytest.mark.parametrize(
    "second", ["Guard.lose", "Census.discard", "RunWriter.lost", "Exam.close", "RunWriter._put"]
)
def test_a_fault_while_another_is_told_is_no_worse(second, monkeypatch, caplog):
    expected, watch = bare(), Watch()
    before_each_call(monkeypatch, "Census.conclude", Fault(lambda call: True))
    before_each_call(monkeypatch, second, Fault(lambda call: True))

    with put_right():
        found = trained(watch.build, STEPS, watch, leaves=second in UNDOING)

    assert not differences(expected, found)
    assert any("injected" in why for _, why in watch.report.lost)
    assert any("injected" in record.getMessage() for record in caplog.records)


def test_a_writer_that_fails_twice_keeps_nobody_waiting(monkeypatch, caplog):
    expected, watch = bare(), Watch()
    before_each_call(monkeypatch, "RunWriter._write", Fault(lambda call: True))
    before_each_call(monkeypatch, "RunWriter._fail", Fault(lambda call: True))

    found = trained(watch.build, STEPS, watch)

    assert not differences(expected, found)
    assert ("what was seen after the store failed", "injected") in watch.report.lost
    assert [record.name for record in caplog.records] == ["flatline"]


@pytest.mark.parametrize("entry", ["Examiner._search", "Delivery._say", "RunWriter.metric"])
def test_faults_under_a_session(entry, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(delivery, "PROGRESS_SECONDS", -1.0)
    monkeypatch.setattr(session.Session, "_shows_progress", lambda self: True)
    before_each_call(monkeypatch, entry, Fault(lambda call: True))
    expected = bare()
    reports = []

    @contextmanager
    def watch():
        watching = session.Session(tmp_path / "runs.db", argv=["train.py"])
        watching.attach()
        yield
        flatline.log("accuracy", 0.5)
        reports.append(watching.finish("finished"))

    found = trained(program, STEPS, watch)

    assert not differences(expected, found)
    lost = {what for what, why in reports[0].lost if "injected" in why}
    assert len(lost) == 1
    assert [record.getMessage() for record in caplog.records if lost.pop() in record.getMessage()]


@pytest.mark.parametrize("stream", [None, object()], ids=["closed", "replaced"])
def test_a_training_without_a_usual_standard_error_is_watched(stream, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    reports = []

    @contextmanager
    def watch():
        watching = session.Session(tmp_path / "runs.db", argv=["train.py"])
        watching.attach()
        yield
        reports.append(watching.finish("finished"))

    trained(program, STEPS, watch)
    assert reports[0].run["steps"] == STEPS
    assert reports[0].sites


def test_max_steps_holds_when_all_watching_is_lost(monkeypatch):
    before_each_call(monkeypatch, "Watcher._after_step", Fault(lambda call: call == 3))
    stop = session.StopTraining("enough")
    with watched(max_steps=7, stop=stop) as (memory, _):
        training = program()
        with pytest.raises(session.StopTraining):
            run(training, 100)
    # Once it only counts, it does not wait for the second optimizer of the last step.
    assert training.others["second"].state[training.model.head.bias]["step"] == 6
    assert memory.losses


class Interrupted(BaseException):
    """What a person or a framework raises to end a training."""


@pytest.mark.parametrize(
    "entry",
    ["Tracer.before", "Reading.of", "Exam.enter", "Exam.leave", "Exam.before_backward",
     "Reading.feel", "Census.collect", "Pulse.beat", "Census.conclude", "Watcher.flush"],
)  # fmt: skip
def test_an_interrupt_that_meets_our_code_reaches_the_program(entry, monkeypatch, caplog):
    interrupts = iter([Interrupted()])

    def interrupt():
        for one in interrupts:
            raise one

    watch = Watch()
    before_each_call(monkeypatch, entry, interrupt)

    def build():
        training = watch.build()
        with pytest.raises(Interrupted):
            run(training, 2)
        return training

    trained(build, STEPS, watch)
    assert watch.report.run["steps"] >= STEPS
    assert not watch.report.lost
    assert not caplog.records


def test_a_store_that_is_locked_loses_only_what_it_would_have_stored(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.02)
    path = tmp_path / "runs.db"
    watch = Watch(path)

    def build():
        training = watch.build()
        training.step()
        watch.monitor.report()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        watch.other = other
        return training

    found = trained(build, STEPS - 1, watch)
    watch.other.close()

    assert not differences(bare(), found)
    assert len(caplog.records) == 1
    assert "locked" in dict(watch.report.lost)["what was seen after the store failed"]
    assert watch.report.sites


def test_a_store_that_disappears_loses_all_but_the_word_of_it(tmp_path, caplog):
    path = tmp_path / "store" / "runs.db"
    watch = Watch(path)

    def build():
        training = watch.build()
        training.step()
        watch.monitor.report()
        shutil.rmtree(path.parent)
        return training

    found = trained(build, STEPS - 1, watch)

    assert not differences(bare(), found)
    assert watch.report.lost
    assert watch.report.run["id"]
    assert caplog.records


def plain():
    """One optimizer, which most steps need no closer look at."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    batches = clusters(16, batch=8)

    def step():
        x, y = next(batches)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return Training(model, optimizer, step)


@pytest.mark.parametrize("mode", ["always", "once, later"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (stride.Stride, "__init__"), (stride.Stride, "beat"), (stride.Stride, "backward"),
        (pulse.Pulse, "beat"), (pulse.Pulse, "turn"), (taps.Taps, "step"),
        (taps.Taps, "backward"), (watcher.Watcher, "_stride"), (watcher.Watcher, "_end_stride"),
        (underway.Underway, "begin"), (underway.Underway, "end"),
    ],
)  # fmt: skip
def test_a_fault_in_a_step_that_needs_no_closer_look_leaves_the_training_alone(
    owner, name, mode, monkeypatch
):
    monkeypatch.setattr(delivery, "FLUSH_SECONDS", 60.0)
    monkeypatch.setattr(pacer.Pacer, "due", lambda self, step, elapsed, event: step % 8 == 0)
    monkeypatch.setattr(pacer.Pacer, "quiet", staticmethod(lambda step: 8 - step % 8))
    steps = 20
    expected, watch = trained(plain, steps), Watch(program=plain)
    original, fault = vars(owner)[name], Fault(lambda call: mode == "always" or call == 2)

    def wrapped(*args, **kwargs):
        fault()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapped)
    with put_right():
        found = trained(watch.build, steps, watch)

    assert fault.raised
    assert not differences(expected, found)
    assert any("injected" in why for _, why in watch.report.lost)


FULL = """
    import os, resource, sys, time, torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 3000), nn.ReLU(), nn.Linear(3000, 1))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for step in range(40):
        if step == 2 and "full" in sys.argv:
            while (full := os.path.getsize(".flatline/runs.db-wal")) < 40_000:
                time.sleep(0.01)  # until the first exam is stored
            resource.setrlimit(resource.RLIMIT_FSIZE, (full, full))
        optimizer.zero_grad()
        model(torch.randn(64, 16)).square().mean().backward()
        optimizer.step()
    print([float(p.double().sum()) for p in model.parameters()])
    sys.exit(3)
"""


def test_a_full_disk_under_flatline_run_changes_neither_output_nor_status(tmp_path):
    (tmp_path / "train.py").write_text(textwrap.dedent(FULL))

    def run(*command):
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=240
        )

    plain = run("train.py")
    full = run("-m", "flatline", "run", "--budget", "100", "train.py", "full")

    assert (full.returncode, full.stdout) == (plain.returncode, plain.stdout) == (3, plain.stdout)
    said = [line for line in full.stderr.splitlines() if line.startswith("flatline no longer")]
    assert len(said) == 1
    assert "disk" in said[0]
    assert "Traceback" not in full.stderr
    assert "failed after 40 steps" in full.stderr
    assert "what was seen after the store failed" in full.stderr
