"""The closed lists of the contract, and one labelled run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from .draws import SEEDS, resized
from .fault import Fault, Plant
from .halves import half
from .recipes import RECIPES
from .training import Recipe, Training

CODES = (
    "zero-init", "init-too-small", "init-too-large", "born-dead", "dying-relu", "saturation",
    "vanishing-gradient", "exploding-gradient", "learning-rate-too-high", "learning-rate-too-low",
    "unscaled-input", "upstream-death", "weight-decay-collapse", "frozen-parameters", "non-finite",
    "missing-nonlinearity", "duplicate-units", "dormant-units", "ignored-units", "linear-units",
    "unvisited-units", "output-activation", "stale-gradients", "no-learning", "rank-collapse",
    "constant-input",
)  # fmt: skip
CAUSES = (
    "born-dead", "step-too-large", "bias-drift", "weight-drift", "input-shift", "upstream-death",
    "weight-decay", "saturation", "non-finite",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A training of which it is known what is wrong with it.

    Attributes:
        name: Name of the recipe that works.
        faults: What was done to it.
        seed: Seed of its weights and batches.
        draw: Which draw of the zoo it belongs to; see :mod:`.draws`.
    """

    name: str
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    draw: int = 0

    @property
    def id(self) -> str:
        """What it is called."""
        return self._kind + (f"~{self.draw}" if self.draw else "")

    @property
    def _kind(self) -> str:
        """What it is called in each draw."""
        return "+".join([self.name, *(fault.title for fault in self.faults)]) + f"-{self.seed}"

    @property
    def recipe(self) -> Recipe:
        """How it is set up."""
        recipe, random = RECIPES[self.name], Random(self.id)
        if self.draw:
            recipe = resized(recipe, Random(self.twin.id))
        for fault in self.faults:
            recipe = (fault.near(random) if self.draw else fault)(recipe)
        return recipe

    @property
    def twin(self) -> Run:
        """The same training without its faults."""
        return replace(self, faults=())

    @property
    def steps(self) -> int:
        """How many steps it is trained."""
        return self.recipe.steps

    def begin(self) -> Training:
        """Set it up."""
        return Training(self.recipe, self.seed + SEEDS * self.draw)

    @property
    def architecture(self) -> str:
        """The kind of its net."""
        net = RECIPES[self.name].net
        return getattr(net, "func", net).__name__.lower()

    @property
    def split(self) -> str:
        """``choose``: thresholds may be chosen on it; ``report``: they may not."""
        return half(self._kind)

    @property
    def why(self) -> str:
        """What was done to it."""
        return " ".join(fault.why for fault in self.faults) or "A training that works."

    @property
    def expected(self) -> tuple[str, ...]:
        """Codes that a report should name, the main one first."""
        return tuple(dict.fromkeys(fault.code for fault in self.faults if fault.code))

    @property
    def main(self) -> str | None:
        """The code that a report should put first; ``None`` where nothing is wrong."""
        return next(iter(self.expected), None)

    @property
    def equal(self) -> frozenset[str]:
        """Codes that are as right in the first place: of two faults, each is."""
        others = (code for fault in self.faults for code in fault.equal)
        return frozenset({*self.expected[1:], *others})

    @property
    def sick(self) -> bool:
        """Whether it does harm."""
        return any(fault.code and not fault.benign for fault in self.faults)

    @property
    def named(self) -> frozenset[str]:
        """Codes that a report may name: what was planted, and what follows from it."""
        beside = (code for fault in self.faults for code in fault.beside)
        return frozenset({*self.expected, *self.equal, *beside})

    @property
    def allowed(self) -> frozenset[str]:
        """Codes that are no false alarm in it at severity critical: none where nobody is sick."""
        return self.named if self.sick else frozenset()

    @property
    def plants(self) -> tuple[Plant, ...]:
        """Deaths that were planted."""
        return tuple(plant for fault in self.faults for plant in fault.plants)
