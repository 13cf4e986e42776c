"""Keeps faults of flatline away from the training it watches, and training apart that is not."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from flatline.errors import FlatlineError

_log = logging.getLogger("flatline")

#: What each part is called when it is lost.
_PARTS = {
    "exam": "activations (exams)",
    "histograms": "how pre-activations are distributed (histograms)",
    "pulse": "the reading at every step (pulse)",
    "taps": "loss and learning rate",
    "facts": "how far the run is",
    "notes": "parameters, loss and data as a whole (notes)",
    "progress": "what it says while the program runs",
    "hooks": "everything after this step",
}


class Guard:
    """Runs the parts of the watching; a part that fails is lost, said once, and left out.

    Attributes:
        lost: The parts that are lost.
        losses: What cannot be seen, and why, in order.

    Args:
        tell: Told what cannot be seen, and why.
        undo: Told of a part that fails, before others are told.
        step: Gives the step under way.
    """

    def __init__(
        self,
        tell: Callable[[str, str], None],
        undo: Callable[[str], None],
        step: Callable[[], int],
    ) -> None:
        self.lost: set[str] = set()
        self.losses: list[tuple[str, str]] = []
        self._tell = tell
        self._undo = undo
        self._step = step

    def __call__(self, part: str, work: Callable[..., Any], *args: Any) -> Any:
        """Run our own work; a fault loses ``part`` and nothing else."""
        if part in self.lost:
            return None
        try:
            return work(*args)
        except Exception as error:
            self.lose(part, error)
            return None

    def lose(self, part: str, error: Exception) -> None:
        """Give up a part of the watching, and say so once."""
        if part in self.lost:
            return
        self.lost.add(part)
        what = _PARTS.get(part, part)
        why = f"a fault inside flatline at step {self._step()}: {type(error).__name__}: {error}"
        if isinstance(error, FlatlineError):
            why = str(error)
        self.losses.append((what, why))
        _log.warning("flatline no longer sees %s: %s", what, why)
        _log.debug("the fault", exc_info=error)
        try:
            self._undo(part)
            self._tell(what, why)
        except Exception:  # reporting a fault must not be one
            self.lost.add("hooks")

    def miss(self, what: str, why: str) -> None:
        """Note something that cannot be seen, through no fault."""
        self.losses.append((what, why))
        self._tell(what, why)


class Home:
    """The process and the thread that the watched training runs in."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._thread: int | None = None

    @property
    def forked(self) -> bool:
        """Whether this is another process."""
        return os.getpid() != self._pid

    @property
    def away(self) -> bool:
        """Whether what happens here is none of the watched training."""
        return self.forked or self._thread not in (None, threading.get_ident())

    def claim(self, moved: Callable[[], None]) -> bool:
        """Whether this is the thread that trains: the first one that does, while it lives.

        Args:
            moved: Called when the training has come here from a thread that is gone.
        """
        here = threading.get_ident()
        if self._thread is None:
            self._thread = here
        if self._thread == here:
            return True
        if any(thread.ident == self._thread for thread in threading.enumerate()):
            return False
        self._thread = here
        moved()
        return True
