"""What a person sees of an exception that leaves their program: nothing of flatline."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from types import CodeType, TracebackType

from flatline.launch import program

_HOME = os.path.dirname(os.path.dirname(__file__)) + os.sep
_API = os.path.join(_HOME, "api.py")
_RUNNER = program.__file__
#: Functions of ours that call on what the program called: what lies below them is the program's.
_PASSING = frozenset({"call", "__call__", "__torch_dispatch__", "backward", "scale", "__init__"})
#: Where torch's own frames lead to a dispatch mode, and from there to the operator.
_TO_MODE = ("torch/_compile.py", "torch/_dynamo/eval_frame.py")
_FROM_MODE = "torch/_ops.py"


def hide_own_frames(error: BaseException) -> None:
    """Let the interpreter show an exception that leaves the program as if flatline were not there.

    The exception passes through flatline's frames on its way up, so they can be taken off its
    traceback only at the end, when the interpreter calls ``sys.excepthook``.

    Args:
        error: The exception that is about to be raised to the interpreter.
    """
    theirs = getattr(sys, "excepthook", None)
    if theirs is None:
        return

    def show(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        sys.excepthook = theirs
        if value is error:
            value.__traceback__ = _of_program(trace)
            without_own(value)
            trace = sys.last_traceback = value.__traceback__
        _call_hook(theirs, kind, value, trace)

    sys.excepthook = show


def _call_hook(
    hook: Callable[..., object],
    kind: type[BaseException],
    value: BaseException,
    trace: TracebackType | None,
) -> None:
    """Call an exception hook; one that raises is reported as the interpreter reports it."""
    try:
        hook(kind, value, trace)
    except SystemExit:
        raise
    except BaseException as second:
        print("Error in sys.excepthook:", file=sys.stderr)
        if second.__traceback__ is not None:
            second.__traceback__ = second.__traceback__.tb_next  # without this function
        sys.__excepthook__(type(second), second, second.__traceback__)
        print("\nOriginal exception was:", file=sys.stderr)
        sys.__excepthook__(kind, value, trace)


def _of_program(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that starts in the program."""
    rest = trace
    while rest is not None and rest.tb_frame.f_code is not program.Program.run.__code__:
        rest = rest.tb_next
    while rest is not None and rest.tb_frame.f_code.co_filename == _RUNNER:
        rest = rest.tb_next
    return rest


def without_own(error: BaseException) -> None:
    """Take out of tracebacks what an exam puts between a program and the operators it calls.

    Args:
        error: What was raised; all that it came from or holds is treated alike.
    """
    seen, waiting = {id(error)}, [error]
    while waiting:
        one = waiting.pop()
        one.__traceback__ = _others(one.__traceback__)
        held = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        for other in (one.__cause__, one.__context__, *held):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)


def _others(trace: TracebackType | None) -> TracebackType | None:
    """The entries of a traceback that flatline did not cause."""
    kept: list[TracebackType] = []
    in_mode = False
    for entry in _entries(trace):
        code = entry.tb_frame.f_code
        if code.co_filename == _API:
            return trace  # the program itself called flatline
        if not code.co_filename.startswith(_HOME):
            if not (in_mode and _lies_in(code, _FROM_MODE)):
                kept.append(entry)
            in_mode = False
        elif code.co_name in _PASSING:
            in_mode = code.co_name == "__torch_dispatch__"
            while in_mode and kept and _lies_in(kept[-1].tb_frame.f_code, *_TO_MODE):
                kept.pop()
        else:
            break  # flatline's own work was interrupted
    following = None
    for entry in reversed(kept):
        entry.tb_next = following
        following = entry
    return following


def _entries(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _lies_in(code: CodeType, *files: str) -> bool:
    return code.co_filename.replace(os.sep, "/").endswith(files)
