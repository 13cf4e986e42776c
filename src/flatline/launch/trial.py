"""``flatline trial``: treatments against a control on the same program and seeds."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flatline.errors import UsageError
from flatline.launch import options, settings
from flatline.launch.program import STANDARD_INPUT, Program

if TYPE_CHECKING:
    from flatline.trials.engine import Engine
    from flatline.trials.progress import Progress

LOGS = "trials"


def amount(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Take a number above 0.

    Raises:
        click.BadParameter: The value is none.
    """
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        if 0 < float(value) < float("inf"):
            return float(value)
    raise click.BadParameter(
        f"expected a number above 0, found {value!r}; write for example {param.opts[0]} 1"
    )


@click.command(
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
    epilog="Example: flatline trial --treat lr=x0.1 --max-steps 500 train.py --epochs 5",
)
@click.option("-m", "is_module", is_flag=True, help="Run a module, like python -m MODULE.")
@click.option(
    "--treat",
    metavar="TREATMENT",
    multiple=True,
    help="Try lr=x0.1, init=he or others, which a wrong one lists; two joined by + are tried "
    "together. Can be repeated. Left out: what the control's findings prescribe.",
)
@click.option(
    "--seeds",
    callback=options.whole_number(1),
    metavar="N",
    default="3",
    show_default=True,
    help="Runs of each arm; an interval needs 2, and 3 to be of use.",
)
@click.option(
    "--seed-offset",
    callback=options.whole_number(0),
    metavar="K",
    default="0",
    show_default=True,
    help="Add K, K+1 ... to every seed of the program.",
)
@click.option(
    "--max-steps",
    callback=options.whole_number(1),
    metavar="N",
    help="Stop each run after N optimizer steps.",
)
@click.option(
    "--objective",
    metavar="NAME",
    default="loss",
    help="A metric that the program logs. Left out: the training loss.",
)
@click.option(
    "--maximize/--minimize",
    "maximise",
    default=None,
    help="Which is better. Left out: larger for an accuracy, score and the like by its name.",
)
@click.option(
    "--jobs",
    callback=options.whole_number(1, usual=os.cpu_count() or 1),
    metavar="N",
    help="Runs at once. Left out: 1, or with Ray all that it has room for.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Who carries runs out: this machine, or a Ray cluster that shares its files.",
)
@click.option(
    "--cpus-per-arm", callback=amount, metavar="N", help="Cores that Ray keeps for a run, 1 if not."
)
@click.option(
    "--gpus-per-arm", callback=amount, metavar="N", help="GPUs that Ray keeps for a run, 0 if not."
)
@click.option("--timeout", callback=amount, metavar="SECONDS", help="Time limit of each run.")
@click.option("--halving", is_flag=True, help="Give up the worse half of the arms after each seed.")
@click.option("--fresh", is_flag=True, help="Repeat runs that an earlier call has finished.")
@options.store_option
@options.json_option("result")
@options.html_option("result")
@options.quiet_option("result")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="SCRIPT | -m MODULE [ARGS]...")
def trial(
    is_module: bool,
    treat: tuple[str, ...],
    seeds: int,
    seed_offset: int,
    max_steps: int | None,
    objective: str,
    maximise: bool | None,
    jobs: int | None,
    engine: str,
    cpus_per_arm: float | None,
    gpus_per_arm: float | None,
    timeout: float | None,
    halving: bool,
    fresh: bool,
    store: Path,
    json: Path | None,
    html: Path | None,
    quiet: bool,
    command: tuple[str, ...],
) -> None:
    """Try treatments on a program, against an untreated control on the same seeds.

    Each arm is run once per seed as a process of its own and kept in the store. The result ranks
    the arms and says of each whether it is better, worse, or no difference was shown. After an
    interruption the same command goes on where it stopped.
    """
    argv = _program(is_module, command)
    from flatline.trials.plan import Work, arms
    from flatline.trials.runner import Runner

    chosen = arms(treat) if treat else None
    thresholds = settings.thresholds()
    runner = Runner(
        Work(argv, store, max_steps),
        _engine(engine, jobs, timeout, store.parent / LOGS, cpus_per_arm, gpus_per_arm),
        range(seed_offset, seed_offset + seeds),
        arms=chosen,
        objective=objective,
        maximise=maximise,
        halving=halving,
        fresh=fresh,
        thresholds=thresholds,
        store=options.named(store),
    )
    try:
        with _telling(runner.progress, quiet) as tell:
            runner.tell = tell
            found = runner.run()
    except KeyboardInterrupt:
        done = runner.progress.count("done", "kept")
        options.say(
            f"interrupted; {done} of {len(runner.progress.cells)} runs are finished and kept, the "
            "same command goes on from there"
        )
        raise click.Abort from None
    from flatline.show.trial import show

    options.hand_over(show(found), html, json, quiet)


def _program(is_module: bool, command: tuple[str, ...]) -> tuple[str, ...]:
    """The program as ``flatline run`` takes it.

    Raises:
        UsageError: There is none, or none that can be run many times.
    """
    if not command:
        raise click.UsageError(
            "expected a script or -m MODULE, found neither; write: flatline trial train.py"
        )
    program = Program(command[0], command[1:], is_module)
    if not is_module and program.target == STANDARD_INPUT:
        raise UsageError(
            "expected a program that can be run many times, found standard input; save it to a file"
        )
    program.check()
    return (*(["-m"] if is_module else []), *command)


def _engine(
    name: str,
    jobs: int | None,
    timeout: float | None,
    logs: Path,
    cpus: float | None,
    gpus: float | None,
) -> Engine:
    """Who carries the runs out.

    Raises:
        UsageError: Ray is asked for and not there, or asked for resources without Ray.
    """
    if name == "ray":
        from flatline.trials.cluster import RayEngine

        return RayEngine(
            jobs, timeout, logs, cpus=1 if cpus is None else cpus, gpus=0 if gpus is None else gpus
        )
    if cpus is not None or gpus is not None:
        raise UsageError(
            "expected --engine ray with --cpus-per-arm or --gpus-per-arm, found --engine local; "
            "use --jobs to say how many runs share this machine"
        )
    from flatline.trials.engine import LocalEngine

    return LocalEngine(jobs or 1, timeout, logs)


@contextlib.contextmanager
def _telling(progress: Progress, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Show how far a trial is on standard error, for the length of a ``with`` block."""
    if quiet or sys.__stderr__ is None:
        yield lambda progress: None
    elif not sys.__stderr__.isatty():
        yield _tell
    else:
        from rich.console import Console
        from rich.live import Live

        from flatline.show.progress import Board

        console = Console(file=sys.__stderr__)
        with Live(Board(progress), console=console, refresh_per_second=2, transient=True):
            yield lambda progress: None


def _tell(progress: Progress) -> None:
    """Say in a line what has happened, where that is worth one."""
    from flatline.show.progress import line

    said = line(progress)
    if said is not None:
        options.say(said)
