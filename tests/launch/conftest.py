"""Runs one program twice, under plain python and under flatline, and compares."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src"
FAKE = Path(__file__).parent / "fake"
ADDRESS = re.compile("0x[0-9a-f]{8,}")
# It puts itself in place of modules of ours, which is meant for the programs that the tests start.
collect_ignore = ["fake"]
ENTRY_POINT = "import sys\nfrom flatline.__main__ import main\nsys.exit(main())\n"


def _heed_signals() -> None:
    """Signals that whoever started the tests ignores are not ignored by what the tests start."""
    for kind in (signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, signal.SIG_DFL)


@dataclass
class Twice:
    """A directory with programs in it, and two ways to run them."""

    folder: Path
    env: dict[str, str]
    flatline: list[str]  # what follows python to start it
    python: list[str] = field(default_factory=lambda: [sys.executable])

    def write(self, name: str, source: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return path

    def run(
        self,
        *command: str,
        python: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        stdin: str = "",
        cwd: str = ".",
    ) -> tuple[int, str, str]:
        done = subprocess.run(
            [*self.python, *python, *command],
            cwd=self.folder / cwd,
            env={**self.env, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, ADDRESS.sub("0x", done.stdout), ADDRESS.sub("0x", done.stderr)

    @property
    def shell(self) -> str:
        """The command as a shell takes it."""
        return shlex.join([*self.python, *self.flatline])

    @contextlib.contextmanager
    def started(
        self, *command: str, env: dict[str, str] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """Starts a process and lets go of it only when it has ended, whatever a test finds."""
        process = subprocess.Popen(
            [*self.python, *command],
            cwd=self.folder,
            env={**self.env, **(env or {})},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_heed_signals,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @staticmethod
    def wait_for_sleep(process: subprocess.Popen[str]) -> None:
        """Waits until a process, which has nothing else to wait for, sleeps."""
        stat = Path(f"/proc/{process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] == "R":
            time.sleep(0.01)

    def watched(self, *command: str, **kwargs) -> tuple[int, str, str]:
        return self.run(*self.flatline, "run", *command, **kwargs)

    def same(self, *command: str, **kwargs) -> tuple[int, str, str]:
        """Asserts that both ways do the same and returns what they did."""
        plain = self.run(*command, **kwargs)
        assert self.watched("--quiet", *command, **kwargs) == plain
        return plain

    def calls(self) -> list:
        log = Path(self.env["FAKE_API_LOG"])
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def twice(tmp_path: Path) -> Twice:
    """Programs run from a directory of their own, with a stand-in for flatline.api."""
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        "PYTHONPATH": os.pathsep.join([str(FAKE), str(SOURCES)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "FAKE_API_LOG": str(tmp_path / "calls.log"),
    }
    folder = tmp_path / "work"
    folder.mkdir()
    command = tmp_path / "bin" / "flatline"
    command.parent.mkdir()
    command.write_text(ENTRY_POINT)
    return Twice(folder, env, [str(command)])


@pytest.fixture(params=["command", "module"])
def twice_each(twice: Twice, request: pytest.FixtureRequest) -> Twice:
    """The same for the installed command and for ``python -m flatline``."""
    if request.param == "module":
        twice.flatline = ["-m", "flatline"]
    return twice
