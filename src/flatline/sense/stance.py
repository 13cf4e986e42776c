"""Keeps code compiled by ``torch.compile`` aside, so that a step runs eagerly and can be seen."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from flatline.errors import UnsupportedError


class Stance:
    """The compiler's stance for the length of one exam.

    What is compiled stays compiled and is used again afterwards.
    """

    def __init__(self) -> None:
        self._ours: Any = None
        self._before: Any = None

    def take(self) -> None:
        """Run compiled code eagerly from now on.

        Raises:
            UnsupportedError: When the program has set a stance, or compiled code is running.
        """
        dynamo = sys.modules.get("torch._dynamo.eval_frame")
        if dynamo is None or not hasattr(dynamo, "_stance"):
            return
        from torch._C._dynamo.eval_frame import get_eval_frame_callback

        now = dynamo._stance
        if now.stance not in ("default", "force_eager"):
            raise UnsupportedError(
                "expected torch.compile in its default stance, found "
                f"torch.compiler.set_stance({now.stance!r}), under which no step can run eagerly; "
                "leave the stance alone, or train without torch.compile"
            )
        if get_eval_frame_callback() not in (None, False):
            raise UnsupportedError(
                "expected a step to end in eager code, found it inside a function under "
                "torch.compile; compile the model, or the function around forward and loss alone"
            )
        self._ours = dataclasses.replace(now, stance="force_eager")
        self._before = dynamo._set_stance(self._ours)

    def give_back(self) -> None:
        """Let compiled code run again.

        Whoever set a stance meanwhile may come back to ours later, so ours turns into the one
        that was there before.
        """
        if self._ours is None:
            return
        dynamo = sys.modules["torch._dynamo.eval_frame"]
        for field in dataclasses.fields(self._before):
            setattr(self._ours, field.name, getattr(self._before, field.name))
        if dynamo._stance is self._ours:
            dynamo._set_stance(self._before)
        self._ours = None
