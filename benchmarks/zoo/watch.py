"""Everything that happened in a training, by plain hooks: every activation of every step.

Nothing of flatline is used. A site is named after the module with parameters that ran last before
its nonlinearity. A step is one update, counted from 0; an example is one row of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .nets import Exp
from .training import Training

Array = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

#: Where a piecewise-linear nonlinearity has a slope other than 0.
SLOPED: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: lambda z: z > 0,
    nn.ReLU6: lambda z: (z > 0) & (z < 6),
    nn.Hardtanh: lambda z: z.abs() < 1,
    nn.LeakyReLU: lambda z: torch.ones_like(z, dtype=torch.bool),
    nn.PReLU: lambda z: torch.ones_like(z, dtype=torch.bool),
}
SMOOTH = (nn.Tanh, nn.Sigmoid, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus, Exp)
ACTS = (*SLOPED, *SMOOTH)
RAILED = (nn.Tanh, nn.Sigmoid, nn.ReLU6, nn.Hardtanh)
#: Silence on so many examples bounds the firing rate by 1 % with 99 % confidence.
CERTAIN = 459


@dataclass
class SiteLog:
    """What happened at one site; arrays are ``(steps, units)`` unless said otherwise.

    Attributes:
        name: Name of the module that makes the pre-activation.
        act: The nonlinearity.
        fired: Share of the examples on which a unit fired.
        railed: Share of the examples on which it sat on an upper rail, or on either of two.
        examples: Examples, ``(steps,)``.
        low: Smallest activation.
        high: Largest activation.
        size: Mean of the absolute activation.
        straight: Whether every pre-activation lay where the slope is not 0.
        terms: Change of the mean pre-activation since the step before by the bias, by the weights
            and by the inputs, ``(steps, 3, units)``; empty where a normalisation stands between.
    """

    name: str
    act: nn.Module
    fired: Array
    railed: Array
    examples: npt.NDArray[np.int64]
    low: Array
    high: Array
    size: Array
    straight: Bool
    terms: Array
    finite: Bool
    z: Tensor = field(default_factory=lambda: torch.empty(0))
    h: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def units(self) -> int:
        """Number of units."""
        return self.fired.shape[1]

    @property
    def last_life(self) -> npt.NDArray[np.int64]:
        """The last step at which each unit fired; -1 when it never did."""
        steps = np.arange(len(self.fired))[:, None]
        return np.where(self.fired > 0, steps, -1).max(0)

    @property
    def dead(self) -> Bool:
        """Units that are silent at the end, and were on enough examples to be sure."""
        after = np.append(np.cumsum(self.examples[::-1])[::-1], 0)[self.last_life + 1]
        start = self.window
        flat = self.high[start:].max(0) - self.low[start:].min(0) <= 1e-6 * np.maximum(
            np.abs(self.high[start:]).max(0), np.abs(self.low[start:]).max(0)
        )
        return (after >= CERTAIN) & flat

    @property
    def window(self) -> int:
        """The step from which on enough examples follow to be sure."""
        after = np.cumsum(self.examples[::-1])[::-1]
        return max(int((after >= CERTAIN).sum()) - 1, 0)


class Watch:
    """Watches a training from its first step to its last.

    Attributes:
        losses: Loss of each step.
        sites: The sites, in the order in which they ran first.
        unvisited: Sites that no example reached.
        norms: Norm of the whole gradient at each step.
        gradients: Per parameter, the root mean square of its gradient at each step.
        updates: Per parameter, the size of each update relative to the parameter.
        rates: The largest learning rate at each step.
        stale: For each step, whether a gradient was left over from before.
        inputs: Squared norm of the mean input, and trace of its covariance, at each step.
        skill: Skill at the end.
        owned: Names of the parameters that the optimizer has.
        asks: Per parameter, whether it asks for a gradient.
        start: The parameters before the first step.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.rates: list[float] = []
        self.stale: list[bool] = []
        self.inputs: list[tuple[float, float]] = []
        self.gradients: dict[str, list[float]] = {}
        self.updates: dict[str, list[float]] = {}
        self.skill = math.nan
        self.owned: set[str] = set()
        self.asks: dict[str, bool] = {}
        self.start: dict[str, Tensor] = {}
        self._sites: dict[str, _Site] = {}
        self._last: tuple[str, nn.Module, Tensor] | None = None
        self._pass = 0
        self._keep = False
        self._named = dict(training.model.named_parameters())
        self._before: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def run(self, steps: int) -> Watch:
        """Train, and look at everything."""
        model, optimizer = self.training.model, self.training.optimizer
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.owned = {name for name, p in self._named.items() if id(p) in owned}
        self.asks = {name: p.requires_grad for name, p in self._named.items()}
        self.start = {name: p.detach().clone() for name, p in self._named.items()}
        self._handles = [
            model.register_forward_pre_hook(self._begin),
            optimizer.register_step_pre_hook(self._gradients),
            optimizer.register_step_post_hook(self._updates),
        ]
        for name, module in model.named_modules():
            if isinstance(module, ACTS):
                self._handles.append(module.register_forward_hook(self._activation))
            elif any(True for _ in module.parameters(recurse=False)):
                self._handles.append(module.register_forward_hook(self._producer(name)))
        for _ in range(steps):
            left = (p.grad for g in optimizer.param_groups for p in g["params"])
            self.stale.append(any(g is not None and bool(g.to_dense().any()) for g in left))
            self._entered = False
            self.losses.append(self.training.step())
            for site in self._sites.values():
                site.end_step(len(self.losses))
        self._examine()
        self.skill = self.training.skill()
        for handle in self._handles:
            handle.remove()
        self.sites = {name: site.log() for name, site in self._sites.items() if site.rows}
        self.unvisited = [name for name, site in self._sites.items() if not site.rows]
        return self

    def _begin(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._pass += 1
        self._last = None
        if not self._entered and args[0].is_floating_point():
            x = args[0].flatten(1).double()
            self.inputs.append((x.mean(0).square().sum().item(), x.var(0).sum().item()))
            self._entered = True

    def _producer(self, name: str) -> Callable[..., None]:
        def ran(module: nn.Module, args: tuple[Tensor, ...], _: object) -> None:
            self._last = name, module, args[0].detach()

        return ran

    def _activation(self, act: nn.Module, args: tuple[Tensor, ...], h: Tensor) -> None:
        if self._last is None or not (torch.is_grad_enabled() or self._keep):
            return
        name, module, x = self._last
        if name not in self._sites:
            self._sites[name] = _Site(name, act, module)
        z = args[0].detach()
        if self._keep:
            self._sites[name].keep(z, h.detach())
        else:
            self._sites[name].see(self._pass, x, z, h.detach())

    def _gradients(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self.rates.append(max(group["lr"] for group in optimizer.param_groups))
        total = 0.0
        for name, p in self._named.items():
            square = 0.0 if p.grad is None else p.grad.to_dense().square().sum().item()
            total += square
            self.gradients.setdefault(name, []).append(math.sqrt(square / p.numel()))
        self.norms.append(math.sqrt(total))
        self._before = {name: p.detach().clone() for name, p in self._named.items()}

    def _updates(self, *_: object) -> None:
        for name, p in self._named.items():
            before = self._before[name]
            change = (p.detach() - before).norm() / before.norm().clamp_min(1e-12)
            self.updates.setdefault(name, []).append(change.item())

    def _examine(self) -> None:
        """One pass over up to 512 training examples with the final weights."""
        self._keep = True
        model = self.training.model
        model.eval()
        with torch.no_grad():
            model(self.training.task.train[0][:512])
        model.train()
        self._keep = False


class _Site:
    """Collects the log of one site."""

    def __init__(self, name: str, act: nn.Module, producer: nn.Module) -> None:
        self.name, self.act, self.producer = name, act, producer
        self.calls: list[tuple[int, Tensor, Tensor, Tensor]] = []
        self.rows: list[tuple[Any, ...]] = []
        self.steps: list[int] = []
        self.terms: list[Array] = []
        self.previous: tuple[Tensor, Tensor, Tensor] | None = None
        self.kept: list[tuple[Tensor, Tensor]] = []

    def see(self, number: int, x: Tensor, z: Tensor, h: Tensor) -> None:
        self.calls.append((number, x, z, h))
        self._affine(x)

    def keep(self, z: Tensor, h: Tensor) -> None:
        self.kept.append((_positions(z).flatten(0, 1), _positions(h).flatten(0, 1)))

    def _affine(self, x: Tensor) -> None:
        """The parameters as they are in this forward pass, before the update changes them."""
        if not isinstance(self.producer, nn.Linear | nn.Conv2d) or len(self.calls) > 1:
            return
        weight = self.producer.weight.detach()
        weight = weight.sum((2, 3)) if weight.dim() == 4 else weight.clone()
        bias = self.producer.bias
        moved = torch.zeros(len(weight)) if bias is None else bias.detach().clone()
        # Of a convolution, the mean input is one number per channel: exact but for the borders.
        self.now = weight, moved, _positions(x).mean((0, 1))

    def end_step(self, step: int) -> None:
        if not self.calls:
            return
        merged = [self._merge(number) for number in sorted({call[0] for call in self.calls})]
        fired, railed, low, high, size, straight, finite = (
            torch.cat(column) for column in zip(*merged, strict=True)
        )
        self.calls.clear()
        if not len(fired):
            return  # a branch that no example took
        self.rows.append((
            fired.float().mean(0).numpy(), railed.float().mean(0).numpy(), len(fired),
            low.amin(0).numpy(), high.amax(0).numpy(), size.mean(0).numpy(),
            straight.all(0).numpy(), finite.all(0).numpy(),
        ))  # fmt: skip
        self.steps.append(step)
        if hasattr(self, "now"):
            weight, bias, x = self.now
            w, b, x0 = self.previous or self.now
            if weight.shape[1] == len(x):
                change = torch.stack([bias - b, (weight - w) @ x0, weight @ (x - x0)])
                self.terms.append(change.double().numpy())
            self.previous = self.now

    def _merge(self, number: int) -> tuple[Tensor, ...]:
        """Per example of one forward pass, what a unit did at all its positions and calls."""
        parts = [_positions(z) for n, _, z, _ in self.calls if n == number]
        outs = [_positions(h) for n, _, _, h in self.calls if n == number]
        z, h = torch.cat(parts, 1), torch.cat(outs, 1)
        sloped = slope(self.act, z)
        if isinstance(self.act, nn.ReLU6):
            railed = (z >= 6).all(1)
        else:
            railed = ~sloped.any(1) & isinstance(self.act, RAILED)
        return (
            sloped.any(1), railed, h.amin(1), h.amax(1), h.abs().mean(1), sloped.all(1),
            torch.isfinite(h).all(1),
        )  # fmt: skip

    def log(self) -> SiteLog:
        columns = [np.stack(column) for column in zip(*self.rows, strict=True)]
        fired, railed, examples, low, high, size, straight, finite = columns
        log = SiteLog(
            self.name, self.act, fired, railed, examples, low, high, size, straight,
            np.stack(self.terms) if self.terms else np.empty((0, 3, fired.shape[1])), finite,
        )  # fmt: skip
        if self.kept:
            log.z, log.h = (torch.cat(part) for part in zip(*self.kept, strict=True))
        return log


def _positions(seen: Tensor) -> Tensor:
    """``(examples, positions, units)``."""
    if seen.dim() == 4:
        return seen.flatten(2).transpose(1, 2)
    return seen[:, None] if seen.dim() == 2 else seen.flatten(1, -2)


def slope(act: nn.Module, z: Tensor) -> Tensor:
    """Where the nonlinearity passes a gradient on."""
    if type(act) in SLOPED:
        return SLOPED[type(act)](z)
    return _derivative(act, z).abs() > 0.01 * steepest(type(act))


def _derivative(act: nn.Module, z: Tensor) -> Tensor:
    with torch.enable_grad():
        at = z.clone().requires_grad_()
        (found,) = torch.autograd.grad(type(act)()(at).sum(), at)
    return found


@cache
def steepest(kind: type[nn.Module]) -> float:
    """The largest slope of a smooth nonlinearity."""
    if kind is Exp:
        return 0.0
    return _derivative(kind(), torch.linspace(-30, 30, 600_001)).abs().max().item()
