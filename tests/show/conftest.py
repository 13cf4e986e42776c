"""Golden files, with clock, ids and version fixed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
OVERWRITE = "OVERWRITE_GOLDEN"


@pytest.fixture(autouse=True)
def _one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "1.2.3")


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compares text with a file that somebody looked at; ``OVERWRITE_GOLDEN=1`` writes it."""

    def compare(name: str, found: str) -> None:
        path = GOLDEN / name
        if os.environ.get(OVERWRITE):
            path.write_text(found, encoding="utf-8")
        expected = path.read_text(encoding="utf-8") if path.exists() else ""
        if found != expected:
            lines = difflib.unified_diff(
                expected.splitlines(), found.splitlines(), "golden", "found", lineterm=""
            )
            difference = "\n".join(list(lines)[:60])
            pytest.fail(
                f"expected what {path.name} holds; look at the difference, and write it with "
                f"{OVERWRITE}=1 when it is right:\n{difference}"
            )

    return compare
