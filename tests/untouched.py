"""What watching must leave as it was: everything a training holds, and everything around it."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import scipy.special  # noqa: F401 -- whose import adds a filter of warnings of its own
import torch
import torch._dynamo  # which every optimizer imports: its state is part of the surroundings
from torch import Tensor, nn
from torch.nn.modules import module as nn_module
from torch.optim import optimizer as optim
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.data import DataLoader

from workloads import Training

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_post_hooks",
)


def bits(value: Any, path: str = "") -> dict[str, object]:
    """Everything inside ``value``, flat, with tensors as their bytes."""
    if isinstance(value, nn.Module):
        return _of_module(value, path)
    if isinstance(value, torch.optim.Optimizer):
        hooks = (value._optimizer_step_pre_hooks, value._optimizer_step_post_hooks)
        return bits([value.state_dict(), *map(len, hooks)], path)
    if isinstance(value, Tensor):
        return {path: _of_tensor(value)}
    if isinstance(value, np.ndarray):
        return {path: (value.shape, value.dtype, value.tobytes())}
    if isinstance(value, Mapping):
        found: dict[str, object] = {path: [str(key) for key in value]}
        for key, entry in value.items():
            found |= bits(entry, f"{path}.{key}")
        return found
    if isinstance(value, list | tuple):
        return bits(dict(enumerate(value)), path)
    return {path: repr(value) if isinstance(value, float) else value}


def _of_tensor(tensor: Tensor) -> tuple[object, ...]:
    facts = (tensor.dtype, tensor.requires_grad, tensor.is_leaf, tensor.layout, tuple(tensor.shape))
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    return *facts, tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _of_module(module: nn.Module, path: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        found |= {f"{path}.{name}": _of_tensor(tensor)}
        found |= bits(tensor.grad, f"{path}.{name}.grad")
        hooks = (tensor._backward_hooks, getattr(tensor, "_post_accumulate_grad_hooks", None))
        found[f"{path}.{name} hooks"] = [len(one or ()) for one in hooks]
    for name, part in module.named_modules():
        found[f"{path}.{name} itself"] = (
            type(part).__qualname__,
            part.training,
            sorted(vars(part)),
        )
        found[f"{path}.{name} hooks"] = [len(getattr(part, kind)) for kind in HOOKS]
    return found


def of_training(training: Training) -> dict[str, object]:
    """Weights, buffers, gradients, flags, hooks, optimizers, other objects, random states."""
    random_states = (torch.get_rng_state(), np.random.get_state(), random.getstate())
    whole = (training.model, training.optimizer, dict(training.others), random_states)
    return bits(whole)


def surroundings() -> dict[str, object]:
    """The state of the process that a training shares with everybody else."""
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    module_hooks = [len(getattr(nn_module, name)) for name in vars(nn_module) if "_hooks" in name
                    and isinstance(getattr(nn_module, name), dict)]  # fmt: skip
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "defaults": (torch.get_default_dtype(), torch.get_default_device()),
        "autocast": [
            (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
            for kind in ("cpu", "cuda")
        ],
        "autocast cache": torch.is_autocast_cache_enabled(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "anomaly": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "dispatch modes": _get_current_dispatch_mode_stack(),
        "function modes": _get_current_function_mode_stack(),
        "stance": None if dynamo is None else dynamo._stance,
        "call": nn.Module.__call__,
        "backward": (torch.autograd.backward, torch.autograd.grad, Tensor.backward),
        "scale": vars(torch.amp.GradScaler)["scale"],
        "scaler step": vars(torch.amp.GradScaler)["step"],
        "loader": vars(DataLoader)["__iter__"],
        "optimizer": vars(torch.optim.Optimizer)["__init__"],
        "optimizer hooks": (
            len(optim._global_optimizer_pre_hooks),
            len(optim._global_optimizer_post_hooks),
        ),
        "module hooks": module_hooks,
        "warnings": list(warnings.filters),
        "numpy errors": np.geterr(),
        "logging": (logging.root.level, list(logging.root.handlers), logging.raiseExceptions),
        "collector": (gc.isenabled(), gc.get_threshold()),
        "import": (list(sys.meta_path), list(sys.path_hooks)),
        "exceptions": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
        "tracing": (sys.gettrace(), sys.getprofile()),
        "directory": os.getcwd(),
    }


def differences(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Where two of the above differ."""
    paths = dict.fromkeys((*one, *other))
    missing = object()
    return [path for path in paths if one.get(path, missing) != other.get(path, missing)]


def trained(
    build: Callable[[], Training],
    steps: int,
    watch: Callable[[], AbstractContextManager[object]] = nullcontext,
    leaves: bool = False,
) -> dict[str, object]:
    """State after a training; its surroundings are as before, unless it ``leaves`` something."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    before = surroundings()
    with watch():
        training = build()
        for _ in range(steps):
            training.step()
    changed = differences(before, surroundings())
    assert leaves or not changed, f"left behind: {changed}"
    return of_training(training)
