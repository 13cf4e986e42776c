"""Who carries the runs of a trial out: what every engine can do, and the one on this machine."""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from flatline.trials.plan import Job
from flatline.trials.process import Ended, Running

#: Characters of the name of a run that name its file; file systems take 255 bytes.
_NAME = 160


class Engine(Protocol):
    """Carries runs out; results come in any order.

    Attributes:
        slots: Runs that may be under way at once.
    """

    slots: int

    def start(self, job: Job) -> None:
        """Begin a run; called only while fewer than ``slots`` are under way."""

    def ended(self, patience: float) -> Ended | None:
        """A run that has ended; ``None`` where none has after so many seconds."""

    def close(self) -> None:
        """End all runs that are still under way."""


class LocalEngine:
    """Carries runs out as processes on this machine.

    Args:
        jobs: Runs that may be under way at once.
        limit: Seconds that each may take; ``None`` for no limit.
        logs: Folder for what they print.
    """

    def __init__(self, jobs: int, limit: float | None, logs: Path) -> None:
        self.slots = jobs
        self._limit, self._logs = limit, logs
        self._environment = threads(jobs)
        self._running: dict[str, Running] = {}
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    def start(self, job: Job) -> None:
        """Begin a run."""
        running = Running(job, log_file(self._logs, job), self._environment)
        self._running[job.run] = running
        threading.Thread(target=self._wait, args=(running,), daemon=True).start()

    def ended(self, patience: float) -> Ended | None:
        """A run that has ended."""
        try:
            found = self._ended.get(timeout=patience)
        except queue.Empty:
            return None
        del self._running[found.job.run]
        return found

    def close(self) -> None:
        """End all runs that are still under way."""
        for running in self._running.values():
            running.kill()
        self._running.clear()

    def _wait(self, running: Running) -> None:
        self._ended.put(running.wait(self._limit))


def log_file(folder: Path, job: Job) -> Path:
    """Where what a run prints goes."""
    name = job.run.replace(" ", "-").replace(os.sep, "-")
    if len(name) > _NAME:
        name = f"{name[:_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return folder / f"{name}.log"


def threads(jobs: int) -> Mapping[str, str]:
    """Shares the cores among runs that are under way at once, unless the user has done so."""
    if jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
