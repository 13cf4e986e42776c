"""One exam: which forward passes it counts, as how many examples, and what it leaves behind."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint

from watching import watched

UNITS = 6


def model(**options):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, UNITS, **options), nn.ReLU(), nn.Linear(UNITS, 2))


def data(examples=8, seed=1, *shape):
    return torch.randn(examples, *(shape or (4,)), generator=torch.Generator().manual_seed(seed))


def examined(net, step, site="0", learning_rate=0.0):
    """Vitals of one examined step: ``step`` runs forward and backward passes."""
    with watched() as (memory, _):
        optimizer = torch.optim.SGD(net.parameters(), learning_rate)
        step()
        optimizer.step()
    assert memory.losses == []
    return memory.exams[0].vitals[site] if memory.exams else None


def fired(net, *batches):
    """Examples on which each unit of the first layer fires, by hand."""
    with torch.no_grad():
        return sum((net[0](x) > 0).sum(dim=0) for x in batches).numpy()


def check(vitals, net, *batches):
    assert vitals.examples == sum(map(len, batches))
    np.testing.assert_array_equal(vitals.fired, fired(net, *batches))


# -- which passes count ---------------------------------------------------------------------------


def test_validation_does_not_count():
    net, x, held_out = model(), data(), data(seed=2)

    def step():
        with torch.no_grad():
            net(held_out)
        net.eval()
        net(held_out).sum()  # somebody forgot no_grad
        net.train()
        net(x).sum().backward()
        net.eval()
        net(held_out).sum()
        with torch.no_grad():
            net(held_out)

    check(examined(net, step), net, x)


def test_a_model_that_is_trained_in_evaluation_mode_counts():
    net, x = model().eval(), data()
    check(examined(net, lambda: net(x).sum().backward()), net, x)


def test_micro_batches_add_up():
    net, parts = model(), [data(5), data(8, 2), data(3, 3)]

    def step():
        for x in parts:
            net(x).sum().backward()

    check(examined(net, step), net, *parts)


def test_two_batches_before_one_backward_pass_are_different_examples():
    net, a, b = model(), data(), data(seed=2)
    check(examined(net, lambda: (net(a) * net(b)).sum().backward()), net, a, b)


def test_the_same_batch_twice_is_the_same_examples():
    net, x = model(), data()
    check(examined(net, lambda: (net(x) - 2 * net(x)).sum().backward()), net, x)


def test_time_steps_of_one_sequence_are_positions():
    net, x = model(), data(8, 1, 3, 4)

    def step():
        sum(net(x[:, t]) for t in range(3)).sum().backward()

    vitals = examined(net, step)
    assert vitals.examples == 8
    with torch.no_grad():
        by_hand = (net[0](x) > 0).any(dim=1).sum(dim=0)
    np.testing.assert_array_equal(vitals.fired, by_hand.numpy())


def test_what_depends_on_an_earlier_output_is_about_the_same_examples():
    cell = nn.Sequential(nn.Linear(4, UNITS), nn.ReLU(), nn.Linear(UNITS, 4))
    x = data()
    vitals = examined(cell, lambda: cell(cell(cell(x))).sum().backward())
    assert vitals.examples == len(x)


def test_backward_twice_through_one_graph_counts_once():
    net, x = model(), data()

    def step():
        out = net(x)
        out[:, 0].sum().backward(retain_graph=True)
        out[:, 1].sum().backward()

    check(examined(net, step), net, x)


def test_gradients_by_other_means_than_backward_count():
    net, x = model(), data()

    def step():
        grads = torch.autograd.grad(net(x).sum(), [*net.parameters()])
        for parameter, gradient in zip(net.parameters(), grads, strict=True):
            parameter.grad = gradient

    check(examined(net, step), net, x)


class Checkpointed(nn.Module):
    """A block whose activations are computed again in the backward pass."""

    def __init__(self, reentrant):
        super().__init__()
        self.block, self.reentrant = model(), reentrant

    def forward(self, x):
        return checkpoint(self.block, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations_do_not_count_again(reentrant):
    net, x = Checkpointed(reentrant), data().requires_grad_()
    vitals = examined(net, lambda: net(x).sum().backward(), "block.0")
    check(vitals, net.block, x.detach())


def test_other_threads_do_not_count():
    net, x, other = model(), data(), data(seed=2)

    def step():
        thread = threading.Thread(target=lambda: net(other))
        out = net(x)
        thread.start()
        thread.join()
        out.sum().backward()

    check(examined(net, step), net, x)


def test_modules_of_other_models_do_not_count():
    net, other, x = model(), model(), data()
    vitals = examined(net, lambda: (net(x) + other(data(seed=3)).detach()).sum().backward())
    check(vitals, net, x)


# -- how many examples ----------------------------------------------------------------------------


class Tokens(nn.Module):
    """Tokens in rows: examples times positions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.up, self.down = (
            nn.Embedding(9, 4),
            nn.Linear(4, UNITS),
            nn.Linear(UNITS, 2),
        )

    def forward(self, tokens, scale=1.0):
        rows = self.embed(tokens).reshape(-1, 4) * scale
        return self.down(F.relu(self.up(rows)))


