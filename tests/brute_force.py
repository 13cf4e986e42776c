"""The truth about a workload, by keeping every activation of every step.

Nothing of flatline is used: plain module hooks watch a second, identical build of the workload at
the places its probes name, and the slope of each activation comes from autograd.

Definitions. A step is one call of ``training.step()``, counted from 0. All forward passes of a
step that record gradients count (micro-batches, closure calls, both passes of a GAN); recomputation
in a checkpointed backward and passes under ``no_grad`` do not. An example is one row of axis 0. A
unit fires on an example when, at any position of it, φ'(z) ≠ 0 for a piecewise-linear φ and
|φ'(z)| > 1 % of max |φ'| for a smooth one; for a recurrent cell, whose z is out of sight, when
|h| < √0.99, where the slope of tanh is 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from workloads import Probe, Training, Workload

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
PIECEWISE_LINEAR = {"relu", "relu6", "leaky_relu"}
RECURRENT = {"lstm", "gru"}


@dataclass
class SiteTruth:
    """What happened at one site; arrays are ``(steps, units)`` unless said otherwise.

    Attributes:
        fired: Examples of each step on which the unit fired.
        examples: Examples of each step, ``(steps,)``.
        z_min: Smallest pre-activation of each step (of h for a recurrent cell).
        z_max: Largest pre-activation of each step (of h for a recurrent cell).
        h_min: Smallest activation of each step.
        h_max: Largest activation of each step.
        h_abs: Sum over the step's examples of the mean over positions of ``|h|``.
    """

    fired: npt.NDArray[np.int64]
    examples: npt.NDArray[np.int64]
    z_min: npt.NDArray[np.float64]
    z_max: npt.NDArray[np.float64]
    h_min: npt.NDArray[np.float64]
    h_max: npt.NDArray[np.float64]
    h_abs: npt.NDArray[np.float64]

    @property
    def last_life(self) -> npt.NDArray[np.int64]:
        """The last step on which each unit fired on any example; -1 when it never did."""
        steps = np.arange(len(self.fired))[:, None]
        return np.where(self.fired > 0, steps, -1).max(axis=0)

    @property
    def silent_examples(self) -> npt.NDArray[np.int64]:
        """Examples seen by each unit after ``last_life``."""
        after = np.concatenate([np.cumsum(self.examples[::-1])[::-1], [0]])
        return after[self.last_life + 1]

    def dead(self, since: int) -> npt.NDArray[np.bool_]:
        """Units that fired on no example, and did not vary, in the steps from ``since`` on."""
        silent = (self.fired[since:] == 0).all(axis=0)
        low, high = self.h_min[since:].min(axis=0), self.h_max[since:].max(axis=0)
        rounding = np.finfo(np.float32).eps * np.maximum(np.abs(low), np.abs(high))
        return silent & (high - low <= rounding)


def truth(workload: Workload) -> dict[str, SiteTruth]:
    """Build the workload anew, train it, and report every probe by its name."""
    training = (workload.eager or workload.build)()
    watchers = [Watcher(probe, training) for probe in workload.probes]
    for _ in range(workload.steps):
        training.step()
        for watcher in watchers:
            watcher.end_step()
    return {watcher.probe.name: watcher.result() for watcher in watchers}


class Watcher:
    """Collects, through one hook, what one probe sees."""

    def __init__(self, probe: Probe, training: Training) -> None:
        self.probe = probe
        self.calls: list[Tensor] = []
        self.rows: list[tuple[npt.NDArray[np.float64], ...]] = []
        module = training.model.get_submodule(probe.watch or probe.name)
        if probe.side == "input":
            module.register_forward_pre_hook(lambda _, args: self.see(args[0]))
        else:
            module.register_forward_hook(lambda _, args, out: self.see(out))

    def see(self, seen: Tensor | tuple[Tensor, ...]) -> None:
        """Note one forward pass."""
        recomputed = torch._C._current_graph_task_id() != -1
        if recomputed or not torch.is_grad_enabled():
            return
        # A copy: the activation may be about to overwrite it. It is read at the end of the step,
        # since autograd inside a checkpointed block would disturb the block.
        self.calls.append((seen[0] if isinstance(seen, tuple) else seen).detach().clone())

    def end_step(self) -> None:
        """Reduce the calls of one step."""
        read = [self.read_call(call) for call in self.calls]
        fired, z_min, z_max, h_min, h_max, h_abs = map(np.concatenate, zip(*read, strict=True))
        examples = np.int64(len(fired))
        extrema = z_min.min(axis=0), z_max.max(axis=0), h_min.min(axis=0), h_max.max(axis=0)
        self.rows.append((fired.sum(axis=0), examples, *extrema, h_abs.sum(axis=0)))
        self.calls.clear()

    def read_call(self, seen: Tensor) -> tuple[npt.NDArray[np.float64], ...]:
        """Fired, extrema of z and h, and mean |h|, one row per example of a forward pass."""
        rows = seen.movedim(self.probe.axis, -1).flatten(1, -2) if seen.dim() > 2 else seen[:, None]
        factor = torch.ones(())
        if self.probe.half is not None:
            halves = rows.chunk(2, dim=-1)
            rows, factor = halves[self.probe.half], halves[1 - self.probe.half]
        z, h, alive = read(rows, self.probe)
        z, h = z.double(), (h * factor).double()
        extrema = z.amin(dim=1), z.amax(dim=1), h.amin(dim=1), h.amax(dim=1)
        columns = alive.any(dim=1).double(), *extrema, h.abs().mean(dim=1)
        return tuple(column.numpy() for column in columns)

    def result(self) -> SiteTruth:
        """All steps, stacked."""
        fired, examples, *rest = map(np.stack, zip(*self.rows, strict=True))
        return SiteTruth(fired.astype(np.int64), examples, *rest)


def read(seen: Tensor, probe: Probe) -> tuple[Tensor, Tensor, Tensor]:
    """z, h and whether each position fired."""
    if probe.activation in RECURRENT:
        return seen, seen, seen.abs() < math.sqrt(0.99)
    function = FUNCTIONS[probe.activation]
    with torch.enable_grad():
        z = seen.clone().requires_grad_()
        h = function(z, *probe.constants)
        (slope,) = torch.autograd.grad(h.sum(), z)
    if probe.activation in PIECEWISE_LINEAR:
        return seen, h.detach(), slope != 0
    return seen, h.detach(), slope.abs() > 0.01 * steepest(probe.activation, probe.constants)


@cache
def steepest(activation: str, constants: tuple[float, ...]) -> float:
    """The largest |φ'|, on a fine grid."""
    with torch.enable_grad():
        z = torch.linspace(-30, 30, 600_001, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(FUNCTIONS[activation](z, *constants).sum(), z)
    return float(slope.abs().max())
