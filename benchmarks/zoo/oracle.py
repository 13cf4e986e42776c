"""Checks that each run is what its label says, by brute force and with no code of flatline.

For a fault: that it took and did the harm it is there for, beside the same training without it.
For planted deaths: which units died, when, and that what was planted is what killed them. For a
healthy run: that it learned and has none of the sick states above the shares that count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from . import facts
from .deaths import Death, deaths
from .fault import AT, layers
from .labels import Run
from .watch import Watch

#: Shares of a site's units from which a state is a warning, and from which it is critical.
WARNING, CRITICAL = 0.05, 0.30


@dataclass(frozen=True)
class Truth:
    """What brute force found about a run.

    Attributes:
        complaints: Where the run is not what its label says; empty for a sound zoo.
        deaths: Units that died of what was planted.
        last_life: Per site, the last step on which each unit fired; -1 for never.
        facts: Codes of states that a report may truly name, because units are in them.
        skill: How well the run learned.
    """

    complaints: tuple[str, ...]
    deaths: tuple[Death, ...]
    last_life: dict[str, list[int]]
    facts: frozenset[str]
    skill: float


@dataclass(frozen=True)
class Twin:
    """The same training without the fault."""

    skill: float
    loss: float


@cache
def twin(run: Run) -> Twin:
    """Train without a fault."""
    training = run.begin()
    losses = [training.step() for _ in range(run.steps)]
    return Twin(training.skill(), late(losses))


def late(losses: list[float]) -> float:
    """Median loss of the last quarter."""
    return float(np.median(losses[-len(losses) // 4 :]))


def learned(watch: Watch, run: Run) -> bool:
    """Whether it beats the baseline by the margin that its recipe states."""
    return math.isfinite(watch.losses[-1]) and watch.skill >= run.recipe.enough


def harmed(watch: Watch, run: Run) -> bool:
    """Whether it is worse than its twin: a tenth of the skill, or twice the loss."""
    plain = twin(run.twin)
    worse = watch.skill < plain.skill - 0.1 or late(watch.losses) > 2 * plain.loss + 0.02
    return worse or not math.isfinite(watch.losses[-1])


def scales(watch: Watch) -> list[float]:
    """Deviation of each hidden weight matrix at the start, beside He's."""
    model = watch.training.model
    names = {id(p): name for name, p in model.named_parameters()}
    return [
        watch.start[names[id(layer.weight)]].std().item() * math.sqrt(layer.weight[0].numel() / 2)
        for layer in layers(model)[:-1]
        if id(layer.weight) in names
    ]


def slope_ratio(watch: Watch, first: int = 20) -> float:
    """Gradient of the first weight matrix beside the last one's, early in training."""
    names = facts.weights(watch)
    size = [float(np.median(watch.gradients[name][:first])) for name in (names[0], names[-1])]
    return size[0] / max(size[1], 1e-300)


def equal_start(watch: Watch, run: Run) -> bool:
    """Some hidden weight matrix starts with all rows equal, and its units end as copies or dead."""
    start = (watch.start[name].flatten(1) for name in facts.weights(watch)[:-1])
    return any(bool((w == w[:1]).all()) for w in start) and facts.worst(watch, facts.sick) > 0.9


def small_start(watch: Watch, run: Run) -> bool:
    """Weights below 0.6 of He's, moments that shrink by 100 at least, and a net that is worse."""
    sites = list(watch.sites.values())
    shrinks = sites[-1].size[0].mean() < 0.1 * sites[0].size[0].mean()
    small = float(np.median(scales(watch))) < 0.6 and (shrinks or slope_ratio(watch) < 1e-2)
    return small and watch.skill < run.recipe.enough and harmed(watch, run)


def large_start(watch: Watch, run: Run) -> bool:
    """Weights of at least 1.8 times He's, a first loss far above the twin's last, and harm."""
    return float(np.median(scales(watch))) > 1.8 and harmed(watch, run)


def vanished(watch: Watch, run: Run) -> bool:
    """Weights of ordinary size, a gradient that falls to a hundredth, and no learning."""
    ordinary = float(np.median(scales(watch))) > 0.3
    return ordinary and slope_ratio(watch) < 1e-2 and watch.skill < 0.2


