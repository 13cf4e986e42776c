"""``flatline lab``: claims about dead neurons as experiments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flatline.launch import options
from flatline.launch.groups import Commands

if TYPE_CHECKING:
    from flatline.lab.runner import Progress


class _Lab(Commands):
    def advice(self, name: str) -> str:
        from flatline.lab.registry import nearest

        experiment = nearest(name)
        if experiment is None:
            return super().advice(name)
        return f"write: flatline lab list, or flatline lab run {experiment}"


@click.group(
    cls=_Lab,
    invoke_without_command=True,
    epilog="Example: flatline lab run cause-learning-rate",
)
@click.pass_context
def lab(ctx: click.Context) -> None:
    """Rerun the experiments behind the claims about dead neurons."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(listed, json=None, quiet=False)


@lab.command("list", epilog="Example: flatline lab list")
@options.json_option("list")
@options.quiet_option("list")
def listed(json: Path | None, quiet: bool) -> None:
    """List the experiments with the claims that they test."""
    from flatline.lab.registry import chosen
    from flatline.lab.results import listing
    from flatline.lab.terminal import Listing

    experiments = chosen(())
    _hand_over(listing(experiments), Listing(experiments), json, quiet)


@lab.command("run", epilog="Example: flatline lab run cause-learning-rate --html lab.html")
@click.argument("ids", nargs=-1, metavar="[ID]…")
@click.option(
    "--seeds",
    callback=options.whole_number(1),
    metavar="N",
    default="5",
    show_default=True,
    help="Measure with N seeds; an interval needs two.",
)
@click.option("--again", is_flag=True, help="Measure anew what .flatline/lab holds already.")
@click.option(
    "--html", callback=options.output_file, metavar="FILE", help="Write a page with the plots."
)
@options.json_option("results")
@options.quiet_option("results")
def carried_out(
    ids: tuple[str, ...],
    seeds: int,
    again: bool,
    html: Path | None,
    json: Path | None,
    quiet: bool,
) -> None:
    """Carry out experiments, all by default, and judge their claims.

    What was measured is kept in .flatline/lab, so that a run which was interrupted goes on where it
    ended.
    """
    from flatline.lab.page import render
    from flatline.lab.registry import chosen
    from flatline.lab.results import document
    from flatline.lab.runner import run
    from flatline.lab.terminal import Results
    from flatline.show.plain import write

    experiments = chosen(ids)
    try:
        with _progress(quiet) as progress:
            found = list(run(experiments, range(seeds), again=again, progress=progress))
    except KeyboardInterrupt:
        options.say("interrupted; the same command goes on with what .flatline/lab holds")
        raise
    if html is not None:
        write(html, render(found))
    _hand_over(document(found), Results(found), json, quiet)


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """Say on a terminal what is being measured."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda name, done, total: None
        return
    with console.status("") as status:
        yield lambda name, done, total: status.update(f"{name}: seed {done + 1} of {total}")


def _hand_over(document: dict[str, Any], shown: object, json: Path | None, quiet: bool) -> None:
    """Write the JSON that was asked for and, unless quiet, print what is shown."""
    from flatline.show.plain import encode, plain, write

    text = encode(plain(document))
    if json == options.STANDARD_OUTPUT:
        options.standard_output().write(text)
        return
    if json is not None:
        write(json, text)
    if not quiet:
        options.show(shown)
