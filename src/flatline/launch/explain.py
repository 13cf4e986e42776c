"""``flatline explain``: the story of one unit or one site of a stored run."""

from __future__ import annotations

from pathlib import Path

import click

from flatline.launch import options, settings


@click.command(
    options_metavar="[OPTIONS]", epilog="Example: flatline explain net.0:17   (or: net.0)"
)
@click.argument("target", nargs=-1, metavar="[RUN] SITE[:UNIT]")
@options.store_option
@options.json_option("story")
@options.quiet_option("story")
def explain(target: tuple[str, ...], store: Path, json: Path | None, quiet: bool) -> None:
    """Tell when and why a unit or a site died, and what to do.

    RUN is an id as `flatline runs` lists it, its first characters, or a name; the last run by
    default. SITE is a name as `flatline report` shows it, UNIT a number counted from 0.
    """
    if not 1 <= len(target) <= 2:
        found = "nothing" if not target else f"{len(target)} arguments"
        raise click.UsageError(
            f"expected [RUN] SITE[:UNIT], found {found}; write: flatline explain net.0:17"
        )
    thresholds = settings.thresholds()
    from flatline.record.store import Store
    from flatline.show.explanation import explain as tell

    run = target[0] if len(target) == 2 else None
    with Store(store, create=False) as runs:
        recording = runs.load(runs.find(run))
    told = tell(recording, target[-1], thresholds=thresholds, store=options.named(store))
    options.hand_over(told, None, json, quiet)
