"""The roll call: per unit, the last step it showed life and how much silence followed.

Fed by two sources: rows of the pulse (every step, per unit: was its gradient not 0) and exams
(some steps: on how many examples it fired). NumPy only; the pulse's device side is in
:mod:`flatline.sense.pulse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flatline.sense import bits
from flatline.sense.bits import Words
from flatline.sense.vitals import Ledger

Bool = npt.NDArray[np.bool_]

#: Silences longer than this and twice the unit's longest ask for an exam.
PATIENCE = 16
_SURE, _PENDING, _DOUBT, _ASKED = 1, 2, 4, 8
#: Rows that are put off at most while nothing changes and nobody is silent for too long.
LATER = 512


def _patience(longest: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Steps of silence that are not suspicious yet, after such longest silences so far.

    Args:
        longest: In units of ``PATIENCE`` steps, rounded up.
    """
    patience: npt.NDArray[np.int32] = (2 * longest.astype(np.int32) + 1) * PATIENCE
    return patience


@dataclass
class Member:
    """One site on the roll.

    Attributes:
        units: Number of units.
        pulse: ``"exact"``, ``"sampled"`` or ``"none"``.
        reliable: A zero in the pulse means silence: no dropout beside the nonlinearity, no unit
            seen to fire unnoticed.
        batch: Examples per step, the fewest seen; 0 before any exam.
    """

    units: int
    pulse: str
    reliable: bool
    batch: int = 0

    @property
    def exact(self) -> bool:
        """Whether the pulse can name the step of a death."""
        return self.pulse == "exact" and self.reliable


@dataclass(frozen=True)
class Change:
    """What an exam changed: units (of the site) that were found silent, or alive again.

    Attributes:
        died: Newly found silent.
        revived: Showed life after an exam had found them silent, be it only for a time.
    """

    died: npt.NDArray[np.intp]
    revived: npt.NDArray[np.intp]


