"""Being told when the program itself imports a module, without importing it first.

A script that sets ``OMP_NUM_THREADS`` or ``CUDA_VISIBLE_DEVICES`` before ``import torch`` must see
its effect, so flatline waits for the program's own import. Nothing of flatline is on the stack
while the module runs: a failing import shows the traceback it always shows, and a warning is
attributed to the line it always was.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _WatchedSpec(ModuleSpec):
    """A spec that reports the end of its module's import.

    The import system marks a spec as initializing before it runs the module and clears the mark
    when the module is complete; that assignment is the one moment when the module is ready and
    none of its code is running.
    """

    flatline_done: Callable[[], None]

    @property
    def _initializing(self) -> bool:
        return bool(self.__dict__.get("_initializing", False))

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        started = self._initializing
        self.__dict__["_initializing"] = value
        if started and not value and self.name in sys.modules:
            done = self.__dict__.pop("flatline_done")
            self.__class__ = ModuleSpec  # type: ignore[assignment]
            done()


class _Watcher:
    """A finder that finds nothing itself: it marks the spec which the other finders give."""

    def __init__(self, name: str, callback: Callable[[], object]) -> None:
        self.name = name
        self.callback = callback
        self.pid = os.getpid()
        self.asking = threading.local()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name or getattr(self.asking, "now", False):
            return None
        self.asking.now = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.asking.now = False
        if type(spec) is ModuleSpec:
            spec.__class__ = _WatchedSpec
            spec.__dict__["flatline_done"] = self.done
        return spec

    def done(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if os.getpid() == self.pid:  # a forked worker that imports the module is not watched
            self.callback()


def after_import(name: str, callback: Callable[[], object]) -> None:
    """Call back once, as soon as the program has imported a module.

    Args:
        name: Name of a top-level module.
        callback: Called without arguments in the importing thread; at once when the module is
            there already. It must not raise: an exception would reach the program.
    """
    if name in sys.modules:
        callback()
    else:
        sys.meta_path.insert(0, _Watcher(name, callback))
