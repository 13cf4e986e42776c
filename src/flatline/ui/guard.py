"""Who may ask: pages of this server, and nobody else.

Any site in the reader's browser can send requests to a port of this machine. It can hide behind a
name that it makes point here (DNS rebinding), which the ``Host`` header tells, and it cannot hide
where a script comes from, which the ``Origin`` header tells.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
HOSTS = (LOOPBACK, "localhost")

#: On every answer: it is kept nowhere, and no other site may embed, open or read it.
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
#: Where an answer has no policy of its own.
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Guard:
    """Refuses requests of others, and keeps answers from them.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Content-Security-Policy", _POLICY)
            await send(message)

        reason = refusal(Headers(scope=scope))
        answer = self._app if reason is None else PlainTextResponse(f"{reason}\n", 403)
        await answer(scope, receive, sealed)


def refusal(headers: Headers) -> str | None:
    """Why a request is refused; ``None`` where it is not.

    The port of the host is free, so that the page may be read through a tunnel.

    Example:
        >>> refusal(Headers({"host": "127.0.0.1:7557"}))
        >>> refusal(Headers({"host": "evil.example:7557"}))
        "expected a request to 127.0.0.1 or localhost, found one to 'evil.example:7557'"
    """
    hosts = headers.getlist("host")
    host = hosts[0] if len(hosts) == 1 else ""
    if _name(host) not in HOSTS:
        found = repr(host) if hosts else "no Host header"
        return f"expected a request to {' or '.join(HOSTS)}, found one to {found}"
    for origin in headers.getlist("origin"):
        if origin != f"http://{host}":
            return f"expected a request of a page of this server, found one of {origin!r}"
    return None


def _name(host: str) -> str | None:
    """The name in a ``Host`` header; ``None`` where it holds anything else beside a port."""
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port
    except ValueError:
        return None
    name = parts.hostname
    return name if host.lower() in (name, f"{name}:{port}") else None
