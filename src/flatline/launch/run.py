"""``flatline run``: run a training program unchanged and watch it."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flatline.errors import FlatlineError, UnsupportedError
from flatline.launch import options, settings
from flatline.launch.imports import after_import
from flatline.launch.program import Program
from flatline.launch.seeds import Shift
from flatline.launch.traces import hide_own_frames
from flatline.treatments.registry import parse_all

if TYPE_CHECKING:
    from flatline.diagnose.rules import Rule
    from flatline.session import Session
    from flatline.show.report import Report

RULE_HOLDS = 10
OUTPUT_FAILED = FlatlineError.exit_status


@dataclass(frozen=True)
class Outputs:
    """What is to be left behind when the program has ended.

    Attributes:
        html: File for the web page.
        json: File for the JSON report, or ``-``.
        stdout: Descriptor of the standard output that was set aside for ``--json -``.
        quiet: Whether to print no report.
        rules: Rules that make a run fail.
    """

    html: Path | None = None
    json: Path | None = None
    stdout: int | None = None
    quiet: bool = False
    rules: tuple[Rule, ...] = ()

    @property
    def may_change_status(self) -> bool:
        """Whether the exit status of a program that ended well depends on the report."""
        return bool(self.rules or self.html or self.json)


@dataclass
class Ending:
    """Leaves the report when everything of the program has ended, ``atexit`` handlers included.

    Registered with ``atexit`` before the program starts, so that it is called last. In a process
    that the program forked it does nothing.

    Attributes:
        session: What watched the program.
        outputs: What is to be left behind.
        status: How the program ended: finished, failed or interrupted.
        exit_status: What the exit status should be if the program's own is 0.
    """

    session: Session
    outputs: Outputs
    status: str = "finished"
    exit_status: int = 0
    pid: int = field(default_factory=os.getpid)
    done: bool = False
    path: list[str] = field(default_factory=lambda: _own_path())
    interrupt: Any = field(default_factory=lambda: signal.getsignal(signal.SIGINT))

    def __call__(self) -> None:
        """Leave the report, once, and never raise."""
        if self.done or not self.here:
            return
        self.done = True
        try:
            # A Ctrl-C from here on ends the report, whatever the program did with the signal.
            with contextlib.suppress(ValueError, TypeError):
                signal.signal(signal.SIGINT, self.interrupt)
            with _undisturbed(self.path):
                self._leave_report()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a third one has nothing left to end
            options.say("interrupted; what was seen is stored: flatline report")
        except FlatlineError as error:
            self.exit_status = OUTPUT_FAILED
            options.say(f"{error}; what was seen is stored: flatline report")
        except Exception as error:
            self.exit_status = OUTPUT_FAILED
            options.say(
                f"expected to leave a report, found an error of its own ({error!r}); "
                "what was seen is stored: flatline report"
            )
        if self.status == "interrupted":
            _remember_interrupt()

    @property
    def here(self) -> bool:
        """Whether this is the process that was watched, not a fork of it."""
        return os.getpid() == self.pid

    def _leave_report(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()  # the program's last words come before the report
        report = self.session.finish(self.status)
        if report is None:
            return
        if self.session.untreated:  # even when quiet: the result would be taken for another one
            options.say(self.session.untreated)
        if "torch" in sys.modules:
            if not self.outputs.quiet:
                options.show(report, on_error=True)
        elif not self.outputs.quiet:
            ended = "failed before" if self.status == "failed" else "ended without"
            options.say(
                f"expected a program that trains with PyTorch, found one that {ended} importing "
                "torch; nothing was watched"
            )
        self._write(report)
        self._judge(report)

    def _write(self, report: Report) -> None:
        outputs = self.outputs
        options.write_files(report, outputs.html, outputs.json)
        if outputs.stdout is not None:
            options.write_json(report, outputs.stdout)
        for path in (outputs.html, outputs.json):
            if path is not None and path != options.STANDARD_OUTPUT and not outputs.quiet:
                options.say(f"wrote {path}")

    def _judge(self, report: Report) -> None:
        if not self.outputs.rules:
            return
        if not report.sites:
            options.say(
                "expected units to judge by --fail-on, found that none was watched; "
                "flatline report says why"
            )
            return
        from flatline.diagnose.rules import holds

        for rule in self.outputs.rules:
            if holds(rule, report):
                self.exit_status = RULE_HOLDS
                options.say(f"--fail-on {rule}: holds")


def watch(program: Program, session: Session, outputs: Outputs, shift: Shift | None = None) -> None:
    """Run the program under watch, to its end and with its exit status.

    Args:
        program: What to run.
        session: What watches it, not yet attached.
        outputs: What is to be left behind.
        shift: What is done to the program's seeds.

    Raises:
        BaseException: What the program raises.
    """
    ending = Ending(session, outputs)
    atexit.register(ending)
    if shift is not None:
        shift.begin()
    after_import("torch", partial(_attach, session, shift))
    try:
        program.run()
    except SystemExit as error:
        if error.code is not None and error.code != 0:
            ending.status = "failed"
            raise
    except BaseException as error:
        refused = _refusal(error, treated=session.treated)
        if refused is None:
            ending.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            hide_own_frames(error)
            raise
        if refused:
            ending.status = "failed"
            options.say(refused)
            raise SystemExit(FlatlineError.exit_status) from None
    if outputs.may_change_status and ending.here:
        _end_program()
        if ending.exit_status:
            raise SystemExit(ending.exit_status)


def _refusal(error: BaseException, *, treated: bool) -> str | None:
    """Why a treatment ended the program; empty where ``--max-steps`` did, ``None`` where neither.

    A hook that a treatment left in the model has no other way out of a forward pass than an error.
    """
    from flatline.session import StopTraining

    if isinstance(error, StopTraining):
        return error.refused
    return str(error) if treated and isinstance(error, UnsupportedError) else None


def _end_program() -> None:
    """Wait for threads and call ``atexit`` handlers now rather than when Python shuts down.

    Once Python shuts down, the exit status can no longer be changed in an orderly way. Both calls
    are what the interpreter itself does next, and both do nothing the second time.
    """
    with contextlib.suppress(KeyboardInterrupt):
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()


def _remember_interrupt() -> None:
    """Let the interpreter end by the signal, as it does after an uncaught KeyboardInterrupt.

    It keeps a mark for that, which running any code from a string sets anew; importing what
    writes the report does so many times.
    """
    with contextlib.suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")


def _attach(session: Session, shift: Shift | None) -> None:
    """Start to watch; an error must not reach the program, which is importing torch."""
    try:
        if shift is not None:
            shift.torch()
        session.attach()
    except Exception as error:
        options.say(f"expected to watch this program, found {error!r}; it runs unwatched")


@contextlib.contextmanager
def _undisturbed(path: list[str]) -> Iterator[None]:
    """Keep the program's import path and its warning filters away from flatline's own code."""
    theirs, sys.path = sys.path, path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.path = theirs


def _own_path() -> list[str]:
    """The import path without the program's directory, whose ``rich.py`` is not ours."""
    here = str(Path(__file__).parents[2])
    path = sys.path if sys.flags.safe_path else sys.path[1:]
    return path if here in path else [*path, here]


