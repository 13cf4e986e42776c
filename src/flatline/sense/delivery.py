"""Hands over what pulse and taps have collected, and says how far the training is."""

from __future__ import annotations

import time
from collections.abc import Callable

from flatline.sense.census import Census
from flatline.sense.guard import Guard
from flatline.sense.notes import Notes
from flatline.sense.recorder import Recorder
from flatline.sense.taps import Taps

#: Seconds between two writings.
FLUSH_SECONDS = 0.9
#: Seconds between two lines of progress.
PROGRESS_SECONDS = 10.0


class Delivery:
    """What leaves the watching between exams.

    Args:
        recorder: Where to write.
        census: Has the pulses.
        taps: Have loss and learning rate.
        notes: Look at the losses.
        guard: Runs what may fail.
        progress: Told the step, the silent units and all units, now and then.
        tell: Called whenever what was seen is handed over.
    """

    def __init__(
        self,
        recorder: Recorder,
        census: Census,
        taps: Taps,
        notes: Notes,
        guard: Guard,
        progress: Callable[[int, int, int], None] | None,
        tell: Callable[[], None] | None,
    ) -> None:
        self._recorder, self._census, self._taps = recorder, census, taps
        self._notes, self._guard = notes, guard
        self._progress, self._tell = progress, tell
        self._last = self._shown = time.perf_counter()

    @property
    def due(self) -> float:
        """When to hand over next, on the clock of ``perf_counter``."""
        return self._last + FLUSH_SECONDS

    def hand_over(self, step: int) -> bool:
        """Hand over what there is, at this step; returns whether an exam is wanted."""
        self._last = time.perf_counter()
        wanted = bool(self._guard("pulse", self._census.hand_over, step))
        rows = self._guard("taps", self._taps.flush)
        if rows:
            self._guard("taps", self._recorder.steps, rows)
            self._guard("notes", self._notes.losses, rows)
        if self._tell is not None:
            self._guard("facts", self._tell)
        if self._progress is not None and self._last - self._shown > PROGRESS_SECONDS:
            self._shown = self._last
            self._guard("progress", self._say, self._progress, step)
        return wanted

    def _say(self, progress: Callable[[int, int, int], None], step: int) -> None:
        progress(step, *self._census.silent())
