"""What a watched training shows of each site: shares of units, ranks, moments. No verdicts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from .data import Task
from .watch import RAILED, SLOPED, Bool, SiteLog, Watch


def dead(site: SiteLog) -> Bool:
    """Silent at the end on enough examples, with an output that does not vary."""
    return site.dead


def born_dead(site: SiteLog) -> Bool:
    """Dead, and never alive."""
    return site.dead & (site.last_life < 0)


def died(site: SiteLog) -> Bool:
    """Dead, and once alive."""
    return site.dead & (site.last_life >= 0)


def saturated(site: SiteLog) -> Bool:
    """On a rail for 95 % of the last examples, of a nonlinearity that has rails."""
    if not isinstance(site.act, RAILED):
        return np.zeros(site.units, bool)
    start = site.window
    weight = site.examples[start:, None] / site.examples[start:].sum()
    railed: Bool = (site.railed[start:] * weight).sum(0) >= 0.95
    return railed


def constant(site: SiteLog) -> Bool:
    """The output did not vary in the last steps, dead or not."""
    start = site.window
    spread = site.high[start:].max(0) - site.low[start:].min(0)
    typical = site.size[start:].mean()
    same: Bool = spread <= 1e-6 * typical
    return same | (spread == 0)


def duplicates(site: SiteLog) -> Bool:
    """All but the first of each group of units with one and the same varying pre-activation."""
    z = site.z.double()
    if not len(z):
        return np.zeros(site.units, bool)
    scale = z.abs().amax(0).clamp_min(1e-30)
    varies = (z.amax(0) - z.amin(0)) > 1e-6 * scale
    copy = torch.zeros(site.units, dtype=torch.bool)
    for unit in range(1, site.units):
        gap = (z[:, :unit] - z[:, unit : unit + 1]).abs().amax(0)
        copy[unit] = bool(((gap <= 1e-5 * scale[unit]) & varies[unit]).any())
    return copy.numpy()


def dormant(site: SiteLog) -> Bool:
    """Gives at most 2.5 % of what the site's units give on average."""
    size = site.size[site.window :].mean(0)
    quiet: Bool = size <= 0.025 * size.mean()
    return quiet & ~site.dead


def linear(site: SiteLog) -> Bool:
    """A piecewise-linear unit that lay on one straight piece for all the last examples."""
    if type(site.act) not in SLOPED or isinstance(site.act, nn.LeakyReLU | nn.PReLU):
        return np.zeros(site.units, bool)
    straight: Bool = site.straight[site.window :].all(0)
    return straight


def sick(site: SiteLog) -> Bool:
    """Dead, saturated, constant or a copy."""
    return site.dead | saturated(site) | constant(site) | duplicates(site)


def effective_rank(site: SiteLog, centred: bool = False) -> float:
    """Exponential of the entropy of the singular values of the activations."""
    h = site.h.double()
    h = h - h.mean(0) if centred else h
    if not torch.isfinite(h).all() or not len(h):
        return float("nan")
    values = torch.linalg.svdvals(h)
    share = values / values.sum().clamp_min(1e-300)
    return float(torch.exp(-(share * share.clamp_min(1e-300).log()).sum()))


def worst(watch: Watch, which: Callable[[SiteLog], Bool]) -> float:
    """The largest share of such units at any site with at least 8 units, or all of a smaller."""
    shares = ((site.units, float(which(site).mean())) for site in watch.sites.values())
    return max((share for units, share in shares if units >= 8 or share == 1), default=0.0)


def still(site: SiteLog) -> Bool:
    """Whether the output is the same for all examples with the final weights."""
    same: Bool = (site.h.amax(0) == site.h.amin(0)).numpy()
    return same


def weights(watch: Watch) -> list[str]:
    """Names of the weight matrices in the order of the model."""
    return [n for n, p in watch.training.model.named_parameters() if p.dim() > 1]


def idle(task: Task) -> int:
    """Number of input features that are the same in all training examples."""
    inputs = task.train[0]
    if not inputs.is_floating_point():
        return 0
    x = inputs.flatten(1)
    return int((x == x[:1]).all(0).sum())


def codes(watch: Watch) -> frozenset[str]:
    """Codes about states of units that are true of at least a few units of some site."""
    shares = {
        "born-dead": born_dead,
        "dying-relu": died,
        "saturation": saturated,
        "duplicate-units": duplicates,
        "dormant-units": dormant,
        "linear-units": linear,
    }
    found = {code for code, which in shares.items() if worst(watch, which) > 0.02}
    found |= {"constant-input"} if idle(watch.training.task) else set()
    found |= {"unvisited-units"} if watch.unvisited else set()
    return frozenset(found)
