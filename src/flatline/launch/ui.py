"""``flatline ui``: a live page of stored runs and of those in progress."""

from __future__ import annotations

from pathlib import Path

import click

from flatline.errors import UsageError
from flatline.launch import options, settings

PORT = 7557


@click.command(epilog="Example: flatline ui --port 8000")
@options.store_option
@click.option(
    "--port",
    callback=options.whole_number(0),
    metavar="N",
    default=str(PORT),
    show_default=True,
    help="Port, or the next free one (0 for any).",
)
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
def ui(store: Path, port: int, show: bool) -> None:
    """Show runs on a live page.

    It lists stored runs and follows those in progress, on this machine alone. Ctrl-C ends it.
    """
    if port > 65_535:
        raise click.BadParameter(f"expected a port up to 65535, found {port}", param_hint="--port")
    thresholds = settings.thresholds()
    try:
        from flatline.ui.runs import Runs
        from flatline.ui.server import listen, serve
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in ("starlette", "uvicorn"):
            raise
        raise UsageError(
            f"expected the packages of the live page, found no {missing}; "
            "write: pip install 'flatline[ui]'"
        ) from error
    bound = listen(port)
    host, found = bound.getsockname()
    address = f"http://{host}:{found}/"
    if port not in (0, found):
        options.say(f"port {port} is in use; taking {found}")

    def ready() -> None:
        where = options.named(store) or options.STORE
        options.say(f"the runs of {where} are shown at {address} (Ctrl-C ends it)")
        if show:
            click.launch(address)

    serve(Runs(store, thresholds, options.named(store)), bound, ready)
