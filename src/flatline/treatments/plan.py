"""How a treatment is carried out: its moments, and what it may touch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from flatline.treatments.ranks import expect_one

if TYPE_CHECKING:
    from flatline.treatments.registry import Treatment
    from flatline.treatments.scout import Scene


@dataclass
class Patient:
    """A model whose first training batch has come, before it is used.

    Attributes:
        model: The model, wrappers taken off.
        optimizers: Who trains it.
        args: What the model is about to be called with.
        kwargs: The same, by name.
        look: Looks at the model as it is now on this batch.
        trained: Why its weights are not fresh ones; empty where they are.
        say: Tells the user what is done, or left undone, where.
    """

    model: nn.Module
    optimizers: list[Optimizer]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    look: Callable[[], Scene]
    trained: str = ""
    say: Callable[[str], None] = field(default=lambda line: None)

    def adopt(self, parameters: dict[str, Tensor], beside: Tensor | None) -> None:
        """Let new parameters be trained like an old one: in its group, with its options.

        Args:
            parameters: The new ones, by their qualified names.
            beside: The old one; the first group takes them where it is not trained.

        Raises:
            UnsupportedError: Several processes train the model together.
        """
        expect_one()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if any(beside is one for one in group["params"]):
                    _join(group, parameters)
                    return
        _join(self.optimizers[0].param_groups[0], parameters)

    def forget(self, parameters: list[Tensor]) -> None:
        """Drop what optimizers remember of parameters that were set anew."""
        for optimizer in self.optimizers:
            for parameter in parameters:
                optimizer.state.pop(parameter, None)


def _join(group: dict[str, Any], parameters: dict[str, Tensor]) -> None:
    """Append to a group. A group of their own would be one too many for schedulers made before."""
    group["params"].extend(parameters.values())
    if "param_names" in group:
        group["param_names"].extend(parameters)


class Part:
    """A treatment at work; each moment does nothing unless it is overridden.

    Attributes:
        changes: What it changes, in one line.
    """

    changes: str

    def at_birth(self, optimizer: Optimizer) -> None:
        """An optimizer was built."""

    def at_data(self, patient: Patient) -> None:
        """The first training batch is about to go through the model."""

    def before_step(self, optimizer: Optimizer) -> None:
        """An optimizer is about to step."""

    def on_gradients(self, optimizer: Optimizer) -> None:
        """The gradients of the step are complete; with a closure, each time it was called."""

    def after_step(self, optimizer: Optimizer) -> None:
        """It has stepped."""

    def after_skip(self, optimizer: Optimizer) -> None:
        """A ``GradScaler`` has skipped its step, because gradients were not finite."""

    def at_end(self) -> None:
        """Treating ends: no other moment follows."""


def build(treatment: Treatment) -> Part:
    """The treatment as something that can be carried out, once."""
    home = importlib.import_module(treatment.method.home)
    part: Part = home.BUILD[treatment.name](treatment)
    return part
