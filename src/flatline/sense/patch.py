"""Replaces an attribute of torch for a while."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType
from typing import Any, cast

from torch._C._dynamo import eval_frame


def skip(code: CodeType) -> None:
    """Have the compiler pass over frames of ``code``, where compiled code calls them.

    What they call is still compiled, so there are as many graphs as without them. The compiler's
    own decorator would import it.
    """
    action = eval_frame._FrameAction
    strategy = eval_frame._FrameExecStrategy(action.SKIP, action.DEFAULT)
    eval_frame.set_code_exec_strategy(code, strategy)


class Patch:
    """Puts a wrapper around an attribute until it is removed.

    Wrappers may lie on top of each other, those of others too, and go in any order: one that is
    removed while it lies below another stays in the chain, where it has to pass calls on, and goes
    with the last one of ours above it.

    Args:
        owner: A class or a module.
        name: The attribute.
        around: Makes the replacement from the original.
    """

    def __init__(self, owner: Any, name: str, around: Callable[[Any], Any]) -> None:
        self._owner, self._name = owner, name
        original = vars(owner)[name]
        self._replacement = cast(Any, functools.wraps(original)(around(original)))
        self._replacement.flatline_removed = False
        skip(self._replacement.__code__)
        setattr(owner, name, self._replacement)

    def remove(self) -> None:
        """Put the original back."""
        self._replacement.flatline_removed = True
        before = current = vars(self._owner)[self._name]
        while getattr(current, "flatline_removed", False):
            current = current.__wrapped__
        if current is not before:
            setattr(self._owner, self._name, current)
