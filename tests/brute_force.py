"""The truth about a workload, by keeping every activation of every step.

Nothing of flatline is used: plain module hooks watch a second, identical build of the workload at
the places its probes name, and the slope of each activation comes from autograd.

Definitions. A step is one call of ``training.step()``, counted from 0. All forward passes of a
step that record gradients count (micro-batches, closure calls, both passes of a GAN); recomputation
in a checkpointed backward and passes under ``no_grad`` do not. A forward pass is one call of an
outermost module; an example is one row of axis 0 of such a pass, and all that happens to it inside
the pass (pixels, tokens, several calls of a shared layer) are positions of it. A unit fires on an
example when, at any position of it, φ'(z) ≠ 0 for a piecewise-linear φ and |φ'(z)| > 1 % of
max |φ'| for a smooth one; for a recurrent cell, whose z is out of sight, when |h| < √0.99, where
the slope of tanh is 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, reduce

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads import WORKLOADS, Probe, Training, Workload

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
PIECEWISE_LINEAR = {"relu", "relu6", "hardtanh", "leaky_relu"}
#: Where a saturating φ is on a rail rather than off.
RAILS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu6": lambda z: z >= 6,
    "hardtanh": lambda z: z.abs() >= 1,
    "elu": lambda z: z < 0,
    "sigmoid": torch.ones_like,
    "tanh": torch.ones_like,
    "lstm": torch.ones_like,
    "gru": torch.ones_like,
}
RECURRENT = {"lstm", "gru"}
ONE_PERCENT = 0.01


@dataclass
class Pass:
    """One forward pass at one site; arrays are ``(examples, positions, units)``.

    Attributes:
        z: Pre-activations (h for a recurrent cell).
        h: Activations, with the gate's factor where there is one.
        steep: Where the slope counts as not 0.
        railed: Where the unit sits on a rail.
    """

    z: Tensor
    h: Tensor
    steep: Tensor
    railed: Tensor

    def beside(self, other: Pass) -> Pass:
        """The same examples, called once more."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Pass(*(torch.cat(pair, dim=1) for pair in pairs))


@dataclass
class SiteTruth:
    """What happened at one site; arrays are ``(steps, units)`` unless said otherwise.

    Attributes:
        passes: The forward passes of each step.
        weights: The feeding weight before each step, its gradient, and the weight after the step,
            one row per unit; empty where no plain matrix feeds the site.
        fired: Examples of each step on which the unit fired.
        railed: Examples of each step on which the unit was on a rail at every position.
        examples: Examples of each step, ``(steps,)``.
        z_min: Smallest pre-activation of each step (of h for a recurrent cell).
        z_max: Largest pre-activation of each step (of h for a recurrent cell).
        h_min: Smallest activation of each step.
        h_max: Largest activation of each step.
        h_abs: Sum over the step's examples of the mean over positions of ``|h|``.
        z_sum: The same of ``z``.
        z_sq: The same of ``z**2``.
    """

    passes: list[list[Pass]]
    weights: list[tuple[Tensor, Tensor, Tensor]]
    fired: npt.NDArray[np.int64]
    railed: npt.NDArray[np.int64]
    examples: npt.NDArray[np.int64]
    z_min: npt.NDArray[np.float64]
    z_max: npt.NDArray[np.float64]
    h_min: npt.NDArray[np.float64]
    h_max: npt.NDArray[np.float64]
    h_abs: npt.NDArray[np.float64]
    z_sum: npt.NDArray[np.float64]
    z_sq: npt.NDArray[np.float64]

    @property
    def units(self) -> int:
        """Number of units."""
        return self.fired.shape[1]

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

    def gradients(self) -> npt.NDArray[np.float64]:
        """Root mean square of the gradient of each unit's feeding weights."""
        rows = [grad.double().square().mean(dim=1).sqrt() for _, grad, _ in self.weights]
        return np.stack([row.numpy() for row in rows])

    def updates(self) -> npt.NDArray[np.float64]:
        """Relative size of the update of each unit's feeding weights."""
        moved = [
            ((after - before).double().norm(dim=1) / before.double().norm(dim=1)).numpy()
            for before, _, after in self.weights
        ]
        return np.stack(moved)

    def states(self, steps: Sequence[int], activation: str) -> list[str]:
        """The state of each unit on the examples of ``steps``, read off the contract.

        Left out are ``unvisited``, and what needs the rest of the model: ``starved`` and
        ``ignored``.
        """
        passes = [one for step in steps for one in self.passes[step]]
        z, h = (torch.cat([getattr(p, k).flatten(0, 1) for p in passes]) for k in "zh")
        examples = self.examples[steps].sum()
        mean = self.h_abs[steps].sum(axis=0) / examples
        typical = float(mean[np.isfinite(mean)].mean()) if np.isfinite(mean).any() else 0.0
        pieces = {"relu": [0], "leaky_relu": [0], "relu6": [0, 6]}.get(activation)
        found = []
        for u in range(self.units):
            span = float(h[:, u].double().max() - h[:, u].double().min())
            rounding = np.finfo(np.float32).eps * float(h[:, u].abs().max())
            fired = self.fired[steps, u].sum()
            if not (z[:, u].isfinite().all() and h[:, u].isfinite().all()):
                found.append("nonfinite")
            elif fired == 0 and span <= rounding:
                found.append("dead")
            elif activation in RAILS and self.railed[steps, u].sum() >= 0.95 * examples:
                found.append("saturated")
            elif span <= 1e-6 * typical and fired:
                found.append("constant")
            elif (same(z[:, :u], z[:, u])).any():
                found.append("duplicate")
            elif mean[u] <= 0.025 * typical:
                found.append("dormant")
            elif pieces and one_piece(z[:, u], pieces, activation):
                found.append("linear")
            else:
                found.append("healthy")
        return found


