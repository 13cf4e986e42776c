"""The rooms of the package: who may import whom, and what stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "flatline"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: What must be loaded without torch, and what even without the libraries that read the
#: environment when they are loaded: a program under ``flatline run`` may set it first.
WITHOUT_TORCH = (
    "errors",
    "activations",
    "diagnose",
    "record",
    "trials",
    "show",
    "api",
    "session",
    "ui",
    "launch",
)
BEFORE_THE_PROGRAM = (
    "flatline.__main__",
    "flatline.api",
    "flatline.diagnose.rules",
    "flatline.launch.run",
    "flatline.launch.ui",
    "flatline.record.store",
    "flatline.session",
    "flatline.treatments.prescriptions",
)


def _name(module: Path) -> str:
    return ".".join(module.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(
        ".__init__"
    )


def _loaded_by(code: str, among: set[str]) -> set[str]:
    """Which modules a fresh interpreter has loaded after running some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*{among!r} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_rooms_import_only_what_lies_before_them():
    """The contract in pyproject.toml; imports inside functions count too."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_rooms_without_torch():
    names = [
        name
        for name in map(_name, MODULES)
        if name.split(".")[1:2] and name.split(".")[1] in WITHOUT_TORCH
    ]

    assert len(names) > 15
    assert _loaded_by(f"import {', '.join(names)}", {"torch"}) == set()


@pytest.mark.parametrize("module", BEFORE_THE_PROGRAM)
def test_nothing_heavy_before_the_program(module):
    assert _loaded_by(f"import {module}", {"torch", "numpy", "scipy", "rich", "jinja2"}) == set()


def test_importing_flatline_is_nothing_beside_importing_torch():
    heavy = {"torch", "numpy", "scipy", "rich", "click", "sqlite3", "jinja2"}
    assert _loaded_by("import flatline", heavy) == set()
