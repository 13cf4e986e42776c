"""``flatline examine``: one census of a model on data, without training."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import click

from flatline.errors import FlatlineError, UsageError
from flatline.launch import options, settings

if TYPE_CHECKING:
    from flatline.api import Case

OURS = (str(Path(__file__).parents[1]), "<frozen importlib")
EXPECTED = "expected path/to/file.py:factory or package.module:factory"


@click.command(epilog="Example: flatline examine models.py:trained --json census.json")
@click.argument("target")
@click.option(
    "--ablation",
    is_flag=True,
    help="Also measure how much the loss grows when live units are silenced.",
)
@options.output_options
def examine(
    target: str, ablation: bool, html: Path | None, json: Path | None, units: int, quiet: bool
) -> None:
    """Take one census of a model on data, without training.

    TARGET is path/to/file.py:factory or package.module:factory: a function without arguments that
    returns a flatline.Case.
    """
    thresholds = settings.thresholds()
    aside = options.set_stdout_aside() if json == options.STANDARD_OUTPUT else None
    case = load_case(target)
    from flatline.api import examine_case

    try:
        report = examine_case(case, units, ablation=ablation, thresholds=thresholds)
    except FlatlineError:
        raise
    except Exception as error:
        raise _failed(f"to examine {target}", error) from None
    options.hand_over(report, html, json, quiet, aside)


def load_case(target: str) -> Case:
    """Call the factory that a target names.

    Args:
        target: ``path/to/file.py:factory`` or ``package.module:factory``.

    Raises:
        UsageError: There is no such file, module or function, it failed, or what it returned is
            no ``flatline.Case``.
    """
    if target.startswith("hf:"):
        raise UsageError(
            f"{EXPECTED}, found {target!r}; hf: targets are not supported yet, "
            "write a factory that loads the model"
        )
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"{EXPECTED}, found {target!r}; add the function's name after a colon")
    factory = _factory(_module(place), place, name)
    case = _call(factory, f"{target} to give a flatline.Case")
    from flatline.api import Case

    if not isinstance(case, Case):
        raise UsageError(
            f"expected {target} to return a flatline.Case, found {type(case).__name__}; "
            "return flatline.Case(model, batches, loss_fn)"
        )
    return case


def _module(place: str) -> ModuleType:
    sys.argv = [place]  # a script that reads its arguments must not find ours
    if not (place.endswith(".py") or os.sep in place):
        sys.path.insert(0, os.getcwd())
        return _named_module(place)
    if not os.path.isfile(place):
        raise UsageError(f"expected a Python file, found no file {place!r}; check the path")
    path = os.path.abspath(place)
    sys.path.insert(0, os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"expected a Python file, found {place!r}; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # classes defined there can be pickled
    _call(lambda: spec.loader.exec_module(module), f"to import {place}")  # type: ignore[union-attr]
    return module


def _named_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(f"to import {name}", error) from None
        raise UsageError(
            f"{EXPECTED}, found no module named {error.name!r} from {os.getcwd()}; check its name"
        ) from None
    except (Exception, SystemExit) as error:
        raise _failed(f"to import {name}", error) from None


def _factory(module: ModuleType, place: str, name: str) -> Callable[[], Any]:
    factory = getattr(module, name, None)
    if callable(factory):
        return cast("Callable[[], Any]", factory)
    import difflib

    functions = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
    close = difflib.get_close_matches(name, functions, 1)
    found = "no such name" if factory is None else f"a {type(factory).__name__}"
    advice = f"did you mean {close[0]}?" if close else "define it or name another function"
    raise UsageError(f"expected a function {name!r} in {place}, found {found}; {advice}")


def _call(function: Callable[[], Any], expected: str) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise _failed(expected, error) from None


def _failed(expected: str, error: BaseException) -> UsageError:
    """Show where a person's own code failed, then say it in one sentence."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OURS):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)
    return UsageError(
        f"expected {expected}, found that it raised {type(error).__name__}; "
        "correct the error shown above"
    )
