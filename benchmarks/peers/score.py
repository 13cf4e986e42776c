"""What the peers said of labelled runs, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .deepfd import DeepFD, Features, fit_and_diagnose
from .peer import NOTHING, Codes, Peer
from .recorder import Recorder, Validation
from .roster import PEERS


@dataclass(frozen=True)
class Training:
    """A training that is ready to go.

    Attributes:
        model: The model.
        optimizer: Its optimizer.
        step: Runs one step.
        steps: Steps to run.
        steps_per_epoch: Steps in which the data is seen once.
        validate: Loss and accuracy on held-out data.
    """

    model: Any
    optimizer: Any
    step: Callable[[], object]
    steps: int
    steps_per_epoch: int
    validate: Callable[[], Validation] | None = None


@dataclass(frozen=True)
class Run:
    """A labelled run.

    Attributes:
        name: Its name.
        sick: Whether it is.
        codes: Findings any one of which names what was planted.
        choose: Whether it belongs to the half on which things may be chosen and fitted.
        build: Makes the training.
        findings: Code and severity of what flatline finds in another training of the same kind.
    """

    name: str
    sick: bool
    codes: Codes
    choose: bool
    build: Callable[[], Training]
    findings: Callable[[], Sequence[tuple[str, str]]]


@dataclass
class Verdict:
    """What one peer said of one run: its words, with the step of each, and what they amount to."""

    said: dict[str, int] = field(default_factory=dict)
    codes: Codes = NOTHING

    @property
    def alarm(self) -> bool:
        return bool(self.said)


#: Rows of flatline, each with the severities that count in it as an alarm.
FLATLINE = {
    "flatline, critical": frozenset({"critical"}),
    "flatline, with warnings": frozenset({"critical", "warning"}),
}
#: By peer, then by run.
Verdicts = dict[str, dict[str, Verdict]]


@dataclass(frozen=True)
class Row:
    """One peer's figures.

    Attributes:
        peer: Its name.
        sick: Sick runs.
        detected: Those of which it said anything.
        right: Those of which it said what is the matter.
        healthy: Healthy runs.
        false_alarms: Those of which it said anything, other than a harmless thing that was planted.
        words: Different things it said of a run of which it said anything, on average.
    """

    peer: str
    sick: int
    detected: int
    right: int
    healthy: int
    false_alarms: int
    words: float

    @property
    def recall(self) -> float | None:
        return self.detected / self.sick if self.sick else None

    @property
    def precision(self) -> float | None:
        """Share of its alarms that are about sick runs, where there were any."""
        alarms = self.detected + self.false_alarms
        return self.detected / alarms if alarms else None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "recall": self.recall, "precision": self.precision}


def observe(run: Run, peers: Iterable[type[Peer]] = PEERS) -> list[Peer]:
    """Train a run while peers watch."""
    watching = [peer() for peer in peers]
    training = run.build()
    with Recorder(
        training.model, training.optimizer, watching, training.steps_per_epoch, training.validate
    ):
        for _ in range(training.steps):
            training.step()
    return watching


def judge(runs: Sequence[Run], progress: Callable[[Run], object] = lambda run: None) -> Verdicts:
    """Train all runs, and collect what each peer, and flatline, says of each."""
    verdicts: Verdicts = {}
    features: dict[str, Features] = {}
    for run in runs:
        found = hear_flatline(run)
        for peer in observe(run):
            if isinstance(peer, DeepFD):
                features[run.name] = peer.features()
            else:
                found[peer.name] = Verdict(peer.said, peer.diagnoses())
        for name, verdict in found.items():
            verdicts.setdefault(name, {})[run.name] = verdict
        progress(run)
    verdicts[DeepFD.name] = ask_deepfd(runs, features)
    return verdicts


def hear_flatline(run: Run) -> dict[str, Verdict]:
    """What flatline says of a run, for each of its rows."""
    findings = run.findings()
    said = {
        name: frozenset(code for code, severity in findings if severity in severities)
        for name, severities in FLATLINE.items()
    }
    return {name: Verdict(dict.fromkeys(sorted(codes), 0), codes) for name, codes in said.items()}


def ask_deepfd(runs: Sequence[Run], features: Mapping[str, Features]) -> dict[str, Verdict]:
    """Fit DeepFD to the half on which things may be fitted, and ask it about the other."""
    known = [run for run in runs if run.choose]
    asked = [run for run in runs if not run.choose]
    if not known:
        return {}
    found = fit_and_diagnose(
        [features[run.name] for run in known],
        [run.codes if run.sick else NOTHING for run in known],
        [features[run.name] for run in asked],
    )
    return {
        run.name: Verdict(dict.fromkeys(sorted(codes), 0), codes)
        for run, codes in zip(asked, found, strict=True)
    }


def row(peer: str, verdicts: Mapping[str, Verdict], runs: Sequence[Run]) -> Row:
    """A peer's figures over runs."""
    pairs = [(run, verdicts[run.name]) for run in runs if run.name in verdicts]
    sick = [(run, verdict) for run, verdict in pairs if run.sick]
    healthy = [(run, verdict) for run, verdict in pairs if not run.sick]
    words = [len(verdict.said) for _, verdict in pairs if verdict.alarm]
    return Row(
        peer,
        sick=len(sick),
        detected=sum(verdict.alarm for _, verdict in sick),
        right=sum(bool(verdict.codes & run.codes) for run, verdict in sick),
        healthy=len(healthy),
        false_alarms=sum(v.alarm and not v.codes & run.codes for run, v in healthy),
        words=sum(words) / len(words) if words else 0.0,
    )


def table(rows: Sequence[Row]) -> str:
    """The figures, as text."""
    head = (
        f"{'peer':<32} {'detected':>14} {'right':>14} {'false alarms':>14} {'precision':>9} words"
    )
    lines = [head]
    for r in rows:
        cells = (
            part_of(r.detected, r.sick),
            part_of(r.right, r.sick),
            part_of(r.false_alarms, r.healthy),
        )
        precision = "–" if r.precision is None else f"{r.precision:.0%}"
        lines.append(
            f"{r.peer:<32} " + " ".join(f"{cell:>14}" for cell in cells)
            + f" {precision:>9} {r.words:5.1f}"
        )  # fmt: skip
    return "\n".join(lines)


def part_of(part: int, whole: int) -> str:
    return f"{part}/{whole} {part / whole:4.0%}" if whole else "–"
