"""How far a trial is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Cell:
    """One run as the progress of a trial shows it.

    Attributes:
        state: ``"waiting"``, ``"running"``, ``"done"``, ``"kept"`` (from an earlier call),
            ``"failed"`` or ``"given up"``.
        since: When it began.
        seconds: How long it took.
        objective: What it said.
        why: Why it failed.
    """

    state: str = "waiting"
    since: float = 0.0
    seconds: float = 0.0
    objective: float | None = None
    why: str = ""


@dataclass
class Progress:
    """How far a trial is.

    Attributes:
        objective: What is compared.
        seeds: What is added to the program's seeds.
        cells: By arm and seed, the control first.
        last: The run that changed last.
    """

    objective: str
    seeds: Sequence[int]
    cells: dict[tuple[str, int], Cell] = field(default_factory=dict)
    last: tuple[str, int] | None = None

    def count(self, *states: str) -> int:
        """Number of runs in one of these states."""
        return sum(cell.state in states for cell in self.cells.values())