@click.command(
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
    epilog="Example: flatline run --html report.html train.py --epochs 5",
)
@click.option("-m", "is_module", is_flag=True, help="Run a module, like python -m MODULE.")
@click.option("--name", metavar="NAME", help="A name for the run.")
@click.option(
    "--budget",
    callback=options.percent,
    metavar="PERCENT",
    default="1",
    show_default=True,
    help="Time that watching may cost.",
)
@click.option(
    "--max-steps",
    callback=options.whole_number(1),
    metavar="N",
    help="Stop after N optimizer steps.",
)
@click.option(
    "--apply",
    metavar="TREATMENT",
    multiple=True,
    help="Treat the training: init=he, clip=norm:1.0, lr=x0.1 and others, which a wrong one lists. "
    "Can be repeated.",
)
@click.option(
    "--seed-offset",
    callback=options.whole_number(0),
    metavar="K",
    help="Add K to every seed of the program; what it does not seed starts from K.",
)
@click.option(
    "--fail-on",
    metavar="RULE",
    multiple=True,
    help="Exit with status 10 if RULE holds: dead>5%, sick>10%, critical, or the code of a "
    "finding. Can be repeated.",
)
@options.store_option
@options.output_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="SCRIPT | -m MODULE [ARGS]...")
def run(
    is_module: bool,
    name: str | None,
    budget: float,
    max_steps: int | None,
    apply: tuple[str, ...],
    seed_offset: int | None,
    fail_on: tuple[str, ...],
    store: Path,
    html: Path | None,
    json: Path | None,
    units: int,
    quiet: bool,
    command: tuple[str, ...],
) -> Callable[[], None]:
    """Run a PyTorch training program unchanged and watch it.

    The program sees what it would see under plain python. Options after SCRIPT (or MODULE) belong
    to the program. When it has ended, also by Ctrl-C or an error, the report goes to standard
    error and the exit status is the program's own.
    """
    program = _program(is_module, command)
    program.check()
    rules = _rules(fail_on)
    treatments = parse_all(apply)
    thresholds = settings.thresholds()
    from flatline.session import Session

    session = Session(
        store_path=store,
        name=name,
        budget=budget,
        max_steps=max_steps,
        argv=[*(["-m"] if program.is_module else []), program.target, *program.arguments],
        quiet=quiet,
        units=units,
        named_store=options.named(store),
        thresholds=thresholds,
        treatments=treatments,
    )
    stdout = options.set_stdout_aside() if json == options.STANDARD_OUTPUT else None
    shift = None if seed_offset is None else Shift(seed_offset)
    return partial(watch, program, session, Outputs(html, json, stdout, quiet, rules), shift)


def _program(is_module: bool, command: tuple[str, ...]) -> Program:
    if not command:
        raise click.UsageError(
            "expected a script or -m MODULE, found neither; write: flatline run train.py"
        )
    return Program(command[0], command[1:], is_module)


def _rules(texts: tuple[str, ...]) -> tuple[Rule, ...]:
    if not texts:
        return ()
    from flatline.diagnose.rules import parse

    return tuple(parse(text) for text in texts)
