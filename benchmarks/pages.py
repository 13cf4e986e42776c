"""Write measured figures into the pages that quote them: ``python -m benchmarks.pages``.

Each stands between two marks, and comes from a file in ``results/``: no figure of a table is typed.
A test holds the pages to the files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .real_bugs import page as real_bugs

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
Document = Mapping[str, Any]
#: Names of the workloads, as a reader knows them.
WORKLOADS = {
    "mlp": "MLP 784-512³-10",
    "cnn": "CNN with BatchNorm, 32 × 32",
    "gpt": "GPT, 4 layers of 256",
    "gpt2": "Transformers' GPT-2, same size",
    "mlp_compiled": "MLP under `torch.compile`",
    "wide": "1,000,000 units",
}


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def costs(document: Document) -> str:
    """What watching costs, beside the bounds, from ``overhead-cpu.json``."""
    kinds = {
        "pulse": ("pulse alone, ratio", "ratio", 3),
        "loop": ("default budget, 2,000 steps, ratio", "ratio", 3),
        "units": ("bytes per unit between exams", "bytes_per_unit", 1),
        "peak": ("peak memory with exams, ratio", "ratio", 3),
        "help": ("`flatline --help`, seconds", "seconds", 3),
        "import": ("`import flatline`, share of `import torch`", "ratio", 3),
    }
    rows = []
    for what, (title, key, digits) in kinds.items():
        for row in (row for row in document["figures"] if row["what"] == what):
            low, high = (f"{row[end]:.{digits}f}" for end in ("low", "high"))
            rows.append(
                (
                    title,
                    WORKLOADS.get(row.get("workload", ""), ""),
                    f"{row[key]:.{digits}f}",
                    f"{low} to {high}",
                    f"{document['bounds'][what]:g}",
                    "yes" if row["holds"] else "**no**",
                )
            )
    return table(("figure", "of", "measured", "95 % interval", "bound", "met"), rows)


def costs_in_short(document: Document) -> str:
    """The least and the most of each kind of cost over the workloads."""
    kinds = {
        "pulse": ("pulse alone, of a bare step", "ratio", "{:.3f} ×"),
        "loop": ("default budget, of a bare loop of 2,000 steps", "ratio", "{:.3f} ×"),
        "units": ("memory between exams, of a unit", "bytes_per_unit", "{:.0f} bytes"),
        "peak": ("peak memory with exams, of the bare peak", "ratio", "{:.2f} ×"),
        "help": ("`flatline --help`", "seconds", "{:.2f} s"),
    }
    rows = []
    for what, (title, key, form) in kinds.items():
        found = [row[key] for row in document["figures"] if row["what"] == what]
        ends = dict.fromkeys(form.format(end) for end in (min(found), max(found)))
        rows.append((title, " to ".join(ends), f"≤ {form.format(document['bounds'][what])}"))
    return table(("", "measured", "bound"), rows)


def zoo(document: Document) -> str:
    """The figures of both halves of the draw, from ``zoo.json``."""
    bounds = document["bounds"]
    halves = {half: document["halves"][half]["figures"] for half in ("report", "choose")}

    def row(title: str, of: str, key: str, share: bool, bound: str) -> tuple[str, ...]:
        values = [
            f"{one[key]:.1%} of {one[of]:g}" if share else f"{one[key]} in {one['runs'] - one[of]}"
            for one in halves.values()
        ]
        return (title, *values, bound)

    rows = [
        row("main finding right, sick runs", "sick", "main", True, f"≥ {bounds['main']:.0%}"),
        row("critical findings, healthy runs", "sick", "critical_on_healthy", False, "0"),
        row("cause right where planted", "plants", "causes", True, f"≥ {bounds['causes']:.0%}"),
        row("step of death exact", "timed", "times", True, f"{bounds['times']:.0%}"),
    ]
    return table(("figure", "reported half", "other half", "bound"), rows)


def peers(document: Document) -> str:
    """Every tool's rules on the same runs, from ``peers.json``."""
    rows = [
        (
            one["peer"],
            f"{one['detected'] / one['sick']:.0%}",
            f"{one['right'] / one['sick']:.0%}",
            f"{one['precision']:.0%}",
            f"{one['false_alarms'] / one['healthy']:.0%}",
        )
        for one in sorted(document["figures"], key=lambda one: -one["right"])
    ]
    first = document["figures"][0]
    head = (
        "rules of",
        f"recall: detected, of {first['sick']} sick",
        "rightly diagnosed",
        "precision",
        f"false alarms, of {first['healthy']} healthy",
    )
    return table(head, rows)


def diagnosis(document: Document) -> str:
    """What judging a large run takes, from ``diagnosis-cpu.json``."""
    bounds = document["bounds"]
    rows = [
        (
            f"{shape['units']:,} units at {shape['sites']} sites",
            f"{max(shape['seconds']):.2f} s",
            f"{shape['mib']:.0f} MiB",
        )
        for shape in document["shapes"].values()
    ]
    rows.append(("bound", f"{bounds['seconds']:g} s", f"{bounds['mib']:g} MiB"))
    return table(("run", "time, the slowest round", "peak memory"), rows)


