"""Options that several commands share, and where their output goes."""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, cast

import click

from flatline.errors import UsageError

if TYPE_CHECKING:
    from flatline.show.document import Document, Page

Command = TypeVar("Command", bound=Callable[..., Any])

STORE = os.path.join(".flatline", "runs.db")
STANDARD_OUTPUT = Path("-")
#: So many digits fit in the 64 bits that torch and SQLite have for a whole number.
DIGITS = 18


def absolute(path: str) -> Path:
    """Keep a path's meaning when the program changes the working directory.

    Raises:
        UsageError: The path is relative to a working directory that is gone.
    """
    try:
        return Path(path).absolute()
    except FileNotFoundError:
        raise UsageError(
            f"expected {path!r} in the working directory, found that this directory has been "
            "removed; cd to another one"
        ) from None


def output_file(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    """Take a file to be written later, perhaps from another working directory: absolute now.

    Raises:
        click.BadParameter: The file cannot be written.
    """
    if value is None:
        return None
    if value == str(STANDARD_OUTPUT):
        if param.name == "json":
            return STANDARD_OUTPUT
        raise click.BadParameter(
            "expected a file, found '-'; only --json can go to standard output"
        )
    # os.path says no where pathlib raises: a name too long, a folder that may not be entered.
    path = absolute(value)
    if os.path.isdir(path):
        raise click.BadParameter(
            f"expected a file, found the directory {value!r}; name a file in it"
        )
    if not os.path.isdir(path.parent):
        raise click.BadParameter(
            f"expected a file in an existing directory, found {value!r}; create it first"
        )
    if not os.access(path if os.path.exists(path) else path.parent, os.W_OK):
        raise click.BadParameter(
            f"expected a file that can be written, found {value!r} without permission; "
            "name another file"
        )
    return path


def percent(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Take a share, above 0 and at most 100 percent, as a fraction.

    Raises:
        click.BadParameter: The value is no such number.
    """
    try:
        share = float(value.removesuffix("%"))
    except ValueError:
        share = math.nan
    if not 0 < share <= 100:
        raise click.BadParameter(
            f"expected a percentage above 0 and at most 100, found {value!r}; "
            "write for example --budget 1"
        )
    return share / 100


def whole_number(
    least: int, usual: int = 100
) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """Make the callback of an option that takes a whole number of at least ``least``.

    Args:
        least: The smallest number it takes.
        usual: What an error suggests where the option has no default.

    Raises:
        click.BadParameter: The value is no such number.
    """

    def take(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
        if value is None:
            return None
        usually = param.default if isinstance(param.default, str) else usual
        is_number = value.isascii() and value.isdecimal()
        if is_number and len(value) > DIGITS:
            raise click.BadParameter(
                f"expected a whole number of at most {DIGITS} digits, found one of {len(value)}; "
                f"write for example {param.opts[0]} {usually}"
            )
        if is_number and int(value) >= least:
            return int(value)
        raise click.BadParameter(
            f"expected a whole number of at least {least}, found {value!r}; "
            f"write for example {param.opts[0]} {usually}"
        )

    return take


def store_option(command: Command) -> Command:
    """Add ``--store``."""
    return click.option(
        "--store",
        metavar="FILE",
        default=STORE,
        show_default=True,
        help="Where runs are kept.",
        callback=lambda ctx, param, value: absolute(value),
    )(command)


def named(store: Path) -> str | None:
    """The store as commands that a person types later must name it; ``None`` for the usual one."""
    with contextlib.suppress(UsageError):  # of a working directory that is gone
        if store == absolute(STORE):
            return None
    return str(store)


def output_options(command: Command) -> Command:
    """Add ``--html``, ``--json``, ``--units`` and ``--quiet``."""
    for option in (
        quiet_option("report"),
        units_option,
        json_option("report"),
        html_option("report"),
    ):
        command = option(command)
    return command


def html_option(what: str) -> Callable[[Command], Command]:
    """Add ``--html``, which writes ``what`` as a page."""
    return click.option(
        "--html", callback=output_file, metavar="FILE", help=f"Write the {what} as a web page."
    )


def json_option(what: str) -> Callable[[Command], Command]:
    """Add ``--json``, which writes ``what``."""
    return click.option(
        "--json",
        callback=output_file,
        metavar="FILE",
        help=f"Write the {what} as JSON (- for standard output).",
    )


def units_option(command: Command) -> Command:
    """Add ``--units``."""
    return click.option(
        "--units",
        callback=whole_number(0),
        metavar="N",
        default="10000",
        show_default=True,
        help="List at most N units in the JSON.",
    )(command)


def quiet_option(what: str) -> Callable[[Command], Command]:
    """Add ``--quiet``, which leaves ``what`` out of the terminal."""
    return click.option("--quiet", is_flag=True, help=f"Print no {what}, only what went wrong.")


def say(sentence: str) -> None:
    """Write one line of flatline's own to standard error, if there still is one."""
    if sys.__stderr__ is None:
        return  # print() would take standard output instead, which is the program's
    with contextlib.suppress(OSError, ValueError):
        print(f"flatline: {sentence}", file=sys.__stderr__, flush=True)


def show(thing: object, *, on_error: bool = False) -> None:
    """Print something to the terminal with rich; to standard error, if there still is one."""
    from rich.console import Console

    if on_error:
        if sys.__stderr__ is None:
            return  # rich would take standard output instead, which is the program's
        with contextlib.suppress(OSError, ValueError):
            Console(file=sys.__stderr__).print(thing)
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a bar in ASCII is better than an error
    Console(file=sys.stdout).print(thing)


def write_files(document: Document, html: Path | None, json: Path | None) -> None:
    """Write a document to the files that were asked for; only what is a page is asked for HTML.

    Raises:
        UsageError: A file cannot be written.
    """
    if html is not None:
        cast("Page", document).to_html(html)
    if json is not None and json != STANDARD_OUTPUT:
        document.to_json(json)


def standard_output() -> TextIO:
    """Standard output.

    Raises:
        UsageError: It is closed.
    """
    if sys.stdout is None:
        raise UsageError(
            "expected a standard output for --json -, found it closed; write to a file: --json FILE"
        )
    return sys.stdout


def set_stdout_aside() -> int:
    """Make everything the program prints go to standard error.

    Returns:
        A descriptor of the real standard output, which children of the program do not inherit.
    """
    standard_output().flush()
    aside = os.dup(1)
    try:
        os.dup2(2, 1)
    except OSError:  # standard error is closed
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 1)
    return aside


def write_json(document: Document, stdout: int | None) -> None:
    """Write a document as JSON to standard output, which may have been set aside.

    Raises:
        UsageError: Standard output takes no more.
    """
    text = document.to_json()
    if stdout is None:
        standard_output().write(text)
        return
    try:
        with open(stdout, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(
            f"expected to write the report to standard output, found: {error.strerror}; "
            "write to a file: --json FILE"
        ) from error


def hand_over(
    document: Document,
    html: Path | None,
    json: Path | None,
    quiet: bool,
    stdout: int | None = None,
) -> None:
    """Write the files that were asked for and, unless quiet, print the document.

    Args:
        document: What to hand over.
        html: File for the web page.
        json: File for the JSON document, or ``-``: then nothing else goes to standard output.
        quiet: Whether to print nothing.
        stdout: Descriptor of a standard output that was set aside.
    """
    write_files(document, html, json)
    if json == STANDARD_OUTPUT:
        write_json(document, stdout)
    elif not quiet:
        show(document)