@pytest.mark.parametrize("how", ["position", "keyword", "mapping"])
def test_rows_of_tokens_are_positions_of_their_examples(how):
    net, tokens = Tokens(), torch.arange(24).reshape(4, 6) % 9
    inputs = {"position": ((tokens,), {}), "keyword": ((), {"tokens": tokens})}.get(how)
    if how == "mapping":
        plain = net.forward
        net.forward = lambda batch: plain(batch["tokens"])
        inputs = (({"tokens": tokens},), {})
    args, kwargs = inputs
    vitals = examined(net, lambda: net(*args, **kwargs).sum().backward(), "up")
    assert vitals.examples == 4
    with torch.no_grad():
        z = net.up(net.embed(tokens))
    np.testing.assert_array_equal(vitals.fired, (z > 0).any(dim=1).sum(dim=0).numpy())
    np.testing.assert_allclose(vitals.h_abs, z.relu().mean(dim=1).sum(dim=0).numpy(), rtol=1e-6)


class TimeFirst(nn.Module):
    batch_first = False

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = nn.Linear(4, UNITS), nn.Linear(UNITS, 2)

    def forward(self, x):
        return self.down(self.up(x).relu())


def test_time_first_models_have_their_examples_on_the_second_axis():
    net, x = TimeFirst(), data(7, 1, 3, 4)  # seven steps of three examples
    vitals = examined(net, lambda: net(x).sum().backward(), "up")
    assert vitals.examples == 3
    with torch.no_grad():
        by_hand = (net.up(x) > 0).any(dim=0).sum(dim=0)
    np.testing.assert_array_equal(vitals.fired, by_hand.numpy())


# -- what it leaves behind ------------------------------------------------------------------------


def state():
    stance = torch._dynamo.eval_frame._stance.stance
    return nn.Module.__call__, len(_get_current_dispatch_mode_stack()), stance


class Foreign(TorchDispatchMode):
    """Somebody else's mode."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def test_an_exam_that_is_never_finished_is_taken_away():
    net, before = model(), state()
    with watched():
        torch.optim.SGD(net.parameters(), 0.1)
        net(data())
        assert state() != before
    assert state() == before


def test_an_exception_in_the_model_leaves_nothing_open():
    net, x, before = model(), data(), state()

    class Wrong(Exception):
        pass

    def fail(*_):
        raise Wrong

    handle = net[2].register_forward_pre_hook(fail)
    with watched() as (memory, _):
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        with pytest.raises(Wrong):
            net(data(5, 7))
        handle.remove()
        net(x).sum().backward()
        optimizer.step()
        assert memory.exams[0].vitals["0"].examples == len(x)
    assert state() == before


def test_a_mode_of_somebody_else_stays_where_it_is():
    net, x = model(), data()
    with watched() as (memory, _):
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        with Foreign() as outside:
            out = net(x)
            with Foreign() as inside:
                out.sum().backward()
                assert _get_current_dispatch_mode_stack() == [outside, inside]
        optimizer.step()
    assert [exam.step for exam in memory.exams] == [0]
    assert _get_current_dispatch_mode_stack() == []
