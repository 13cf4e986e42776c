"""One run of a trial as a process of its own, with a time limit."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flatline.errors import StoreError
from flatline.trials.plan import Job

#: Bytes from the end of what a run printed in which its last words are looked for.
_TAIL = 4096


#: Looked up before any fork: a forked child must not load libraries.
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Let the kernel end this process when the trial is killed, which can tidy up nothing then."""
    assert _PRCTL is not None
    _PRCTL(_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class Ended:
    """How a run's process ended.

    Attributes:
        job: Which run.
        status: Its exit status, as a shell gives it; ``None`` where the time limit ended it.
        words: The last line that it printed.
        log: Where all that it printed is; ``None`` where that was not kept.
        fault: Why the engine could not carry it out; empty where it could.
    """

    job: Job
    status: int | None
    words: str = ""
    log: str | None = None
    fault: str = ""


@dataclass
class Running:
    """A run's process, and all that it starts.

    Args:
        job: Which run.
        log: Where what it prints goes.
        environment: Variables that are set for it.
        folder: Its working directory; the present one when left out.

    Raises:
        StoreError: The log cannot be written.
    """

    job: Job
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None

    def __post_init__(self) -> None:
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            out = self.log.open("wb")
        except OSError as error:
            raise StoreError(
                f"expected to write {self.log}, found: {error.strerror}; make room or make it "
                "writable, or name another place with --store"
            ) from error
        with out:
            # A session of its own: Ctrl-C comes to the trial alone, and all of it can be ended.
            self._process = subprocess.Popen(
                [sys.executable, *self.job.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=_die_with_parent if _PRCTL is not None else None,
            )

    def wait(self, limit: float | None) -> Ended:
        """Wait for its end, or end it after ``limit`` seconds."""
        try:
            status: int | None = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            self.kill()  # what it left running, too
        if status is not None and status < 0:
            status = 128 - status
        return Ended(self.job, status, self._words(), str(self.log))

    def kill(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _words(self) -> str:
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL))
            lines = file.read().decode(errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""


@contextlib.contextmanager
def heeding_termination() -> Iterator[None]:
    """Let a request to terminate end runs in an orderly way, as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread
        before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