def same(z: Tensor, of: Tensor) -> Tensor:
    """Which columns of ``z`` equal ``of`` up to 1e-5 relative on every row."""
    return ((z - of[:, None]).abs() <= 1e-5 * of.abs()[:, None]).all(dim=0)


def one_piece(z: Tensor, pieces: list[float], activation: str) -> bool:
    """Whether all of ``z`` lies inside one piece of φ whose slope is not 0."""
    ends = [-math.inf, *pieces, math.inf]
    sloped = [1] if activation in ("relu", "relu6") else range(len(ends) - 1)
    return any(bool(((z > ends[i]) & (z < ends[i + 1])).all()) for i in sloped)


def truth(workload: Workload) -> dict[str, SiteTruth]:
    """Build the workload anew, train it, and report every probe by its name."""
    training = (workload.eager or workload.build)()
    counter = Counter(training.model)
    watchers = [Watcher(probe, training, counter) for probe in workload.probes]
    for _ in range(workload.steps):
        training.step()
        for watcher in watchers:
            watcher.end_step()
    return {watcher.probe.name: watcher.result() for watcher in watchers}


@cache
def known_truth(name: str) -> dict[str, SiteTruth]:
    """The truth about a workload, computed once."""
    return truth(WORKLOADS[name])


class Counter:
    """Numbers the forward passes: calls of modules that no other module of the model made."""

    def __init__(self, model: nn.Module) -> None:
        self.number = self._depth = 0
        for module in model.modules():
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave, always_call=True)

    def _enter(self, *_: object) -> None:
        self.number += self._depth == 0
        self._depth += 1

    def _leave(self, *_: object) -> None:
        self._depth -= 1


