"""What one run of a trial says, read from what was recorded of it."""

from __future__ import annotations

import pytest

from flatline.errors import UsageError
from flatline.record import TRAINING, TREATMENTS
from flatline.record.recording import Recording
from flatline.trials.measures import measure


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
