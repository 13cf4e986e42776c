"""What the server answers: nothing that a request asks for changes anything."""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from flatline.errors import FlatlineError, UnknownRunError
from flatline.ui import events, pages
from flatline.ui.guard import Guard
from flatline.ui.runs import Runs

_log = logging.getLogger("flatline")

#: Runs that are compared, at most.
SIDE_BY_SIDE = 12
#: A list is renewed at most this often.
LIST_SECONDS = 1.0


def application(runs: Runs, closing: Callable[[], bool] = lambda: False) -> ASGIApp:
    """The live page of a store.

    Args:
        runs: The runs of the store.
        closing: Whether the server is about to end, and with it all streams.
    """
    site = _Site(runs, closing)
    routes = [
        Route("/", site.list),
        Route("/events", site.list_events),
        Route("/run", site.run),
        Route("/run/events", site.run_events),
        Route("/run/verdict", site.verdict),
        Route("/compare", site.compare),
    ]
    handlers = {404: _nothing_here, 405: _only_reading}
    return Guard(Starlette(routes=routes, exception_handlers=handlers))


class _Site:
    """The answers. Those that are no coroutines run in threads: they read files, and compute."""

    def __init__(self, runs: Runs, closing: Callable[[], bool]) -> None:
        self._runs = runs
        self._closing = closing

    def list(self, request: Request) -> Response:
        stamp, trouble, overviews = "", "", []
        try:
            stamp = self._runs.stamp()
            overviews = self._runs.overviews()
        except FlatlineError as error:
            trouble = str(error)
        text = pages.listing(
            overviews,
            self._runs.verdicts(),
            stamp=stamp,
            store=str(self._runs.path),
            trouble=trouble,
        )
        return _page(text, pages.list_policy(), 503 if trouble else 200)

    def run(self, request: Request) -> Response:
        run_id = _run_id(request)
        return self._told(
            f"show run {run_id!r}", lambda: self._runs.page(run_id), pages.run_policy()
        )

    def compare(self, request: Request) -> Response:
        run_ids = request.query_params.getlist("id")
        if not 2 <= len(run_ids) <= SIDE_BY_SIDE:
            sentence = f"expected 2 to {SIDE_BY_SIDE} runs to compare, found {len(run_ids)}"
            return _message("No comparison", sentence, 400)
        return self._told(
            "compare runs", lambda: self._runs.comparison(run_ids), pages.comparison_policy()
        )

    def _told(self, what: str, page: Callable[[], str], policy: str) -> Response:
        """A page, or a sentence that says why there is none."""
        try:
            return _page(page(), policy)
        except UnknownRunError as error:
            return _message("No such run", str(error), 404)
        except FlatlineError as error:
            return _message("No report", str(error), 503)
        except Exception as error:
            return _message("No report", _fault(what, error), 500)

    def verdict(self, request: Request) -> Response:
        run_id = _run_id(request)
        try:
            return JSONResponse({"verdict": self._runs.verdict(run_id)})
        except UnknownRunError as error:
            return JSONResponse({"verdict": None, "because": str(error)}, 404)
        except FlatlineError as error:
            return JSONResponse({"verdict": None, "because": str(error)}, 503)
        except Exception as error:
            fault = _fault(f"judge run {run_id!r}", error)
            return JSONResponse({"verdict": None, "because": fault}, 500)

    async def list_events(self, request: Request) -> StreamingResponse:
        return events.stream(self._runs.stamp, lambda: LIST_SECONDS, self._closing)

    async def run_events(self, request: Request) -> StreamingResponse:
        run_id = _run_id(request)
        return events.stream(
            lambda: self._runs.stamp(run_id), lambda: self._runs.pace(run_id), self._closing
        )


def _run_id(request: Request) -> str:
    """The run that is asked about; there is none of no name."""
    return request.query_params.get("id", "")


def _page(text: str, policy: str, status: int = 200) -> Response:
    # A name may hold half a character, which no page can be written with.
    body = text.encode("utf-8", "replace")
    return HTMLResponse(body, status, {"Content-Security-Policy": policy})


def _message(title: str, sentence: str, status: int) -> Response:
    return _page(pages.message(title, sentence), pages.message_policy(), status)


def _fault(what: str, error: Exception) -> str:
    said = f"a fault inside flatline: {type(error).__name__}: {error}"
    _log.warning("flatline cannot %s: %s", what, said)
    _log.debug("the fault", exc_info=error)
    return said


def _nothing_here(request: Request, error: Exception) -> Response:
    return _message("Nothing here", "There is no such page; the list of runs leads to all.", 404)


def _only_reading(request: Request, error: Exception) -> Response:
    return _message("Only reading", "This page only shows what is stored.", 405)
