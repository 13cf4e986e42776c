"""Puts a watcher's hooks into torch, and takes them away again.

Hooks are few and global, so that no model is touched: the optimizer's step hooks, the
construction of optimizers, ``torch.autograd.backward``, ``GradScaler.scale`` and ``step``, and
``DataLoader.__iter__``. Everything that reaches the watcher passes through
:meth:`Attachment._tell`, which lets no fault out.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch._C._dynamo.eval_frame import get_eval_frame_callback
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle

from flatline.sense.patch import Patch, skip
from flatline.sense.stride import Stride
from flatline.sense.underway import Underway
from flatline.sense.unseen import alone, unseen
from flatline.sense.watcher import Watcher

_log = logging.getLogger("flatline")


class Attachment:
    """The hooks of one watcher.

    Args:
        watcher: The watcher.
        optimizer: Watch only this optimizer; all that are built from now on when left out.
    """

    def __init__(self, watcher: Watcher, optimizer: torch.optim.Optimizer | None = None) -> None:
        self._watcher = watcher
        self._off = False
        self._patches: list[Patch] = []
        self._hooks: list[RemovableHandle] = []
        try:
            self._attach(optimizer)
        except Exception:
            self.remove()
            raise
        _attached.add(self)

    def _attach(self, optimizer: torch.optim.Optimizer | None) -> None:
        for owner, name, around in (
            (torch.autograd, "backward", self._around_backward),
            (torch.amp.GradScaler, "scale", self._around_scale),
            (torch.amp.GradScaler, "step", self._around_scaler_step),
            (DataLoader, "__iter__", self._around_iter),
        ):
            self._patches.append(Patch(owner, name, around))
        before, after = self._step_hooks()
        if optimizer is None:
            self._patches.append(Patch(torch.optim.Optimizer, "__init__", self._around_init))
            self._hooks.append(register_optimizer_step_pre_hook(before))
            self._hooks.append(register_optimizer_step_post_hook(after))
        else:
            self._hooks.append(optimizer.register_step_pre_hook(before))
            self._hooks.append(optimizer.register_step_post_hook(after))
            self._tell(self._watcher.built, optimizer)

    def remove(self) -> None:
        """Take every hook away."""
        self._off = True
        for hook in self._hooks:
            hook.remove()
        for patch in self._patches:
            patch.remove()

    def abandon(self) -> None:
        """Leave nothing behind in a process that was forked in the midst of a training."""
        self.remove()
        self._watcher.close()

    def _tell(self, work: Callable[..., None], *args: Any) -> None:
        """Let the watcher know, unseen by the user's modes; whatever fails stays here."""
        if torch.compiler.is_compiling() or self._off:
            return
        if get_eval_frame_callback() not in (None, False):
            self._watcher.unheard += 1  # compiled code is running, which is left alone
            return
        try:
            if alone():
                work(*args)
            else:
                unseen(work, *args)
        except Exception as error:
            self._give_up(error)

    skip(_tell.__code__)

    def _step_hooks(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """What runs before and after every step of an optimizer."""
        watcher, tell, strides = self._watcher, self._tell, self._strides
        heard, underway = self._heard, Underway()

        def before(*call: Any) -> None:
            if not heard(underway.begin, call[0]):
                return
            if not strides(Stride.beat, *call):
                tell(watcher.before_step, *call)

        def after(*call: Any) -> None:
            if not heard(underway.end, call[0]):
                return
            if watcher.stride is None:
                tell(watcher.after_step, *call)

        for code in (before, after, Underway.begin, Underway.end, Underway._forget):
            skip(code.__code__)
        return before, after

    def _heard(
        self, work: Callable[[torch.optim.Optimizer], bool], optimizer: torch.optim.Optimizer
    ) -> bool:
        """Whether the beginning or the end of a step is one that counts."""
        if torch.compiler.is_compiling() or self._off:
            return False
        try:
            return work(optimizer)
        except Exception as error:
            self._give_up(error)
            return False

    skip(_heard.__code__)

    def _strides(self, work: Callable[..., bool], *args: Any) -> bool:
        """Whether a stride is under way for which ``work(stride, *args)`` is all there is to do."""
        stride = self._watcher.stride
        if stride is None or torch.compiler.is_compiling() or self._off:
            return False
        if get_eval_frame_callback() not in (None, False):
            return False
        try:
            return work(stride, *args)
        except Exception as error:
            self._give_up(error)
            return True

    skip(_strides.__code__)

    def _give_up(self, error: Exception) -> None:
        """Tell the watcher nothing more: something failed that its own guards did not hold."""
        self._off = True
        try:
            self._watcher.guard.lose("hooks", error)
        except Exception:
            what = "everything after this step"
            self._watcher.guard.losses.append((what, f"a fault inside flatline: {error!r}"))
            _log.warning("flatline no longer sees %s: a fault inside flatline: %r", what, error)

    def _around_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        watcher, tell, strides = self._watcher, self._tell, self._strides

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if not strides(Stride.backward, tensors):
                tell(watcher.before_backward, tensors)
            out = original(tensors, *args, **kwargs)
            if watcher.stride is None:
                tell(watcher.after_backward)
            return out

        return backward

    def _around_scale(self, original: Callable[..., Any]) -> Callable[..., Any]:
        watcher, tell = self._watcher, self._tell

        def scale(scaler: Any, outputs: Any) -> Any:
            out = original(scaler, outputs)
            tell(watcher.scaled, out, outputs)
            return out

        return scale

    def _around_scaler_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        watcher, tell = self._watcher, self._tell

        def step(*args: Any, **kwargs: Any) -> Any:
            out = original(*args, **kwargs)
            tell(watcher.scaler_stepped)
            return out

        return step

    def _around_iter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        watcher, tell = self._watcher, self._tell

        def __iter__(loader: Any) -> Any:
            tell(watcher.loading, loader)
            return original(loader)

        return __iter__

    def _around_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        watcher, tell = self._watcher, self._tell

        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            tell(watcher.built, optimizer)

        return __init__


_attached: weakref.WeakSet[Attachment] = weakref.WeakSet()


def _abandon_all() -> None:
    for attachment in list(_attached):
        attachment.abandon()


os.register_at_fork(after_in_child=_abandon_all)
