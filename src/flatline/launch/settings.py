"""Thresholds that a project sets in ``[tool.flatline]`` of its ``pyproject.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flatline.diagnose.thresholds import DEFAULT, Thresholds, parse
from flatline.errors import UsageError

FILE = "pyproject.toml"


def thresholds() -> Thresholds:
    """The thresholds of the project that the working directory belongs to.

    Taken is the nearest ``pyproject.toml``, from the working directory upwards, that has the table
    ``[tool.flatline]``; where none has, the defaults hold.

    Raises:
        UsageError: A file on the way cannot be read, or the table holds what is no threshold.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:  # a working directory that is gone belongs to no project
        return DEFAULT
    for folder in (here, *here.parents):
        table = _table(folder / FILE)
        if table is not None:
            return parse(table, f"[tool.flatline] of {folder / FILE}")
    return DEFAULT


def _table(path: Path) -> dict[str, Any] | None:
    """The table of a file; ``None`` where there is no such file or no such table."""
    import tomllib

    try:
        with path.open("rb") as file:
            tool = tomllib.load(file).get("tool")
    except (FileNotFoundError, IsADirectoryError):
        return None
    except OSError as error:
        raise UsageError(
            f"expected to read {path}, found: {error.strerror}; make it readable, or work in "
            "another directory"
        ) from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"expected TOML in {path}, found: {error}; correct it") from error
    table = tool.get("flatline") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UsageError(
            f"expected a table [tool.flatline] in {path}, found flatline = {table!r}; "
            "write its thresholds below a line [tool.flatline]"
        )
    return table
