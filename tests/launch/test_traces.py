"""What is left of a traceback when flatline is taken out of it."""

from __future__ import annotations

import traceback

import pytest
import torch
from torch import nn

import flatline
from flatline.launch.traces import without_own


class Refuses(nn.Module):
    """Fails in an operator that an exam watches, with a cause and in a group."""

    def forward(self, x):
        try:
            return nn.functional.linear(x, torch.zeros(3, 3))
        except RuntimeError as error:
            raise ExceptionGroup("both", [error, ValueError("mine")]) from error


class Interrupted(nn.Module):
    """Is interrupted while an exam asks how its batches lie, which nobody else asks."""

    @property
    def batch_first(self):
        raise KeyboardInterrupt

    def forward(self, x):
        return x


def raised_by(model, watched):
    """What the first training step raises."""
    layers = nn.Sequential(model, nn.Linear(8, 1))
    optimizer = torch.optim.SGD(layers.parameters(), lr=0.1)
    monitor = flatline.Monitor(layers, optimizer) if watched else None
    try:
        layers(torch.zeros(4, 8))
    except BaseException as error:
        return error
    finally:
        if monitor is not None:
            monitor.close()
    return None


def frames(error):
    return [(f.filename, f.lineno, f.name) for f in traceback.extract_tb(error.__traceback__)]


def test_an_error_inside_an_exam_shows_what_it_shows_without_one():
    plain, ours = raised_by(Refuses(), watched=False), raised_by(Refuses(), watched=True)
    assert frames(ours) != frames(plain)

    without_own(ours)

    assert frames(ours) == frames(plain)
    assert frames(ours.__cause__) == frames(plain.__cause__)
    assert ours.exceptions[0] is ours.__cause__


def test_an_interrupt_of_flatlines_own_work_shows_the_programs_line_alone():
    error = raised_by(Interrupted(), watched=True)
    assert isinstance(error, KeyboardInterrupt)

    without_own(error)

    assert "flatline" not in "".join(name for name, *_ in frames(error) if "/src/" in name)
    assert frames(error)[0][2] == "raised_by"
    assert raised_by(Interrupted(), watched=False) is None


def test_a_call_of_flatline_by_the_program_is_shown_in_full():
    with pytest.raises(flatline.UsageError) as caught:
        flatline.examine("no model", [])
    before = frames(caught.value)

    without_own(caught.value)

    assert frames(caught.value) == before
    assert before[-1][0].endswith("api.py")
