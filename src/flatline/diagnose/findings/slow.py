"""What is found of steps that are too small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding
from flatline.diagnose.findings.gradients import arriving
from flatline.diagnose.findings.rates import largest_update

Double = npt.NDArray[np.float64]

#: Decrease of the loss, in its beginning, with which a rate that faded has done no harm.
_HALF = 0.5
#: Part of the first updates that is left of a rate that has faded.
_FADED = 0.01
#: Part of the gradient at the start, at the end, that is still a gradient to learn by.
_KEPT = 0.03
#: The same where weights hardly moved: a gradient that fell since has come to rest at a guess.
_SAME = 0.5
#: Part of the loss of a guess that is no better than it.
_GUESS = 0.9


@finding("learning-rate-too-low")
def learning_rate_too_low(chart: Chart) -> Finding | None:
    """Gradients as they should be, and updates too small to learn in any reasonable time.

    Evidence: the relative update of each weight matrix over the last third of the exams, gradients
    that are there, and a loss that hardly fell. Threshold: 1e-5, with which 10,000 steps would
    change a tenth (DeepDiagnosis has the same), and a gain of less than a fifth, or of less than
    half where updates fell to a hundredth before half of the training was over. Or all steps
    together cannot have changed a matrix by 15 %, and the loss is no better than a guess; or it is
    still above that of a guess and falls at half its first pace or more. Avoids: schedules
    that end at 0 and converged runs, whose loss has fallen; targets that hold nothing to be
    learned, where gradients fall although weights hardly moved; dead and frozen layers, which have
    no gradient; layers that move little beside others that move; short trainings that learned.
    Below 50 steps it is a warning at most.
    """
    progress = chart.progress
    if not progress.known:
        return None
    found = _small(chart) or _short(chart) or _steady(chart)
    if found is not None and progress.steps < chart.thresholds.least_steps:
        return replace(found, severity="warning")  # a few steps lead nowhere at any rate
    return found


def _small(chart: Chart) -> Finding | None:
    """Updates next to nothing at the end of a training that learned next to nothing."""
    limits, progress = chart.thresholds, chart.progress
    update = _learning(chart, chart.readings.late("update_ratio"))
    if not len(update):
        return None
    largest = float(update.max())
    faded = _largest_usual(chart) <= limits.small_update <= _FADED * largest_update(chart)
    gained_enough = progress.gained >= (_HALF if faded else limits.low_gain)
    if largest > limits.small_update or gained_enough:
        return None
    return _finding(
        chart,
        "critical" if progress.stuck else "warning",
        f"no update changes a weight matrix by more than {largest:.1g} of itself",
        {"update_ratio": largest},
    )


def _short(chart: Chart) -> Finding | None:
    """Updates that all together carry no weight matrix anywhere."""
    limits, progress = chart.thresholds, chart.progress
    way, poor = way_of(chart), progress.last >= _GUESS * chart.guess
    if not way <= limits.short_way or arriving(chart) <= limits.vanishing_ratio:
        return None
    unknown = progress.stuck and np.isnan(chart.guess)
    if not (poor or unknown) or progress.gained >= limits.low_gain or _came_to_rest(chart):
        return None
    return _finding(
        chart,
        "critical" if progress.stuck and poor else "warning",
        f"all updates together change no weight matrix by more than {way:.2g} of itself",
        {"way": way},
    )


def _steady(chart: Chart) -> Finding | None:
    """A loss that falls as it fell at the start, and is not down to that of a guess."""
    limits, progress = chart.thresholds, chart.progress
    sound = progress.fell and not progress.relapsed and progress.nonfinite < 0
    if not (sound and progress.last > chart.guess and progress.pace >= limits.steady_pace):
        return None
    return _finding(
        chart,
        "critical" if progress.stuck else "warning",
        f"the loss is still above that of a guess ({chart.guess:.3g}) and falls at "
        f"{progress.pace:.0%} of its first pace",
        {"pace": progress.pace, "guess": chart.guess},
    )


def way_of(chart: Chart) -> float:
    """What all updates together can have changed at most of a weight matrix; NaN if unknown."""
    readings = chart.readings
    usual = np.fmax(readings.usual("update_ratio"), readings.early("update_ratio"))
    update = _learning(chart, usual)
    known = len(update) > 0 and float(update.max()) > 0
    return chart.progress.steps * float(update.max()) if known else np.nan


def _learning(chart: Chart, update: Double) -> Double:
    """The updates of layers that can learn: units alive, and gradients still there."""
    gradient = chart.readings.late("gradient_rms")
    kept = (gradient > 0) & (gradient >= _KEPT * chart.readings.early("gradient_rms"))
    sick = [s.are("dead", "saturated", "constant").mean() for s in chart]
    alive = np.array(sick, np.float64) < chart.thresholds.critical_share
    return np.asarray(update[kept & alive & np.isfinite(update)])


def _came_to_rest(chart: Chart) -> bool:
    """Whether the gradient at every site fell to less than half, as where nothing is to be won."""
    readings = chart.readings
    early, late = readings.early("gradient_rms"), readings.late("gradient_rms")
    return bool((late < _SAME * early).any() and not (late >= _SAME * early).any())


def _largest_usual(chart: Chart) -> float:
    """Largest relative update of a weight matrix for most of the training."""
    usual = chart.readings.usual("update_ratio")
    return float(np.nanmax(usual)) if np.isfinite(usual).any() else np.nan


def _finding(chart: Chart, severity: str, says: str, evidence: dict[str, float]) -> Finding:
    progress = chart.progress
    return Finding(
        "learning-rate-too-low",
        severity,
        tuple(site.name for site in chart.sites),
        1.0,
        f"{says}, and the loss went from {progress.first:.3g} to {progress.last:.3g} in "
        f"{progress.steps:,} steps",
        {**evidence, "gained": progress.gained},
        explains=("no-learning",),
    )
