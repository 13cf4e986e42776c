"""The program is the first to import torch, and its import looks as always."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec

import pytest

from flatline.launch.imports import after_import


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module that can be imported as ``watched_module``."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = list(sys.meta_path)

    def write(source):
        (tmp_path / "watched_module.py").write_text(source)
        importlib.invalidate_caches()

    yield write
    sys.modules.pop("watched_module", None)
    sys.meta_path[:] = before


def test_called_once_when_the_module_is_complete(module):
    module("import json\nx = 1")
    seen = []
    after_import("watched_module", lambda: seen.append(sys.modules["watched_module"].x))

    import watched_module

    importlib.reload(watched_module)
    assert seen == [1]
    assert type(watched_module.__spec__) is ModuleSpec


def test_called_at_once_when_already_there():
    seen = []
    after_import("sys", lambda: seen.append(1))
    assert seen == [1]


def test_asking_for_the_spec_is_no_import(module):
    module("x = 1")
    seen = []
    after_import("watched_module", lambda: seen.append(1))

    assert importlib.util.find_spec("watched_module").name == "watched_module"
    assert importlib.util.find_spec("watched_module").origin.endswith("watched_module.py")
    assert seen == []
    importlib.import_module("watched_module")
    assert seen == [1]


def test_failed_import_is_not_reported_and_a_second_one_is(module):
    module("raise ImportError('first')")
    seen = []
    after_import("watched_module", lambda: seen.append(1))

    with pytest.raises(ImportError, match="first"):
        importlib.import_module("watched_module")
    assert seen == []
    module("x = 'second'")
    importlib.import_module("watched_module")
    assert seen == [1]


def test_missing_module_is_missing_as_always():
    after_import("no_such_module_at_all", lambda: None)
    try:
        with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_module_at_all'"):
            importlib.import_module("no_such_module_at_all")
    finally:
        sys.meta_path.pop(0)


FAKE_TORCH = {
    "fails": "raise ImportError('broken build')",
    "fails in an import": "import json.nothing",
    "raises": "def f():\n    1 / 0\nf()",
    "warns its importer": "import warnings\nwarnings.warn('old', DeprecationWarning, stacklevel=2)",
    "looks at its stack": "import traceback\nprint(len(traceback.extract_stack()) > 0, __spec__)",
}


@pytest.mark.parametrize("python", [(), ("-W", "error")], ids=["plain", "-W error"])
@pytest.mark.parametrize("torch", FAKE_TORCH)
def test_torch_import_looks_the_same(twice, torch, python):
    twice.write("torch.py", FAKE_TORCH[torch])
    twice.write("program.py", "import torch\nprint(torch.__spec__)\n")

    if torch != "looks at its stack":  # inside its own import a spec may say that it is watched
        twice.same("program.py", python=python)
    twice.write("program.py", "try:\n    import torch\nexcept Exception as e:\n    print(e)\n")
    assert twice.watched("--quiet", "program.py", python=python)[0] == 0


def test_environment_set_before_the_import_counts(twice):
    twice.write(
        "program.py",
        """
        import os, sys
        early = {"torch", "numpy", "scipy", "rich"} & set(sys.modules)
        os.environ["OMP_NUM_THREADS"] = "1"
        import torch
        print(early, torch.get_num_threads())
        """,
    )
    assert twice.same("program.py", env={"OMP_NUM_THREADS": "2"})[1] == "set() 1\n"
    assert [call[0] for call in twice.calls()] == ["session", "attach", "finish"]


def test_forked_worker_that_imports_torch_is_not_watched(twice):
    twice.write("torch.py", "")
    twice.write(
        "program.py", "import os\nif os.fork() == 0:\n    import torch\nelse:\n    os.wait()"
    )

    twice.same("program.py")
    assert [call[0] for call in twice.calls()] == ["session", "finish"]
