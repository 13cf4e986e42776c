"""A training comes out the same to the last bit, watched or not, and so does all around it."""

from __future__ import annotations

import functools
import gc
import json
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.data import DataLoader, TensorDataset

import flatline
import hazards_of_models  # noqa: F401  (registers its hazards)
import hazards_of_steps  # noqa: F401
from flatline.sense.attach import Attachment
from flatline.sense.watcher import Watcher
from hazard import HAZARDS
from untouched import bits, differences, surroundings, trained
from watching import Memory, watched
from workloads import WORKLOADS, clusters, mlp, supervised

EVERYTHING = WORKLOADS | HAZARDS
#: Warnings that torch gives about what a training does, watched or not.
expected_warnings = pytest.mark.filterwarnings(
    "ignore:Using backward.. with create_graph=True",
    "ignore:Lazy modules are a new feature",
    "ignore:.torch.jit:DeprecationWarning",
)


def examined_always(memories):
    return watched_into(memories, watched())


def examined_once(memories):
    return watched_into(memories, watched(lambda step, event: step == 0))


@contextmanager
def watched_into(memories, watching):
    with watching as (memory, watcher):
        memories.append(memory)
        yield watcher


@contextmanager
def paced(memories):
    """As under ``flatline run`` with its default budget."""
    memories.append(Memory())
    watcher = Watcher(memories[-1], budget=0.01)
    attachment = Attachment(watcher)
    yield watcher
    attachment.remove()
    watcher.close()


@functools.cache
def bare(name):
    return trained(EVERYTHING[name].build, EVERYTHING[name].steps)


@expected_warnings
@pytest.mark.parametrize(
    ("name", "watching"),
    [(name, examined_once) for name in WORKLOADS]
    + [(name, watching) for name in EVERYTHING for watching in (examined_always, paced)],
)
def test_training_comes_out_bit_identical(name, watching):
    memories = []
    expected = bare(name)

    found = trained(EVERYTHING[name].build, EVERYTHING[name].steps, lambda: watching(memories))

    assert not differences(expected, found)
    assert not memories[0].losses


