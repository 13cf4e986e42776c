"""Whether a run came to harm, as far as its loss tells."""

from __future__ import annotations

from flatline.diagnose.chart import Chart


def has_learned(chart: Chart) -> bool | None:
    """Whether the loss ended well below its beginning; ``None`` for a run too short to judge.

    Example:
        >>> has_learned(Chart([]))
    """
    course = chart.progress
    if course.nonfinite >= 0 or chart.history.last("nonfinite") is not None:
        return False
    if not course.known:
        return None
    return course.first - course.last >= chart.thresholds.learned * abs(course.first)


def harm(chart: Chart) -> str:
    """``"critical"`` where the run did not learn, else ``"warning"``."""
    return "critical" if has_learned(chart) is False else "warning"


def lost(chart: Chart) -> bool:
    """Whether the loss stood still, came back, or ended above that of a guess."""
    return chart.progress.failed or chart.progress.last > chart.guess
