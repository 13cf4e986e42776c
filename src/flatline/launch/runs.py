"""``flatline runs``: list stored runs."""

from __future__ import annotations

import json as encoder
from pathlib import Path

import click

from flatline.errors import UsageError
from flatline.launch import options


@click.command(epilog="Example: flatline runs --json -")
@options.store_option
@options.json_option
@options.quiet_option
def runs(store: Path, json: Path | None, quiet: bool) -> None:
    """List stored runs, newest first."""
    from flatline.record.store import Store
    from flatline.show.terminal import render_runs

    with Store(store, create=False) as kept:
        listed = kept.runs()
    if json is not None:
        text = encoder.dumps(listed, indent=2) + "\n"
        if json == options.STANDARD_OUTPUT:
            options.standard_output().write(text)
            return
        try:
            json.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"expected to write {json}, found: {error.strerror}; name another file"
            ) from error
    if not quiet:
        options.show(render_runs(listed))
