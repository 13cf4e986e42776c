"""How sure one may be that a unit is silent, from the number of examples seen.

The bounds are exact (Clopper and Pearson), one-sided, and count independent examples only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flatline.sense.history import History

if TYPE_CHECKING:
    from flatline.diagnose.states import States

Bool = npt.NDArray[np.bool_]
Double = npt.NDArray[np.float64]

#: One minus the confidence of every bound.
ALPHA = 0.01
#: Silence on this many examples excludes, with 99 % confidence, a firing rate of 1 % or more.
CERTAIN_EXAMPLES = 459
#: A unit that fires on this share of examples or more is not to be called dead.
RATE = 0.01

#: Steps without a sign of life after which a unit is worth a word that no exam has looked at.
LONG = 64


def firing_rate_upper(silent: npt.ArrayLike, alpha: float = ALPHA) -> Double:
    """Upper bound of the firing rate of a unit that was silent on every example.

    Args:
        silent: Number of examples, all silent. Any shape.
        alpha: One minus the confidence.

    Returns:
        ``1 - alpha ** (1 / silent)``; 1 where no example was seen.

    Example:
        >>> firing_rate_upper([0, 1, 459]).round(4).tolist()
        [1.0, 0.99, 0.01]
    """
    n = np.asarray(silent, np.float64)
    # expm1 keeps the bound accurate where it is tiny.
    bound = -np.expm1(np.log(alpha) / np.maximum(n, 1))
    return np.where(n > 0, bound, 1.0)


def rate_upper(fired: npt.ArrayLike, examples: npt.ArrayLike, alpha: float = ALPHA) -> Double:
    """Upper bound of the firing rate of a unit that fired on some of the examples.

    Args:
        fired: Number of examples on which it fired. Any shape.
        examples: Number of examples, broadcast against ``fired``.
        alpha: One minus the confidence.

    Example:
        >>> rate_upper([0, 3, 10], 10).round(3).tolist()
        [0.369, 0.703, 1.0]
    """
    k, n = np.broadcast_arrays(np.asarray(fired, np.float64), np.asarray(examples, np.float64))
    open_ended = k >= n
    from scipy import special  # nobody needs it while training

    bound = special.betaincinv(k + 1, np.where(open_ended, 1, n - k), 1 - alpha)
    return np.asarray(np.where(open_ended, 1.0, bound), np.float64)


def seen_one_in(silent: int) -> int:
    """The rarest firing that silence on so many examples excludes: on one in how many examples.

    Example:
        >>> seen_one_in(1842)
        400
    """
    return math.floor(1 / float(firing_rate_upper(silent)) * (1 + 1e-12))


def false_calls(units: int, silent: int) -> float:
    """Units expected to be silent by chance, were each to fire on 1 % of examples.

    It bounds the expected number of units that are called dead on so many examples although they
    fire on 1 % of them or more, whatever depends on whatever: expectations add up.

    Args:
        units: Number of units that could have been called dead.
        silent: Number of examples that each call rests on, at the least.

    Example:
        >>> round(false_calls(1000, 459), 2)
        9.92
    """
    return units * math.exp(silent * math.log1p(-RATE))


def whole_pass(data: Mapping[str, Any]) -> int | None:
    """Consecutive steps that contain a whole pass over the training data, wherever they begin.

    Args:
        data: The evidence of the note ``"data"``: ``examples`` in the set, ``batch_size``,
            ``shuffle`` and ``drop_last`` of its loader.

    Returns:
        The number of steps; ``None`` where no number would do: the order is not known, or the
        last batch, with other examples in each pass, is dropped.

    Example:
        >>> whole_pass({"examples": 100, "batch_size": 32, "shuffle": True, "drop_last": False})
        7
    """
    examples, batch = data.get("examples") or 0, data.get("batch_size") or 0
    shuffle = data.get("shuffle")
    if examples <= 0 or batch <= 0 or shuffle is None:
        return None
    if data.get("drop_last") and examples % batch:
        return None
    steps = math.ceil(examples / batch)
    # In a fixed order any stretch as long as a pass holds all of it.
    return 2 * steps - 1 if shuffle else steps


@dataclass(frozen=True)
class Certainty:
    """How far what is said of silent units can be trusted, over all units of a run.

    Attributes:
        units: Units that received an example, each of which might have been called dead.
        called: Units that are called dead.
        examples: Silent examples behind each of these calls, at the least; where nobody is called
            dead, examples on which each unit was seen, at the least.
        unsure: Units that are silent so far, on too few examples to be called dead.
        set_size: Examples of the training set, where its loader is known.
        exhausted: Units called dead that were silent over a whole pass of the training set.
        most: Examples on which any unit was seen.
        batch: Examples of a step; 0 where it is not known.
        steps: Steps of the run.
        near: Units called dead that are close to firing, in layers whose inputs still move.
        unexamined: Units not called dead, whose gradients have been 0 for :data:`LONG` steps or
            more at the end, and that no exam has looked at since.
    """

    units: int = 0
    called: int = 0
    examples: int = 0
    unsure: int = 0
    set_size: int | None = None
    exhausted: int = 0
    most: int = 0
    batch: int = 0
    steps: int = 0
    near: int = 0
    unexamined: int = 0

    @property
    def false_calls(self) -> float:
        """Expected number of units called dead that fire on 1 % of examples or more, at most."""
        return false_calls(self.units, self.examples) if self.called else 0.0

    @property
    def one_in(self) -> int:
        """A unit that fires on one in so many examples would have been seen, at 99 %."""
        return seen_one_in(self.examples)

    @property
    def short(self) -> bool:
        """Whether no unit could have been called dead, however silent."""
        return bool(self.units) and self.most < CERTAIN_EXAMPLES

    def to_dict(self) -> dict[str, Any]:
        """The part ``certainty`` of the JSON report."""
        known = self.set_size is not None
        return {
            "units": self.units,
            "called_dead": self.called,
            "silent_so_far": self.unsure,
            "near_firing": self.near,
            "unexamined": self.unexamined,
            "confidence": 1 - ALPHA,
            "examples": self.examples,
            "seen_one_in": self.one_in,
            "expected_false_calls": self.false_calls,
            "training_set": {"examples": self.set_size, "silent_on_all": self.exhausted}
            if known
            else None,
            "too_short": self.short,
            "steps_needed": self.enough_steps if self.short else None,
        }

    @property
    def enough_steps(self) -> int | None:
        """Steps after which units can be called dead; ``None`` where batches are not known."""
        return math.ceil(CERTAIN_EXAMPLES / self.batch) if self.batch else None


def assess(states: Sequence[States], history: History) -> Certainty:
    """How far the calls of a whole run can be trusted.

    Args:
        states: States of each site.
        history: What the training went through.

    Example:
        >>> assess([], History()).short
        False
    """
    visited = [one for one in states if not one.are("unvisited").all()]
    if not visited:
        return Certainty()
    judged = np.concatenate([~one.are("unvisited") for one in visited])
    dead = np.concatenate([one.are("dead") for one in visited])
    examples = np.concatenate([one.examples for one in visited])
    steps = int(history.facts.get("steps") or 0)
    total = int(history.facts.get("examples") or 0)
    data = history.last("data") or {}
    return Certainty(
        units=int(judged.sum()),
        called=int(dead.sum()),
        examples=int(examples[dead if dead.any() else judged].min()),
        unsure=sum(one.silent_so_far for one in visited),
        set_size=int(data["examples"]) if data.get("examples") else None,
        exhausted=sum(int(_exhausted(one, history, data).sum()) for one in visited),
        most=max(int(examples[judged].max()), total),
        batch=round(total / steps) if steps else 0,
        steps=steps,
        unexamined=sum(_unexamined(one, history) for one in visited),
    )


def _unexamined(states: States, history: History) -> int:
    """Units of a site that the pulse alone calls silent, in steps in which others lived."""
    if states.site.pulse == "none" or not states.watched:
        return 0
    exams = [step for step, sites in history.exams if states.site.name in sites]
    alive = ~states.are("dead") & (states.last_life >= max(exams, default=0))
    return int((alive & (states.last_life.max() - states.last_life >= LONG)).sum())


def _exhausted(states: States, history: History, data: Mapping[str, Any]) -> Bool:
    """Dead units that were silent on all examples of the training set, one after the other."""
    dead = states.are("dead") & (states.since_step >= 0)
    needed = whole_pass(data)
    steps = int(history.facts.get("steps") or 0)
    alone = int(history.facts.get("world_size") or 1) == 1  # others go through other parts
    _, batches = history.measure(states.site.name, "batch")
    # A program that takes its batches apart goes through the set in more steps than its loader.
    if needed is None or not alone or not len(batches):
        return np.zeros(len(dead), bool)
    if batches.max() < min(data["batch_size"], data["examples"]):
        return np.zeros(len(dead), bool)
    dead &= (steps - states.since_step >= needed) & (states.examples >= data["examples"])
    return dead & (states.since_exact | _examined(states, history, steps))


def _examined(states: States, history: History, steps: int) -> Bool:
    """Units whose every silent step was an exam."""
    exams = np.sort([step for step, sites in history.exams if states.site.name in sites])
    seen = len(exams) - np.searchsorted(exams, states.since_step)
    return np.asarray(seen >= steps - states.since_step)
