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
from dataclasses import dataclass
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from flatline.errors import UsageError

STANDARD_INPUT = "-"

#: The ``__main__`` that Python started with: at the end it deletes names from that module's
#: dictionary, which it has not kept alive itself.
_replaced: list[ModuleType] = []


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
        """Find out before anything starts whether there is a program to run.

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
        """Run the program as ``__main__``; whatever it raises is raised here.

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
    _replaced.append(sys.modules["__main__"])
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
