"""Each example is an ordinary script that trains, and says nothing of flatline in its code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SHORT = {
    "char_transformer.py": ["--steps", "50", "--width", "32"],
    "digits_mlp.py": ["--epochs", "1"],
    "digits_mlp_cured.py": ["--epochs", "1"],
    "mnist_cnn.py": ["--epochs", "1", "--width", "2"],
}


def test_every_example_is_listed():
    assert sorted(SHORT) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", SHORT)
def test_examples_do_not_import_flatline(name):
    tree = ast.parse((EXAMPLES / name).read_text())
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not any(str(module).startswith("flatline") for module in imported)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_examples_train(name):
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *SHORT[name]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "loss" in done.stdout
