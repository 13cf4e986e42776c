"""``flatline report``: show a stored run."""

from __future__ import annotations

from pathlib import Path

import click

from flatline.launch import options, settings


@click.command(epilog="Example: flatline report --html report.html")
@click.argument("run", required=False)
@options.store_option
@options.output_options
@click.option(
    "--plot",
    callback=options.output_file,
    metavar="FILE",
    help="Draw the report as a picture: FILE.png, .svg or .pdf.",
)
def report(
    run: str | None,
    store: Path,
    html: Path | None,
    json: Path | None,
    units: int,
    quiet: bool,
    plot: Path | None,
) -> None:
    """Show a stored run, the last one by default.

    RUN is an id as `flatline runs` lists it, its first characters, or a name.
    """
    thresholds = settings.thresholds()
    from flatline.record.store import Store
    from flatline.show.report import build

    with Store(store, create=False) as runs:
        recording = runs.load(runs.find(run))
    built = build(recording, units=units, store=options.named(store), thresholds=thresholds)
    if plot is not None:
        from flatline.show.figure import draw

        draw(built, plot)
    options.hand_over(built, html, json, quiet)
