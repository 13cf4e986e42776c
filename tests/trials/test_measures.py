"""What one run of a trial says, read from what was recorded of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatline.errors import UsageError
from flatline.record import TRAINING, TREATMENTS
from flatline.record.recording import Recording
from flatline.sense.history import Note, Steps
from flatline.trials.measures import Curve, _missing, measure

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [
        (
            (TRAINING, "the program never imported torch"),
            "expected a program whose optimizer takes steps, found that the program never imported "
            "torch; name a program that trains, with the arguments it needs",
        ),
        (
            (TRAINING, "no optimizer took a step; write plain updates as torch.optim.SGD"),
            "expected a program whose optimizer takes steps, found that no optimizer took a step; "
            "write plain updates as torch.optim.SGD",
        ),
        ((TREATMENTS, "expected to apply lr=x0.1, found none"), "expected to apply lr=x0.1"),
        (("validation", "no step was taken meanwhile"), "expected a loss that backward()"),
    ],
    ids=["no torch", "no step", "untreated", "no loss"],
)
def test_a_run_that_can_not_be_compared_says_why_and_what_to_do(lost, sentence):
    with pytest.raises(UsageError) as error:
        measure(Recording({"id": "1"}, lost=[lost]))
    assert str(error.value).startswith(sentence)
    assert str(error.value).count("; ") <= 1


def test_a_metric_can_be_compared_though_no_training_was_seen():
    recording = Recording(
        {"id": "1"}, metrics={"score": [(0, 1.0), (1, 3.0)]}, lost=[(TRAINING, "not imported")]
    )
    assert measure(recording, "score")[0].objective == 3.0


def trained(losses: list[float], broken: int | None = None) -> Recording:
    """A run with a loss per step, NaN where it had none or was at NaN, as both are stored."""
    rows = [(step, loss, 0.1, 1.0) for step, loss in enumerate(losses)]
    notes = [] if broken is None else [Note(broken, "nonfinite", {"what": "loss"})]
    return Recording({"id": "1", "steps": len(losses)}, steps=Steps.of(rows), notes=notes)


FALLING = [2.0 - step / 100 for step in range(100)]
#: Of a program whose second optimizer steps in turn, without a loss of its own.
IN_TURN = [loss if step % 2 == 0 else NAN for step, loss in enumerate(FALLING)]


def changed(losses: list[float], changes: dict[int, float]) -> list[float]:
    return [changes.get(step, loss) for step, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "broken", "end"),
    [
        (FALLING, None, np.mean(FALLING[-10:])),
        (IN_TURN, None, np.mean(FALLING[-10::2])),
        (changed(FALLING, dict.fromkeys(range(80, 100), NAN)), None, np.mean(FALLING[72:80])),
        (changed(FALLING, {2: INF}), 2, np.mean(FALLING[-10:])),
        (changed(FALLING, {2: NAN}), 2, np.mean(FALLING[-10:])),
        (changed(IN_TURN, {2: INF}), 2, np.mean(FALLING[-10::2])),
        (changed(IN_TURN, {50: NAN}), 50, np.mean(FALLING[-10::2])),
        (changed(FALLING, {95: NAN}), 95, NAN),
        (changed(FALLING, {95: INF}), 95, INF),
        (changed(FALLING, {95: INF, 96: -INF}), 95, NAN),
        (changed(IN_TURN, {96: NAN}), 96, NAN),
        (changed(FALLING, dict.fromkeys(range(60, 100), NAN)), 60, NAN),
        (changed(IN_TURN, dict.fromkeys(range(60, 100), NAN)), 60, NAN),
        (changed(IN_TURN, {2: INF} | dict.fromkeys(range(60, 100), NAN)), 2, NAN),
        ([NAN] * 100, 0, NAN),
        ([3.0], None, 3.0),
        ([2.0, 1.5e308, 1.7e308], None, INF),
    ],
)
def test_the_end_passes_over_what_is_missing_and_not_over_what_is_no_number(losses, broken, end):
    assert measure(trained(losses, broken))[0].objective == pytest.approx(end, nan_ok=True)


def test_steps_without_a_loss_of_their_own_keep_no_run_from_its_own_end():
    found = measure(trained(IN_TURN))[0]

    assert found.curve.steps_to(found.objective, False) == 99
    assert found.curve.steps_to(1.5, False) == 55
    assert found.untrained == 2.0


def test_a_metric_that_was_logged_as_no_number_is_none():
    recording = Recording({"id": "1"}, metrics={"score": [(0, 1.0), (1, INF), (2, -INF)]})

    assert not math.isfinite(measure(recording, "score")[0].objective)
    assert math.isnan(Curve(np.array([], np.int64), np.array([])).end())


@given(st.lists(st.sampled_from([1.0, NAN, INF]), max_size=30), st.data())
def test_what_is_missing_is_what_a_loop_finds(losses, data):
    broken = data.draw(st.none() | st.integers(0, len(losses)))
    gaps, start = [], None
    for step, loss in enumerate([*losses, 0.0]):
        if not math.isnan(loss):
            gaps += [] if start is None else [range(start, step)]
            start = None
        elif start is None:
            start = step
    first = len(losses) if broken is None else broken
    usual = max((sum(step < first for step in gap) for gap in gaps), default=0)
    expected = [
        step
        for gap in gaps
        for step in gap
        if broken is None or step < first or (step > first and len(gap) <= usual)
    ]
    found = _missing(np.arange(len(losses)), np.array(losses, np.float64), broken)
    assert np.flatnonzero(found).tolist() == expected
