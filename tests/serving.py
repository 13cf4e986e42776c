"""``flatline ui`` and trainings that it follows, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src"
COMMAND = [sys.executable, "-m", "flatline"]
#: It trains until its standard input ends, without hurry.
TRAINING = """
    import sys
    import threading
    import time
    import torch
    from torch import nn

    torch.manual_seed(0)
    hidden = nn.Linear(8, 24)
    with torch.no_grad():
        hidden.bias[:3] = -100  # born dead
    model = nn.Sequential(hidden, nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    inputs, targets = torch.randn(512, 8), torch.randint(0, 2, (512,))
    waiting = threading.Thread(target=sys.stdin.read, daemon=True)
    waiting.start()
    while waiting.is_alive():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        time.sleep(0.02)
"""


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return kept | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"} | more


def heed_signals() -> None:
    """Signals that whoever started the tests ignores are not ignored by what the tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Served:
    """A server that answers.

    Attributes:
        process: Its process.
        port: Its port.
        said: What it has said so far.
    """

    process: subprocess.Popen[str]
    port: int
    said: list[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def end(self, how: int = signal.SIGINT) -> tuple[int, str]:
        """Its exit status, and what it said after it had begun to answer."""
        self.process.send_signal(how)
        output, errors = self.process.communicate(timeout=30)
        return self.process.returncode, output + errors


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[Served]:
    """``flatline ui`` in a folder, from the moment that it answers."""
    process = subprocess.Popen(
        [*COMMAND, "ui", *options],
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_signals,
    )
    said: list[str] = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                yield Served(process, int(found[1]), said)
                return
        raise AssertionError("".join(said))
    finally:
        process.kill()
        process.communicate()


class Training:
    """A training under ``flatline run``."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = folder / "train.py"
        program.write_text(textwrap.dedent(TRAINING))
        self.process = subprocess.Popen(
            [*COMMAND, "run", "--quiet", *options, str(program)],
            cwd=folder,
            env=environment(),
            text=True,
            stdin=subprocess.PIPE,
        )

    def end(self) -> None:
        """Let the program come to its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0

    def kill(self) -> None:
        """End it where it stands."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.close()