class Watcher:
    """Collects, through one hook or two, what one probe sees."""

    def __init__(self, probe: Probe, training: Training, counter: Counter) -> None:
        self.probe = probe
        self.counter = counter
        self.calls: list[tuple[int, Tensor]] = []
        self.factors: list[Tensor] = []
        self.passes: list[list[Pass]] = []
        self.weights: list[tuple[Tensor, Tensor, Tensor]] = []
        module = training.model.get_submodule(probe.watch or probe.name)
        if probe.side == "input":
            module.register_forward_pre_hook(lambda _, args: self.see(args[0]))
        else:
            module.register_forward_hook(lambda _, args, out: self.see(out))
        if probe.times:
            factor = training.model.get_submodule(probe.times)
            factor.register_forward_hook(lambda _, args, out: self.factors.append(out.detach()))
        self.follow(training, module)

    def follow(self, training: Training, module: nn.Module) -> None:
        """Keep the feeding weight before and after each step, and its gradient."""
        weight = getattr(module, "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.ndim < 2:
            return
        axis = int(isinstance(module, nn.modules.conv._ConvTransposeNd))

        def rows(x: Tensor) -> Tensor:
            x = x.detach().movedim(axis, 0).flatten(1).clone()
            return x if self.probe.half is None else x.chunk(2)[self.probe.half]

        held: list[Tensor] = []
        others = [o for o in training.others.values() if isinstance(o, torch.optim.Optimizer)]
        for optimizer in [training.optimizer, *others]:
            owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
            if id(weight) in owned:

                def before(*_: object) -> None:
                    held[:] = [rows(weight)]

                def after(*_: object) -> None:
                    # A closure makes the gradients inside the step.
                    self.weights.append((held[0], rows(weight.grad), rows(weight)))

                optimizer.register_step_pre_hook(before)
                optimizer.register_step_post_hook(after)

    def see(self, seen: Tensor | tuple[Tensor, ...]) -> None:
        """Note one call."""
        recomputed = torch._C._current_graph_task_id() != -1
        if recomputed or not torch.is_grad_enabled():
            return
        # A copy: the activation may be about to overwrite it. It is read at the end of the step,
        # since autograd inside a checkpointed block would disturb the block.
        seen = seen[0] if isinstance(seen, tuple) else seen
        self.calls.append((self.counter.number, seen.detach().clone()))

    def end_step(self) -> None:
        """Sort the calls of one step into forward passes."""
        passes: dict[int, Pass] = {}
        for i, (number, seen) in enumerate(self.calls):
            call = self.read(seen, self.factors[i] if self.factors else torch.ones(()))
            passes[number] = passes[number].beside(call) if number in passes else call
        self.passes.append([*passes.values()])
        self.calls.clear()
        self.factors.clear()

    def read(self, seen: Tensor, factor: Tensor) -> Pass:
        """One call as ``(examples, positions, units)``."""
        rows = seen.movedim(self.probe.axis, -1).flatten(1, -2) if seen.dim() > 2 else seen[:, None]
        if self.probe.times:
            factor = factor.reshape(rows.shape)
        if self.probe.half is not None:
            halves = rows.chunk(2, dim=-1)
            rows, factor = halves[self.probe.half], halves[1 - self.probe.half]
        h, steep = bend(rows, self.probe)
        on_rail = RAILS.get(self.probe.activation, torch.zeros_like)(rows).bool()
        return Pass(rows.float(), (h * factor).float(), steep, on_rail & ~steep)

    def result(self) -> SiteTruth:
        """All steps, stacked."""
        columns = zip(*(reduce_step(passes) for passes in self.passes), strict=True)
        fired, railed, examples, *rest = map(np.stack, columns)
        counts = fired.astype(np.int64), railed.astype(np.int64), examples.astype(np.int64)
        return SiteTruth(self.passes, self.weights, *counts, *rest)


def reduce_step(passes: Iterable[Pass]) -> tuple[npt.NDArray[np.float64], ...]:
    """Everything that :class:`SiteTruth` says of one step."""

    def over_passes(
        join: Callable[[Tensor, Tensor], Tensor], of: Callable[[Pass], Tensor]
    ) -> npt.NDArray[np.float64]:
        return reduce(join, map(of, passes)).double().numpy()

    def means(of: Callable[[Pass], Tensor]) -> npt.NDArray[np.float64]:
        return over_passes(torch.add, lambda p: of(p).mean(dim=1).sum(dim=0))

    return (
        over_passes(torch.add, lambda p: p.steep.any(dim=1).sum(dim=0)),
        over_passes(torch.add, lambda p: p.railed.all(dim=1).sum(dim=0)),
        over_passes(torch.add, lambda p: torch.tensor(len(p.z))),
        over_passes(torch.minimum, lambda p: -highest(-p.z)),
        over_passes(torch.maximum, lambda p: highest(p.z)),
        over_passes(torch.minimum, lambda p: -highest(-p.h)),
        over_passes(torch.maximum, lambda p: highest(p.h)),
        means(lambda p: p.h.double().abs()),
        means(lambda p: p.z.double()),
        means(lambda p: p.z.double().square()),
    )


def highest(x: Tensor) -> Tensor:
    """The largest number of each unit; -inf where there is none."""
    return x.amax(dim=(0, 1)) if x.numel() else x.new_full(x.shape[2:], -math.inf)


def bend(z: Tensor, probe: Probe) -> tuple[Tensor, Tensor]:
    """h, and where the slope counts as not 0."""
    if probe.activation in RECURRENT:
        return z, z.abs() < math.sqrt(1 - ONE_PERCENT)
    function = FUNCTIONS[probe.activation]
    with torch.enable_grad():
        at = z.clone().requires_grad_()
        h = function(at, *probe.constants)
        (slope,) = torch.autograd.grad(h.sum(), at)
    if probe.activation in PIECEWISE_LINEAR:
        return h.detach(), (slope != 0) & ~z.isnan()
    least = ONE_PERCENT * steepest(probe.activation, probe.constants)
    return h.detach(), slope.abs() > least


@cache
def steepest(activation: str, constants: tuple[float, ...]) -> float:
    """The largest |φ'|, on a fine grid."""
    with torch.enable_grad():
        z = torch.linspace(-30, 30, 600_001, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(FUNCTIONS[activation](z, *constants).sum(), z)
    return float(slope.abs().max())