def page(document: Document) -> str:
    """Size and speed of the HTML report, from ``page.json``."""
    rows = []
    for one in document["pages"].values():
        bounds = one["bounds"]
        written = f" (≤ {bounds['written']:g} s)" if "written" in bounds else ""
        rows.append(
            (
                f"{one['units']:,} units, {one['exams']} exams",
                f"{one['bytes'] / 1e6:.2f} MB (≤ {bounds['bytes'] / 1e6:g} MB)",
                f"{one['written']:.2f} s{written}",
                f"{one['interactive']:.2f} s (≤ {bounds['interactive']:g} s)",
            )
        )
    return table(("page of", "size", "written in", "can be used after"), rows)


def live(document: Document) -> str:
    """How fast the live page is, from ``ui.json``."""
    bounds, listed = document["bounds"], document["list"]
    rows = [
        (f"from an exam to the screen, {what}", f"{one['median']:.2f} s", f"{one['most']:.2f} s",
         f"{bounds['delay']:g} s")
        for what, one in document["delay"].items()
    ]  # fmt: skip
    rows.append(
        (
            f"list of {listed['runs']:,} runs, answered",
            f"{listed['answer']:.2f} s",
            f"{listed['answer, first after the start']:.2f} s (first)",
            f"{bounds['list']:g} s",
        )
    )
    drawn = f"{listed['drawn in the browser']:.2f} s"
    rows.append(("the same, drawn in the browser", drawn, "", f"{bounds['list']:g} s"))
    return table(("figure", "median", "most", "bound"), rows)


def trial(document: Document) -> str:
    """What a trial costs, and how often a null is called better, from ``trial.json``."""
    bounds, figures = document["bounds"], {one["what"]: one for one in document["figures"]}
    cost, digits, null = (figures[what] for what in ("cost", "digits", "null"))
    rows = [
        (
            f"a trial of {cost['runs']} runs, one at a time, of the same runs typed one by one",
            f"{cost['ratio']:.3f} ×",
            f"{bounds['cost']:g} ×",
        ),
        (
            "the same, of the bare program under `python`",
            f"{cost['ratio_to_plain_python']:.3f} ×",
            "",
        ),
        (
            f"{digits['runs']} runs of `examples/digits_mlp.py`, two at a time",
            f"{digits['seconds']:.0f} s",
            f"{bounds['digits']:g} s",
        ),
        (
            f"trials of {null['arms']} arms that call a null better, of {null['healthy_runs']} "
            f"healthy runs dealt {null['deals_per_run']:,} times",
            f"{null['trials_with_better']:.1%}",
            f"{bounds['null']:.0%}",
        ),
    ]
    return table(("figure", "measured", "bound"), rows)


def repair(document: Document) -> str:
    """What prescriptions repair, from ``repair.json``."""
    bounds = document["bounds"]
    rows = []
    for code, one in document["halves"]["report"]["codes"].items():
        rows.append((f"`{code}`", one["runs"], one.get("repaired", 0), one.get("first", 0)))
    found = document["halves"]["report"]["figures"]
    rows.append(
        (
            "**all**",
            found["sick"],
            f"**{found['repaired']:.1%}** (bound {bounds['repaired']:.0%})",
            f"**{found['first']:.1%}** (bound {bounds['first']:.0%})",
        )
    )
    return table(("main finding", "sick runs", "repaired by some", "by the first"), rows)


#: Mark, page, file of results, and what makes the text.
SECTIONS: tuple[tuple[str, str, str, Callable[[Document], str]], ...] = (
    ("costs in short", "README.md", "overhead-cpu.json", costs_in_short),
    ("costs", "docs/benchmarks.md", "overhead-cpu.json", costs),
    ("real bugs", "docs/benchmarks.md", "real-bugs.json", real_bugs.text),
    ("zoo", "docs/benchmarks.md", "zoo.json", zoo),
    ("peers", "docs/benchmarks.md", "peers.json", peers),
    ("diagnosis", "docs/benchmarks.md", "diagnosis-cpu.json", diagnosis),
    ("page", "docs/benchmarks.md", "page.json", page),
    ("live page", "docs/benchmarks.md", "ui.json", live),
    ("trial", "docs/benchmarks.md", "trial.json", trial),
    ("repair", "docs/benchmarks.md", "repair.json", repair),
)


def inserted(page: str, mark: str, text: str) -> str:
    """The page with a text between the two marks of this name."""
    start, end = f"<!-- {mark}: written by the benchmark -->\n", f"<!-- end of {mark} -->\n"
    before, rest = page.split(start)
    return f"{before}{start}{text}{end}{rest.split(end)[1]}"


def pages() -> dict[Path, str]:
    """Every page, as the results would have it."""
    found: dict[Path, str] = {}
    for mark, name, results, text in SECTIONS:
        page = ROOT / name
        document = json.loads((RESULTS / results).read_text(encoding="utf-8"))
        old = found.get(page) or page.read_text(encoding="utf-8")
        found[page] = inserted(old, mark, text(document))
    return found


if __name__ == "__main__":
    for path, new in pages().items():
        path.write_text(new, encoding="utf-8")
