"""Figures of the repair benchmark, from one row for each sick run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]

#: What must be reached, as shares of the sick runs.
BOUNDS = {"repaired": 0.99, "first": 0.85}


def repair(row: Row) -> str | None:
    """The first prescription that is a verified repair."""
    return next((name for name, arm in row["arms"].items() if arm["repaired"]), None)


def first(row: Row) -> bool:
    """Whether the first-ranked prescription is one."""
    return any(arm["repaired"] for arm in list(row["arms"].values())[:1])


def figures(rows: Sequence[Row]) -> Row:
    """The figures that are bounded, and what they rest on."""
    return {
        "sick": len(rows),
        "repaired": _share(rows, lambda row: repair(row) is not None),
        "first": _share(rows, first),
        "prescribed": _share(rows, lambda row: bool(row["arms"])),
        "not_even_hinted": _share(
            rows, lambda row: any(a["repaired"] and a["not_even_hinted"] for a in arms(row))
        ),
        "better": _share(rows, lambda row: any(arm["verdict"] == "better" for arm in arms(row))),
    }


def arms(row: Row) -> list[Row]:
    """What was tried on a run."""
    return list(row["arms"].values())


def per_code(rows: Iterable[Row]) -> dict[str, Row]:
    """Of each main finding, how many runs were repaired, and by the first prescription."""
    found: dict[str, Row] = {}
    for row in rows:
        one = found.setdefault(row["main"] or "nothing found", Counter())
        one["runs"] += 1
        one["repaired"] += repair(row) is not None
        one["first"] += first(row)
    return {code: dict(found[code]) for code in sorted(found)}


def per_treatment(rows: Iterable[Row]) -> dict[str, Row]:
    """Of each kind of treatment, how often it was tried, better, and a repair."""
    found: dict[str, Row] = {}
    for row in rows:
        for name, arm in row["arms"].items():
            one = found.setdefault(kind(name), Counter())
            one["tried"] += 1
            one["better"] += arm["verdict"] == "better"
            one["repairs"] += arm["repaired"]
            one["refused"] += bool(arm["refused"])
    return {name: dict(one) for name, one in sorted(found.items())}


def kind(treatment: str) -> str:
    """A treatment without its numbers.

    Example:
        >>> kind("lr=x0.0123+clip=norm:1.5"), kind("init=he")
        ('lr+clip=norm', 'init=he')
    """
    parts = [part.partition(":")[0] for part in treatment.split("+")]
    numbers = ("lr=", "weight_decay=", "warmup=")
    return "+".join(part.partition("=")[0] if part.startswith(numbers) else part for part in parts)


def text(rows: Sequence[Row]) -> str:
    """All of it, to be printed."""
    lines = [f"{'main finding':<24} {'runs':>5} {'repaired':>9} {'by the first':>13}"]
    for code, one in per_code(rows).items():
        lines.append(f"{code:<24} {one['runs']:>5} {one['repaired']:>9} {one['first']:>13}")
    lines += ["", f"{'treatment':<40} {'tried':>5} {'better':>7} {'repairs':>8} {'refused':>8}"]
    for name, one in per_treatment(rows).items():
        lines.append(
            f"{name:<40} {one['tried']:>5} {one['better']:>7} {one['repairs']:>8} "
            f"{one['refused']:>8}"
        )
    found = figures(rows)
    lines += [
        "",
        f"{found['sick']} sick runs, of which something was prescribed for "
        f"{found['prescribed']:.1%}",
        f"repaired by a prescription       {found['repaired']:.1%}, of which is asked "
        f"{BOUNDS['repaired']:.0%}",
        f"repaired by the first            {found['first']:.1%}, of which is asked "
        f"{BOUNDS['first']:.0%}",
        f"repaired, and not even a hint    {found['not_even_hinted']:.1%}",
        f"better than the control by some  {found['better']:.1%}",
        "",
    ]
    return "\n".join([*lines, *(miss(row) for row in rows if not first(row))])


def miss(row: Row) -> str:
    """What did not come of the first prescription, or of any."""
    made = repair(row)
    how = "NOT repaired" if made is None else f"repaired by {made}"
    return "\n".join(
        [f"{row['id']}: {row['main']}, {how}", *(told(*one) for one in row["arms"].items())]
    )


def told(name: str, arm: Row) -> str:
    """One arm in a line."""
    if arm["refused"]:
        return f"    {name}: refused: {arm['refused']}"
    control, treated = (sum(arm[key]) / len(arm[key]) for key in ("control", "objective"))
    finding = "finding gone" if arm["gone"] else "finding still there"
    return (
        f"    {name}: {arm['verdict']}, {control:.3g} to {treated:.3g} on {arm['seeds']} seeds; "
        f"{finding}; left {', '.join(arm['left']) or 'nothing'}"
    )


def _share(rows: Sequence[Row], holds: Callable[[Row], bool]) -> float:
    return sum(map(holds, rows)) / len(rows) if rows else 0.0
