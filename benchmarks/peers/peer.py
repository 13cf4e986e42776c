"""What a peer is, and what its words would be in flatline's vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from .recording import Epoch, Step

Codes = frozenset[str]
#: What a peer can say, each with the findings about which it would be right.
Words = Mapping[str, Codes]

# Groups of finding codes for which a peer's word is taken as right. Where a peer names a symptom,
# the causes that show in it are included, to the peer's advantage.
NOTHING: Codes = frozenset()
DEAD = frozenset({"dying-relu", "born-dead", "upstream-death"})
DORMANT = DEAD | {"dormant-units"}
SATURATED = frozenset({"saturation"})
VANISHING = frozenset({"vanishing-gradient", "init-too-small"})
TOO_FAST = frozenset({"learning-rate-too-high"})
TOO_SLOW = frozenset({"learning-rate-too-low"})
EXPLODING = frozenset({"exploding-gradient", "init-too-large"}) | TOO_FAST
NON_FINITE = frozenset({"non-finite"}) | EXPLODING
FROZEN = frozenset({"frozen-parameters"})
STUCK = frozenset({"no-learning"}) | TOO_SLOW
SYMMETRY = frozenset({"zero-init", "duplicate-units"})
BAD_INIT = frozenset({"init-too-small", "init-too-large"}) | SYMMETRY
BAD_INPUT = frozenset({"unscaled-input"})
BAD_OUTPUT = frozenset({"output-activation"})
LINEAR = frozenset({"missing-nonlinearity"})


class Peer:
    """A peer's rules, which watch one training.

    Attributes:
        name: What the table calls it.
        source: Repository, file and commit the rules were read from.
        blind: What the rules cannot see.
        codes: What it can say, each with the findings about which it would then be right.
        said: What it said, with the step at which it first did.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    blind: ClassVar[str]
    codes: ClassVar[Words]

    def __init__(self) -> None:
        self.said: dict[str, int] = {}

    def say(self, what: str, step: int) -> None:
        """Note that it said so, the first time only."""
        assert what in self.codes, f"{self.name} has no word {what!r}"
        self.said.setdefault(what, step)

    def diagnoses(self) -> Codes:
        """Findings about which it would be right."""
        return NOTHING.union(*(self.codes[what] for what in self.said))

    def begin(self, model: nn.Module) -> None:
        """Look at the model before the first step."""

    def step(self, step: Step) -> None:
        """Look at a step after its update."""

    def epoch(self, epoch: Epoch) -> None:
        """Look at an epoch after its last step."""

    def end(self) -> None:
        """Conclude."""
