"""Other random numbers for a program that nobody changes: ``flatline run --seed-offset``.

What the program seeds with a number n is seeded with n + K instead; what it does not seed starts
from K, so that two runs with the same K draw the same. Reached are ``random``, ``torch`` and its
generators, ``numpy.random.seed`` and ``numpy.random.default_rng``. Out of reach are seeds that go
to a library by another way, such as ``random_state`` of scikit-learn or NumPy's bit generators:
there a split of the data stays as it was.
"""

from __future__ import annotations

import itertools
import operator
import random
import sys
from collections.abc import Callable
from typing import Any

from flatline.launch.imports import after_import

_WORD = 1 << 32
_LONG = 1 << 64


class Shift:
    """Shifts the seeds of the program in this process.

    Args:
        offset: What is added to each.
    """

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def begin(self) -> None:
        """Take hold of Python's and NumPy's random numbers, as soon as they are there."""
        original = random.Random.seed

        def seed(generator: random.Random, a: Any = None, version: int = 2) -> None:
            original(generator, self._any(a), version)

        random.seed(self.offset)
        setattr(random.Random, "seed", seed)  # noqa: B010 - mypy: a method is no variable
        random.seed = random._inst.seed
        after_import("numpy", self._numpy)

    def torch(self) -> None:
        """Take hold of the random numbers of torch, which has just been imported."""
        torch: Any = sys.modules["torch"]
        torch.manual_seed(self.offset)
        torch.manual_seed = torch.random.manual_seed = self._around(torch.manual_seed, _long)
        for device in (torch.cuda, torch.mps, torch.xpu):
            for name in ("manual_seed", "manual_seed_all"):
                if hasattr(device, name):
                    # Called by torch.manual_seed as well: there the seed is shifted twice.
                    setattr(device, name, self._around(getattr(device, name), _long))
        torch.Generator = _generator(torch.Generator, self._around)

    def _numpy(self) -> None:
        import numpy as np

        np.random.seed(self.offset % _WORD)
        np.random.seed = self._around(np.random.seed, lambda seed: seed % _WORD)
        original, calls = np.random.default_rng, itertools.count()

        def default_rng(seed: Any = None) -> Any:
            # Two generators without a seed must not draw the same.
            return original([self.offset, next(calls)] if seed is None else self._any(seed))

        np.random.default_rng = default_rng

    def _around(self, original: Callable[..., Any], fit: Callable[[int], int]) -> Any:
        """A function whose argument ``seed`` is shifted."""

        def shifted(seed: Any = None) -> Any:
            moved = self._any(seed)
            return original(fit(moved) if isinstance(moved, int) else moved)

        shifted.__name__, shifted.__doc__ = original.__name__, original.__doc__
        return shifted

    def _any(self, seed: Any) -> Any:
        """A seed of whatever kind, shifted; what is no seed stays."""
        if not self.offset or seed is None or isinstance(seed, bool):
            return seed
        if isinstance(seed, str):
            return f"{seed}+{self.offset}"
        if isinstance(seed, bytes | bytearray):
            return bytes(seed) + str(self.offset).encode()
        if isinstance(seed, list | tuple):
            return [*seed, self.offset]
        if isinstance(seed, float):
            return seed + self.offset
        try:
            return operator.index(seed) + self.offset
        except TypeError:
            return seed


def _long(seed: int) -> int:
    """A seed that torch takes: it reads negative ones as those from the other end."""
    return seed if -_LONG // 2 <= seed < _LONG else seed % _LONG


def _generator(original: Any, around: Callable[..., Any]) -> Any:
    """A class of generators whose seeds are shifted, and which all generators belong to."""

    class Kind(type(original)):  # type: ignore[misc]
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, original)

    class Generator(original, metaclass=Kind):  # type: ignore[misc]
        def manual_seed(self, seed: int) -> Any:
            return around(super().manual_seed, _long)(seed)

    # Where it is found from now on, and where pickle looks for it.
    Generator.__module__, Generator.__qualname__ = "torch", "Generator"
    return Generator
