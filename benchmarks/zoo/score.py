"""Figures of the zoo, from one row for each run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from .labels import CAUSES, CODES, Run

Row = dict[str, Any]

#: What must be reached on the half that is reported.
BOUNDS = {"main": 0.99, "critical_on_healthy": 0, "causes": 0.95, "times": 1.0}
#: Codes that state a fact about units, which brute force knows: right wherever it is true.
FACTS = {
    "born-dead", "dying-relu", "saturation", "duplicate-units", "dormant-units", "linear-units",
    "unvisited-units", "constant-input",
}  # fmt: skip


def row(run: Run, truth: Row, said: Row) -> Row:
    """Label, truth and what was said of one run."""
    return {
        "id": run.id,
        "split": run.split,
        "draw": run.draw,
        "architecture": run.architecture,
        "sick": run.sick,
        "main": run.main,
        "equal": sorted(run.equal),
        "expected": list(run.expected),
        "allowed": sorted(run.allowed),
        "true": sorted(run.named | set(truth["facts"])),
        "complaints": truth["complaints"],
        **said,
    }


def judged(rows: Iterable[Row]) -> list[Row]:
    """Rows to be scored.

    In a further draw nobody has seen to it that each fault takes and each other training learns:
    where brute force finds that it did not, there is no label. In the first draw it is a defect.
    """
    return [one for one in rows if not (one["draw"] and one["complaints"])]


def top(one: Row) -> str | None:
    """The first of the findings of the highest severity, warnings at least."""
    for severity in ("critical", "warning"):
        for code, its in one["found"]:
            if its == severity:
                return str(code)
    return None


def main_right(one: Row) -> bool:
    """Whether the main finding is the planted one, or one as honest."""
    first = top(one)
    return first == one["main"] or first in one["equal"]


def named(one: Row) -> set[str]:
    """All codes of a report, explained ones included."""
    return {code for code, _ in one["found"]} | set(one["explained"])


def alarms(one: Row) -> list[str]:
    """Codes called critical that nothing in the run justifies."""
    return [c for c, severity in one["found"] if severity == "critical" and c not in one["allowed"]]


def untrue(one: Row) -> list[str]:
    """Codes called critical that are neither planted, nor a consequence, nor a fact."""
    return [code for code in alarms(one) if code not in one["true"]]


def per_code(rows: Sequence[Row]) -> dict[str, Row]:
    """Recall and precision of each code.

    Recall is over the runs in which the code was planted. Precision is over the runs in which it
    was named as a warning or worse, or at all where brute force knows whether it is true.
    """
    table = {}
    for code in CODES:
        planted = [one for one in rows if code in one["expected"]]
        said = [
            one
            for one in rows
            if any(c == code and (s != "info" or code in FACTS) for c, s in one["found"])
        ]
        table[code] = {
            "planted": len(planted),
            "found": sum(code in named(one) for one in planted),
            "said": len(said),
            "true": sum(code in one["true"] for one in said),
        }
    return table


def confusion(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Planted cause by named cause; each plant at a site weighs 1, shared by its units."""
    table: dict[str, Counter[str]] = {cause: Counter() for cause in CAUSES}
    for one in rows:
        for place in one["causes"]:
            units = sum(place["named"].values())
            for cause, number in place["named"].items():
                told = place["cause"] if cause in place["equal"] else cause
                table[place["cause"]][told] += number / units
    return {cause: dict(count) for cause, count in table.items()}


def figures(rows: Sequence[Row]) -> Row:
    """The figures that are bounded, and what they rest on."""
    sick = [one for one in rows if one["sick"]]
    others = [one for one in rows if not one["sick"]]
    causes = confusion(rows)
    planted = sum(sum(count.values()) for count in causes.values())
    right = sum(one["times"]["right"] for one in rows)
    timed = right + sum(len(one["times"]["wrong"]) for one in rows)
    return {
        "runs": len(rows),
        "sick": len(sick),
        "main": share(sum(map(main_right, sick)), len(sick)),
        "critical_on_healthy": sum(bool(alarms(one)) for one in others),
        "critical_untrue": sum(bool(untrue(one)) for one in sick),
        "causes": share(sum(causes[c].get(c, 0.0) for c in CAUSES), planted),
        "plants": planted,
        "times": share(right, timed),
        "timed": timed,
        "complaints": sum(bool(one["complaints"]) for one in rows),
    }


