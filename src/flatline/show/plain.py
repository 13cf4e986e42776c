"""From a report's values to what JSON has, and to a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from flatline.errors import UsageError


def plain(value: Any) -> Any:
    """``value`` in the types of JSON; what JSON has no number for becomes ``None``.

    Example:
        >>> plain({1: (float("nan"), np.float32(0.5), Path("a"))})
        {'1': [None, 0.5, 'a']}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def encode(value: Any) -> str:
    """A :func:`plain` value as strict JSON in ASCII.

    Example:
        >>> encode(plain({"share": float("nan")})).split()
        ['{', '"share":', 'null', '}']
    """
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def version() -> str:
    """The version of flatline."""
    try:
        return metadata.version("flatline")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "0"


def write(path: str | Path, text: str) -> None:
    """Write a file; characters that UTF-8 cannot hold are written as Python writes them.

    Raises:
        UsageError: When it cannot be written.
    """
    try:
        Path(path).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(
            f"expected a file that can be written, found {str(path)!r}: "
            f"{error.strerror or error}; give another path"
        ) from error
