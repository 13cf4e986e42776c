"""Hand-made recordings for the rules of the peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmarks.peers.peer import Peer
from benchmarks.peers.recording import Call, Epoch, Step

Watcher = TypeVar("Watcher", bound=Peer)
#: Makes a peer watch a recording at a level.
Play = Callable[[Any], Peer]


class Scenes:
    """Recordings of one peer: each with a word, a level that calls for it and one that does not."""

    def __init__(self) -> None:
        self.found: list[tuple[Play, str, Any, Any]] = []

    def scene(self, word: str, meets: Any, misses: Any) -> Callable[[Play], Play]:
        def keep(play: Play) -> Play:
            self.found.append((play, word, meets, misses))
            return play

        return keep

    @property
    def words(self) -> set[str]:
        return {word for _, word, _, _ in self.found}

    def failures(self) -> Iterator[str]:
        """Scenes in which the peer did not say the word where it should, or did elsewhere."""
        for play, word, meets, misses in self.found:
            if word not in play(meets).said:
                yield f"{play.__name__}({meets!r}) lacks {word!r}: {play(meets).said}"
            if word in play(misses).said:
                yield f"{play.__name__}({misses!r}) has {word!r}: {play(misses).said}"


def some(share: float, there: float, other: float, size: int = 1000) -> Tensor:
    """A vector of which a share has one value and the rest another."""
    values = torch.full((size,), float(other))
    values[: round(share * size)] = there
    return values


def columns(share: float, there: Tensor, other: Tensor) -> Tensor:
    """A batch with 100 units, of which a share has one column and the rest another."""
    return torch.where(torch.arange(100) < round(100 * share), there, other)


def call(kind: str, output: Any, name: str = "1", **known: Any) -> Call:
    return Call(name, kind, torch.as_tensor(output, dtype=torch.float32), **known)


def layer(output: Any, kind: str = "relu") -> list[Call]:
    """A hidden layer with this output, and a head."""
    return [call(kind, output), call("Linear", [[1.0]], "2")]


def census(*calls: Call, **known: Any) -> Epoch:
    return Epoch(census=list(calls), **known)


def play(peer: Watcher, steps: list[Step], model: nn.Module | None = None) -> Watcher:
    """Let a peer watch steps, numbered from 0, to the end."""
    peer.begin(nn.Identity() if model is None else model)
    for index, step in enumerate(steps):
        step.index = index
        peer.step(step)
    peer.end()
    return peer


def epochs(peer: Watcher, *found: Epoch, model: nn.Module | None = None) -> Watcher:
    """Let a peer watch epochs of one step each, numbered from 0, to the end."""
    peer.begin(nn.Identity() if model is None else model)
    for index, epoch in enumerate(found):
        epoch.index = epoch.last.index = index
        peer.step(epoch.last)
        peer.epoch(epoch)
    peer.end()
    return peer


def grads(value: Any) -> Step:
    """A step whose only gradient is this."""
    grad = torch.as_tensor(value, dtype=torch.float32).reshape(1, -1)
    weight = torch.linspace(-1, 1, grad.numel()).reshape(1, -1)
    known = {"0.weight": weight}
    return Step(grads={"0.weight": grad}, weights=known, updated={"0.weight": weight + 0.01})


def answered(outputs: Any, targets: Any, criterion: str = "mse_loss", kind: str = "Linear") -> Step:
    """A step whose last layer gives these outputs."""
    outputs = torch.as_tensor(outputs, dtype=torch.float32)
    calls = [call(kind, outputs)]
    given = {"outputs": outputs, "targets": torch.as_tensor(targets)}
    return Step(calls=calls, criterion=criterion, **given)