class Roll:
    """Sites that are called together, their units side by side in one set of arrays.

    Args:
        members: The sites.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self._sizes = sizes = [member.units for member in members]
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
        self._ends = self._starts + sizes
        total = sum(sizes)
        self.last_life = np.full(total, -1, np.int32)
        self.first_silent = np.full(total, -1, np.int32)
        self._silent = np.zeros(total, np.int32)
        self._longest = np.zeros(total, np.uint8)
        self._flags = np.full(total, _PENDING, np.uint8)
        self._last_step = -1
        #: Rows that were put off, how many may be before someone is missed, and their word.
        self._put_off = self._room = 0
        self._steady: Words | None = None
        self._wanted = False
        self._lit_step = np.full(len(sizes), -1)
        self._exam_step = np.full(len(sizes), -1)

    @property
    def _trusted(self) -> list[bool]:
        return [member.pulse != "none" for member in self.members]

    def observe(self, word: Words, steps: Sequence[int]) -> bool:
        """Take rows of the pulse.

        A row in which a whole site shows nothing says nothing of its units (the loss may have
        been flat, or everything downstream dead), so silence is counted only in rows in which some
        other unit of the site lived, and the step of a death is known only where all rows since
        are such.

        Args:
            word: Which units showed life, as :func:`flatline.sense.bits.pack` packs it.
            steps: Step of each row, rising.

        Returns:
            Whether some unit has been silent suspiciously long, for the first time.
        """
        if not all(self._trusted):
            word = np.where(np.repeat(self._trusted, self._sizes), word, word.dtype.type(0))
        if not self._again(word, steps):
            self._settle()
            self._wanted |= self._take(word, steps)
        wanted, self._wanted = self._wanted, False
        return wanted

    def _again(self, word: Words, steps: Sequence[int]) -> bool:
        """Put off rows in which the same units lived, all the time, as in those before.

        That is the usual, and taking such rows together costs as much as taking one of them.
        """
        rows = bits.width(word.dtype)
        if self._steady is None or len(steps) < rows or self._put_off + rows > self._room:
            return False
        follows = steps[0] == self._last_step + 1 and steps[-1] == self._last_step + rows
        if not follows or not np.array_equal(word, self._steady):
            return False
        self._put_off += rows
        self._last_step = steps[-1]
        return True

    def _settle(self) -> None:
        """Take the rows that were put off."""
        count, self._put_off = self._put_off, 0
        if not count or self._steady is None:
            return
        self._lit_step.fill(self._last_step)
        some = np.flatnonzero(~self._steady)
        before = self._pass(some, self._last_step)
        self._wanted |= self._wait(some, count, before)

    def _pass(
        self, some: npt.NDArray[np.intp], step: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Let all units have lived until a step; returns what was known of ``some``."""
        before = (self.last_life[some], self._flags[some], self._silent[some])
        self.last_life.fill(step)
        self._silent.fill(0)
        self._flags &= _DOUBT
        self._flags |= _PENDING
        return before

    def _take(self, word: Words, steps: Sequence[int]) -> bool:
        """Take rows as they come; returns whether some unit has been silent too long."""
        count, step = len(steps), np.asarray(steps, np.int32)
        lit = np.bitwise_or.reduceat(word, self._starts)
        self._lit_step = np.where(lit, step[bits.last(lit)], self._lit_step)
        full = word.dtype.type((1 << count) - 1)
        # Units that lived in every row, as most do, need no more than this.
        some = np.flatnonzero((word != full) | (self._silent != 0))
        before = self._pass(some, steps[-1])
        bright = np.repeat(lit, self._sizes)[some]
        goes_on = self._goes_on(word[some], bright == full, step, before[1])
        if goes_on:
            suspicious = self._wait(some, count, before)
        else:
            suspicious = self._observe(some, word[some], bright, step, before)
        self._steady = word if goes_on and count == bits.width(word.dtype) else None
        self._last_step = steps[-1]
        return suspicious

    def _goes_on(
        self,
        word: Words,
        bright: Bool,
        step: npt.NDArray[np.int32],
        flags: npt.NDArray[np.uint8],
    ) -> bool:
        """Whether units stay as silent as they were, each step seen by an exact pulse."""
        known = bool(bright.all()) and not (word.any() or (flags & _PENDING).any())
        follows = int(step[-1]) == self._last_step + len(step)
        return known and follows and all(member.exact for member in self.members)

    def _wait(
        self,
        some: npt.NDArray[np.intp],
        count: int,
        before: tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.int32]],
    ) -> bool:
        """As :meth:`_observe` where all of ``some`` were silent already and stay so: the usual."""
        last_life, flags, silent = before
        silence = silent + np.int32(count)
        patience = _patience(self._longest[some])
        watched = (flags & _ASKED == 0) & (self.first_silent[some] <= last_life)
        suspicious = watched & (silence > patience)
        left = (patience - silence)[watched & ~suspicious]
        self._room = int(left.min(initial=LATER))
        flags[suspicious] |= _ASKED
        self.last_life[some], self._silent[some], self._flags[some] = last_life, silence, flags
        return bool(suspicious.any())

    def _observe(
        self,
        some: npt.NDArray[np.intp],
        word: Words,
        lit: Words,
        step: npt.NDArray[np.int32],
        before: tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.int32]],
    ) -> bool:
        """The units that were silent in some row.

        Args:
            some: Which units.
            word: Rows in which each lived, as bits.
            lit: Rows in which its site was lit, as bits.
            step: Step of each row.
            before: Their last life, flags and silence so far.
        """
        last_life, flags, silent = before
        full = word.dtype.type((1 << len(step)) - 1)
        lived = word != 0
        last = bits.last(word)
        # Rows after the last sign of life: all of them where there was none.
        later, rest = (rows >> (last + 1).astype(word.dtype) for rows in (lit, full))
        # The step of death is known where every row after the last sign of life is believed.
        solid = step[-1] - step[0] == len(step) - 1
        bright = (later == rest) & solid
        follows = step[0] == self._last_step + 1
        begun = np.where(flags & _PENDING, last_life == step[0] - 1, (flags & _SURE != 0) & follows)
        sure = np.where(bright & (lived | begun), np.uint8(_SURE), np.uint8(0))
        undecided = lived & (last == len(step) - 1)
        kept = flags & np.where(lived, np.uint8(_DOUBT), np.uint8(_DOUBT | _ASKED))
        gap = step[bits.first(word)] - last_life - 1
        gap = np.where(lived & (last_life >= 0), np.minimum(-(-gap // PATIENCE), 255), 0)
        longest = np.maximum(self._longest[some], gap.astype(np.uint8))
        longest = np.maximum(longest, bits.pauses(word, PATIENCE))
        now = np.where(lived, step[last], last_life)
        witnessed = np.bitwise_count(later).astype(np.int32)
        silence = waited = np.where(lived, witnessed, silent + witnessed)
        if not all(member.exact for member in self.members):
            exact = np.repeat([member.exact for member in self.members], self._sizes)[some]
            trusted = np.repeat(self._trusted, self._sizes)[some]
            silence = np.where(exact, silence, np.where(lived, 0, silent))
            waited = np.where(exact, waited, np.where(trusted, step[-1] - now, 0))
        flags = np.where(undecided, np.uint8(_PENDING), sure) | kept
        suspicious = ~lived & (waited > _patience(longest))
        suspicious &= (self.first_silent[some] <= now) & (flags & _ASKED == 0)
        flags[suspicious] |= _ASKED
        self.last_life[some], self._silent[some] = now, silence
        self._flags[some], self._longest[some] = flags, longest
        return bool(suspicious.any())

    def compare(
        self, index: int, step: int, alive: Bool, unread: Bool, complete: bool = True
    ) -> bool:
        """Set an exam of site ``index`` against the pulse's row of the same step.

        A pulse that called silent units alive is not trusted at this site any more (a penalty in
        the loss, noise on the gradients); the zeros of a unit that fired unnoticed are not taken
        for silence.

        Args:
            index: The site.
            step: Step of the exam.
            alive: Units that fired.
            unread: Units whose outgoing weights are all 0; the pulse cannot see them live.
            complete: The exam saw every example behind the gradient (not one rank of several).

        Returns:
            Whether a unit fired unnoticed that a reliable pulse should have noticed.
        """
        self._settle()
        self._steady = None
        member = self.members[index]
        if member.pulse == "none" or self._lit_step[index] != step:
            return False
        part = slice(self._starts[index], self._ends[index])
        last = self.last_life[part]
        beats = last == step
        if complete and (beats & ~alive).any():
            self._recount(index)
            member.pulse = "none"
            # Believe the exams alone: these units lived when last examined, or were dead then.
            first = self.first_silent[part]
            known = np.where(first >= 0, first - 1, min(self._exam_step[index], step - 1))
            np.copyto(last, known, where=beats & ~alive, casting="same_kind")
            return False
        unnoticed = alive & ~beats
        self._flags[part] |= np.where(unnoticed, np.uint8(_DOUBT), np.uint8(0))
        return member.exact and bool((unnoticed & ~unread).any())

    def examine(
        self, index: int, step: int, alive: Bool, examples: int, complete: bool = True
    ) -> Change:
        """Take an exam of site ``index``, after :meth:`compare`.

        Args:
            index: The site.
            step: Step of the exam.
            alive: Units that fired.
            examples: Number of examples.
            complete: The exam saw every example behind the gradient (not one rank of several).
        """
        self._settle()
        self._steady = None
        member = self.members[index]
        part = slice(self._starts[index], self._ends[index])
        last, first, silence = self.last_life[part], self.first_silent[part], self._silent[part]
        lit = member.pulse != "none" and self._lit_step[index] == step
        if lit and not complete:
            alive = alive | (last == step)
        last[alive] = step
        # An exact pulse counts steps, and has counted this one if it could.
        witnessed = int(not lit) if member.exact else examples
        silence += witnessed
        silence[alive] = 0
        revived = (first >= 0) & (last >= first)
        first[revived] = -1
        died = ~alive & (first < 0)
        first[died] = step
        flags = self._flags[part] & np.uint8(255 - _ASKED)
        # What comes after this sign of life will tell.
        self._flags[part] = np.where(alive, flags & _DOUBT | _PENDING, flags)
        member.batch = min(member.batch or examples, examples)
        self._exam_step[index] = step
        return Change(np.flatnonzero(died), np.flatnonzero(revived))

    def doubt(self, index: int) -> None:
        """Life was missed at site ``index``: its zeros are not taken for silence any more.

        Every death lies between two exams from now on: also one that an exam has confirmed, for
        nothing tells that the unit did not live for a moment since. Silence that no exam has
        confirmed is counted anew.
        """
        self._settle()
        self._steady = None
        member = self.members[index]
        if member.exact:
            self._recount(index)
            member.reliable = False

    def _recount(self, index: int) -> None:
        """From steps of silence to examples, where an exam has confirmed it."""
        member = self.members[index]
        if member.exact:
            part = slice(self._starts[index], self._ends[index])
            confirmed = self.first_silent[part] > self.last_life[part]
            self._silent[part] *= np.where(confirmed, max(member.batch, 1), 0)

    def ledger(self, index: int) -> Ledger:
        """The ledger of site ``index``."""
        self._settle()
        member = self.members[index]
        part = slice(self._starts[index], self._ends[index])
        last, first, flags = self.last_life[part], self.first_silent[part], self._flags[part]
        known = (flags & _SURE != 0) & (flags & _DOUBT == 0) & member.exact
        weight = max(member.batch, 1) if member.exact else 1
        return Ledger(
            last_life=last.copy(),
            first_silent=first.copy(),
            silent_examples=self._silent[part].astype(np.int64) * weight,
            exact=known,
        )

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        kept = (self.last_life, self.first_silent, self._silent, self._longest, self._flags)
        steady = 0 if self._steady is None else self._steady.nbytes
        return sum(array.nbytes for array in kept) + steady
