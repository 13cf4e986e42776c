"""What optimizers do beside following the gradient: settings, and the pull of weight decay."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flatline.anatomy.atlas import Place
from flatline.sense.gradients import rows_of

#: Optimizers that take the decay past their scaling, whatever their groups say.
_DECOUPLED = ("AdamW", "Adafactor", "Muon", "Lion", "AdamP", "Adan", "LAMB", "Lamb", "Sophia")


def decouples(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether weight decay acts on the weights directly instead of joining the gradient.

    Example:
        >>> one = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
        >>> decouples(one, one.param_groups[0])
        True
    """
    said = group.get("decoupled_weight_decay")
    return bool(said) or any(kind.__name__ in _DECOUPLED for kind in type(optimizer).__mro__)


def describe(optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, Any]:
    """The evidence of the note ``"optimizer"``."""
    return {"optimizers": [_settings(one) for one in optimizers]}


def _settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    groups = optimizer.param_groups
    first: Mapping[str, Any] = groups[0] if groups else {}
    betas = first.get("betas")
    return {
        "class": type(optimizer).__name__,
        "lr": _number(first.get("lr")),
        "momentum": _number(first.get("momentum", betas[0] if betas else 0.0)),
        "weight_decay": max((_number(g.get("weight_decay")) or 0.0 for g in groups), default=0.0),
        "decoupled": decouples(optimizer, first),
        "parameters": sum(len(group["params"]) for group in groups),
    }


def _number(value: Any) -> float | None:
    """A setting as a number; ``None`` where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None


@dataclass(frozen=True)
class Pull:
    """The optimizer that updates a site's feeding weights, and in which of its groups.

    What an optimizer that is not torch's keeps in its groups and state is its own affair: where it
    cannot be read, nothing is known.
    """

    optimizer: weakref.ref[torch.optim.Optimizer] | None = None
    group: int = 0

    def _group(self) -> tuple[torch.optim.Optimizer, Mapping[str, Any]] | None:
        optimizer = None if self.optimizer is None else self.optimizer()
        if optimizer is None or self.group >= len(optimizer.param_groups):
            return None
        return optimizer, optimizer.param_groups[self.group]

    def rates(self) -> dict[str, float]:
        """Learning rate, and λ where the weights shrink by 1 − lr·λ in each step (else NaN)."""
        known = self._group()
        if known is None:
            return {}
        optimizer, group = known
        decay = _number(group.get("weight_decay")) or 0.0
        shrinks = decouples(optimizer, group) or isinstance(optimizer, torch.optim.SGD)
        lr = _number(group.get("lr"))
        return {
            "lr": math.nan if lr is None else lr,
            "decay": decay if shrinks or decay == 0 else math.nan,
        }

    def ratio(self, place: Place, gradient: Tensor | None) -> Tensor:
        """The pull of the decay on a site's weights, in pulls of the loss: one number.

        Both are what the learning rate is multiplied with, so their ratio is that of the changes.

        Args:
            place: The site.
            gradient: Root mean square of each unit's gradient before the update.
        """
        found = self._ratio(place, gradient)
        return torch.tensor([math.nan]) if found is None else found.reshape(1)

    def _ratio(self, place: Place, gradient: Tensor | None) -> Tensor | None:
        known, feed = self._group(), place.matrix
        if known is None or feed is None:
            return None
        optimizer, group = known
        decay = _number(group.get("weight_decay")) or 0.0
        if decay == 0:
            return torch.zeros(())
        rows = rows_of(feed.parameter, feed, place)
        loss = _step(optimizer, group, place) if decouples(optimizer, group) else gradient
        return None if rows is None or loss is None else decay * _rms(rows) / _rms(loss)


def _rms(values: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(values.detach().float())
    return norm / math.sqrt(max(values.numel(), 1))


def _step(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], place: Place
) -> Tensor | None:
    """What an optimizer like Adam multiplies by the learning rate: m̂ / (√v̂ + ε)."""
    feed = place.matrix
    if feed is None:
        return None
    state = optimizer.state.get(feed.parameter, {})
    moments = [state.get(name) for name in ("exp_avg", "exp_avg_sq")]
    numbers = [_number(value) for value in (state.get("step"), *group.get("betas", ()))]
    if len(numbers) != 3 or any(
        not isinstance(one, Tensor) or one.shape != feed.parameter.shape for one in moments
    ):
        return None
    first, second = (rows_of(one, feed, place) for one in moments if one is not None)
    count, beta1, beta2 = (math.nan if number is None else number for number in numbers)
    if first is None or second is None:
        return None
    root = (second / (1 - beta2**count)).sqrt_().add_(_number(group.get("eps")) or 0.0)
    step: Tensor = first / root.mul_(1 - beta1**count)
    return step


def owners(
    places: Iterable[Place], optimizers: Sequence[torch.optim.Optimizer]
) -> dict[Place, Pull]:
    """Who updates the feeding weights of each site."""
    groups = {
        id(parameter): Pull(weakref.ref(optimizer), index)
        for optimizer in optimizers
        for index, group in enumerate(optimizer.param_groups)
        for parameter in group["params"]
    }
    feeds = ((place, place.matrix) for place in places)
    return {
        place: Pull() if feed is None else groups.get(id(feed.parameter), Pull())
        for place, feed in feeds
    }
