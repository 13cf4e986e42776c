"""How a remedy that a finding names is used: one command, or one line of Python."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from flatline.errors import UsageError
from flatline.treatments.registry import parse


def prescription(treatment: str, argv: Sequence[str] = ()) -> dict[str, str]:
    """What to type; empty where the treatment is none that can be applied.

    Args:
        treatment: As a remedy names it.
        argv: The program that was watched, with its arguments.

    Example:
        >>> prescription("lr=x0.1", ["train.py", "--epochs", "5"])["command"]
        'flatline run --apply lr=x0.1 train.py --epochs 5'
        >>> prescription("lr=x0.1")["code"]
        'flatline.treat(model, optimizer, "lr=x0.1")'
    """
    try:
        parse(treatment)
    except UsageError:
        return {}
    program = shlex.join(argv) if argv else "SCRIPT"
    return {
        "command": f"flatline run --apply {shlex.quote(treatment)} {program}",
        "code": f'flatline.treat(model, optimizer, "{treatment}")',
    }
