"""What a trial runs: arms, and one command for each arm and seed."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flatline.errors import UsageError
from flatline.treatments.registry import Treatment, parse_all

CONTROL = "control"
#: The objective where none is named: the training loss.
LOSS = "loss"
#: Stands between why a run failed and where what it printed is.
OUTPUT = "; its output is in "


@dataclass(frozen=True)
class Arm:
    """What is done to the training in one row of the result.

    Attributes:
        treatments: In the order in which they are carried out; none for the control.
    """

    treatments: tuple[Treatment, ...] = ()

    def __str__(self) -> str:
        return "+".join(map(str, self.treatments)) or CONTROL


def arms(texts: Iterable[str]) -> tuple[Arm, ...]:
    """The arms that a caller names, each once.

    Args:
        texts: A treatment such as ``"lr=x0.1"``, or several joined by ``+`` for one arm.

    Raises:
        UsageError: A treatment is unknown, or there is none.

    Example:
        >>> [str(arm) for arm in arms(["lr=x0.1", "clip=norm:1.0+init=he", "lr=x0.1"])]
        ['lr=x0.1', 'init=he+clip=norm:1.0']
    """
    found = dict.fromkeys(Arm(parse_all([text])) for text in texts)
    if not found:
        raise UsageError("expected a treatment to try, found none; name one, such as lr=x0.1")
    return tuple(found)


@dataclass(frozen=True)
class Job:
    """One run of the program.

    Attributes:
        arm: Name of the arm.
        seed: What is added to the program's seeds.
        run: Name of the run in the store.
        command: What follows ``python`` to carry it out.
    """

    arm: str
    seed: int
    run: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """The program that is tried.

    Attributes:
        argv: The program and its arguments, ``-m`` before a module.
        store: Where its runs are kept.
        max_steps: Optimizer steps after which each is stopped; ``None`` for their own end.
    """

    argv: tuple[str, ...]
    store: Path
    max_steps: int | None = None

    @property
    def title(self) -> str:
        """The program as a person types it."""
        return shlex.join(self.argv)

    def job(self, arm: Arm, seed: int) -> Job:
        """One run of the program; no command where there is no program."""
        run = f"trial {self.key} {arm} seed {seed}"
        steps = [] if self.max_steps is None else ["--max-steps", str(self.max_steps)]
        treated = [word for one in arm.treatments for word in ("--apply", str(one))]
        command = (
            *("-m", "flatline", "run", "--quiet", "--store", str(self.store), "--name", run),
            *("--seed-offset", str(seed), *steps, *treated, "--", *self.argv),
        )
        return Job(str(arm), seed, run, command if self.argv else ())

    @property
    def key(self) -> str:
        """Tells runs of this work from all others, whatever the treatments and seeds.

        A script that was edited since is another one. Modules that it imports are not looked at.
        """
        parts: Sequence[str] = (
            *(str(Path.cwd()), *self.argv, str(self.max_steps), _content(self.argv)),
            *map(_version, ("flatline", "torch")),
        )
        # File names and arguments need not be text.
        digest = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass"))
        return digest.hexdigest()[:8]


def _content(argv: Sequence[str]) -> str:
    try:
        return hashlib.sha256(Path(*argv[:1]).read_bytes()).hexdigest()
    except OSError:  # a module, or a directory
        return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that was never installed
        return ""
