"""A trial as one page that needs nothing else, from its JSON document alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from flatline.show import about, html
from flatline.show.reasons import signed
from flatline.show.text import clean, count, measured, named, percent
from flatline.show.trial import outcome

CONTROL = "control"
BETTER, WORSE = "better", "worse"
_TONES = {BETTER: "good", WORSE: "bad"}
_HEADS = (
    "arm",
    "verdict",
    "mean",
    "difference",
    "interval",
    "dead",
    "sick",
    "eff. rank",
    "steps to control",
    "gap",
    "failures",
)


@dataclass(frozen=True)
class Row:
    """One arm as it is drawn and told; places are shares of the axis, in percent.

    Attributes:
        treatment: ``"control"``, or what was applied.
        verdict: Its verdict, in words.
        tone: ``"good"``, ``"bad"`` or empty.
        middle: Where its difference from the control lies; ``None`` without one.
        low: Where its interval begins.
        high: Where its interval ends.
        dots: Where the difference of each seed lies.
        cells: Its row of the table, after its name.
        words: All of this in one sentence.
    """

    treatment: str
    verdict: str
    tone: str
    middle: float | None
    low: float | None
    high: float | None
    dots: tuple[float, ...]
    cells: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class _Axis:
    """From the least to the largest difference that is drawn."""

    least: float
    most: float
    title: str

    def place(self, value: float) -> float:
        return round(2 + 96 * (value - self.least) / (self.most - self.least), 3)

    @property
    def zero(self) -> float:
        return self.place(0.0)

    @property
    def left(self) -> str:
        return signed(self.least)

    @property
    def right(self) -> str:
        return signed(self.most)


def trial_html(document: Mapping[str, Any]) -> str:
    """The page of a trial as text.

    Args:
        document: The JSON document of ``flatline trial``. Numbers that are missing or not finite
            are left out.
    """
    arms: Sequence[Mapping[str, Any]] = document.get("arms") or ()
    axis = _axis(document, arms)
    rows = [_row(arm, arms, axis) for arm in arms]
    return html.page(
        "trial.html.jinja",
        _script(),
        None,
        about=about,
        headline=headline(document),
        facts=_facts(document),
        steps=document.get("next") or (),
        rows=rows,
        axis=axis,
        heads=_HEADS,
        told="; ".join(row.words for row in rows),
        reading=_reading(document),
    )


def headline(document: Mapping[str, Any]) -> str:
    """The outcome in one sentence, that of the terminal.

    Example:
        >>> headline({"objective": "loss", "seeds": 3, "arms": [{"treatment": "control"}]})
        'Nothing was tried.'
    """
    return outcome(
        [
            (named(arm.get("treatment")), str(arm.get("verdict")))
            for arm in document.get("arms") or ()
            if arm.get("treatment") != CONTROL
        ]
    )


def _facts(document: Mapping[str, Any]) -> list[str]:
    seeds, steps = document.get("seeds"), document.get("max_steps")
    arms = document.get("arms") or ()
    said = [count(len(arms), "arm")]
    if isinstance(seeds, int):
        said.append(f"{count(seeds, 'seed')} each")
    if isinstance(steps, int):
        said.append(f"at most {count(steps, 'step')}")
    objective = named(document.get("objective") or "")
    direction = clean(document.get("direction") or "smaller is better", 60)
    lines = [" · ".join(said), f"compared by {objective}; {direction}"]
    if document.get("program"):
        lines.append(clean(document["program"], 200))
    return lines


def _reading(document: Mapping[str, Any]) -> list[str]:
    confidence = document.get("confidence")
    sure = f"{percent(confidence)} " if isinstance(confidence, float) else ""
    how = document.get("interval")
    lines = [
        "A difference is the arm's objective less the control's, seed by seed; the dashed line is "
        "no difference at all.",
        f"The bar is the {sure}confidence interval of its mean"
        + (f" ({clean(how, 200)})" if isinstance(how, str) else "")
        + "; the large dot is the mean, the small ones are single seeds.",
        "An arm whose interval holds 0 is not shown to differ, however large its mean difference.",
    ]
    lines += [
        f"Not tried: {named(one.get('treatment'))}, {clean(one.get('why') or '', 300)}"
        for one in document.get("left_out") or ()
    ]
    lines += list(_reservations(document.get("arms") or ()))
    lines += [
        f"{named(arm.get('treatment'))}: seed {clean(one.get('seed'), 20)} failed, "
        f"{clean(one.get('why') or '', 300)}"
        for arm in document.get("arms") or ()
        for one in arm.get("failed") or ()
    ]
    return lines + [clean(note, 400) for note in document.get("notes") or ()]


def _reservations(arms: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What limits the claim about an arm, and why it was given up."""
    for arm in arms:
        if arm.get("why"):
            yield f"{named(arm.get('treatment'))}: {clean(arm['why'], 300)}"
        if arm.get("stopped"):
            yield f"{named(arm.get('treatment'))}: given up {clean(arm['stopped'], 300)}"


