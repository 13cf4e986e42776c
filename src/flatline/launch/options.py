"""Options that several commands share, and where their output goes."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from flatline.errors import UsageError

if TYPE_CHECKING:
    from flatline.show.report import Report

Command = TypeVar("Command", bound=Callable[..., Any])

STORE = os.path.join(".flatline", "runs.db")
STANDARD_OUTPUT = Path("-")


class OutputFile(click.ParamType):
    """A file to be written later, perhaps from another working directory: made absolute now."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Checks now that the file can be written."""
        path = Path(value)
        if path == STANDARD_OUTPUT and param is not None and param.name == "json":
            return path
        if path == STANDARD_OUTPUT:
            self.fail("expected a file, found '-'; only --json can go to standard output")
        path = path.absolute()
        if path.is_dir():
            self.fail(f"expected a file, found the directory {value!r}; name a file in it")
        if not path.parent.is_dir():
            self.fail(f"expected a file in an existing directory, found {value!r}; create it first")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            self.fail(f"expected a file that can be written, found {value!r} without permission")
        return path


class Percent(click.ParamType):
    """A share of time, above 0 and at most 100 percent, kept as a fraction."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Accepts a trailing percent sign."""
        try:
            percent = float(str(value).removesuffix("%"))
        except ValueError:
            percent = math.nan
        if not 0 < percent <= 100:
            self.fail(f"expected a percentage above 0 and at most 100, found {value!r}")
        return percent / 100


def store_option(command: Command) -> Command:
    """Adds ``--store``."""
    return click.option(
        "--store",
        metavar="FILE",
        default=STORE,
        show_default=True,
        help="Where runs are kept.",
        callback=lambda ctx, param, value: Path(value).absolute(),
    )(command)


def output_options(command: Command) -> Command:
    """Adds ``--html``, ``--json``, ``--units`` and ``--quiet``."""
    for option in (
        quiet_option,
        units_option,
        json_option,
        click.option(
            "--html", type=OutputFile(), metavar="FILE", help="Write the report as a web page."
        ),
    ):
        command = option(command)
    return command


def json_option(command: Command) -> Command:
    """Adds ``--json``."""
    return click.option(
        "--json",
        type=OutputFile(),
        metavar="FILE",
        help="Write the report as JSON (- for standard output).",
    )(command)


def units_option(command: Command) -> Command:
    """Adds ``--units``."""
    return click.option(
        "--units",
        type=click.IntRange(min=0),
        metavar="N",
        default=10_000,
        show_default=True,
        help="List at most N units in the JSON.",
    )(command)


def quiet_option(command: Command) -> Command:
    """Adds ``--quiet``."""
    return click.option("--quiet", is_flag=True, help="Print no report, only what went wrong.")(
        command
    )


def say(sentence: str) -> None:
    """Writes one line of flatline's own to standard error, if there still is one."""
    with contextlib.suppress(OSError, ValueError):
        print(f"flatline: {sentence}", file=sys.__stderr__, flush=True)


def show(thing: object, *, on_error: bool = False) -> None:
    """Prints something to the terminal with rich."""
    from rich.console import Console

    Console(file=sys.__stderr__ if on_error else sys.__stdout__).print(thing)


def write_files(report: Report, html: Path | None, json: Path | None, units: int) -> None:
    """Writes the report to the files that were asked for.

    Raises:
        UsageError: A file cannot be written.
    """
    try:
        if html is not None:
            report.to_html(html)
        if json is not None and json != STANDARD_OUTPUT:
            report.to_json(json)
    except OSError as error:
        raise UsageError(
            f"expected to write {error.filename or html or json}, found: {error.strerror}; "
            "the run is stored, so `flatline report` can write it elsewhere"
        ) from error


def set_stdout_aside() -> int:
    """Makes everything the program prints go to standard error.

    Returns:
        A descriptor of the real standard output, which children of the program do not inherit.
    """
    sys.stdout.flush()
    aside = os.dup(1)
    os.dup2(2, 1)
    return aside


def write_json(report: Report, file: TextIO) -> None:
    """Writes the report as JSON to an open file."""
    import json

    json.dump(report.to_dict(), file, indent=2, allow_nan=False)
    file.write("\n")


def hand_over(
    report: Report,
    html: Path | None,
    json: Path | None,
    units: int,
    quiet: bool,
    stdout: int | None = None,
) -> None:
    """Writes the files that were asked for and, unless quiet, prints the report.

    Args:
        report: What to hand over.
        html: File for the web page.
        json: File for the JSON report, or ``-``: then nothing else goes to standard output.
        units: The JSON lists at most this many units.
        quiet: Whether to print nothing.
        stdout: Descriptor of a standard output that was set aside.
    """
    write_files(report, html, json, units)
    if json == STANDARD_OUTPUT:
        if stdout is None:
            write_json(report, sys.stdout)
        else:
            with open(stdout, "w", encoding="utf-8") as file:
                write_json(report, file)
    elif not quiet:
        show(report)
