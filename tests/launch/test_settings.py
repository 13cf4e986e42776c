"""``[tool.flatline]`` in ``pyproject.toml``: where it is looked for, and what is refused."""

from __future__ import annotations

import pytest

from flatline.diagnose.thresholds import DEFAULT, Thresholds
from flatline.launch.settings import thresholds
from flatline.record.store import Store

TABLE = "[tool.flatline]\nwarning_share = 0.1\n"
OTHER = "[tool.other]\nwarning_share = 0.2\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, DEFAULT, id="no file"),
        pytest.param({"a/b": TABLE}, Thresholds(warning_share=0.1), id="here"),
        pytest.param({"a": TABLE}, Thresholds(warning_share=0.1), id="a parent"),
        pytest.param({"a/b": OTHER, "a": TABLE}, Thresholds(warning_share=0.1), id="no table here"),
        pytest.param({"a/b": "[tool.flatline]\n", "a": TABLE}, DEFAULT, id="an empty table"),
        pytest.param({"a/b": "tool = 3\n"}, DEFAULT, id="no tools"),
        pytest.param({"a/b/c": TABLE}, DEFAULT, id="a child"),
    ],
)
def test_the_nearest_table_counts(tmp_path, monkeypatch, files, expected):
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    for folder, text in files.items():
        (tmp_path / folder / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert thresholds() == expected


def test_a_folder_of_that_name_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").mkdir()
    monkeypatch.chdir(tmp_path)
    assert thresholds() == DEFAULT


WRONG = {
    "unknown key": ("[tool.flatline]\nwarnig_share = 1\n", "did you mean warning_share?"),
    "out of range": ("[tool.flatline]\nwarning_share = 1.5\n", "a number from 0 to 1, found 1.5"),
    "no number": ("[tool.flatline]\nburst_share = 'x'\n", "burst_share in [tool.flatline] of"),
    "a truth": ("[tool.flatline]\nburst_share = true\n", "from 0 to 1, found True"),
    "not a number": ("[tool.flatline]\nspike_ratio = nan\n", "from 1 to 1e+09, found nan"),
    "a nested table": ("[tool.flatline.deep]\nx = 1\n", "found 'deep'"),
    "no table": ("[tool]\nflatline = 3\n", "found flatline = 3"),
    "broken": ("[tool.flatline\n", "expected TOML in"),
    "no UTF-8": ("[tool.flatline]\n# \udcff\n", "expected TOML in"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize(
    "command", [["run", "train.py"], ["report"], ["examine", "m.py:f"]], ids=lambda words: words[0]
)
def test_what_is_wrong_is_said_in_one_sentence_before_anything_happens(twice, command, case):
    text, said = WRONG[case]
    path = twice.folder / "pyproject.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    for name in ("train.py", "m.py"):
        twice.write(name, "raise SystemExit('must not run')")

    status, output, errors = twice.run(*twice.flatline, *command)

    assert (status, output) == (2, "")
    assert errors.startswith("flatline: expected ")
    assert errors.count("\n") == 1
    assert said in errors
    assert str(path) in errors
    assert twice.calls() == []


def test_every_command_judges_by_it(twice):
    twice.write("pyproject.toml", TABLE)
    twice.write("torch.py", "")
    twice.write("train.py", "import torch")
    twice.write("m.py", "from flatline.api import Case\ndef f(): return Case()")
    with Store(twice.folder / ".flatline" / "runs.db") as store:
        store.create_run({"name": "first"}).close("finished")

    for command in (["run", "train.py"], ["report"], ["examine", "m.py:f"]):
        assert twice.run(*twice.flatline, *command)[0] == 0

    (_, session), *rest = [call for call in twice.calls() if call[0] in ("session", "thresholds")]
    assert session["thresholds"] == str(Thresholds(warning_share=0.1))
    assert rest == [["thresholds", {"warning_share": 0.1}]] * 2
