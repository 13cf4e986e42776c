"""The roll call: equal to a slow reading that keeps the whole history of every unit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flatline.sense import bits
from flatline.sense.roll import PATIENCE, Member, Roll

#: Rows of a short word.
ROWS = 8

UNITS = 3


@dataclass
class SlowUnit:
    """Everything that was ever seen of one unit.

    Attributes:
        rows: Per step of the pulse, whether it lived and whether its site was lit.
        exams: Per step of an exam, whether it was alive and the number of examples.
        lives: Steps on which it showed life, by pulse or exam.
        doubted: Its zeros are not believed.
        announced: Step of the exam that announced its death; -1 while it counts as alive.
        since: Exams count from this step on where the pulse does not.
        credit: Examples of confirmed silence before that.
    """

    rows: dict[int, tuple[bool, bool]] = field(default_factory=dict)
    exams: dict[int, tuple[bool, int]] = field(default_factory=dict)
    lives: list[int] = field(default_factory=lambda: [-1])
    doubted: bool = False
    announced: int = -1
    since: int = 0
    credit: int = 0

    @property
    def last_life(self) -> int:
        return max(self.lives)

    def exact(self, now: int) -> bool:
        """Whether every step since its last life has a row in which its site was lit."""
        steps = range(self.last_life + 1, now + 1)
        return all(self.rows.get(s, (False, False))[1] for s in steps) and len(steps) > 0


class SlowSite:
    """One site, read off the docstrings."""

    def __init__(self, pulse: str, reliable: bool) -> None:
        self.pulse, self.reliable = pulse, reliable
        self.units = [SlowUnit() for _ in range(UNITS)]
        self.batch = 0
        self.now = self.examined = -1

    @property
    def counts_steps(self) -> bool:
        return self.pulse == "exact" and self.reliable

    def row(self, step: int, alive: list[bool]) -> None:
        self.now = step
        if self.pulse == "none":
            alive = [False] * UNITS
        for unit, lived in zip(self.units, alive, strict=True):
            unit.rows[step] = lived, any(alive)
            if lived:
                unit.lives.append(step)
                unit.credit = 0

    def witnessed(self, unit: SlowUnit) -> int:
        """Examples in which it was silent since its last life."""
        if self.counts_steps:
            steps = {s for s, (_, lit) in unit.rows.items() if lit}
            steps |= {s for s, (alive, _) in unit.exams.items() if not alive}
            return max(self.batch, 1) * sum(s > unit.last_life for s in steps)
        after = max(unit.last_life + 1, unit.since)
        return unit.credit + sum(n for s, (_, n) in unit.exams.items() if s >= after)

    def stop_counting_steps(self, step: int) -> None:
        for unit in self.units:
            unit.credit = self.witnessed(unit) if unit.announced > unit.last_life else 0
            unit.since = step

    def compare(self, step: int, alive: list[bool], unread: list[bool]) -> bool:
        """Set an exam against the pulse; returns whether life was hidden."""
        if self.pulse == "none" or not self.units[0].rows.get(step, (0, False))[1]:
            return False
        beats = [unit.rows[step][0] for unit in self.units]
        told = list(zip(self.units, alive, beats, unread, strict=True))
        if any(beat and not lived for _, lived, beat, _ in told):
            if self.counts_steps:
                self.stop_counting_steps(step)
            self.pulse = "none"
            for unit, lived, beat, _ in told:
                if beat and not lived:
                    died = unit.announced
                    unit.lives = [min(self.examined, step - 1) if died < 0 else died - 1]
                    unit.since = step
            return False
        hidden = False
        for unit, lived, beat, unseen in told:
            unit.doubted |= lived and not beat
            hidden |= lived and not beat and not unseen
        return hidden and self.counts_steps

    def doubt(self, step: int) -> None:
        if self.counts_steps:
            self.stop_counting_steps(step)
            self.reliable = False

    def examine(self, step: int, alive: list[bool], n: int) -> tuple[set[int], set[int]]:
        """Take an exam; returns who died and who had come back."""
        died, revived = set(), set()
        for u, (unit, lived) in enumerate(zip(self.units, alive, strict=True)):
            unit.exams[step] = lived, n
            if lived:
                unit.lives.append(step)
                unit.credit = 0
            if unit.announced >= 0 and unit.last_life >= unit.announced:
                revived.add(u)
                unit.announced = -1
            if not lived and unit.announced < 0:
                died.add(u)
                unit.announced = step
        self.batch = min(self.batch or n, n)
        self.examined = step
        return died, revived


def history(rng):
    """Rows of the pulse in which a unit mostly goes on as it did, some of them dark."""
    alive = rng.random(UNITS) < 0.7
    while True:
        alive = np.where(rng.random(UNITS) < 0.15, ~alive, alive)
        yield alive & (rng.random() < 0.93)


@settings(max_examples=400)
@given(st.integers(0, 2**32))
def test_the_roll_equals_the_slow_reading(seed):
    rng = np.random.default_rng(seed)
    kinds = [("exact", True), ("exact", True), ("exact", False), ("sampled", True), ("none", True)]
    members = [kinds[i] for i in rng.integers(0, len(kinds), 2)]
    roll = Roll([Member(UNITS, *member) for member in members])
    slow = [SlowSite(*member) for member in members]
    lives = [history(rng) for _ in members]
    step, word = -1, rng.choice([np.uint8, np.uint64])
    for _ in range(12):
        step += int(rng.choice([0, 0, 0, 0, 1, 3]))  # steps at which the optimizer was idle
        count = bits.width(word) if rng.random() < 0.3 else rng.integers(1, bits.width(word) + 1)
        steps = list(range(step + 1, step + 1 + int(count)))
        step = steps[-1]
        rows = [[next(life) for _ in steps] for life in lives]
        alive = np.concatenate([np.array(part) for part in rows], axis=1)
        roll.observe(bits.pack(alive, word), steps)
        for site, part in zip(slow, rows, strict=True):
            for at, alive in zip(steps, part, strict=True):
                site.row(at, alive.tolist())
        if rng.random() < 0.6:
            take_exam(rng, roll, slow, step, [part[-1] for part in rows])
        for index, site in enumerate(slow):
            assert_equal(roll, index, site)


def take_exam(rng, roll, slow, step, beats):
    """An exam that mostly agrees with the pulse: life may be hidden, or be no life at all."""
    cold, n = rng.random() < 0.1, int(rng.choice([8, 32]))
    for index, (site, beat) in enumerate(zip(slow, beats, strict=True)):
        alive = np.where(beat, rng.random(UNITS) > 0.01, rng.random(UNITS) < 0.15)
        unread = rng.random(UNITS) < 0.5
        hidden = roll.compare(index, step, alive, unread)
        assert hidden == site.compare(step, alive.tolist(), unread.tolist())
        if cold:
            roll.doubt(index)
            site.doubt(step)
        change = roll.examine(index, step, alive, n)
        died, revived = site.examine(step, alive.tolist(), n)
        assert (set(change.died), set(change.revived)) == (died, revived)


def assert_equal(roll, index, site):
    found = roll.ledger(index)
    assert (roll.members[index].pulse, roll.members[index].reliable) == (site.pulse, site.reliable)
    for u, unit in enumerate(site.units):
        assert found.last_life[u] == unit.last_life
        assert (found.first_silent[u] > unit.last_life) == (unit.announced > unit.last_life)
        if unit.announced > unit.last_life:
            assert found.first_silent[u] == unit.announced
        assert found.silent_examples[u] == site.witnessed(unit)
        known = site.counts_steps and not unit.doubted and unit.exact(site.now)
        assert found.exact[u] == known


def rows_of(roll, *rows, first):
    """Show rows of one site to the roll, eight at a time; returns the steps at which it asked."""
    asked = []
    for start in range(0, len(rows), ROWS):
        part = np.array(rows[start : start + ROWS])
        steps = list(range(first + start, first + start + len(part)))
        if roll.observe(bits.pack(part, np.uint64), steps):
            asked.append(steps[-1])
    return asked


ON, OFF = [True, True], [True, False]


def test_a_long_silence_asks_for_an_exam_once():
    roll = Roll([Member(2, "exact", True)])
    assert rows_of(roll, ON, *[OFF] * 39, first=0) == [23]
    assert PATIENCE < 23 <= PATIENCE + ROWS
    exam(roll, 39, [True, False])
    assert rows_of(roll, *[OFF] * 40, first=40) == []  # it is known to be dead


def test_a_unit_that_is_often_silent_for_long_asks_later():
    roll = Roll([Member(2, "exact", True)])
    assert rows_of(roll, ON, *[OFF] * 14, ON, first=0) == []
    assert rows_of(roll, *[OFF] * 64, first=16) == [15 + 3 * PATIENCE + ROWS]


def test_silence_that_the_exam_denied_may_ask_again():
    roll = Roll([Member(2, "sampled", True)])
    assert rows_of(roll, ON, *[OFF] * 23, first=0) == [23]
    exam(roll, 23, [True, True])
    assert rows_of(roll, *[OFF] * 24, first=24) == [47]


def test_nobody_asks_where_there_is_no_pulse_or_no_light():
    assert rows_of(Roll([Member(2, "none", False)]), *[ON] * 40, first=0) == []
    assert rows_of(Roll([Member(2, "exact", True)]), ON, *[[False] * 2] * 39, first=0) == []


def exam(roll, step, alive):
    alive = np.array(alive)
    roll.compare(0, step, alive, np.zeros(2, bool))
    roll.examine(0, step, alive, 32)


def test_one_rank_of_several_believes_the_others_gradients():
    roll = Roll([Member(2, "exact", True)])
    rows_of(roll, ON, first=0)
    silent = np.array([True, False])
    assert not roll.compare(0, 0, silent, np.zeros(2, bool), complete=False)
    change = roll.examine(0, 0, silent, 32, complete=False)
    assert roll.members[0].pulse == "exact"
    assert change.died.tolist() == []
    assert roll.ledger(0).last_life.tolist() == [0, 0]
