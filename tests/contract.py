"""The JSON report as the contract fixes it, checked by hand and strictly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

STATES = [
    "nonfinite",
    "unvisited",
    "dead",
    "saturated",
    "constant",
    "duplicate",
    "starved",
    "dormant",
    "ignored",
    "linear",
    "healthy",
]
CODES = [
    "zero-init",
    "init-too-small",
    "init-too-large",
    "born-dead",
    "dying-relu",
    "saturation",
    "vanishing-gradient",
    "exploding-gradient",
    "learning-rate-too-high",
    "learning-rate-too-low",
    "unscaled-input",
    "upstream-death",
    "weight-decay-collapse",
    "frozen-parameters",
    "non-finite",
    "missing-nonlinearity",
    "duplicate-units",
    "dormant-units",
    "ignored-units",
    "linear-units",
    "unvisited-units",
    "output-activation",
    "stale-gradients",
    "no-learning",
    "rank-collapse",
    "constant-input",
]
CAUSES = [
    "born-dead",
    "step-too-large",
    "bias-drift",
    "weight-drift",
    "input-shift",
    "upstream-death",
    "weight-decay",
    "saturation",
    "non-finite",
    "unknown",
]

Check = Callable[[Any], bool]


def text(value: Any) -> bool:
    return isinstance(value, str)


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def boolean(value: Any) -> bool:
    return isinstance(value, bool)


def share(value: Any) -> bool:
    return real(value) and 0 <= value <= 1


def moment(value: Any) -> bool:
    return text(value) and datetime.fromisoformat(value).tzinfo is not None


def maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def one_of(*words: str) -> Check:
    return lambda value: value in words


def each(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def pair(first: Check, second: Check) -> Check:
    return lambda v: isinstance(v, list) and len(v) == 2 and first(v[0]) and second(v[1])


def table(key: Check, value: Check) -> Check:
    return lambda v: isinstance(v, dict) and all(key(k) and value(e) for k, e in v.items())


def record(required: dict[str, Check], optional: dict[str, Check] | None = None) -> Check:
    """An object with these keys; others are welcome, but those named must be what they should."""

    def check(value: Any) -> bool:
        assert isinstance(value, dict), f"expected an object, found {value!r}"
        for key, holds in required.items():
            assert key in value, f"expected {key!r} in {sorted(value)}"
            assert holds(value[key]), f"{key!r} is {value[key]!r:.200}"
        for key, holds in (optional or {}).items():
            assert key not in value or holds(value[key]), f"{key!r} is {value[key]!r:.200}"
        return True

    return check


RUN = record(
    {
        "id": maybe(text),
        "name": maybe(text),
        "status": one_of("finished", "failed", "interrupted", "running"),
        "steps": whole,
        "examples": whole,
        "started": maybe(moment),
        "seconds": maybe(real),
        "overhead": maybe(
            record({"budget": share, "measured": real, "exams": whole}, {"spent": real})
        ),
        "treatments": each(text),
        "torch": maybe(text),
        "device": maybe(text),
        "world_size": whole,
    }
)
SITE_IMPACT = record(
    {
        "live_width": whole,
        "stable_rank": maybe(real),
        "participation": maybe(real),
        "rank_rows": maybe(whole),
        "dead_parameters": maybe(whole),
        "dead_multiply_adds": maybe(whole),
        "signal_lost": maybe(share),
        "live_update_ratio": maybe(real),
        "gini": maybe(share),
        "top_share": maybe(share),
    }
)
SITE = record(
    {
        "name": text,
        "activation": text,
        "units": whole,
        "feeds": each(text),
        "reads": each(text),
        "states": table(one_of(*STATES), whole),
        "examples": whole,
        "gradient_rms": maybe(real),
        "update_ratio": maybe(real),
        "effective_rank": maybe(real),
    },
    {
        "silent_so_far": whole,
        "pulse": one_of("exact", "sampled", "none"),
        "deaths": each(pair(whole, whole)),
        "impact": SITE_IMPACT,
    },
)
UNIT = record(
    {
        "site": text,
        "unit": whole,
        "state": one_of(*(state for state in STATES if state != "healthy")),
        "certain": boolean,
        "since_step": maybe(whole),
        "examples": whole,
        "firing_rate": maybe(share),
        "firing_rate_upper": maybe(share),
        "cause": maybe(one_of(*CAUSES)),
        "evidence": table(text, maybe(real)),
    },
    {"since_exact": boolean, "since_after": maybe(whole)},
)
FINDING = record(
    {
        "code": one_of(*CODES),
        "severity": one_of("critical", "warning", "info"),
        "sites": each(text),
        "share": share,
        "message": text,
        "evidence": table(text, maybe(real)),
        "remedies": each(record({"treatment": text, "why": text})),
    }
)
CERTAINTY = record(
    {
        "units": whole,
        "called_dead": whole,
        "silent_so_far": whole,
        "near_firing": whole,
        "confidence": share,
        "examples": whole,
        "seen_one_in": whole,
        "expected_false_calls": real,
        "training_set": maybe(record({"examples": whole, "silent_on_all": whole})),
        "too_short": boolean,
        "steps_needed": maybe(whole),
    }
)
GAP = record(
    {
        "metric": text,
        "training": text,
        "step": whole,
        "value": real,
        "training_value": real,
        "gap": real,
        "best": real,
        "best_step": whole,
    }
)
IMPACT = record(
    {
        "dead": whole,
        "dead_parameters": whole,
        "parameters": maybe(whole),
        "dead_multiply_adds": whole,
        "gaps": each(GAP),
        "definitions": table(text, record({"unit": text, "means": text})),
    }
)
REPORT = record(
    {
        "schema": one_of("flatline/1"),
        "flatline": text,
        "run": RUN,
        "verdict": one_of("healthy", "warning", "sick"),
        "sites": each(SITE),
        "units": each(UNIT),
        "findings": each(FINDING),
        "metrics": table(text, each(pair(whole, maybe(real)))),
    },
    {
        "kind": one_of("examination"),
        "units_truncated": whole,
        "not_watched": each(record({"name": text, "because": text})),
        "lost": each(record({"what": text, "why": text})),
        "deaths": each(pair(whole, whole)),
        "exams": each(record({"step": whole, "silent": each(maybe(whole))})),
        "thresholds": table(text, real),
        "certainty": CERTAINTY,
        "impact": IMPACT,
    },
)


def strict(source: str) -> Any:
    """JSON without the NaN and Infinity that Python would take, and without doubled keys."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        assert len(set(keys)) == len(keys), f"doubled among {keys}"
        return dict(pairs)

    return json.loads(source, parse_constant=refuse, object_pairs_hook=once)


def check(source: str) -> dict[str, Any]:
    """The report in JSON text, after every check.

    Raises:
        AssertionError: Something in it is not as the contract says.
    """
    report = strict(source)
    assert REPORT(report)
    units = {site["name"]: site["units"] for site in report["sites"]}
    assert len(units) == len(report["sites"])
    for site in report["sites"]:
        assert sum(site["states"].values()) == site["units"]
    for unit in report["units"]:
        assert unit["unit"] < units[unit["site"]]
    not_healthy = sum(
        number
        for site in report["sites"]
        for state, number in site["states"].items()
        if state != "healthy"
    )
    assert report.get("units_truncated", len(report["units"])) == not_healthy
    assert all(set(one["sites"]) <= set(units) for one in report["findings"])
    highest = {one["severity"] for one in report["findings"]}
    worst = "sick" if "critical" in highest else "warning" if "warning" in highest else "healthy"
    assert report["verdict"] == worst
    assert all(len(exam["silent"]) == len(units) for exam in report.get("exams", ()))
    return report
