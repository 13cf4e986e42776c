"""How a remedy that a finding names is used: one command, or one line of Python."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from flatline.errors import UsageError
from flatline.treatments.registry import parse_all, split


def prescription(
    treatment: str, argv: Sequence[str] = (), store: str | None = None
) -> dict[str, str]:
    """What to type; empty where the treatment is none that can be applied.

    Args:
        treatment: As a remedy names it; several that belong together are joined by ``+``.
        argv: The program that was watched, with its arguments.
        store: The store to name in the command, where it is not the usual one.

    Example:
        >>> prescription("lr=x0.1", ["train.py", "--epochs", "5"])["command"]
        'flatline run --apply lr=x0.1 train.py --epochs 5'
        >>> prescription("init=he+lr=x0.1")["code"]
        'flatline.treat(model, optimizer, "init=he", "lr=x0.1")'
    """
    try:
        parse_all([treatment])
    except UsageError:
        return {}
    program = shlex.join(argv) if argv else "SCRIPT"
    parts = split(treatment)
    words = [] if store is None else ["--store", store]
    options = shlex.join([*words, *(word for part in parts for word in ("--apply", part))])
    quoted = ", ".join(f'"{part}"' for part in parts)
    return {
        "command": f"flatline run {options} {program}",
        "code": f"flatline.treat(model, optimizer, {quoted})",
    }