def _axis(document: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> _Axis:
    ends = [_number(arm, key) for arm in arms for key in ("difference", "low", "high")]
    ends += [dot for arm in arms for dot in _by_seed(arm, arms)]
    known = [0.0, *(end for end in ends if end is not None)]
    least, most = min(known), max(known)
    if least == most:
        least, most = -1.0, 1.0
    title = f"difference in {named(document.get('objective') or 'the objective')}"
    return _Axis(least, most, title)


def _row(arm: Mapping[str, Any], arms: Sequence[Mapping[str, Any]], axis: _Axis) -> Row:
    control = arm.get("treatment") == CONTROL
    verdict = "" if control else clean(arm.get("verdict") or "no difference shown", 60)
    difference, low, high = (_number(arm, key) for key in ("difference", "low", "high"))
    interval = "" if low is None or high is None else f"{signed(low)} to {signed(high)}"
    drawn = None if control or low is None or high is None else (axis.place(low), axis.place(high))
    cells = (
        verdict or "–",
        measured(_number(arm, "mean")),
        "" if control or difference is None else signed(difference),
        "" if control else interval,
        *(_percent(arm.get(key)) for key in ("dead_share", "sick_share")),
        *(measured(_finite(arm.get(k))) for k in ("effective_rank", "steps_to_control", "gap")),
        measured(_finite(arm.get("failures"))),
    )
    told = f"{named(arm.get('treatment'))}: {verdict or 'the untreated arm'}"
    if not control and difference is not None:
        told += f", {signed(difference)}" + (f" ({interval})" if interval else "")
    return Row(
        treatment=named(arm.get("treatment")),
        verdict=verdict,
        tone=_TONES.get(verdict, ""),
        middle=None if difference is None else axis.place(difference),
        low=drawn[0] if drawn else None,
        high=drawn[1] if drawn else None,
        dots=() if control else tuple(axis.place(dot) for dot in _by_seed(arm, arms)),
        cells=cells,
        words=told,
    )


def _by_seed(arm: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> list[float]:
    """The difference from the control of each seed that both have."""
    own = (arm.get("objective") or {}).get("runs") or ()
    control = next((one for one in arms if one.get("treatment") == CONTROL), {})
    others = (control.get("objective") or {}).get("runs") or ()
    pairs = [(_finite(a), _finite(b)) for a, b in zip(own, others, strict=False)]
    return [a - b for a, b in pairs if a is not None and b is not None]


def _number(arm: Mapping[str, Any], key: str) -> float | None:
    return _finite((arm.get("objective") or {}).get(key))


def _finite(value: Any) -> float | None:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if real and math.isfinite(value) else None


def _percent(value: Any) -> str:
    share = _finite(value)
    return "" if share is None else percent(share)


def _script() -> Markup:
    parts = [html.asset("page/switch.js"), html.asset("beside/trial.js")]
    return Markup('"use strict";\n(() => {{\n{}\n}})();').format(Markup("\n").join(parts))