def share(part: float, whole: float) -> float | None:
    """A share of something."""
    return part / whole if whole else None


def met(found: Row) -> dict[str, bool]:
    """Which bounds are met; a share of nothing is not."""
    return {
        "main": (found["main"] or 0) >= BOUNDS["main"],
        "critical_on_healthy": found["critical_on_healthy"] <= BOUNDS["critical_on_healthy"],
        "causes": (found["causes"] or 0) >= BOUNDS["causes"],
        "times": (found["times"] or 0) >= BOUNDS["times"],
    }


def text(rows: Sequence[Row]) -> str:
    """All of it, to be printed."""
    aside, rows = [one for one in rows if one not in judged(rows)], judged(rows)
    found = figures(rows)
    lines = [f"{found['runs']} runs, {found['sick']} of them sick; {len(aside)} set aside", ""]
    lines += [f"{'code':<24} {'planted':>7} {'recall':>7}   {'said':>5} {'precision':>9}"]
    for code, one in per_code(rows).items():
        recall, precision = share(one["found"], one["planted"]), share(one["true"], one["said"])
        lines.append(
            f"{code:<24} {one['planted']:>7} {_percent(recall):>7}   {one['said']:>5} "
            f"{_percent(precision):>9}"
        )
    lines += ["", "planted cause    named (plants at sites, each shared by its units)"]
    for cause, count in confusion(rows).items():
        ordered = sorted(count.items(), key=lambda pair: -pair[1])
        lines.append(f"{cause:<16} " + ", ".join(f"{name} {n:.1f}" for name, n in ordered))
    lines += ["", f"{'figure':<38} {'found':>8} {'bound':>6}  met"]
    names = {
        "main": "main finding right, of sick runs",
        "critical_on_healthy": "other runs with a critical finding",
        "causes": f"cause right, of {found['plants']:.0f} plants",
        "times": f"step of death right, of {found['timed']} exact ones",
    }
    for key, good in met(found).items():
        value, bound = (
            (str(v) if key == "critical_on_healthy" else _percent(v))
            for v in (found[key], BOUNDS[key])
        )
        lines.append(f"{names[key]:<38} {value:>8} {bound:>6}  {'yes' if good else 'NO'}")
    lines.append(f"sick runs with a critical finding that is untrue: {found['critical_untrue']}")
    lines += ["", *misses(rows)]
    return "\n".join([*lines, *(f"aside    {one['id']}: {one['complaints'][0]}" for one in aside)])


def misses(rows: Sequence[Row]) -> list[str]:
    """What went wrong, by name."""
    lines = [
        f"missed   {one['id']}: expected {one['main']}, found {top(one) or 'nothing'}"
        for one in rows
        if one["sick"] and not main_right(one)
    ]
    lines += [
        f"alarm    {one['id']}: {', '.join(untrue(one) if one['sick'] else alarms(one))}"
        for one in rows
        if (untrue(one) if one["sick"] else alarms(one))
    ]
    lines += [
        f"unnamed  {one['id']}: {one['main']}"
        for one in rows
        if not one["sick"] and one["main"] and one["main"] not in named(one)
    ]
    lines += [
        f"time     {one['id']}: unit {unit} of {site} at step {said}, truly {true}"
        for one in rows
        for site, unit, said, true in one["times"]["wrong"][:3]
    ]
    lines += [
        f"defect   {one['id']}: {complaint}" for one in rows for complaint in one["complaints"]
    ]
    return lines


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"
