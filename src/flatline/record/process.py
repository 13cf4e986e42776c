"""Which process this is, in a way that another process can check later."""

from __future__ import annotations

import os
import socket
from pathlib import Path

Identity = tuple[str, int, str]


def identity() -> Identity:
    """Host, process id, and the moment of birth that tells a reused process id."""
    return socket.gethostname(), os.getpid(), _born(os.getpid())


def may_run(process: Identity) -> bool:
    """Whether the process still runs; one on another host is taken to.

    Example:
        >>> may_run(identity())
        True
    """
    host, pid, born = process
    if host != socket.gethostname():
        return True
    if born:
        return _born(pid) == born
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it runs and belongs to somebody else
    return True


def _born(pid: int) -> str:
    """Boot and clock tick of the start of a process; empty where it is gone or cannot be told."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    # The name of the program, in brackets, may hold anything, spaces and brackets included.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else f"{boot}/{fields[19]}"
