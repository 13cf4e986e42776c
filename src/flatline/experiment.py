"""``flatline.trial``: treatments against a control on a model that is given as a case.

What a program would do in a process per run happens here in this process, one run after the other.
"""

from __future__ import annotations

import copy
import random
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from flatline.api import Case, Monitor
from flatline.errors import FlatlineError, UnsupportedError, UsageError
from flatline.sense.lone import loss_of
from flatline.show.trial import Trial, show
from flatline.treatments.registry import Treatment
from flatline.treatments.seam import Seam
from flatline.trials.plan import CONTROL, Job, Work, arms
from flatline.trials.process import Ended
from flatline.trials.runner import Runner

STEPS = 300


def trial(
    case: Case | Callable[[], Case],
    treatments: Iterable[str] | None = None,
    seeds: int = 3,
    *,
    steps: int = STEPS,
    halving: bool = False,
    path: str | Path | None = None,
) -> Trial:
    """Train a case with and without treatments, paired by seed, and compare the training loss.

    Args:
        case: A case with its optimizer, or a function that makes one. A function is called anew
            for each run, after the random numbers were seeded, and makes a new model each time:
            the way to let a seed decide on the weights as the program does. Of a case, each run
            trains a copy; the first seed has its weights, each other seed those weights shuffled
            within each tensor, which keeps the scale of an initialisation, its zeros included, and
            changes what was drawn. The weights of a case whose optimizer has taken steps are left
            as they are. Seeds also decide on dropout and on the order of batches, which are
            shuffled where they are a list.
        treatments: Such as ``"lr=x0.1"``; two joined by ``+`` are tried together. Left out: what
            the control's findings prescribe.
        seeds: Runs of each arm.
        steps: Optimizer steps of each run; batches are iterated anew until they are reached.
        halving: Give up the worse half of the arms after each seed.
        path: A run store that keeps the runs; they are forgotten when it is left out.

    Raises:
        UsageError: The case cannot be trained, a treatment is unknown, or a number is none.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 1)
        >>> inputs = torch.randn(64, 4)
        >>> batches = [(inputs, inputs.sum(1, keepdim=True))]
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        >>> case = Case(model, batches, torch.nn.functional.mse_loss, optimizer)
        >>> trial(case, ["lr=x100"], steps=20).best.treatment
        'lr=x100'
    """
    for number, name in ((seeds, "seeds"), (steps, "steps")):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UsageError(f"expected {name} of at least 1, found {number!r}; write {name}=3")
    chosen = None if treatments is None else arms(treatments)
    with tempfile.TemporaryDirectory(prefix="flatline-") as folder:
        store = Path(path) if path is not None else Path(folder) / "runs.db"
        engine = _InProcess(case, store, steps)
        work = Work((), store, steps)
        runner = Runner(
            work,
            engine,
            range(seeds),
            arms=chosen,
            halving=halving,
            fresh=True,
            store=None if path is None else str(path),
        )
        try:
            return show(runner.run())
        except UsageError as error:
            raise error from (engine.error or error.__cause__)


class _InProcess:
    """Trains in this process, one run at a time.

    Attributes:
        error: What a run of the control raised last.
    """

    slots = 1

    def __init__(self, case: Case | Callable[[], Case], store: Path, steps: int) -> None:
        self.error: Exception | None = None
        self._case, self._store, self._steps = case, store, steps
        self._ended: Ended | None = None
        self._used: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def start(self, job: Job) -> None:
        """Train; what making the case raises is the caller's."""
        treatments = () if job.arm == CONTROL else arms([job.arm])[0].treatments
        with _seeded(job.seed):
            case = self._made(job.seed)
            try:
                self._train(case, treatments, job)
                self._ended = Ended(job, 0)
            except Exception as error:
                if job.arm == CONTROL:
                    self.error = error
                kind = "" if isinstance(error, FlatlineError) else f"{type(error).__name__}: "
                self._ended = Ended(job, 1, f"{kind}{error}")

    def ended(self, patience: float) -> Ended | None:
        """The run that was started last."""
        ended, self._ended = self._ended, None
        return ended

    def close(self) -> None:
        """Nothing is under way between calls."""

    def _made(self, seed: int) -> Case:
        """The case of one run, which nothing else uses."""
        made: Any = self._case
        if callable(made) and not isinstance(made, nn.Module):
            made = made()
            _check(made)
            if made.model in self._used:
                raise UsageError(
                    "expected a function that makes a new model for each run, found one that an "
                    "earlier run has trained; build the model inside the function"
                )
            self._used.add(made.model)
            return cast("Case", made)
        _check(made)
        try:
            model, optimizer = copy.deepcopy((made.model, made.optimizer))
        except Exception as error:
            raise UsageError(
                f"expected a model and an optimizer that can be copied, found {error!r}; give a "
                "function that makes the case"
            ) from error
        batches = made.batches
        if seed:
            if optimizer is not None and not optimizer.state:
                _shuffle_weights(model)
            if isinstance(batches, list | tuple):
                batches = random.sample(list(batches), len(batches))
        return Case(model, batches, made.loss_fn, optimizer, made.name)

    def _train(self, case: Case, treatments: Sequence[Treatment], job: Job) -> None:
        assert case.optimizer is not None
        seam = Seam(treatments, lambda line: None, _refuse)
        seam.treat(case.model, case.optimizer)
        case.model.train()
        try:
            with Monitor(case.model, case.optimizer, path=self._store, name=job.run):
                for batch in islice(_endless(case.batches), self._steps):
                    _step(case.model, case.optimizer, batch, case.loss_fn)
        finally:
            seam.remove()


def _step(model: nn.Module, optimizer: Optimizer, batch: Any, loss_fn: Any) -> None:
    optimizer.zero_grad()
    loss = loss_of(model, batch, loss_fn)
    if loss is None:
        raise UsageError(
            "expected a loss to train by, found none; give loss_fn, or a model whose output has "
            ".loss"
        )
    loss.backward()
    optimizer.step()


def _refuse(why: str) -> NoReturn:
    raise UnsupportedError(why)


def _check(case: object) -> None:
    if not isinstance(case, Case):
        raise UsageError(
            f"expected a flatline.Case or a function that makes one, found {type(case).__name__}; "
            "write flatline.Case(model, batches, loss_fn, optimizer)"
        )
    if not isinstance(case.optimizer, Optimizer):
        raise UsageError(
            f"expected a case with an optimizer, found {type(case.optimizer).__name__}; write "
            "flatline.Case(model, batches, loss_fn, optimizer)"
        )
    if isinstance(case.batches, Iterator):
        raise UsageError(
            "expected batches that can be iterated anew, found an iterator; give a list or a "
            "DataLoader"
        )


def _endless(batches: Iterable[Any]) -> Iterator[Any]:
    """Batches, from the beginning again when they end."""
    while True:
        batch = None
        for batch in batches:
            yield batch
        if batch is None:
            raise UsageError(
                "expected batches to train on, found none; give a list or a DataLoader"
            )


def _shuffle_weights(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            order = torch.randperm(parameter.numel()).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers from this seed; those of the caller go on as if nothing had happened."""
    drawn = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
    finally:
        np.random.set_state(drawn[0])
        random.setstate(drawn[1])
