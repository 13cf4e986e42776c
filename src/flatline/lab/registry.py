"""All experiments, in the order in which the handbook makes its claims."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from types import MappingProxyType

from flatline.errors import UsageError
from flatline.lab import experiments
from flatline.lab.experiment import Experiment

#: The handbook's order: what a unit is, why units die, what it costs, what helps.
ORDER = (
    "neuron",
    "layer",
    "perceptron-rule",
    "perceptron-limit",
    "backprop",
    "why-not-step",
    "activation-zoo",
    "dead-definition",
    "cause-zero-init",
    "cause-bad-scale",
    "cause-vanishing",
    "cause-saturation",
    "cause-learning-rate",
    "cause-input-shift",
    "impact-capacity",
    "impact-time",
    "impact-overfitting",
    "cure-init",
    "cure-activation",
    "cure-batchnorm",
    "cure-clipping",
    "born-dead",
    "llm-sparsity",
)


@cache
def registry() -> MappingProxyType[str, Experiment]:
    """Every experiment by its id, in order."""
    names = {info.name.replace("_", "-") for info in pkgutil.iter_modules(experiments.__path__)}
    found = {}
    for name in sorted(names, key=ORDER.index):
        module = importlib.import_module(f"{experiments.__name__}.{name.replace('-', '_')}")
        found[name] = module.EXPERIMENT
    return MappingProxyType(found)


def nearest(name: str) -> str | None:
    """The id that a name is, or may be a slip of; ``None`` where it is like none."""
    return next(iter(difflib.get_close_matches(name, ORDER, 1)), None)


def chosen(ids: Iterable[str]) -> list[Experiment]:
    """The experiments with these ids, or all where none is given, in order.

    Raises:
        UsageError: An id is unknown.
    """
    known, wanted = registry(), set(ids)
    for name in sorted(wanted - known.keys()):
        close = nearest(name)
        advice = f"did you mean {close}?" if close else "flatline lab list names them"
        raise UsageError(f"expected the id of an experiment, found {name!r}; {advice}")
    return [one for name, one in known.items() if not wanted or name in wanted]
