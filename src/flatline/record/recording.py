"""What the store knows of one run, merged over its processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from flatline.activations import Activation
from flatline.anatomy.site import Site, Unplaced
from flatline.sense.history import Autopsy, History, Note, Steps
from flatline.sense.vitals import Ledger, Vitals


@dataclass(frozen=True)
class Event:
    """Something that happened to units of a site at a step."""

    step: int
    site: str
    kind: str
    units: tuple[int, ...]
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Recording:
    """One run as it was recorded.

    Attributes:
        facts: The JSON report's ``run`` object.
        sites: The sites, in the order of the forward pass.
        unplaced: Nonlinearities that were seen and not watched.
        windows: Per site the examples of the last complete and the current window, merged.
        ledgers: Per site, when each unit last showed life in any process.
        exams: ``(step, numbers per site)`` of every exam, in order.
        steps: Loss, learning rate and gradient norm.
        autopsies: Per site, how its dead units died.
        notes: What was noted of the model as a whole.
        metrics: Per name, ``(step, value)`` in the order of logging.
        events: What happened to units, in order.
        lost: ``(what, why)`` of what could not be seen.
        histograms: Per site, by step, packed histograms of the exams that are kept.
    """

    facts: dict[str, Any]
    sites: tuple[Site, ...] = ()
    unplaced: tuple[Unplaced, ...] = ()
    windows: dict[str, Vitals] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    exams: list[tuple[int, dict[str, dict[str, float]]]] = field(default_factory=list)
    steps: Steps = field(default_factory=lambda: Steps.of([]))
    autopsies: dict[str, Autopsy] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)
    histograms: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)

    @property
    def history(self) -> History:
        """What a diagnosis wants to know beside windows and ledgers."""
        return History(self.steps, self.exams, self.autopsies, self.notes, self.metrics, self.facts)


def merge_ledgers(ledgers: Sequence[tuple[int, Ledger]]) -> Ledger:
    """One ledger for a site that several processes watched.

    Args:
        ledgers: Each process's ledger with the step after which it was written.

    Returns:
        The latest life in any process, and the silence witnessed since then. A process that saw
        the last life earlier has also witnessed silence from before the merged last life; that
        part is taken off in proportion to the steps.

    Example:
        >>> exact = np.array([True])
        >>> one = Ledger(np.array([3]), np.array([5]), np.array([60]), exact)
        >>> two = Ledger(np.array([6]), np.array([7]), np.array([30]), exact)
        >>> merge_ledgers([(9, one), (9, two)]).silent_examples.tolist()
        [60]
    """
    last = np.stack([one.last_life for _, one in ledgers]).astype(np.int64)
    first = np.stack([one.first_silent for _, one in ledgers]).astype(np.int64)
    silent = np.stack([one.silent_examples for _, one in ledgers])
    step = np.array([[written] for written, _ in ledgers], np.int64)
    life = last.max(axis=0)
    # Whoever saw the latest life says since when it has been silent.
    says = (last == life) & (first > life)
    never = np.iinfo(np.int64).max
    first_silent = np.where(says, first, never).min(axis=0)
    share = np.clip((step - life) / np.maximum(step - last, 1), 0.0, 1.0)
    return Ledger(
        last_life=life.astype(np.int32),
        first_silent=np.where(first_silent == never, -1, first_silent).astype(np.int32),
        silent_examples=np.floor(silent * share).sum(axis=0).astype(np.int64),
        exact=np.logical_and.reduce([one.exact for _, one in ledgers]),
    )


def dump_activation(activation: Activation) -> str:
    """All constants and intervals of an activation as text, its formula left out.

    A run so keeps the intervals that it was judged by, whatever a later table says.
    """
    kept = {
        entry.name: getattr(activation, entry.name)
        for entry in fields(activation)
        if entry.name != "function"
    }
    return json.dumps(kept | {"zero_slope": dict(activation.zero_slope)})


def load_activation(text: str) -> Activation:
    """The activation that :func:`dump_activation` wrote.

    What it wrote in another version and this one does not know is passed over.

    Example:
        >>> from flatline import activations
        >>> load_activation(dump_activation(activations.get("tanh"))) == activations.get("tanh")
        True
    """
    known = {entry.name for entry in fields(Activation)}
    kept = {name: _tuples(value) for name, value in json.loads(text).items() if name in known}
    zero_slope = MappingProxyType({k: _tuples(v) for k, v in kept.pop("zero_slope").items()})
    return Activation(**kept, zero_slope=zero_slope)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value
