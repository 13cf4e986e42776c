"""Recordings made by hand, for what shows them: every unit's state is planted in its vitals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from flatline import activations
from flatline.anatomy.site import Site, Unplaced
from flatline.record.recording import Event, Recording
from flatline.sense.histogram import histograms, pack
from flatline.sense.history import Autopsy, Steps
from flatline.sense.vitals import Ledger, Vitals

EXAMPLES = 5120
BATCH = 64


@dataclass
class Plan:
    """One site and what is planted in it.

    Attributes:
        name: Its name.
        units: Number of units.
        activation: Name of its activation.
        dead: Step of death of each dead unit; -1 for before the first update.
        unsure: Dead units that were seen on too few examples.
        sick: Units in other states, by state.
    """

    name: str
    units: int
    activation: str = "relu"
    dead: dict[int, int] = field(default_factory=dict)
    unsure: tuple[int, ...] = ()
    sick: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def site(self, reader: str = "head") -> Site:
        feeds = (f"{self.name}.weight", f"{self.name}.bias")
        activation = activations.get(self.activation)
        reads = (f"{reader}.weight",)
        return Site(self.name, activation, self.units, feeds=feeds, reads=reads, pulse="exact")

    def where(self, state: str) -> np.ndarray:
        return np.isin(np.arange(self.units), self.sick.get(state, ()))

    def vitals(self, rng: np.random.Generator) -> Vitals:
        n, units = EXAMPLES, self.units
        dead = np.isin(np.arange(units), list(self.dead))
        quiet, linear, twin = map(self.where, ("dormant", "linear", "duplicate"))
        flat = self.where("constant")
        high = np.where(dead, -0.5 - rng.random(units), 1.0)
        fired = np.where(dead, 0, np.where(linear, n, rng.integers(n // 4, n // 2, units)))
        first = np.flatnonzero(~dead & ~flat)[0]
        return Vitals(
            examples=n,
            fired=fired.astype(np.int32),
            railed=np.where(self.where("saturated"), n, 0).astype(np.int32),
            z_min=np.where(flat, high, np.where(linear, 0.1, high - 2)).astype(np.float32),
            z_max=high.astype(np.float32),
            h_min=np.where(flat, 1.0, 0.0).astype(np.float32),
            h_max=np.maximum(high, 0).astype(np.float32),
            h_abs=np.where(dead, 0.0, np.where(quiet, 0.001, 0.5) * n),
            z_sum=(high - 1) * n,
            z_sq=((high - 1) ** 2 + 0.25) * n,
            twin=np.where(twin, first, np.arange(units)).astype(np.int32),
            nonfinite=self.where("nonfinite"),
            ignored=self.where("ignored"),
            gradient=np.where(self.where("starved"), 1e-12, 1e-3).astype(np.float32),
            update=np.where(self.where("starved"), 1e-9, 1e-3).astype(np.float32),
        )

    def ledger(self, steps: int) -> Ledger:
        last = np.full(self.units, steps - 1, np.int32)
        first = np.full(self.units, -1, np.int32)
        silent = np.zeros(self.units, np.int64)
        for unit, step in self.dead.items():
            last[unit] = step - 1 if step >= 0 else -1
            first[unit] = min(max(step, 0) + 5, steps - 1)
            silent[unit] = 100 if unit in self.unsure else (steps - max(step, 0)) * BATCH
        return Ledger(last, first, silent, np.ones(self.units, bool))


def record(
    *plans: Plan, steps: int = 500, seed: int = 0, facts: dict | None = None, **more
) -> Recording:
    """A finished run with these sites, a loss that spikes, and a learning rate that falls."""
    rng = np.random.default_rng(seed)
    step = np.arange(steps)
    loss = 0.1 + 2.2 * np.exp(-step / 90) + 0.03 * np.sin(step / 3)
    loss[steps // 4 : steps // 4 + 6] += 4.0
    loss = loss.round(4)  # the last digits of exp differ between platforms
    rate = np.where(step < steps // 2, 0.05, 0.005)
    exams = [0, 1, 2, 4, *range(8, steps, max(steps // 16, 1))]
    return Recording(
        facts={
            "id": "0123456789",
            "name": "digits_mlp",
            "status": "finished",
            "steps": steps,
            "examples": steps * BATCH,
            "started": "2026-01-02T03:04:05+00:00",
            "seconds": 12.5,
            "overhead": {"budget": 0.01, "measured": 0.0081, "spent": 0.1, "exams": len(exams)},
            "treatments": [],
            "torch": "2.13.0",
            "device": "cpu",
            "world_size": 1,
            "argv": ["train.py", "--lr", "0.05"],
            **(facts or {}),
        },
        sites=tuple(plan.site() for plan in plans),
        windows={plan.name: plan.vitals(rng) for plan in plans},
        ledgers={plan.name: plan.ledger(steps) for plan in plans},
        exams=[(exam, {plan.name: _measured(plan, exam) for plan in plans}) for exam in exams],
        steps=Steps(step, loss, rate, np.full(steps, np.nan)),
        **more,
    )


def _measured(plan: Plan, exam: int) -> dict[str, float]:
    silent = sum(step <= exam for step in plan.dead.values())
    return {
        "silent": silent,
        "batch": BATCH,
        "gradient_rms": round(1e-3 / (exam + 1), 9),
        "update_ratio": 5e-4,
        "effective_rank": plan.units / 4,
    }


def draw(recording: Recording, *names: str) -> Recording:
    """The recording with histograms of 64 values of z at each exam; a death moves them below 0."""
    shape = 2 * np.linspace(-1, 1, 64)[:, None] ** 3
    for name in names:
        site = next(one for one in recording.sites if one.name == name)
        dead = recording.ledgers[name].first_silent >= 0
        since = np.where(dead, recording.ledgers[name].last_life + 1, math.inf)
        units = np.arange(site.units, dtype=np.int32)
        recording.histograms[name] = [
            (step, pack(histograms(units, shape + np.where(step >= since, -3.0, 0.5 + units / 64))))
            for step, _ in recording.exams
        ]
    return recording


def sick_mlp() -> Recording:
    """Two hidden sites: one loses units at a spike of the loss, one has some of everything."""
    at_the_spike = {unit: 125 + unit % 4 for unit in range(3, 128, 3)}
    rarely = {unit: 200 + 2 * unit for unit in (1, 31, 64)}
    recording = record(
        Plan("net.0", 128, dead={**at_the_spike, 0: -1, 127: -1}),
        Plan(
            "net.2",
            96,
            dead=rarely,
            unsure=(64,),
            sick={"dormant": (4, 5, 6), "linear": (10, 11), "duplicate": (20,), "ignored": (30,)},
        ),
        Plan("gate", 16, "tanh", sick={"saturated": (2, 9)}),
        metrics={"val_accuracy": [(99, 0.71), (199, 0.78), (299, 0.83), (399, 0.84), (499, 0.84)]},
        unplaced=(Unplaced("lstm", "its gates are not visible on this device"),),
        lost=[("validation", "no optimizer stepped between 300 and 320")],
        events=[Event(130, "net.0", "death", (3, 6, 9), {})],
    )
    return draw(recording, "net.0", "net.2")


def tiny() -> Recording:
    """Small enough to read its JSON."""
    return record(
        Plan("net.0", 8, dead={1: -1, 3: 7, 4: 9}, sick={"dormant": (6,)}),
        Plan("net.2", 4, "tanh", sick={"saturated": (2,)}),
        steps=24,
        metrics={"val_accuracy": [(11, 0.5), (23, float("nan"))]},
        unplaced=(Unplaced("lstm", "its gates are not visible on this device"),),
        lost=[("validation", "no optimizer stepped")],
    )


def with_an_autopsy() -> Recording:
    """A run of which an exam found unit 3 of net.0 silent, and measured how it got there."""
    recording = tiny()
    numbers = {
        "units": [3],
        "step": [8],
        "before": [4],
        "first": [0],
        "z_before": [0.5],
        "z_after": [-2.0],
        "z_first": [1.0],
        "bias": [-0.5],
        "weight": [-1.75],
        "input": [-0.25],
    }
    rows = {name: np.array(numbers.get(name, [0.5])) for name in Autopsy.__dataclass_fields__}
    recording.autopsies["net.0"] = Autopsy(**rows)
    recording.events.append(Event(8, "net.0", "death", (3,), {}))
    return draw(recording, "net.0")


def healthy_mlp() -> Recording:
    """Nothing to say."""
    return record(Plan("net.0", 64), Plan("net.2", 64))


def wide(units: int = 1_000_000) -> Recording:
    """One very wide site, a fifth of it dead at any step, and a narrow one."""
    rng = np.random.default_rng(0)
    plan = Plan("embed.up", 0)
    dead = rng.random(units) < 0.2
    steps = rng.integers(0, 1000, units)
    quick = replace(plan, units=units)
    recording = record(Plan("net.0", 1), steps=1000)
    vitals = replace(
        quick.vitals(rng),
        fired=np.where(dead, 0, 100).astype(np.int32),
        h_max=np.where(dead, 0, 1).astype(np.float32),
        z_max=np.where(dead, -1, 1).astype(np.float32),
        h_abs=np.where(dead, 0.0, 0.5 * EXAMPLES),
    )
    ledger = Ledger(
        np.where(dead, steps - 1, 999).astype(np.int32),
        np.where(dead, steps + 5, -1).astype(np.int32),
        np.where(dead, 64_000, 0).astype(np.int64),
        np.ones(units, bool),
    )
    return replace(
        recording,
        sites=(*recording.sites, quick.site()),
        windows={**recording.windows, quick.name: vitals},
        ledgers={**recording.ledgers, quick.name: ledger},
    )


def deep(sites: int = 300, units: int = 64) -> Recording:
    """Many sites; every seventh lost some units."""
    return record(
        *(
            Plan(
                f"blocks.{index}.mlp.fc_in",
                units,
                "gelu" if index % 2 else "relu",
                dead={unit: 10 + unit + index for unit in range(index % 23)}
                if index % 7 == 0
                else {},
            )
            for index in range(sites)
        )
    )


#: Names that models, programs and people can come up with.
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--<script>",
    "{{ 7 * 7 }}{% raw %}",
    "\"quotes' & &amp; ampersands",
    "line\nbreak\r\ttab\x00nul\x0bfeed",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202eright-to-left\u202c \u2066isolate\u2069",
    "line\u2028paragraph\u2029separators",
    "emoji 👩🏽‍🔬🏳️‍🌈 宽字符 ﷽ Z̸͚͝a̷l̵g̶o̴",
    "lone \ud800 surrogate \udcff",
    "x" * 10_000,
    "",
    "[bold red]markup[/bold red] :smile:",
    "__proto__",
    "a:b:c#2/../..",
)


def hostile() -> Recording:
    """Every name that is not ours is a trap."""
    plans = [
        Plan(
            name, 12, dead={index % 12: index}, sick={"dormant": (11,) if index % 12 != 11 else ()}
        )
        for index, name in enumerate(HOSTILE)
    ]
    return record(
        *plans,
        steps=40,
        facts={
            "id": HOSTILE[5],
            "name": HOSTILE[0],
            "device": HOSTILE[1],
            "treatments": list(HOSTILE[:3]),
            "argv": ["train.py", *HOSTILE],
            "torch": HOSTILE[6],
            "status": HOSTILE[4],
            "started": HOSTILE[7],
        },
        metrics={name: [(1, 1.0), (3, 2.0)] for name in HOSTILE},
        unplaced=tuple(Unplaced(name, name) for name in HOSTILE),
        lost=[(name, name) for name in HOSTILE],
    )


def running() -> Recording:
    """A run that has just begun."""
    return record(Plan("net.0", 6), steps=2, facts={"status": "running", "seconds": None})


def unexamined() -> Recording:
    """A run whose only exam was its first step."""
    recording = record(Plan("net.0", 64, dead={3: -1}))
    return replace(recording, exams=recording.exams[:1])


def broken_metrics() -> Recording:
    """Metrics that are NaN, infinite, empty, constant or of one value."""
    nan, inf = float("nan"), float("inf")
    return record(
        Plan("net.0", 6),
        metrics={
            "nan": [(0, nan), (1, nan)],
            "infinite": [(0, inf), (5, 1.0), (6, -inf)],
            "empty": [],
            "once": [(7, 0.5)],
            "constant": [(0, 3.0), (499, 3.0)],
            "twice a step": [(3, 1.0), (3, 2.0), (1, 0.0)],
            "huge": [(0, 1e300), (9, -1e300)],
            "tiny": [(0, 1e-300), (9, 1e-12)],
        },
    )


def single() -> Recording:
    """One unit."""
    return record(Plan("only", 1), steps=1)


def empty() -> Recording:
    """A program that never trained."""
    facts = {"id": "0123456789", "name": "idle", "status": "finished", "steps": 0}
    return Recording(facts, lost=[("the training", "the program never imported torch")])


#: All of them by name, for tests of what must hold of any report.
ALL = {
    build.__name__: build
    for build in (
        sick_mlp,
        tiny,
        healthy_mlp,
        hostile,
        running,
        unexamined,
        broken_metrics,
        single,
        empty,
        deep,
    )
}
