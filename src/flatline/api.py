"""The Python interface.

torch is imported only when something is watched, so that a program under ``flatline run`` imports
it first.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flatline.diagnose.thresholds import DEFAULT, Thresholds, parse
from flatline.errors import FlatlineError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from flatline.record.store import Store
    from flatline.record.writer import RunWriter
    from flatline.sense.attach import Attachment
    from flatline.sense.watcher import Watcher
    from flatline.show.report import Report


T = TypeVar("T")
_log = logging.getLogger("flatline")


@dataclass(frozen=True)
class Case:
    """A model with data: what ``flatline examine`` needs.

    Attributes:
        model: The model.
        batches: An iterable that can be iterated anew; each item is ``(inputs, targets)`` or
            whatever ``loss_fn(model, batch)`` takes.
        loss_fn: ``loss_fn(outputs, targets)``, or ``loss_fn(model, batch)``.
        optimizer: The optimizer, where the case is trained.
        name: A name for reports.
    """

    model: nn.Module
    batches: Iterable[Any]
    loss_fn: Callable[..., Tensor] | None = None
    optimizer: Optimizer | None = None
    name: str | None = None


current: list[Watch] = []


class Watch:
    """A run being watched and written."""

    def __init__(
        self,
        store: Store,
        facts: dict[str, Any],
        run_id: str | None,
        rank: int,
        thresholds: Thresholds = DEFAULT,
    ) -> None:
        self.store = store
        self.thresholds = thresholds
        self.rank = rank
        self.started = time.perf_counter()
        self.pid = os.getpid()
        self.budget = float(facts["overhead"]["budget"])
        self.writer: RunWriter = store.create_run(facts, run_id, rank)
        self.watcher: Watcher | None = None
        self._attachment: Attachment | None = None
        self._lost: list[tuple[str, str]] = []
        current.append(self)

    def spare(self, what: str, work: Callable[..., T], *args: Any) -> T | None:
        """Run our own work for a program that must not fail with it.

        Args:
            what: What is lost if it fails.
            work: The work.
            args: Its arguments.
        """
        try:
            return work(*args)
        except Exception as error:
            fault = f"a fault inside flatline: {type(error).__name__}: {error}"
            if isinstance(error, FlatlineError):
                fault = str(error)
            if not any(fault in why for _, why in self._losses()):  # one failure is said once
                _log.warning("flatline no longer sees %s: %s", what, fault)
                _log.debug("the fault", exc_info=error)
            self._lost.append((what, fault))
            return None

    def miss(self, what: str, why: str) -> None:
        """Note what cannot be seen, through no fault of ours."""
        self._lost.append((what, why))

    def watch(self, watcher: Watcher, optimizer: Optimizer | None = None) -> None:
        """Begin to watch."""
        from flatline.sense.attach import Attachment

        self.watcher = watcher
        self._attachment = Attachment(watcher, optimizer)

    def tell(self) -> None:
        """Write how far the run is."""
        seconds = time.perf_counter() - self.started
        facts: dict[str, Any] = {"seconds": round(seconds, 3)}
        if self.watcher is not None:
            pacer = self.watcher.pacer
            trained = time.perf_counter() - (self.watcher.began or time.perf_counter())
            facts["steps"] = self.watcher.step
            facts["examples"] = self.watcher.examples
            facts["device"] = self.watcher.device
            facts["overhead"] = {
                "budget": self.budget,
                "measured": round(pacer.spent / trained, 6) if trained > 0 else 0.0,
                "spent": round(pacer.spent, 6),
                "exams": pacer.exams,
            }
        self.writer.facts(**facts)

    def detach(self) -> None:
        """Stop watching; what was seen stays."""
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            self.spare("the end of the watching", attachment.remove)
        if self.watcher is not None:
            self.spare("what was seen last", self.watcher.close)
        if self in current:
            current.remove(self)

    def close(self, status: str) -> None:
        """Stop watching and complete what is stored."""
        self.detach()
        self.spare("how far the run was", self.tell)
        self.spare("how the run ended", self.writer.close, status)

    def report(self, units: int = 10_000, store: str | None = None) -> Report:
        """The report of everything seen so far; it says what is missing, and never fails.

        Args:
            units: Units to list one by one, at most.
            store: The store to name in commands, where it is not the usual one.
        """
        report = self.spare("what is stored of this run", self._build, units, store)
        if report is None:
            from flatline.show.report import Report

            report = Report(run=self.writer.known)
        lost = dict.fromkeys((*report.lost, *self._losses()))
        # A store that failed knows no more how the run went on.
        run = report.run if self.writer.error is None else {**report.run, **self.writer.known}
        return replace(report, run=run, lost=tuple(lost))

    def _build(self, units: int, store: str | None) -> Report:
        from flatline.show.report import build

        self.spare("what was seen last", self.writer.flush)
        recording = self.store.load(self.writer.id)
        return build(recording, units=units, store=store, thresholds=self.thresholds)

    @property
    def failed(self) -> bool:
        """Whether something of ours went wrong."""
        return bool(self._lost)

    def _losses(self) -> list[tuple[str, str]]:
        """What was lost, whether or not the store has heard of it."""
        losses = [] if self.watcher is None else list(self.watcher.guard.losses)
        if self.writer.error is not None:
            losses.append(("what was seen after the store failed", str(self.writer.error)))
        return losses + self._lost


def new_facts(name: str | None, budget: float, world: int) -> dict[str, Any]:
    """The JSON report's ``run`` object at the start of a run."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    return {
        "name": name,
        "steps": 0,
        "examples": 0,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "overhead": {"budget": budget, "measured": 0.0, "exams": 0},
        "treatments": [],
        "torch": torch.split("+")[0],
        "device": "cpu",
        "world_size": world,
    }


