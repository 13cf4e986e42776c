"""The ``flatline`` command.

Nothing heavy is imported here or at the top of a command's module: ``flatline --help`` must be
quick, and a program under ``flatline run`` must be the first to import torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import click

from flatline.errors import FlatlineError
from flatline.launch.compare import compare
from flatline.launch.examine import examine
from flatline.launch.explain import explain
from flatline.launch.groups import Commands
from flatline.launch.lab import lab
from flatline.launch.options import say
from flatline.launch.report import report
from flatline.launch.run import run
from flatline.launch.runs import runs
from flatline.launch.trial import trial
from flatline.launch.ui import ui

INTERRUPTED = 130


class _Commands(Commands):
    def advice(self, name: str) -> str:
        return f"write: flatline run {name}" if name.endswith(".py") else super().advice(name)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Example: flatline run train.py --epochs 5",
)
@click.version_option(package_name="flatline", message="flatline %(version)s")
def flatline() -> None:
    """Find dead neurons in PyTorch training runs."""


for command in (run, report, explain, runs, compare, examine, trial, ui, lab):
    flatline.add_command(command)


def main() -> None:
    """Carry out the command line; the entry point of ``flatline``.

    A command that runs a person's program returns it as a function, called here at the end: so
    few frames of flatline lie under the program, and none of its errors is taken for our own.
    """
    todo = _carry_out(sys.argv[1:])
    if todo is not None:
        todo()


def _carry_out(arguments: list[str]) -> Callable[[], None] | None:
    try:
        outcome = flatline.main(arguments, prog_name="flatline", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(FlatlineError.exit_status)
    except click.UsageError as error:
        _leave(_sentence(error), error.ctx)
    except click.ClickException as error:
        _leave(error.format_message(), None)
    except FlatlineError as error:
        say(str(error))
        sys.exit(error.exit_status)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except OSError as error:
        _give_up(error)
    if isinstance(outcome, int) and outcome:  # --help gives 0, a missing command 2
        sys.exit(outcome)
    return outcome if callable(outcome) else None


def _sentence(error: click.UsageError) -> str:
    """What click found wrong, in the form of all other errors."""
    where = error.ctx.command_path if error.ctx is not None else "flatline"
    if isinstance(error, click.NoSuchOption):
        close = error.possibilities
        advice = f"did you mean {close[0]}?" if close else f"{where} --help lists them"
        return f"expected an option of {where}, found {error.option_name!r}; {advice}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        name = error.param.make_metavar(error.ctx)  # type: ignore[arg-type]
        return f"expected {name}, found nothing; write: {where} {name}"
    return error.format_message().rstrip(".")


def _give_up(error: OSError) -> NoReturn:
    """End when standard output takes no more, or a file that nothing else has an answer for."""
    # What is left in the buffer goes nowhere, instead of failing again when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):  # `flatline report | head`: nothing to talk of
        sys.exit(1)
    what = error.filename or "standard output"
    say(f"expected to use {what}, found: {error.strerror}; name another file")
    sys.exit(FlatlineError.exit_status)


def _leave(message: str, ctx: click.Context | None) -> NoReturn:
    command = ctx.command_path if ctx is not None else "flatline"
    say(message)
    click.echo(f"Try: {command} --help", err=True)
    sys.exit(FlatlineError.exit_status)