def exploded(watch: Watch, run: Run) -> bool:
    """A gradient 30 times as large as usual up to then, and harm or deaths by it."""
    norms = np.asarray(watch.norms)
    top = int(np.argmax(np.where(np.isfinite(norms), norms, 0)))
    usual = float(np.median(norms[:top])) if top else math.inf
    return norms[top] > 30 * usual and (harmed(watch, run) or facts.worst(watch, facts.died) > 0.3)


def leapt(watch: Watch, run: Run) -> bool:
    """Single updates of a tenth of a weight matrix or more, and harm that the twin has not."""
    top = max(max(watch.updates[name]) for name in facts.weights(watch))
    return not top < 0.1 and harmed(watch, run)


def crept(watch: Watch, run: Run) -> bool:
    """Gradients as usual, updates below 1e-5 for the second half, and no learning to speak of."""
    half = len(watch.losses) // 2
    moved = [np.median(watch.updates[name][half:]) for name in facts.weights(watch)]
    return max(moved) < 1e-5 and float(np.median(watch.norms)) > 1e-2 and harmed(watch, run)


def unscaled(watch: Watch, run: Run) -> bool:
    """Inputs offset by more than their spread or of size above 10, and units driven aside."""
    mean, spread = np.median(watch.inputs[AT:], axis=0)
    size = math.sqrt((mean + spread) / run.recipe.task().shape.numel())
    site = next(iter(watch.sites.values()))
    aside = (facts.sick(site) | facts.linear(site)).mean()
    return (mean > spread or size > 10) and aside >= CRITICAL


def fell_upstream(watch: Watch, run: Run) -> bool:
    """A site whose units are all dead or still, behind one whose units are all dead."""
    sites = list(watch.sites.values())
    return any(
        before.dead.mean() > 0.9
        and facts.still(after).mean() > 0.9
        and after.dead.mean() >= CRITICAL
        for before, after in pairwise(sites)
    )


def withered(watch: Watch, run: Run) -> bool:
    """Most weight matrices fell to a hundredth of what they were, and nothing is learned."""
    now = dict(watch.training.model.named_parameters())
    left = [(now[n].norm() / watch.start[n].norm()).item() for n in facts.weights(watch)]
    return float(np.median(left)) < 0.05 and watch.skill < run.recipe.enough


def froze(watch: Watch, run: Run) -> bool:
    """Parameters that ask for a gradient never moved, others did, and the net is worse."""
    still = [max(watch.updates[n]) == 0 for n in facts.weights(watch)]
    return any(still) and not all(still) and harmed(watch, run)


def not_finite(watch: Watch, run: Run) -> bool:
    """A loss that is no number, and parameters that are none."""
    parameters = watch.training.model.parameters()
    return not math.isfinite(watch.losses[-1]) and any(not p.isfinite().all() for p in parameters)


def went_straight(watch: Watch, run: Run) -> bool:
    """Two layers without a nonlinearity between them; where the run is called sick, harm."""
    bare = len(layers(watch.training.model)) - 1 > len(watch.sites)
    return bare and (not run.sick or harmed(watch, run))


def misplaced(watch: Watch, run: Run) -> bool:
    """Targets that the last nonlinearity cannot give, or a gradient that is always 0; and harm."""
    act = list(watch.training.model.modules())[-1]
    targets = watch.training.task.train[1].float()
    if isinstance(act, nn.Softmax):
        return max(watch.norms) == 0
    low, high = {nn.ReLU: (0.0, math.inf), nn.Sigmoid: (0.0, 1.0)}[type(act)]
    if watch.training.task.kind == "classes":  # it wants logits below 0 for what it rules out
        low = max(low, 1.0)
    return ((targets < low) | (targets > high)).float().mean().item() > 0.1 and harmed(watch, run)


def piled_up(watch: Watch, run: Run) -> bool:
    """Gradients left over from the step before at nearly every step, and harm."""
    return float(np.mean(watch.stale)) > 0.9 and harmed(watch, run)


def learned_nothing(watch: Watch, run: Run) -> bool:
    """A loss that ends where it began, and nothing else to explain it."""
    start, end = np.mean(watch.losses[:10]), np.mean(watch.losses[-20:])
    still = end > 0.93 * start and abs(watch.skill) < 0.15
    return still and facts.worst(watch, facts.sick) < CRITICAL


