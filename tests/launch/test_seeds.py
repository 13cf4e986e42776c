"""``flatline run --seed-offset`` on programs that seed this and that, or nothing."""

from __future__ import annotations

import json

import pytest

SEEDED = """
import random, sys
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

K = int(sys.argv[1])

def draws():
    random.seed(3 + K)
    yield random.random()
    yield random.Random(4 + K).random()
    np.random.seed(5 + K)
    yield np.random.rand()
    yield np.random.default_rng(6 + K).random()
    yield np.random.default_rng(seed=7 + K).random()
    torch.manual_seed(8 + K)
    yield torch.rand(1).item()
    torch.random.manual_seed(seed=9 + K)
    yield torch.rand(1).item()
    generator = torch.Generator().manual_seed(10 + K)
    yield torch.randperm(9, generator=generator).tolist()
    data = TensorDataset(torch.arange(9))
    yield [batch[0].tolist() for batch in DataLoader(data, 3, shuffle=True, generator=generator)]
    torch.manual_seed(-1 - K)
    yield torch.rand(1).item()

import json, pickle
assert isinstance(torch.default_generator, torch.Generator)
again = pickle.loads(pickle.dumps(torch.Generator().manual_seed(1)))
assert isinstance(again, torch.Generator)
print(json.dumps(list(draws())))
"""

UNSEEDED = """
import json, random
import numpy as np
import torch

rngs = np.random.default_rng(), np.random.default_rng()
values = [random.random(), np.random.rand(), torch.rand(1).item(), *(r.random() for r in rngs)]
assert values[-1] != values[-2]
print(json.dumps(values))
"""


@pytest.fixture
def drawn(twice):
    """What a program prints under an offset, or under plain python."""
    twice.env["PYTHONPATH"] = twice.env["PYTHONPATH"].rpartition(":")[2]

    def run(source: str, offset: int | None, *arguments: str) -> list:
        twice.write("draw.py", source)
        command = [*twice.flatline, "run", "--quiet", "--seed-offset", str(offset)]
        status, output, errors = twice.run(
            *([] if offset is None else command), "draw.py", *arguments
        )
        assert status == 0, errors
        return json.loads(output)

    return run


def test_an_offset_does_what_other_seeds_in_the_program_would_do(drawn):
    """But for a negative seed of torch, which wraps from the other end."""
    by_hand = drawn(SEEDED, None, "2")
    shifted = drawn(SEEDED, 2, "0")

    assert shifted[:-1] == by_hand[:-1]
    assert drawn(SEEDED, 0, "0") == drawn(SEEDED, None, "0")
    assert all(a != b for a, b in zip(shifted, drawn(SEEDED, None, "0"), strict=True))


def test_what_the_program_does_not_seed_starts_from_the_offset(drawn):
    first, again, other = drawn(UNSEEDED, 1), drawn(UNSEEDED, 1), drawn(UNSEEDED, 2)

    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
    assert drawn(UNSEEDED, None) != drawn(UNSEEDED, None)


def test_a_wrong_offset_is_refused(twice):
    twice.write("draw.py", "")
    status, _, errors = twice.run(*twice.flatline, "run", "--seed-offset", "-1", "draw.py")

    assert status == 2
    assert "expected a whole number of at least 0, found '-1'" in errors
