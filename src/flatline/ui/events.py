"""What is new, told as server-sent events to pages that are open.

A stream looks at the store a few times a second, which costs next to nothing, and says when more is
stored; the page then asks for what it shows. ``changed`` carries what stands for the contents,
``trouble`` a sentence.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from flatline.errors import FlatlineError

LOOK_SECONDS = 0.25
#: A browser that went away unnoticed is noticed when something is sent.
BEAT_SECONDS = 15.0


def stream(
    stamp: Callable[[], str], pace: Callable[[], float], closing: Callable[[], bool]
) -> StreamingResponse:
    """A response that tells of changes until the browser or the server goes.

    Args:
        stamp: What stands for the contents of the store now.
        pace: Seconds to let pass between two changes that are told.
        closing: Whether the server is about to end.
    """
    return StreamingResponse(_events(stamp, pace, closing), media_type="text/event-stream")


async def _events(
    stamp: Callable[[], str], pace: Callable[[], float], closing: Callable[[], bool]
) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    told, due, beat = "", 0.0, time.monotonic()
    while not closing():
        now = time.monotonic()
        event = await run_in_threadpool(_look, stamp)
        if event != told and now >= due:
            # The first event tells what a page that was just built shows already.
            told, due, beat = event, now + pace() if told else now, now
            yield event
        elif now - beat >= BEAT_SECONDS:
            beat = now
            yield ":\n\n"
        await asyncio.sleep(LOOK_SECONDS)


def _look(stamp: Callable[[], str]) -> str:
    """What the store says now, as an event."""
    try:
        kind, said = "changed", stamp()
    except FlatlineError as error:
        kind, said = "trouble", str(error)
    return f"event: {kind}\ndata: {json.dumps(said)}\n\n"
