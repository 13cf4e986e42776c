"""Running a person's program as plain ``python`` would.

The program gets a ``__main__`` of its own, the arguments, the import path and the ending that it
would have without flatline; what it raises goes on to the interpreter, which prints the traceback
and chooses the exit status as always.
"""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType

from flatline.errors import UsageError

STANDARD_INPUT = "-"
_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_OPERATORS = os.path.join("torch", "_ops.py")


@dataclass(frozen=True)
class Program:
    """A script or a module, with its arguments.

    Attributes:
        target: Path of a script, a directory or a zip file with ``__main__.py``, ``-`` for a
            script on standard input, or a module name.
        arguments: What the program finds in ``sys.argv`` after its own name.
        is_module: Whether the target is a module name (``python -m``).
    """

    target: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False

    def check(self) -> None:
        """Finds out before anything starts whether there is a program to run.

        Raises:
            UsageError: The target is missing or cannot be read.
        """
        if self.is_module:
            _check_module(self.target)
        elif os.path.isdir(self.target):
            if not any(Path(self.target).glob("__main__.py*")):
                raise UsageError(
                    f"expected a script or a directory with __main__.py, "
                    f"found the directory {self.target!r} without one; name the script itself"
                )
        elif self.target != STANDARD_INPUT:
            _check_file(self.target)

    def run(self) -> None:
        """Runs the program as ``__main__``; whatever it raises is raised here.

        Raises:
            BaseException: What the program raises, ``SystemExit`` included. An uncaught
                exception will be shown without frames of flatline.
        """
        main = _new_main()
        if self.is_module:
            sys.argv = ["-m", *self.arguments]
            _set_first_path(os.getcwd())
            import runpy

            runpy._run_module_as_main(self.target)  # type: ignore[attr-defined]
        elif _holds_modules(self.target):
            sys.argv = [self.target, *self.arguments]
            # Python inserts the directory even where the safe path keeps a script's out.
            _drop_first_path()
            sys.path.insert(0, _absolute(self.target))
            import runpy

            runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        elif self.target == STANDARD_INPUT:
            sys.argv = [self.target, *self.arguments]
            _set_first_path("")
            exec(_standard_input(main), main.__dict__)
        else:
            sys.argv = [self.target, *self.arguments]
            _set_first_path(os.path.dirname(os.path.realpath(self.target)))
            exec(_script(main, _absolute(self.target)), main.__dict__)


def hide_own_frames(error: BaseException) -> None:
    """Lets the interpreter show an exception that leaves the program as if flatline were not there.

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
            trace = _outside(trace)
            value.__traceback__ = sys.last_traceback = trace
            _clear_chain(value)
        _call_hook(theirs, kind, value, trace)

    sys.excepthook = show


def _call_hook(
    hook: Callable[..., object],
    kind: type[BaseException],
    value: BaseException,
    trace: TracebackType | None,
) -> None:
    """Calls an exception hook; one that raises is reported as the interpreter reports it."""
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


def _outside(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that starts in the program."""
    rest = trace
    while rest is not None and rest.tb_frame.f_code is not Program.run.__code__:
        rest = rest.tb_next
    while rest is not None and rest.tb_frame.f_code.co_filename == __file__:
        rest = rest.tb_next
    return _between(rest)


def _clear_chain(error: BaseException) -> None:
    """Take our frames out of the exceptions that led to this one."""
    seen, waiting = {id(error)}, [error.__cause__, error.__context__]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = _between(one.__traceback__)
            waiting += [one.__cause__, one.__context__]


def _between(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of flatline that torch called on the program's way."""
    frames = []
    operator = False
    while trace is not None:
        code = trace.tb_frame.f_code
        ours = code.co_filename.startswith(_PACKAGE)
        # An operator under a dispatch mode of ours is run by a line of torch's own.
        operator = (operator or ours) and (ours or code.co_filename.endswith(_OPERATORS))
        if not ours and not operator:
            frames.append(trace)
        trace = trace.tb_next
    for frame in reversed(frames):
        trace = TracebackType(trace, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return trace


def _script(main: ModuleType, path: str) -> CodeType:
    """The code of a script, with what ``__main__`` says about where it came from."""
    main.__file__ = path
    main.__dict__["__cached__"] = None
    if path.endswith(".pyc"):
        compiled = SourcelessFileLoader("__main__", path)
        main.__loader__ = compiled
        return compiled.get_code("__main__")  # type: ignore[return-value]
    main.__loader__ = SourceFileLoader("__main__", path)
    with open(path, "rb") as file:
        return _compiled(file.read(), path)


def _standard_input(main: ModuleType) -> CodeType:
    main.__file__ = "<stdin>"
    main.__dict__["__cached__"] = None
    main.__loader__ = BuiltinImporter
    return _compiled(sys.stdin.buffer.read(), "<stdin>")


def _compiled(source: bytes, name: str) -> CodeType:
    return compile(source, name, "exec", dont_inherit=True)


def _absolute(path: str) -> str:
    """A path as Python makes it absolute: not normalised, and without need of a directory."""
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def _new_main() -> ModuleType:
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    main.__annotations__ = {}
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:  # multiprocessing's second name for it, made at its import
        sys.modules["__mp_main__"] = main
    return main


def _set_first_path(directory: str) -> None:
    if not sys.flags.safe_path:
        sys.path[0] = directory


def _drop_first_path() -> None:
    if not sys.flags.safe_path:
        del sys.path[0]


def _holds_modules(path: str) -> bool:
    """Whether Python would import ``__main__`` from a path: a directory or a zip file."""
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


def _check_module(name: str) -> None:
    before = list(sys.path)
    _set_first_path(os.getcwd())
    top = name.partition(".")[0]
    try:
        found = bool(top) and importlib.util.find_spec(top) is not None
    except ValueError:
        found = top in sys.modules
    finally:
        sys.path[:] = before
    if found:
        return
    advice = "leave -m out to run a script" if os.path.isfile(name) else "check its name"
    raise UsageError(
        f"expected the name of a module that can be imported, found no module named {top!r}; "
        f"{advice}"
    )


def _check_file(path: str) -> None:
    try:
        os.stat(path)
        # Not opened: a pipe can be read only once, as in `flatline run <(generate)`.
        if os.access(path, os.R_OK):
            return
        reason = "permission denied"
    except FileNotFoundError:
        reason = "no such file"
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
    raise UsageError(
        f"expected a Python script that can be read, found {path!r}: {reason}; {_advice(path)}"
    )


def _advice(path: str) -> str:
    """What the person who typed this path most likely has to do."""
    if os.path.exists(path):
        return "change its permissions or name another script"
    if os.path.basename(path).startswith("python"):
        return "leave python out: flatline run train.py"
    import difflib

    folder = os.path.dirname(path)
    names = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    scripts = [name for name in names if name.endswith(".py")]
    close = difflib.get_close_matches(os.path.basename(path), scripts, 1)
    if close:
        return f"did you mean {os.path.join(folder, close[0])}?"
    if path and "/" not in path and not path.endswith(".py"):
        return f"for a module write: flatline run -m {path}"
    return "check the path"
