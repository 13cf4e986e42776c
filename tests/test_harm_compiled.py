"""Compiled code is compiled as often as without flatline, and used again after an exam."""

from __future__ import annotations

import functools
import itertools
from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch._dynamo.eval_frame as eval_frame
import torch.nn.functional as F
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

from untouched import differences, trained
from watching import watched
from workloads import Training, clusters, mlp

pytestmark = pytest.mark.filterwarnings(  # the compiler's own
    "ignore:The .grad attribute of a Tensor that is not a leaf",
    "ignore:.torch.jit:DeprecationWarning",
    "ignore:flex_attention called without torch.compile",
)
SETUPS = {}


def setup(build):
    SETUPS[build.__name__] = build
    return build


class Backend:
    """Runs graphs as they are; counts how many there are and how often each runs."""

    def __init__(self):
        self.graphs = 0
        self.runs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1

        def run(*args):
            self.runs += 1
            return graph(*args)

        return run


def train(model, optimizer, batches, forward=None):
    forward = forward or (lambda x, y: F.cross_entropy(model(x), y))

    def step():
        x, y = next(batches)
        optimizer.zero_grad()
        forward(x, y).backward()
        optimizer.step()

    return Training(model, optimizer, step)


def parts():
    torch.manual_seed(1)
    model = mlp()
    return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), clusters(16)


@setup
def compiled_first(backend):
    model, _, batches = parts()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    return train(compiled, torch.optim.SGD(compiled.parameters(), 0.1), batches)


@setup
def compiled_after_the_optimizer(backend):
    model, optimizer, batches = parts()
    return train(torch.compile(model, backend=backend, fullgraph=True), optimizer, batches)


class Block(nn.Module):
    """What ``compile()`` in place needs: torch does not compile its own containers."""

    def __init__(self):
        super().__init__()
        self.first, self.rest = nn.Linear(16, 24), mlp()[2:]

    def forward(self, x):
        return self.rest(F.relu(self.first(x)))


@setup
def compiled_in_place(backend):
    torch.manual_seed(1)
    model, batches = Block(), clusters(16)
    model.compile(backend=backend, fullgraph=True)
    return train(model, torch.optim.SGD(model.parameters(), 0.1), batches)


@setup
def compiled_part(backend):
    torch.manual_seed(1)
    inner = Block()
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), inner)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    inner.compile(backend=backend, fullgraph=True)
    return train(model, optimizer, clusters(16))


@setup
def compiled_loss(backend):
    """A function around forward pass and loss."""
    model, optimizer, batches = parts()

    @torch.compile(backend=backend, fullgraph=True)
    def forward(x, y):
        return F.cross_entropy(model(x), y)

    return train(model, optimizer, batches, forward)


@setup
def compiled_with_breaks(backend):
    model, optimizer, batches = parts()

    @torch.compile(backend=backend)
    def forward(x, y):
        h = model[:2](x)
        torch._dynamo.graph_break()
        return F.cross_entropy(model[2:](h), y)

    return train(model, optimizer, batches, forward)


@setup
def compiled_optimizer(backend):
    model, optimizer, batches = parts()
    update = torch.compile(optimizer.step, backend=backend)

    def step():
        x, y = next(batches)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        update()

    return Training(model, optimizer, step)


@setup
def compiled_step(backend):
    """The whole step in one function, which breaks at backward and update."""
    model, optimizer, batches = parts()

    @torch.compile(backend=backend)
    def whole(x, y):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return Training(model, optimizer, lambda: whole(*next(batches)))


@setup
def compiled_shapes(backend):
    """Batches of different sizes: one graph for the first, one for all others."""
    model, optimizer, batches = parts()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    sizes = itertools.cycle([32, 32, 16, 8])
    return train(
        compiled, optimizer, ((x[:n], y[:n]) for n, (x, y) in zip(sizes, batches, strict=False))
    )


@setup
def compiled_checkpoint(backend):
    model, optimizer, batches = parts()

    @torch.compile(backend=backend, fullgraph=True)
    def forward(x, y):
        return F.cross_entropy(checkpoint(model, x, use_reentrant=False), y)

    return train(model, optimizer, batches, forward)


STEPS = 8


class Outcome:
    """What a training did with the compiler."""

    def __init__(self, name, watch=nullcontext):
        torch._dynamo.reset()
        counters.clear()
        backend = Backend()
        self.state = trained(lambda: SETUPS[name](backend), STEPS, watch)
        self.graphs, self.runs = backend.graphs, backend.runs
        self.breaks = sum(counters["graph_break"].values())


@functools.cache
def bare(name):
    return Outcome(name)


@pytest.mark.parametrize("when", [lambda step, event: step % 4 == 0, lambda step, event: step == 2])
@pytest.mark.parametrize("name", SETUPS)
def test_no_graph_break_no_recompilation_and_the_compiled_code_is_used_again(name, when):
    memories = []

    @contextmanager
    def watch():
        with watched(when) as (memory, _):
            memories.append(memory)
            yield

    expected, found = bare(name), Outcome(name, watch)

    assert not differences(expected.state, found.state)
    assert found.breaks == expected.breaks
    steps = STEPS - len(memories[0].exams)
    assert found.runs == expected.runs * steps // STEPS
    if name in ("compiled_optimizer", "compiled_step"):
        assert found.graphs <= expected.graphs  # the first step has a graph of its own
        ((what, why),) = memories[0].losses
        assert what.startswith("everything after step")
        assert "torch.compile" in why
    else:
        assert found.graphs == expected.graphs
        assert memories[0].exams
        assert not memories[0].losses


@pytest.mark.parametrize("name", SETUPS)
def test_nothing_is_compiled_anew_when_the_watching_ends(name):
    torch._dynamo.reset()
    backend = Backend()
    with watched(lambda step, event: step == 0):
        training = SETUPS[name](backend)
        for _ in range(4):
            training.step()
    graphs = backend.graphs
    for _ in range(2):
        training.step()
    assert backend.graphs == graphs


def test_a_stance_set_during_an_exam_and_taken_back_after_it_leaves_the_default():
    backend = Backend()
    with watched(lambda step, event: step == 0) as (memory, _):
        training = SETUPS["compiled_after_the_optimizer"](backend)
        with torch.compiler.set_stance("eager_on_recompile"):
            for _ in range(3):
                training.step()
    assert memory.exams
    assert eval_frame._stance == eval_frame.DynamoStance()
    training.step()
    assert backend.runs == 1


def test_a_stance_of_the_programs_own_is_kept_and_the_report_says_what_it_costs():
    with torch.compiler.set_stance("fail_on_recompile"):
        with watched() as (memory, _):
            torch.manual_seed(0)
            model = mlp()
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            model(torch.randn(4, 16)).sum().backward()
            optimizer.step()
        assert eval_frame._stance.stance == "fail_on_recompile"
    ((what, why),) = memory.losses
    assert what == "activations (exams)"
    assert "set_stance('fail_on_recompile')" in why


def test_attention_that_compiles_itself_runs_inside_an_exam():
    """``flex_attention`` without ``torch.compile`` is a higher-order operator."""
    from torch.nn.attention.flex_attention import flex_attention

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 4)

        def forward(self, x):
            # On a CPU it has no backward pass.
            q, k, v = self.qkv(x).detach().reshape(2, 1, -1, 48).chunk(3, dim=3)
            return self.out(F.relu(flex_attention(q, k, v).reshape(-1, 16)))

    def build():
        torch.manual_seed(1)
        model = Attention()
        return train(model, torch.optim.SGD(model.parameters(), 0.1), clusters(16))

    assert not differences(trained(build, 2), trained(build, 2, watched))
