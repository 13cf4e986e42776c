"""Work of our own in the midst of a training, unseen by what its user has put into torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch._C import _len_torch_dispatch_stack, _len_torch_function_stack
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode

T = TypeVar("T")


class _Aside(threading.local):
    """Dispatch modes that are off the stack of this thread while our own work runs."""

    def __init__(self) -> None:
        self.modes: list[list[TorchDispatchMode]] = []


_aside = _Aside()
_INFRASTRUCTURE = (
    torch._C._TorchDispatchModeKey.FAKE,
    torch._C._TorchDispatchModeKey.PROXY,
    torch._C._TorchDispatchModeKey.FUNCTIONAL,
)


def modes_active() -> int:
    """Number of dispatch modes on the stack of this thread."""
    return _len_torch_dispatch_stack()


def _take_off() -> list[TorchDispatchMode]:
    """All modes from the stack, the topmost first."""
    return [_pop_mode() for _ in range(modes_active())]


def _put_back(modes: list[TorchDispatchMode]) -> None:
    for mode in reversed(modes):
        _push_mode(mode)


def lay_below(mode: TorchDispatchMode) -> None:
    """Put ``mode`` on the stack of this thread, below all others."""
    above = _take_off()
    _push_mode(mode)
    _put_back(above)


def withdraw(mode: TorchDispatchMode) -> bool:
    """Take ``mode`` off the stack of this thread, wherever it lies.

    Returns:
        Whether it was there. While a mode handles an operator torch keeps it elsewhere, to put it
        back afterwards.
    """
    for modes in _aside.modes:
        if mode in modes:
            modes.remove(mode)
            return True
    modes = _take_off()
    _put_back([other for other in modes if other is not mode])
    return mode in modes


def unseen(work: Callable[..., T], *args: Any) -> T:
    """Run ``work(*args)`` so that no mode sees its operators, and neither autocast nor autograd.

    Modes and hooks of the user would otherwise count, record or change what is only ours.
    """
    modes = _take_off()
    _aside.modes.append(modes)
    try:
        with torch._C.DisableTorchFunction(), torch._C._DisableAutocast(), torch.no_grad():
            return work(*args)
    finally:
        _aside.modes.pop()
        _put_back(modes)


def alone() -> bool:
    """Whether there is no mode that could see anything."""
    return not (_len_torch_dispatch_stack() or _len_torch_function_stack())


def simulated() -> bool:
    """Whether operators are being recorded, transformed or imitated rather than simply run.

    So it is under ``torch.jit.trace``, ``torch.export``, ``torch.func`` transforms and fake
    tensors. What goes through a model then is not its training data.
    """
    return (
        torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.compiler.is_compiling()
        or any(torch._C._get_dispatch_mode(key) is not None for key in _INFRASTRUCTURE)
    )
