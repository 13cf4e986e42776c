"""The pages and the README say what ``benchmarks/results/lab.json`` holds."""

from __future__ import annotations

import json

import pytest

from benchmarks.lab import PAGES, RESULTS, merged, pages, results

DOCUMENT = json.loads(RESULTS.read_text("utf-8"))


def test_pages_are_those_that_the_results_give():
    made = pages(DOCUMENT)
    for path, text in made.items():
        assert path.read_text("utf-8") == text, f"make lab writes {path.name} anew"
    assert set(PAGES.iterdir()) <= made.keys()


def test_verdicts_follow_from_the_numbers_beside_them_and_are_the_same_on_every_set():
    for result, entry in results(DOCUMENT):
        assert result.judged.verdict == entry["verdict"], entry["id"]
        assert {*entry["seed_sets"]} == {entry["verdict"]}, entry["id"]
        assert entry["tool_agrees"], entry["id"]


def test_each_result_names_the_command_machine_and_versions_it_was_measured_with():
    named = [name for run in DOCUMENT["runs"] for name in run["ids"]]
    assert sorted(named) == sorted(entry["id"] for entry in DOCUMENT["experiments"])
    for run in DOCUMENT["runs"]:
        assert run["command"].startswith("python -m benchmarks.lab")
        assert {"cpu", "cores"} <= run["machine"].keys()
        assert {"torch", "python"} <= run["versions"].keys()


@pytest.mark.parametrize("again", ["neuron", "layer"])
def test_a_new_result_replaces_its_own_alone(again):
    new = {"id": again, "verdict": "new"}
    found = merged(DOCUMENT, [new], "python -m benchmarks.lab")
    assert [one["id"] for one in found["experiments"]] == [
        one["id"] for one in DOCUMENT["experiments"]
    ]
    assert [one for one in found["experiments"] if one.get("verdict") == "new"] == [new]
    assert all(again not in run["ids"] for run in found["runs"][:-1])
