"""Which half of the zoo a run belongs to."""

from __future__ import annotations

import hashlib

#: ``choose``: thresholds may be chosen on it. ``report``: they may not.
SPLITS = ("choose", "report")
#: The first for which each code, cause and architecture is in both halves and half of each is
#: sick; chosen before anything was diagnosed.
SALT = 499


def half(name: str, salt: int = SALT) -> str:
    """The half of the run of that id: a fixed hash decides."""
    return SPLITS[hashlib.sha256(f"{salt}/{name}".encode()).digest()[0] % 2]
