"""Puts a watcher's hooks into torch, and takes them away again.

Hooks are few and global, so that no model is touched: the optimizer's step hooks, the
construction of optimizers, ``torch.autograd.backward`` and ``GradScaler.scale``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from flatline.sense.watcher import Watcher


class _Patch:
    """Replaces an attribute, and puts the original back if nobody replaced it since."""

    def __init__(self, owner: Any, name: str, around: Callable[[Any], Any]) -> None:
        self._owner, self._name = owner, name
        self._original = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
        self._replacement = functools.wraps(self._original)(around(self._original))
        setattr(owner, name, self._replacement)

    def remove(self) -> None:
        """Put the original back."""
        if getattr(self._owner, self._name) is self._replacement:
            setattr(self._owner, self._name, self._original)


class Attachment:
    """The hooks of one watcher.

    Args:
        watcher: The watcher.
        optimizer: Watch only this optimizer; all that are built from now on when left out.
    """

    def __init__(self, watcher: Watcher, optimizer: torch.optim.Optimizer | None = None) -> None:
        self._watcher = watcher
        self._patches = [
            _Patch(torch.autograd, "backward", self._around_backward),
            _Patch(torch.amp.GradScaler, "scale", self._around_scale),
        ]
        if optimizer is None:
            self._patches.append(_Patch(torch.optim.Optimizer, "__init__", self._around_init))
            self._hooks = [
                register_optimizer_step_pre_hook(watcher.before_step),
                register_optimizer_step_post_hook(watcher.after_step),
            ]
        else:
            self._hooks = [
                optimizer.register_step_pre_hook(watcher.before_step),
                optimizer.register_step_post_hook(watcher.after_step),
            ]
            watcher.built(optimizer)

    def remove(self) -> None:
        """Take every hook away."""
        for patch in self._patches:
            patch.remove()
        for hook in self._hooks:
            hook.remove()

    def _around_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        watcher = self._watcher

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            watcher.before_backward(tensors)
            out = original(tensors, *args, **kwargs)
            watcher.after_backward()
            return out

        return backward

    def _around_scale(self, original: Callable[..., Any]) -> Callable[..., Any]:
        watcher = self._watcher

        def scale(scaler: Any, outputs: Any) -> Any:
            out = original(scaler, outputs)
            watcher.guard("taps", watcher.taps.scaled, out, outputs)
            return out

        return scale

    def _around_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        watcher = self._watcher

        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            watcher.built(optimizer)

        return __init__
