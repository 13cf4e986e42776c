"""A training comes out the same to the last bit, watched or not, and so does all around it."""

from __future__ import annotations

import functools
from contextlib import contextmanager

import pytest

from flatline.sense.attach import Attachment
from flatline.sense.watcher import Watcher
from hazards import HAZARDS
from untouched import differences, trained
from watching import Memory, watched
from workloads import WORKLOADS

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
@pytest.mark.parametrize("watching", [examined_always, examined_once, paced])
@pytest.mark.parametrize("name", EVERYTHING)
def test_training_comes_out_bit_identical(name, watching):
    memories = []
    expected = bare(name)

    found = trained(EVERYTHING[name].build, EVERYTHING[name].steps, lambda: watching(memories))

    assert not differences(expected, found)
    assert not memories[0].losses
