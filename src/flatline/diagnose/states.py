"""What each unit of a site is now, and how certain that is.

A window of examples says what a unit did; the ledger says when it last showed life. Where both
speak, the ledger decides about death: a window may reach back to before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from flatline.activations import Activation
from flatline.anatomy.site import Site
from flatline.diagnose.certainty import CERTAIN_EXAMPLES, firing_rate_upper, rate_upper
from flatline.diagnose.names import SICK as SICK
from flatline.diagnose.names import STATES as STATES
from flatline.sense.vitals import Ledger, Vitals

Bool = npt.NDArray[np.bool_]
Double = npt.NDArray[np.float64]
Long = npt.NDArray[np.int64]

SATURATED_SHARE = 0.95
CONSTANT_RANGE = 1e-6  # of the site's typical magnitude
STARVED_UPDATE = 1e-7  # relative; float32 cannot represent a smaller one
STARVED_GRADIENT = 1e-6  # of the largest gradient of any site
DORMANT_SCORE = 0.025


@dataclass(frozen=True)
class States:
    """What the units of one site are now. All arrays have one entry per unit.

    Attributes:
        site: The site.
        code: Index into :data:`STATES`.
        certain: False for a silent unit seen on too few examples to be called dead.
        examples: Examples the judgement rests on; for a dead unit the silent ones.
        firing_rate: Share of those on which it fired; NaN where there were none.
        firing_rate_upper: Upper bound of the firing rate at 99 % confidence.
        margin: For a dead unit, the pre-activation that came closest to firing, less the
            threshold, in standard deviations of z; NaN where no exam measured it.
        last_life: Last step on which it showed life; -1 for never or where nobody kept a ledger.
        since_step: First step known to be silent, for a dead unit; else -1.
        since_exact: ``since_step`` is the step of death, not only the first exam after it, and no
            life since went unseen.
        watched: A ledger was kept, so ``last_life`` means something.
    """

    site: Site
    code: npt.NDArray[np.int8]
    certain: Bool
    examples: Long
    firing_rate: Double
    firing_rate_upper: Double
    margin: Double
    last_life: Long
    since_step: Long
    since_exact: Bool
    watched: bool

    @property
    def since_after(self) -> Long:
        """A dead unit died after this step, at ``since_step`` at the latest."""
        return self.last_life

    @property
    def silent_so_far(self) -> int:
        """Number of silent units that were seen on too few examples to be called dead."""
        return int(np.count_nonzero(~self.certain))

    def are(self, *states: str) -> Bool:
        """Which units are certainly in one of these states."""
        named = np.array([state in states for state in STATES])
        return np.asarray(named[self.code] & self.certain)

    @property
    def pinned(self) -> bool:
        """Whether the activation is flat at both ends, so that who does not fire is on a rail."""
        rails = self.site.activation.rails
        return any(low == -np.inf for low, _ in rails) and any(high == np.inf for _, high in rails)

    def counts(self) -> dict[str, int]:
        """Number of units in each state that occurs, uncertain ones included."""
        numbers = np.bincount(self.code, minlength=len(STATES))
        return {s: int(n) for s, n in zip(STATES, numbers, strict=True) if n}

    def state(self, unit: int) -> str:
        """Name of one unit's state."""
        return STATES[self.code[unit]]


