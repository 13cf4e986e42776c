"""What holds where several processes train one model."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor, nn

from flatline.errors import UnsupportedError


def world() -> int:
    """How many processes train together."""
    known = dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if known else 1


def expect_one() -> None:
    """Refuse what adds or reshapes parameters, which a wrapper has listed before.

    Raises:
        UnsupportedError: Several processes train together.
    """
    if (count := world()) > 1:
        raise UnsupportedError(
            f"expected one process where parameters are added or widened, found {count}, between "
            "which nothing would average their gradients; train in one process, or leave this "
            "treatment out"
        )


def agree(model: nn.Module) -> None:
    """Give every process the weights and buffers of process 0.

    What was drawn may hang on a seed of its own in each process, and what was measured does on the
    batch that it was given. Wrappers compare weights when they are made, and never again.

    Raises:
        UnsupportedError: Weights are spread over the processes.
    """
    if world() == 1:
        return
    for tensor in (*model.parameters(), *model.buffers()):
        if type(tensor.data) is not Tensor:
            raise UnsupportedError(
                "expected whole weights in each process, found some that are spread over "
                f"{world()}; train in one process, or leave this treatment out"
            )
        dist.broadcast(tensor.data, 0)