def collapsed(watch: Watch, run: Run) -> bool:
    """An effective rank of at most 3 where there are 24 units, and harm."""
    ranks = [facts.effective_rank(s) for s in watch.sites.values() if s.units >= 24]
    return min(ranks, default=99) <= 3 and harmed(watch, run)


def at_least(which: Callable[..., object], share: float) -> Callable[[Watch, Run], bool]:
    """Such a share of units at some site."""
    return lambda watch, run: facts.worst(watch, which) >= share


def idle_inputs(watch: Watch, run: Run) -> bool:
    """Input features that never vary."""
    return facts.idle(watch.training.task) > 0


def ignored(watch: Watch, run: Run) -> bool:
    """Columns of some reader that are all 0."""
    columns = (r.weight.transpose(0, 1).flatten(1) for r in layers(watch.training.model)[1:])
    return any((c == 0).all(1).float().mean().item() >= CRITICAL for c in columns)


#: What must hold of a run in which a code was planted.
CHECKS: dict[str, Callable[[Watch, Run], bool]] = {
    "zero-init": equal_start,
    "init-too-small": small_start,
    "init-too-large": large_start,
    "born-dead": at_least(facts.born_dead, CRITICAL),
    "dying-relu": at_least(facts.died, CRITICAL),
    "saturation": at_least(facts.saturated, CRITICAL),
    "vanishing-gradient": vanished,
    "exploding-gradient": exploded,
    "learning-rate-too-high": leapt,
    "learning-rate-too-low": crept,
    "unscaled-input": unscaled,
    "upstream-death": fell_upstream,
    "weight-decay-collapse": withered,
    "frozen-parameters": froze,
    "non-finite": not_finite,
    "missing-nonlinearity": went_straight,
    "duplicate-units": at_least(facts.duplicates, CRITICAL),
    "dormant-units": at_least(facts.dormant, CRITICAL),
    "ignored-units": ignored,
    "linear-units": at_least(facts.linear, CRITICAL),
    "unvisited-units": lambda watch, run: bool(watch.unvisited),
    "output-activation": misplaced,
    "stale-gradients": piled_up,
    "no-learning": learned_nothing,
    "rank-collapse": collapsed,
    "constant-input": idle_inputs,
}


def healthy(watch: Watch, run: Run) -> list[str]:
    """What speaks against calling the run healthy."""
    found = []
    if not learned(watch, run):
        found.append(f"expected skill {run.recipe.enough}, found {watch.skill:.3f}")
    for site in watch.sites.values():
        share = float(facts.sick(site).mean())
        if (share >= CRITICAL and site.units >= 8) or share == 1:
            found.append(f"{share:.0%} of {site.name} are dead, saturated, constant or copies")
        if not site.finite.all():
            found.append(f"{site.name} was not finite")
    still = [n for n in watch.owned if watch.asks[n] and not max(watch.updates[n]) > 0]
    if still and not watch.unvisited:
        found.append(f"never moved: {', '.join(sorted(still))}")
    usual = float(np.median(watch.norms))
    if max(watch.norms) > 60 * usual and run.main is None and max(watch.norms) > 10:
        found.append(f"a gradient of {max(watch.norms):.3g} where {usual:.3g} is usual")
    return found


def examine(run: Run) -> Truth:
    """Train the run under watch, and compare it with its label."""
    torch.set_num_threads(1)
    watch = Watch(run.begin()).run(run.steps)
    found = [
        f"{code}: not so: {CHECKS[code].__doc__ or 'too few such units'}"
        for code in run.expected
        if not CHECKS[code](watch, run)
    ]
    if not run.sick:
        found += healthy(watch, run)
    dead = [death for plant in run.plants for death in deaths(watch, plant)]
    for plant in run.plants:
        if not any(death.plant == plant for death in dead):
            found.append(f"nothing died of {plant.cause} at site {plant.site}")
    return Truth(
        tuple(found),
        tuple(dead),
        {name: site.last_life.tolist() for name, site in watch.sites.items()},
        facts.codes(watch),
        watch.skill,
    )
