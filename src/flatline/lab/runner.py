"""Runs experiments, seed by seed; what was measured is kept, so that a run can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from flatline.errors import UsageError
from flatline.lab.data import INSTALL, missing
from flatline.lab.experiment import SKIPPED, Experiment, Verdict
from flatline.lab.plot import Numbers

#: Where measurements are kept.
FOLDER = Path(".flatline") / "lab"
ROOT = Path(__file__).parents[1]
#: What no measurement depends on: what shows it, and the other experiments.
_SHOWS = ("page", "results", "svg", "terminal")
_APART = ("launch/", "lab/experiments/", *(f"lab/{name}.py" for name in _SHOWS))
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Result:
    """An experiment with what came out.

    Attributes:
        experiment: The experiment.
        measurements: One per seed.
        seconds: What measuring took, when it was done.
        kept: How many of the measurements an earlier run had left.
        skipped: Why there is none, with the command that helps.
    """

    experiment: Experiment
    measurements: tuple[Numbers, ...] = ()
    seconds: float = 0.0
    kept: int = 0
    skipped: str = ""

    @property
    def judged(self) -> Verdict:
        """The verdict by the experiment's criterion."""
        if not self.measurements:
            return Verdict(SKIPPED, ())
        return self.experiment.judge(self.measurements)


def run(
    experiments: Iterable[Experiment],
    seeds: Iterable[int],
    *,
    fast: bool = False,
    null: bool = False,
    folder: Path | None = FOLDER,
    again: bool = False,
    progress: Progress = lambda name, done, total: None,
) -> Iterator[Result]:
    """Run experiments one after the other.

    Args:
        experiments: What to run.
        seeds: The seeds of each.
        fast: Take the short form of each.
        null: Switch the mechanism of each off.
        folder: Where measurements are kept; nothing is kept without one.
        again: Measure anew what is kept there.
        progress: Told the id, how many seeds are done, and of how many.
    """
    wanted = list(seeds)
    for one in experiments:
        if lacking := missing(one.needs):
            yield Result(one, skipped=f"needs {', '.join(lacking)}: {INSTALL}")
            continue
        yield _run(one, wanted, _Kept(one, fast, null, folder, again), progress)


def _run(one: Experiment, seeds: list[int], kept: _Kept, progress: Progress) -> Result:
    found: list[Numbers] = []
    seconds, before = 0.0, 0
    for done, seed in enumerate(seeds):
        progress(one.id, done, len(seeds))
        entry = kept.load(seed)
        before += entry is not None
        if entry is None:
            entry = measured(one, seed, kept.fast, kept.null)
            kept.save(seed, entry)
        found.append(entry["numbers"])
        seconds += entry["seconds"]
    return Result(one, tuple(found), seconds, before)


def measured(one: Experiment, seed: int, fast: bool, null: bool) -> dict[str, Any]:
    """One measurement with the seconds it took; random state and threads stay as they were."""
    began = time.perf_counter()
    with _alone(seed):
        numbers = one.measure(seed, fast, null)
    return {"numbers": numbers, "seconds": round(time.perf_counter() - began, 3)}


@contextmanager
def _alone(seed: int) -> Iterator[None]:
    """On one thread, which is quickest for small networks and repeats to the bit."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Kept:
    """Measurements of one experiment in a folder, named by what they depend on."""

    experiment: Experiment
    fast: bool
    null: bool
    folder: Path | None
    again: bool

    def load(self, seed: int) -> dict[str, Any] | None:
        if self.folder is None or self.again:
            return None
        try:
            entry: Any = json.loads(self._path(self.folder, seed).read_text("utf-8"))
        except (OSError, ValueError):  # not there, or no JSON: measured anew
            return None
        return entry if _is_entry(entry) else None

    def save(self, seed: int, entry: dict[str, Any]) -> None:
        if self.folder is None:
            return
        path = self._path(self.folder, seed)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps({**entry, "digest": _digest(entry)}), "utf-8")
            draft.replace(path)  # a run that is interrupted leaves no half of a file
        except OSError as error:
            raise UsageError(
                f"expected to keep measurements in {self.folder}, found: {error.strerror or error};"
                " make room or make it writable, or work in another folder"
            ) from error

    def _path(self, folder: Path, seed: int) -> Path:
        form = ("fast" if self.fast else "full") + ("-null" if self.null else "")
        return folder / self.experiment.id / f"{_code(self.experiment)}-{form}-{seed}.json"


def _is_entry(entry: Any) -> bool:
    """Whether a file holds a measurement as it was kept: not cut off, and not edited since."""
    return isinstance(entry, dict) and entry.pop("digest", "") == _digest(entry)


def _digest(entry: dict[str, Any]) -> str:
    """Of what was measured, and of how long that took."""
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


@cache
def _shared() -> str:
    """A digest of all that every measurement may depend on."""
    digest = hashlib.sha256(f"{torch.__version__} {sys.version}".encode())
    for path in sorted(ROOT.rglob("*.py")):
        if not path.relative_to(ROOT).as_posix().startswith(_APART):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _code(one: Experiment) -> str:
    """A digest of the code that an experiment's measurements depend on."""
    module = sys.modules[one.measure.__module__]
    source = Path(str(module.__file__)).read_bytes()
    return hashlib.sha256(_shared().encode() + source).hexdigest()[:16]
