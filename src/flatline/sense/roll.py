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

from flatline.sense.vitals import Ledger

Bool = npt.NDArray[np.bool_]

#: Silences longer than this and twice the unit's longest ask for an exam.
PATIENCE = 16
_SURE, _PENDING, _DOUBT, _ASKED = 1, 2, 4, 8


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
        revived: Alive after an exam had found them silent.
        distrusted: The pulse called silent units alive.
        hidden: Units fired that the pulse missed although their output is read.
    """

    died: npt.NDArray[np.intp]
    revived: npt.NDArray[np.intp]
    distrusted: bool = False
    hidden: bool = False


class Roll:
    """Sites that are called together, their units side by side in one set of arrays.

    Args:
        members: The sites.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        sizes = [member.units for member in members]
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
        self._ends = self._starts + sizes
        total = sum(sizes)
        self._site = np.repeat(np.arange(len(sizes), dtype=np.int16), sizes)
        self.last_life = np.full(total, -1, np.int32)
        self.first_silent = np.full(total, -1, np.int32)
        self._silent = np.zeros(total, np.int32)
        self._longest = np.zeros(total, np.int16)
        self._flags = np.full(total, _PENDING, np.uint8)
        self._lit_step = np.full(len(sizes), -1)
        self._exam_step = np.full(len(sizes), -1)

    @property
    def _trusted(self) -> list[bool]:
        return [member.pulse != "none" for member in self.members]

    def observe(self, alive: Bool, steps: Sequence[int]) -> bool:
        """Take rows of the pulse.

        A row in which a whole site shows nothing says nothing of its units (the loss may have
        been flat, or everything downstream dead), so silence is counted and believed only in rows
        in which some other unit of the site lived.

        Args:
            alive: Which units showed life, shape ``(rows, units)``.
            steps: Step of each row, rising.

        Returns:
            Whether some unit has been silent suspiciously long, for the first time.
        """
        count = len(alive)
        step = np.asarray(steps, np.int32)
        if not all(self._trusted):
            alive = alive & np.array(self._trusted)[self._site]
        lit = np.logical_or.reduceat(alive, self._starts, axis=1)
        # after[i] = rows from i on in which the site was lit
        after = np.zeros((count + 1, len(self.members)), np.int32)
        np.cumsum(lit[::-1], axis=0, out=after[1:])
        after = after[::-1]
        lived = alive.any(axis=0)
        last = count - 1 - alive[::-1].argmax(axis=0)
        gap = step[alive.argmax(axis=0)] - self.last_life - 1
        np.maximum(
            self._longest,
            np.minimum(gap, np.iinfo(np.int16).max),
            out=self._longest,
            where=lived & (self.last_life >= 0),
            casting="unsafe",
        )
        # The row after the last sign of life decides whether the step of death is known.
        follows = np.append(step[1:] == step[:-1] + 1, False)
        lit_next = np.vstack([lit[1:], np.zeros_like(lit[:1])])
        at_first = lit[0][self._site] & (self.last_life == step[0] - 1)
        sure = np.where(lived, (follows[:, None] & lit_next)[last, self._site], at_first)
        pending = self._flags & _PENDING != 0
        decided = lived | pending
        kept = self._flags & (_DOUBT | np.where(lived, 0, _ASKED | _SURE).astype(np.uint8))
        fresh = np.where(lived & (last == count - 1), _PENDING, sure * _SURE).astype(np.uint8)
        self._flags = np.where(decided, kept & ~np.uint8(_SURE) | fresh, kept).astype(np.uint8)
        self._silent = np.where(
            lived, after[last + 1, self._site], self._silent + after[0][self._site]
        ).astype(np.int32)
        self.last_life = np.where(lived, step[last], self.last_life)
        self._lit_step = np.where(
            lit.any(axis=0), step[count - 1 - lit[::-1].argmax(axis=0)], self._lit_step
        )
        long = self._silent > 2 * self._longest.astype(np.int32) + PATIENCE
        suspicious = long & ~lived & (self.first_silent <= self.last_life)
        suspicious &= self._flags & _ASKED == 0
        self._flags[suspicious] |= _ASKED
        return bool(suspicious.any())

    def examine(
        self,
        index: int,
        step: int,
        fired: npt.NDArray[np.int32],
        examples: int,
        unread: Bool,
        complete: bool = True,
    ) -> Change:
        """Take an exam of site ``index``, after the pulse's row of the same step.

        Args:
            index: The site.
            step: Step of the exam.
            fired: Examples on which each unit fired.
            examples: Number of examples.
            unread: Units whose outgoing weights are all 0; the pulse cannot see them live.
            complete: The exam saw every example behind the gradient (not one rank of several).
        """
        member = self.members[index]
        part = slice(self._starts[index], self._ends[index])
        last, first, flags = self.last_life[part], self.first_silent[part], self._flags[part]
        silent = fired == 0
        distrusted = hidden = False
        if member.pulse != "none" and self._lit_step[index] == step:
            beats = last == step
            if not complete:
                silent &= ~beats
            elif (silent & beats).any():
                distrusted = True
                member.pulse = "none"
                # Believe the exams alone: these units lived when last examined.
                last[silent & beats] = np.minimum(self._exam_step[index], step - 1)
            unnoticed = ~silent & ~beats
            flags[unnoticed] |= _DOUBT
            hidden = bool((unnoticed & ~unread).any())
        last[~silent] = step
        silences = self._silent[part]
        if not member.exact:
            np.copyto(silences, np.where(silent, silences + examples, 0), casting="unsafe")
        died = silent & (first <= last)
        revived = ~silent & (first >= 0)
        first[died] = step
        first[revived] = -1
        flags &= np.uint8(255 - _ASKED)
        member.batch = min(member.batch or examples, examples)
        self._exam_step[index] = step
        return Change(np.flatnonzero(died), np.flatnonzero(revived), distrusted, hidden)

    def doubt(self, index: int, since: int) -> None:
        """Life was missed at site ``index``: its zeros are not taken for silence any more.

        Deaths that an exam before ``since`` has confirmed keep their step; the rest lie between
        exams, and their silence is counted anew.
        """
        member = self.members[index]
        if member.exact:
            part = slice(self._starts[index], self._ends[index])
            first = self.first_silent[part]
            confirmed = (first > self.last_life[part]) & (first < since)
            self._flags[part] |= np.where(confirmed, 0, _DOUBT).astype(np.uint8)
            self._silent[part] *= np.where(confirmed, max(member.batch, 1), 0)
        member.reliable = False

    def ledger(self, index: int) -> Ledger:
        """The ledger of site ``index``."""
        member = self.members[index]
        part = slice(self._starts[index], self._ends[index])
        flags = self._flags[part]
        known = (flags & _SURE != 0) & (flags & _DOUBT == 0) & (member.pulse == "exact")
        weight = max(member.batch, 1) if member.exact else 1
        return Ledger(
            last_life=self.last_life[part].copy(),
            first_silent=self.first_silent[part].copy(),
            silent_examples=self._silent[part].astype(np.int64) * weight,
            exact=known,
        )

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        arrays = (self._site, self.last_life, self.first_silent, self._silent, self._longest)
        return sum(array.nbytes for array in arrays) + self._flags.nbytes