class Monitor:
    """Watches a training from inside the program.

    Args:
        model: The model.
        optimizer: Its optimizer.
        budget: Share of the training's time that watching may take; 0 for the pulse alone, after
            one exam of the first step that finds the sites.
        path: A run store to write to; kept in memory when left out.
        name: A name for the run.
        thresholds: What its reports compare with, by name; those left out keep their default.

    Raises:
        UsageError: When ``model`` or ``optimizer`` is not one, the budget is not in [0, 1], or a
            threshold is unknown or out of range.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with Monitor(model, optimizer) as monitor:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         model(torch.randn(16, 4)).square().mean().backward()
        ...         optimizer.step()
        >>> [site["name"] for site in monitor.report().to_dict()["sites"]]
        ['0']
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        budget: float = 0.01,
        *,
        path: str | Path | None = None,
        name: str | None = None,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        import torch

        from flatline.anatomy.roots import inner
        from flatline.record.store import Store

        _expect_model(model)
        trains = isinstance(optimizer, torch.optim.Optimizer)
        _expect(trains, "a torch.optim.Optimizer", "pass the model, then its optimizer", optimizer)
        fits = isinstance(budget, int | float) and 0 <= budget <= 1
        _expect(fits, "a budget from 0 to 1", "write 0.01 for 1 % of the time", budget)
        limits = _limits(thresholds)
        while (wrapped := inner(model)) is not None:
            model = wrapped
        self._watch = Watch(Store(path), new_facts(name, float(budget), 1), None, 0, limits)
        self._watch.spare("the training", self._begin, model, optimizer, float(budget))

    def _begin(self, model: nn.Module, optimizer: Optimizer, budget: float) -> None:
        from flatline.sense.watcher import Watcher

        watch = self._watch
        watch.watch(Watcher(watch.writer, budget, models=[model], tell=watch.tell), optimizer)

    def report(self) -> Report:
        """The report of everything seen so far."""
        watch = self._watch
        if watch.watcher is not None:
            watch.spare("what was seen last", watch.watcher.flush)
        watch.spare("how far the run is", watch.tell)
        return watch.report()

    def close(self) -> None:
        """Stop watching; reports can still be asked for."""
        self._end("finished")

    def _end(self, status: str) -> None:
        if self._watch in current:
            self._watch.close(status)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end("finished" if kind is None else "failed")


def _expect(holds: bool, expected: str, cure: str, found: object) -> None:
    if not holds:
        # What a model or a tensor shows of itself takes many lines.
        plain = found is None or isinstance(found, str | int | float)
        shown = repr(found) if plain else f"an object of type {type(found).__name__}"
        raise UsageError(f"expected {expected}, found {shown}; {cure}")


def _expect_model(model: object) -> None:
    import torch

    known = isinstance(model, torch.nn.Module)
    _expect(known, "an nn.Module as model", "pass the model itself", model)


def _limits(thresholds: Mapping[str, float] | None) -> Thresholds:
    """Thresholds as a caller gives them."""
    given = {} if thresholds is None else thresholds
    known = isinstance(given, Mapping)
    _expect(known, "a mapping of thresholds", 'write {"warning_share": 0.1}', given)
    return parse(given, "thresholds")


def log(name: str, value: float) -> None:
    """Add one value of a metric to the current run, at its current step.

    A no-op outside a run.

    Args:
        name: Name of the metric.
        value: Its value; anything that ``float`` takes.

    Raises:
        UsageError: When the value is not a number.
    """
    if not current:
        return
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UsageError(
            f"expected a number for the metric {name!r}, found {type(value).__name__}; "
            "log one number at a time"
        ) from None
    watch = current[-1]
    step = watch.watcher.step if watch.watcher else 0
    watch.spare(f"a value of {name}", watch.writer.metric, str(name), step, number)


def examine(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: Callable[..., Tensor] | None = None,
    *,
    ablation: bool = False,
    thresholds: Mapping[str, float] | None = None,
) -> Report:
    """A census of a model on data; no weight, buffer or random state changes.

    Args:
        model: The model.
        batches: Batches of ``(inputs, targets)``, of inputs alone, or of whatever
            ``loss_fn(model, batch)`` takes. Each row of an input is one example.
        loss_fn: ``loss_fn(outputs, targets)``; without one nothing is said of gradients.
        ablation: Also measure how much the loss grows when a quarter and a half of each site's live
            units are silenced.
        thresholds: What the report compares with, by name; those left out keep their default.

    Raises:
        UsageError: When ``model`` is no module, there is no batch, no loss to ablate units by, or
            a threshold is unknown or out of range.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
        >>> report = examine(model, [torch.randn(64, 4)])
        >>> report.to_dict()["sites"][0]["units"]
        8
    """
    limits = _limits(thresholds)
    return examine_case(Case(model, batches, loss_fn), ablation=ablation, thresholds=limits)


def examine_case(
    case: Case,
    units: int = 10_000,
    *,
    ablation: bool = False,
    thresholds: Thresholds = DEFAULT,
) -> Report:
    """A census of a case that lists at most ``units`` units; see :func:`examine`."""
    from flatline.record.store import Store
    from flatline.sense.lone import examine as census
    from flatline.sense.vitals import Ledger
    from flatline.show.report import build

    _expect_model(case.model)
    began = time.perf_counter()
    found = census(case.model, case.batches, case.loss_fn, ablation=ablation)
    device = next((str(p.device) for p in case.model.parameters()), "cpu")
    facts = new_facts(case.name or type(case.model).__name__, 1.0, 1) | {"device": device}
    with Store(None) as store:
        writer = store.create_run(facts)
        writer.anatomy(found.sites, found.unplaced)
        ledgers: dict[str, Ledger] = {}
        writer.exam(0, found.vitals, dict.fromkeys(found.vitals), ledgers, found.measures)
        writer.histograms(0, found.histograms)
        examples = max((vitals.examples for vitals in found.vitals.values()), default=0)
        writer.facts(examples=examples, seconds=round(time.perf_counter() - began, 3))
        writer.close("finished")
        recording = store.load(writer.id)
    return build(recording, units=units, kind="examination", thresholds=thresholds)
