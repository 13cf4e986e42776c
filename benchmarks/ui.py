"""Measure the live page in a real browser, and write ``benchmarks/results/ui.json``.

**From exam to screen**: from the moment that a training in another process hands over what an exam
found until a frame that shows it has been drawn, on the clock of the machine that both share.
**The list**: a store of 1,000 runs, from the request to the last byte, and in the browser until a
frame with all rows has been drawn. The exit status is 1 when a figure exceeds its bound.

``python -m benchmarks.ui``; it needs a Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.environment import machine, versions

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
BOUNDS = {"delay": 2.0, "list": 0.3}
#: Widths of the hidden layers that are followed.
NETS = {"2 sites, 112 units": [64, 48], "12 sites, 12,288 units": [1024] * 12}
RUNS, SITES, UNITS, EXAMS = 1000, 12, 64, 20
Row = dict[str, Any]

#: Takes steps for so many seconds, and tells when it handed over what each exam found.
TRAINING = """
import json, sys, time
import torch
from torch import nn
from flatline.record.writer import RunWriter

hand_over = RunWriter.exam
def told(self, step, *rest):
    print(json.dumps([step, time.time()]), flush=True)
    hand_over(self, step, *rest)
RunWriter.exam = told

torch.manual_seed(0)
seconds, *widths = json.loads(sys.argv[1])
layers, width = [], 32
for units in widths:
    layers += [nn.Linear(width, units), nn.ReLU()]
    width = units
model = nn.Sequential(*layers, nn.Linear(width, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
inputs, targets = torch.randn(64, 32), torch.randint(0, 2, (64,))
end = time.time() + seconds
while time.time() < end:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
    time.sleep(0.01)
"""
#: Notes when a frame has been drawn after the page was renewed, with the last exam that it shows.
WATCH = """
window.seen = [];
new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => {
  const { exams } = JSON.parse(document.getElementById("data").textContent);
  window.seen.push([exams.at(-1), Date.now() / 1000]);
}))).observe(document.getElementById("following"), { attributeFilter: ["data-stamp"] });
"""

#: Notes how long after the start of the navigation the first frame with the whole page was drawn.
DRAWN = """
document.addEventListener("DOMContentLoaded", () =>
  requestAnimationFrame(() => setTimeout(() => { window.drawn = performance.now(); })));
"""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of ``flatline ui`` in a folder."""
    command = [sys.executable, "-m", "flatline", "ui", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http://[\d.]+:\d+/", process.stderr.readline())
            assert found
            yield found[0]
        finally:
            process.kill()


def delays(browser: Browser, widths: list[int], seconds: float) -> Row:
    """From exam to screen for one net."""
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as address:
        program = Path(name) / "train.py"
        program.write_text(TRAINING)
        command = [sys.executable, "-m", "flatline", "run", "--quiet", "--budget", "50"]
        with subprocess.Popen(
            [*command, str(program), json.dumps([seconds, *widths])],
            cwd=name,
            stdout=subprocess.PIPE,
            text=True,
        ) as training:
            page = browser.new_page()
            seen = _followed(page, address, training)
            assert training.stdout is not None
            exams = [json.loads(line) for line in training.stdout]
        page.close()
    opened = seen[0][1]
    found = []
    for step, when in exams:
        drawn = next((at for last, at in seen if last >= step), None)
        if when > opened and drawn is not None:
            found.append(drawn - when)
    return {"exams": len(found), "median": median(found), "most": max(found)}


def _followed(page: Page, address: str, training: subprocess.Popen[str]) -> list[list[float]]:
    """What a browser has drawn by the end of a run, and when."""
    page.goto(address)
    page.get_by_role("row").filter(has_text="running").get_by_role("link").click()
    page.wait_for_selector("html[data-ready]")
    page.evaluate(WATCH)
    page.get_by_text("Finished", exact=True).wait_for(timeout=120_000)
    page.wait_for_timeout(200)
    seen: list[list[float]] = page.evaluate("window.seen")
    return seen


def listing(browser: Browser, repeats: int) -> Row:
    """The list of many runs: the answer, at first and later, and the browser."""
    with tempfile.TemporaryDirectory() as name:
        _fill(Path(name) / ".flatline" / "runs.db")
        first, later, drawn = [], [], []
        for _ in range(repeats):
            with server(Path(name)) as address:
                first.append(_answered(address))
                later.append(_answered(address))
                page = browser.new_page()
                page.add_init_script(DRAWN)
                page.goto(address)
                page.wait_for_selector("html[data-ready]")
                page.wait_for_timeout(100)
                assert page.locator("#runs tbody tr").count() == RUNS
                drawn.append(page.evaluate("window.drawn / 1000"))
                page.close()
    return {
        "runs": RUNS,
        "answer, first after the start": median(first),
        "answer": median(later),
        "drawn in the browser": median(drawn),
    }


def _answered(address: str) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(address) as answer:
        answer.read()
    return time.perf_counter() - began


def _fill(path: Path) -> None:
    """A store of many runs that have ended."""
    sys.path.append(str(ROOT / "tests"))
    import recordings
    import stored
    from flatline.record.store import Store

    plans = [
        recordings.Plan(f"blocks.{i}.mlp", UNITS, dead={j: 5 * j for j in range(i * 3)})
        for i in range(SITES)
    ]
    whole = recordings.record(*plans, steps=100)
    with Store(path) as store:
        for i in range(RUNS):
            run = replace(whole, facts={**whole.facts, "name": f"run {i}"})
            stored.put(store, replace(run, exams=run.exams[-EXAMS:]), f"{i:010x}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each training")
    parser.add_argument("--repeats", type=int, default=5, help="of the list")
    parser.add_argument("--output", type=Path, default=RESULTS / "ui.json")
    args = parser.parse_args()
    sys.path.append(str(ROOT / "tests"))
    import chromium

    os.environ |= {"REQUIRE_BROWSER": "1", "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    with chromium.launched() as browser:
        document: Row = {
            "command": " ".join(["python -m benchmarks.ui", *sys.argv[1:]]),
            "versions": versions("starlette", "uvicorn") | {"chromium": browser.version},
            "machine": machine(),
            "bounds": BOUNDS,
            "delay": {name: delays(browser, net, args.seconds) for name, net in NETS.items()},
            "list": listing(browser, args.repeats),
        }
    args.output.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps({key: document[key] for key in ("delay", "list")}, indent=1))
    slow = any(row["most"] > BOUNDS["delay"] for row in document["delay"].values())
    sys.exit(slow or document["list"]["drawn in the browser"] > BOUNDS["list"])


if __name__ == "__main__":
    main()
