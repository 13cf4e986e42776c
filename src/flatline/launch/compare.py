"""``flatline compare``: stored runs side by side."""

from __future__ import annotations

from pathlib import Path

import click

from flatline.errors import UsageError
from flatline.launch import options, settings


@click.command(
    options_metavar="[OPTIONS]",
    epilog="Example: flatline compare 3f2a 81c0 --html compared.html",
)
@click.argument("runs", nargs=-1, metavar="RUN RUN...")
@options.store_option
@options.json_option("comparison")
@options.html_option("comparison")
@options.quiet_option("comparison")
def compare(
    runs: tuple[str, ...], store: Path, json: Path | None, html: Path | None, quiet: bool
) -> None:
    """Set stored runs side by side; the others are compared with the first.

    RUN is an id as `flatline runs` lists it, its first characters, or a name.
    """
    if len(runs) < 2:
        raise click.UsageError(
            f"expected two runs or more, found {'one' if runs else 'nothing'}; "
            "`flatline runs` lists them"
        )
    thresholds = settings.thresholds()
    from flatline.record.store import Store
    from flatline.show.comparison import Comparison
    from flatline.show.report import build

    with Store(store, create=False) as kept:
        ids = [kept.find(run) for run in runs]
        for run in ids:
            if ids.count(run) > 1:
                raise UsageError(
                    f"expected different runs, found {run} more than once; name them by the ids "
                    "that flatline runs lists"
                )
        recordings = [kept.load(run) for run in ids]
    name = options.named(store)
    compared = Comparison(
        tuple(build(one, store=name, thresholds=thresholds) for one in recordings)
    )
    options.hand_over(compared, html, json, quiet)
