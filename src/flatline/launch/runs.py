"""``flatline runs``: list stored runs."""

from __future__ import annotations

from pathlib import Path

import click

from flatline.launch import options


@click.command(epilog="Example: flatline runs --json -")
@options.store_option
@options.json_option("list")
@options.quiet_option("list")
def runs(store: Path, json: Path | None, quiet: bool) -> None:
    """List stored runs, newest first."""
    from flatline.record.store import Store
    from flatline.show.plain import encode, plain, write
    from flatline.show.terminal import render_runs

    with Store(store, create=False) as kept:
        listed = kept.runs()
    if json is not None:
        text = encode(plain(listed))
        if json == options.STANDARD_OUTPUT:
            options.standard_output().write(text)
            return
        write(json, text)
    if not quiet:
        options.show(render_runs(listed))
