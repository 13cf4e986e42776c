"""The server: one port of this machine's own address, until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable

import uvicorn

from flatline.errors import UsageError
from flatline.ui.app import application
from flatline.ui.guard import LOOPBACK
from flatline.ui.runs import Runs

#: Ports tried from the one that was asked for.
TRIES = 100
LAST_PORT = 65_535


def listen(port: int) -> socket.socket:
    """A socket that listens on the loopback address at a port, or at the next one that is free.

    Args:
        port: The port; 0 for any.

    Raises:
        UsageError: No port may be used.
    """
    last = min(port + TRIES, LAST_PORT + 1)
    reason = ""
    for candidate in range(port, last):
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":  # elsewhere it would take a port away from who listens there
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((LOOPBACK, candidate))
            bound.listen(128)
        except OSError as error:
            bound.close()
            reason = error.strerror or str(error)
            if error.errno == errno.EACCES:
                raise UsageError(
                    f"expected a port that this account may listen on, found {candidate}: "
                    f"{reason}; name one from 1024 on with --port"
                ) from None
        else:
            return bound
    raise UsageError(
        f"expected a port from {port} to {last - 1} to be free, found: {reason}; "
        "name another one with --port"
    )


def serve(runs: Runs, bound: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C.

    Args:
        runs: The runs of a store.
        bound: A socket that listens.
        ready: Called once the server answers.
    """
    server: _Server
    app = application(runs, lambda: server.should_exit)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
    )
    server = _Server(config, ready)
    with contextlib.suppress(KeyboardInterrupt):  # raised again once all is closed
        server.run(sockets=[bound])


class _Server(uvicorn.Server):
    """A server that says when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()
