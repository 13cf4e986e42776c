"""What a training loop forgot around its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flatline.treatments.plan import Part

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from flatline.treatments.registry import Treatment


class ZeroGrad(Part):
    """``zero_grad=each``: what a step has used is not left for the next one."""

    changes = (
        "resets the gradients of an optimizer right after each of its steps, those that a "
        "GradScaler skips included"
    )

    def __init__(self, treatment: Treatment) -> None:
        """It has no settings."""

    def after_step(self, optimizer: Optimizer) -> None:
        """Reset, as ``Optimizer.zero_grad`` does."""
        optimizer.zero_grad()

    def after_skip(self, optimizer: Optimizer) -> None:
        """Reset, or what was not finite would be added to for ever, and every step be skipped."""
        optimizer.zero_grad()


BUILD = {"zero_grad": ZeroGrad}
