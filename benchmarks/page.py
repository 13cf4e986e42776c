"""Measure the page: its size, the time to write it, and the time until a browser shows it.

``python -m benchmarks.page`` trains the demo and makes up a run of a million units with 200 exams,
writes the page of each, opens it in Chromium several times, and writes
``benchmarks/results/page.json``. The exit status is 1 when a bound is not met.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flatline.record.recording import Recording
from flatline.record.store import Store
from flatline.sense.histogram import MOST, TOTAL, histograms, pack
from flatline.show.report import build

from .diagnosis import recording as made_up
from .environment import Row, machine, versions

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]
OUTPUT = Path(__file__).parent / "results" / "page.json"
SITES, EXAMS = 100, 200
ROUNDS = 5
#: What must be reached: bytes of the file, seconds to write it, seconds until it can be used.
BOUNDS = {
    "demo": {"bytes": 1_500_000, "interactive": 1.0},
    "million": {"bytes": 6_000_000, "written": 5.0, "interactive": 3.0},
}
#: Notes when the page has built all it shows and the browser has drawn a frame of it.
_CLOCK = """
new MutationObserver((_, observer) => {
  if (!("ready" in document.documentElement.dataset)) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => (window.interactive = performance.now())));
}).observe(document, { subtree: true, attributes: true, childList: true });
"""


def demo(folder: Path) -> Recording:
    """The run of ``make demo``."""
    store = folder / "runs.db"
    command = ["-m", "flatline", "run", "--quiet", "--store", str(store), "examples/digits_mlp.py"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    with Store(store, create=False) as runs:
        return runs.load(runs.find(None))


def million(folder: Path) -> Recording:
    """A run of a million units in a hundred sites, with 200 exams and as many histograms as fit."""
    recording = made_up(SITES)
    kept = np.linspace(0, len(recording.exams) - 1, EXAMS).astype(int)
    exams = [recording.exams[index] for index in kept]
    draw = np.random.default_rng(0)
    drawn = {}
    for name, window in recording.windows.items():
        units = np.flatnonzero(window.fired == 0)[: TOTAL // SITES].astype(np.int32)
        rows = draw.normal(size=(EXAMS, MOST, len(units))).astype(np.float32)
        packed = [pack(histograms(units, values)) for values in rows]
        drawn[name] = [(step, blob) for (step, _), blob in zip(exams, packed, strict=True)]
    return replace(recording, exams=exams, histograms=drawn)


RUNS = {"demo": demo, "million": million}


def interactive(browser: Browser, address: str) -> float:
    """Seconds from the request until the page can be used."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.add_init_script(_CLOCK)
    page.goto(address)
    page.wait_for_function("window.interactive !== undefined")
    seconds = float(page.evaluate("window.interactive")) / 1000
    page.close()
    return seconds


def measure(name: str, folder: Path, browser: Browser) -> Row:
    recording = RUNS[name](folder)
    path = folder / f"{name}.html"
    written, judged = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        report = build(recording)
        judged.append(time.perf_counter() - start)
        start = time.perf_counter()
        report.to_html(path)
        written.append(time.perf_counter() - start)
    opened = [interactive(browser, path.as_uri()) for _ in range(ROUNDS)]
    row = {
        "units": sum(site.units for site in report.sites),
        "sites": len(report.sites),
        "exams": len(report.exams),
        "bytes": path.stat().st_size,
        "judged": statistics.median(judged),
        "written": statistics.median(written),
        "interactive": statistics.median(opened),
        "interactive_slowest": max(opened),
    }
    bounds = BOUNDS[name]
    return {**row, "bounds": bounds, "met": all(row[key] <= most for key, most in bounds.items())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser)
        rows: dict[str, Any] = {name: measure(name, Path(folder), browser) for name in RUNS}
        chromium = browser.version
        browser.close()
    found = {
        "command": "python -m benchmarks.page",
        "rounds": ROUNDS,
        "machine": machine(),
        "versions": {
            **versions(),
            "playwright": metadata.version("playwright"),
            "chromium": chromium,
        },
        "pages": rows,
    }
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    for name, row in rows.items():
        said = f"{row['bytes'] / 1e6:.2f} MB, written in {row['written']:.2f} s"
        print(f"{name:8} {said}, interactive in {row['interactive']:.2f} s")
    return 0 if all(row["met"] for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
