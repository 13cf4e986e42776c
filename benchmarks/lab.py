"""Run the lab on several sets of seeds, and write its pages: ``python -m benchmarks.lab``.

Results of the experiments that were run replace theirs in ``results/lab.json``; from that file
come ``docs/lab/`` and the table in ``README.md``. ``--pages`` writes these anew and measures
nothing. The exit status is 1 when a verdict is not the same on every set, or when flatline was
wrong.

The first set has the seeds of ``flatline lab run``; the others share none with it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.environment import machine, versions
from flatline.lab import svg
from flatline.lab.experiment import SEEDS, SKIPPED
from flatline.lab.registry import chosen, registry
from flatline.lab.results import bounds, remarks, rests_on, row, shown
from flatline.lab.runner import Result, run
from flatline.show.plain import encode, plain
from flatline.show.text import duration

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "lab.json"
PAGES = ROOT / "docs" / "lab"
SETS = 5
BETWEEN = 100  # from the first seed of a set to that of the next
START, END = "<!-- lab: written by the benchmark -->\n", "<!-- end of lab -->\n"
ROLES = {
    "claim": "must hold",
    "scope": "else with conditions",
    "tool": "tests flatline",
}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lab", description=__doc__)
    parser.add_argument("ids", nargs="*", help="experiments; all where none is named")
    parser.add_argument("--sets", type=int, default=SETS, help="sets of seeds")
    parser.add_argument("--pages", action="store_true", help="measure nothing, write the pages")
    return parser.parse_args()


def measured(ids: Iterable[str], sets: int) -> Iterator[Row]:
    """One entry of the file for each experiment."""
    for one in chosen(ids):
        found = []
        for k in range(sets):
            (result,) = run([one], range(k * BETWEEN, k * BETWEEN + SEEDS))
            found.append(result)
            print(f"{one.id:<22} set {k + 1}: {result.judged.verdict}", file=sys.stderr, flush=True)
        judged = [result.judged for result in found]
        yield row(found[0]) | {
            "seed_sets": [each.verdict for each in judged],
            "tool_agrees": all(each.tool_agrees for each in judged),
            "measurements": list(found[0].measurements),
        }


def merged(old: Row, entries: list[Row], command: str) -> Row:
    """The file with new entries in place of older ones, and what each was measured on."""
    new = {entry["id"]: entry for entry in entries}
    kept = {entry["id"]: entry for entry in old.get("experiments", [])} | new
    runs = [run | {"ids": [i for i in run["ids"] if i not in new]} for run in old.get("runs", [])]
    runs = [run for run in runs if run["ids"]]
    now = {"command": command, "ids": [*new], "machine": machine(), "versions": versions()}
    order = [name for name in registry() if name in kept]
    return {"runs": [*runs, now], "experiments": [kept[name] for name in order]}


def results(document: Mapping[str, Any]) -> list[tuple[Result, Row]]:
    """What the file holds, judged by the criteria as they are now."""
    found = []
    for entry in document["experiments"]:
        numbers = tuple(_numbers(one) for one in entry["measurements"])
        skipped = entry["evidence"].get("skipped", "")
        one = registry()[entry["id"]]
        found.append((Result(one, numbers, entry["seconds"], skipped=skipped), entry))
    return found


def _numbers(entry: Row) -> Row:
    """A measurement; JSON has no number for NaN."""

    def back(value: Any) -> Any:
        return [back(one) for one in value] if isinstance(value, list) else value

    return {key: math.nan if value is None else back(value) for key, value in entry.items()}


def pages(document: Mapping[str, Any]) -> dict[Path, str]:
    """Every file that is made from the results, with its text."""
    found = results(document)
    texts = {PAGES / "README.md": index(found)}
    for result, entry in found:
        name = result.experiment.id
        texts[PAGES / f"{name}.md"] = page(result, entry)
        if result.measurements:
            plot = result.experiment.plot(result.measurements)
            texts[PAGES / f"{name}.svg"] = svg.draw(plot, alone=True)
    readme = ROOT / "README.md"
    head, _, rest = readme.read_text(encoding="utf-8").partition(START)
    _, _, tail = rest.partition(END)
    texts[readme] = head + START + closing(found) + END + tail
    return texts


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def closing(found: list[tuple[Result, Row]]) -> str:
    """All verdicts side by side, for the README."""
    rows = [
        (
            f"[{one.experiment.id}](docs/lab/{one.experiment.id}.md)",
            one.experiment.claim,
            one.judged.verdict,
        )
        for one, _ in found
    ]
    return table(("experiment", "claim", "verdict"), rows)


def index(found: list[tuple[Result, Row]]) -> str:
    """All verdicts with their numbers."""
    rows = [
        (
            f"[{one.experiment.id}]({one.experiment.id}.md)",
            one.experiment.claim,
            one.judged.verdict,
            shown(one.judged.outcomes[0]) if one.judged.outcomes else "",
            agreement(entry),
        )
        for one, entry in found
    ]
    head = ("experiment", "claim", "verdict", "first check of its criterion", "seed sets")
    return (
        "# The lab\n\nEach claim is tested by an experiment that `flatline lab run ID` repeats. "
        "Numbers are means over seeds with their 95 % interval; a check of a criterion holds when "
        "the whole interval lies inside its bound.\n\n" + table(head, rows)
    )


def agreement(entry: Row) -> str:
    """On how many sets of seeds the verdict was that of the first."""
    verdicts = entry["seed_sets"]
    return f"{verdicts.count(verdicts[0])} of {len(verdicts)}"


def page(result: Result, entry: Row) -> str:
    """The page of one experiment."""
    one, judged = result.experiment, result.judged
    verdict = f"**{judged.verdict.capitalize()}**: {rests_on(result)}"
    if judged.verdict != SKIPPED:
        verdict += f"; the same on {agreement(entry)} sets of seeds; {duration(result.seconds)}"
    parts = [f"# {one.id}", f"> {one.claim}", f"{verdict}."]
    parts += [f"- {line}" for line in remarks(result)]
    if result.measurements:
        title = one.plot(result.measurements).title
        parts.append(f"![{title}]({one.id}.svg)")
    parts += ["## Protocol", one.protocol, "## Criterion"]
    if judged.outcomes:
        parts.append(_criterion(result))
    parts += [f"- Changed after a run: {change}" for change in one.history]
    parts += [
        f"Planted null, under which the claim must fail: {one.null}.",
        "## With flatline",
        f"`{one.command}` {one.advice}.",
        "Rerun it with",
        f"```\nflatline lab run {one.id}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _criterion(result: Result) -> str:
    rows = [
        (
            outcome.check.says,
            ROLES[outcome.check.role],
            bounds(outcome.check),
            shown(outcome) + (" (least, most)" if outcome.check.each else ""),
            "yes" if outcome.holds else "**no**",
        )
        for outcome in result.judged.outcomes
    ]
    head = ("check", "kind", "bound", "measured", "holds")
    return table(head, rows).rstrip()


def main() -> int:
    options = parsed()
    entries = [] if options.pages else [*measured(options.ids, options.sets)]
    # Read only now: another part of the lab may have been measured at the same time.
    document: Row = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    if entries:
        command = " ".join(["python -m benchmarks.lab", *options.ids, f"--sets {options.sets}"])
        document = merged(document, entries, command)
        RESULTS.write_text(encode(plain(document)), encoding="utf-8")
        document = json.loads(RESULTS.read_text("utf-8"))
    for path, text in pages(document).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    split = [entry["id"] for entry in document["experiments"] if len({*entry["seed_sets"]}) > 1]
    wrong = [entry["id"] for entry in document["experiments"] if not entry["tool_agrees"]]
    for names, what in ((split, "verdicts differ between sets"), (wrong, "flatline was wrong")):
        if names:
            print(f"{what}: {', '.join(names)}", file=sys.stderr)
    return int(bool(split or wrong))


if __name__ == "__main__":
    sys.exit(main())