def train_in_a_thread(seed, found, together):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(16, 24), torch.nn.ReLU(), torch.nn.Linear(24, 4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(10):
        optimizer.zero_grad()
        together.wait()
        out = model(torch.randn(8, 16, generator=generator))
        together.wait()
        out.square().mean().backward()
        together.wait()
        optimizer.step()
    modes = _get_current_dispatch_mode_stack()
    found[seed] = (bits([model, optimizer]), modes)


def train_two_at_once():
    found, together = {}, threading.Barrier(2, timeout=30)
    threads = [
        threading.Thread(target=train_in_a_thread, args=(seed, found, together)) for seed in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_two_threads_train_as_ever_and_the_report_names_the_one_not_watched():
    before = surroundings()
    expected = train_two_at_once()
    with watched() as (memory, _):
        found = train_two_at_once()
    assert not differences(before, surroundings())
    for seed, (state, modes) in expected.items():
        assert not differences(state, found[seed][0])
        assert found[seed][1] == modes == []
    assert memory.exams
    ((what, _),) = memory.losses
    assert what == "training in another thread"


def test_training_goes_on_to_be_watched_in_a_new_thread_when_the_first_has_ended():
    with watched() as (memory, _):
        for seed in (1, 2):
            alone = threading.Barrier(1)
            thread = threading.Thread(target=train_in_a_thread, args=(seed, {}, alone))
            thread.start()
            thread.join()
    assert len(memory.exams) >= 16
    assert not memory.losses


def test_a_process_forked_in_the_midst_of_a_step_is_left_with_nothing():
    """The child trains on from the middle of the step and must find torch as it was."""
    before = surroundings()

    def train(fork):
        training = HAZARDS["retained_graph"].build()
        child = 0

        def hook(module, args, out):
            nonlocal child, fork
            if fork:
                fork = False
                child = os.fork()

        training.model[1].register_forward_hook(hook)
        for _ in range(4):
            training.step()
        return child, bits([training.model, training.optimizer])

    expected = train(False)[1]
    with watched() as (memory, _):
        child, found = train(True)
        if child == 0:
            clean = not differences(before, surroundings())
            os._exit(10 if clean and found == expected else 11)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
    assert found == expected
    assert len(memory.exams) == 4


def test_workers_of_a_loader_start_by_spawning_inside_an_exam():
    def build(workers):
        torch.manual_seed(3)
        model = mlp()
        data = TensorDataset(*next(clusters(16, batch=64)))
        context = "spawn" if workers else None
        loader = DataLoader(data, 16, True, num_workers=workers, multiprocessing_context=context)
        return supervised(model, torch.optim.SGD(model.parameters(), 0.1), iter(loader))

    assert not differences(trained(lambda: build(0), 3), trained(lambda: build(1), 3, watched))


def test_an_exam_keeps_no_activation_alive():
    """Tensors die in the same places of the forward pass as they do unwatched."""

    class Watched(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(6))

        def forward(self, x):
            kinds = (torch.sigmoid, F.relu, F.gelu, gelu_in_full, F.dropout, torch.Tensor.sin)
            for layer, kind in zip(self.layers, kinds, strict=True):
                z = layer(x)
                x = kind(z)
                born.append([weakref.ref(z), weakref.ref(x)])
                del z
                gone.append([ref() is None for refs in born for ref in refs])
            return x

    def gelu_in_full(z):
        return 0.5 * z * (1 + torch.tanh(0.79788456 * (z + 0.044715 * z**3)))

    def train():
        born.clear()
        gone.clear()
        torch.manual_seed(0)
        model = Watched()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(3):
            loss = model(torch.randn(8, 16)).square().mean()
            loss.backward()
            del loss
            gone.append([ref() is None for refs in born for ref in refs])
            optimizer.step()
        return list(gone)

    born, gone = [], []
    expected = train()
    with watched() as (memory, _):
        assert train() == expected
        assert all(gone[-1])
    assert memory.exams


def test_a_model_that_is_deleted_is_freed_while_the_watching_goes_on():
    with watched() as (memory, _):
        training = WORKLOADS["mlp_relu"].build()
        for _ in range(4):
            training.step()
        parameters = [weakref.ref(parameter) for parameter in training.model.parameters()]
        del training
        other = WORKLOADS["swiglu"].build()
        other.step()
        gc.collect()
        assert [ref() for ref in parameters] == [None] * len(parameters)
    assert {"0", "2", "gate"} <= set(memory.sites)


def test_the_pulse_goes_on_when_a_new_optimizer_takes_a_model_over():
    with watched(lambda step, event: step in (0, 4)) as (memory, watcher):
        training = WORKLOADS["mlp_relu"].build()
        model, batches = training.model, clusters(16)
        training.step()
        del training
        second = supervised(model, torch.optim.SGD(model.parameters(), 0.01), batches)
        for _ in range(11):
            second.step()
        watcher.flush()
        assert (memory.newest["0"].last_life == 11).all()


def test_monitors_may_end_in_any_order():
    before = surroundings()
    trainings = [WORKLOADS[name].build() for name in ("mlp_relu", "mlp_relu_killed")]
    monitors = [flatline.Monitor(one.model, one.optimizer) for one in trainings]
    for training in trainings:
        training.step()
    monitors[0].close()
    for training in trainings:
        training.step()
    monitors[1].close()
    assert not differences(before, surroundings())
    assert [monitor.report().run["steps"] for monitor in monitors] == [1, 2]


def test_wrappers_that_others_put_around_ours_outlive_it_without_harm():
    calls = []

    def around(original):
        def call(*args, **kwargs):
            calls.append(original)
            return original(*args, **kwargs)

        return call

    before = surroundings()
    theirs = [(torch.autograd, "backward"), (torch.nn.Module, "__call__")]
    plain = [vars(owner)[name] for owner, name in theirs]
    with watched() as (memory, _):
        training = WORKLOADS["mlp_relu"].build()
        ours = [vars(owner)[name] for owner, name in theirs]
        for owner, name in theirs:
            setattr(owner, name, around(vars(owner)[name]))
        training.step()
    exams = len(memory.exams)
    training.step()
    assert len(memory.exams) == exams
    assert ours[0] in calls
    for (owner, name), one, original in zip(theirs, ours, plain, strict=True):
        assert vars(owner)[name] is not one
        setattr(owner, name, original)
    assert not differences(before, surroundings())


@pytest.mark.parametrize("name", ["nan_loss", "exploding", "double_precision", "ragged_batches"])
def test_a_monitor_reports_on_numbers_out_of_range_without_a_warning(name):
    training = HAZARDS[name].build()
    with flatline.Monitor(training.model, training.optimizer) as monitor:
        for _ in range(4):
            training.step()
            report = monitor.report()
    assert not report.lost
    assert json.loads(report.to_json())["run"]["steps"] == 4
    assert str(report)


def test_forward_passes_inside_a_transform_are_named_as_not_watched():
    with watched() as (memory, _):
        training = HAZARDS["functional_gradients"].build()
        training.step()
    (missed,) = memory.unplaced
    assert "torch.func" in missed.because


FAILS = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(16, 8), nn.Linear(9, 4)

        def forward(self, x):
            try:
                return self.second(torch.relu(self.first(x)))
            except RuntimeError as error:
                raise ValueError("these layers do not fit") from error

    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    try:
        (2 * net.first.weight.sum()).backward()
        torch.zeros(1).backward()
    finally:
        net(torch.randn(3, 16)).sum().backward()
"""


def test_an_uncaught_error_inside_an_exam_shows_the_programs_own_frames_alone(tmp_path):
    (tmp_path / "train.py").write_text(textwrap.dedent(FAILS))

    def run(*command):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=240
        )
        return done.returncode, done.stdout, done.stderr

    plain = run("train.py")
    assert "these layers do not fit" in plain[2]
    assert "does not require grad" in plain[2]
    assert run("-m", "flatline", "run", "--quiet", "train.py") == plain