def judge(
    site: Site, vitals: Vitals, ledger: Ledger | None = None, *, largest_gradient: float = np.nan
) -> States:
    """The state of every unit of a site.

    Args:
        site: The site.
        vitals: What a window of examples says about its units.
        ledger: When they last showed life; ``None`` where no training was watched.
        largest_gradient: Largest gradient of any unit of the model, which says what is small.

    Example:
        >>> from flatline import activations
        >>> site = Site("net.0", activations.get("relu"), 2)
        >>> judge(site, Vitals.empty(2)).counts()
        {'unvisited': 2}
    """
    silent = _silent(site.activation, vitals, ledger)
    examples = np.full(vitals.units, vitals.examples, np.int64)
    seen = examples > 0
    if ledger is not None:
        # The window counts in full only where no life was ever seen: else it may reach back.
        unborn = (ledger.last_life < 0) & (vitals.fired == 0)
        witnessed = np.maximum(ledger.silent_examples, np.where(unborn, examples, 0))
        examples = np.where(silent, witnessed, examples)
        seen |= (ledger.last_life >= 0) | (ledger.first_silent >= 0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        holds = _holding(site, vitals, ledger, silent, seen, largest_gradient)
        margin = np.where(silent & (vitals.fired == 0), _margin(site.activation, vitals), np.nan)
    code = np.select(holds, np.arange(len(holds)), default=len(holds)).astype(np.int8)
    dead = code == STATES.index("dead")
    fired = np.where(dead, 0, vitals.fired)
    last_life = np.full(vitals.units, -1, np.int64) if ledger is None else ledger.last_life
    since, exact = _since(ledger, dead)
    return States(
        site=site,
        code=code,
        certain=~dead | (examples >= CERTAIN_EXAMPLES),
        examples=examples,
        firing_rate=np.where(examples > 0, fired / np.maximum(examples, 1), np.nan),
        firing_rate_upper=_rates_upper(fired, examples),
        margin=np.where(dead, margin, np.nan),
        last_life=last_life.astype(np.int64),
        since_step=since,
        since_exact=exact,
        watched=ledger is not None,
    )


def _rates_upper(fired: npt.NDArray[np.integer[Any]], examples: Long) -> Double:
    """The upper bound of each unit's firing rate, each pair of counts computed once."""
    found = np.asarray(firing_rate_upper(examples))
    some = fired > 0
    pairs = np.stack([fired[some].astype(np.int64), examples[some]], axis=1)
    key = pairs[:, 0] * (int(examples.max(initial=0)) + 1) + pairs[:, 1]
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    found[some] = rate_upper(pairs[first, 0], pairs[first, 1])[inverse]
    return found


def _silent(activation: Activation, vitals: Vitals, ledger: Ledger | None) -> Bool:
    """Units that are silent now: they do not fire, and their output does not vary."""
    now: Bool
    if ledger is None or not activation.can_die:
        now = vitals.silent & (vitals.examples > 0)
    else:
        # A unit that does not fire can still jump between two flat ends, as hardtanh can.
        low, high = activation.fires[0][0], activation.fires[-1][1]
        jumps = (vitals.fired == 0) & (vitals.z_min <= low) & (vitals.z_max >= high)
        now = (ledger.first_silent > ledger.last_life) & ~jumps
    return now


def _range(vitals: Vitals) -> npt.NDArray[np.float64]:
    """Range of h; infinite where nothing was seen or it is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        spread = vitals.h_max.astype(np.float64) - vitals.h_min
    return np.where(np.isfinite(spread), spread, np.inf)


def _holding(
    site: Site,
    vitals: Vitals,
    ledger: Ledger | None,
    silent: Bool,
    seen: Bool,
    largest_gradient: float,
) -> list[Bool]:
    """For each state but the last, the units for which it holds."""
    n = vitals.examples
    none = np.zeros(vitals.units, bool)
    magnitude = vitals.h_abs / max(n, 1)
    finite = magnitude[np.isfinite(magnitude) & ~vitals.nonfinite]
    typical = float(finite.mean()) if finite.size else 0.0
    constant = (_range(vitals) <= CONSTANT_RANGE * typical) if n >= 2 else none
    if ledger is not None and site.activation.can_die:
        # It showed life on examples that no exam saw: rare, not constant.
        constant = constant & ~((vitals.fired == 0) & ~silent)
    ignored = vitals.ignored if site.reads and n else none
    starved = (vitals.update < STARVED_UPDATE) & (
        vitals.gradient < STARVED_GRADIENT * largest_gradient
    )
    return [
        vitals.nonfinite,
        ~seen,
        silent,
        vitals.railed >= SATURATED_SHARE * n if site.activation.rails and n else none,
        constant,
        vitals.twin != np.arange(vitals.units) if n >= 2 else none,
        # What nobody reads gets no gradient either: that is another matter than a small one.
        (vitals.fired > 0) & starved & ~ignored,
        magnitude <= DORMANT_SCORE * typical if n and typical > 0 else none,
        ignored,
        _linear(site.activation, vitals) if n else none,
    ]


def _linear(activation: Activation, vitals: Vitals) -> Bool:
    """Units whose pre-activations all lie inside one piece that is not flat."""
    inside = np.zeros(vitals.units, bool)
    if activation.pieces is None:
        return inside
    for low, high in pairwise((-np.inf, *activation.pieces, np.inf)):
        if any(a <= low and high <= b for a, b in activation.fires):
            inside |= (vitals.z_min > low) & (vitals.z_max < high)
    return inside


def _margin(activation: Activation, vitals: Vitals) -> Double:
    """Distance of z from firing at its closest, in standard deviations of z; at most 0."""
    low, high = activation.fires[0][0], activation.fires[-1][1]
    mean = vitals.z_sum / max(vitals.examples, 1)
    variance = vitals.z_sq / max(vitals.examples, 1) - mean**2
    # The difference of two large sums: what is below their rounding is no spread at all.
    spread = np.sqrt(np.where(variance > 1e-12 * mean**2, variance, np.nan))
    gap = np.where(vitals.z_max <= low, vitals.z_max.astype(np.float64) - low, high - vitals.z_min)
    return np.where(np.isfinite(gap) & (gap <= 0), gap / spread, np.nan)


def _since(ledger: Ledger | None, dead: Bool) -> tuple[Long, Bool]:
    """First silent step of dead units, and whether it is the step of death itself."""
    if ledger is None:
        return np.full(len(dead), -1, np.int64), np.zeros(len(dead), bool)
    known = dead & (ledger.first_silent > ledger.last_life)
    since = np.where(ledger.exact, ledger.last_life.astype(np.int64) + 1, ledger.first_silent)
    return np.where(known, since, -1), known & ledger.exact
