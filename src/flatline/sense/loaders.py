"""How large the training's data set is, from the DataLoader that feeds it."""

from __future__ import annotations

from typing import Any

from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

#: Loaders that are remembered.
_LATEST = 8
_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


class Loaders:
    """Remembers loaders that were iterated over while gradients were recorded."""

    def __init__(self) -> None:
        self._latest: list[dict[str, Any]] = []

    def begun(self, loader: DataLoader[Any]) -> None:
        """An iteration over ``loader`` begins; nothing of the loader is kept."""
        facts = _facts(loader)
        self._latest = [facts, *(one for one in self._latest if one != facts)][:_LATEST]

    def feeding(self, batch: int) -> dict[str, Any] | None:
        """The evidence of the note ``"data"``: the loader that gave the last step's examples.

        Args:
            batch: Examples of that step.
        """
        fits = (one for one in self._latest if _fits(one["batch_size"], batch))
        return next(fits, self._latest[0] if self._latest else None)


def _fits(size: int | None, batch: int) -> bool:
    """Whether a step of so many examples may be one or several of such batches."""
    return bool(size) and batch > 0 and batch % int(size or 1) == 0


def _facts(loader: DataLoader[Any]) -> dict[str, Any]:
    batches = loader.batch_sampler
    sampler = loader.sampler if batches is None else getattr(batches, "sampler", None)
    size = loader.batch_size
    if size is None:
        size = getattr(batches, "batch_size", None)
    return {
        "examples": _examples(loader, sampler),
        "batch_size": size if isinstance(size, int) else None,
        "shuffle": _shuffles(sampler),
        "drop_last": bool(getattr(batches, "drop_last", loader.drop_last)),
    }


def _examples(loader: DataLoader[Any], sampler: Any) -> int | None:
    """Examples that one pass draws from; those of all processes where they share them."""
    if isinstance(loader.dataset, IterableDataset):
        return None
    try:
        if isinstance(sampler, SubsetRandomSampler):
            return len(sampler)
        return len(loader.dataset)  # type: ignore[arg-type]
    except Exception:  # what a data set without a length raises is its own affair
        return None


def _shuffles(sampler: Any) -> bool | None:
    if isinstance(sampler, DistributedSampler):
        return bool(sampler.shuffle)
    if isinstance(sampler, _SHUFFLING):
        return True
    return False if type(sampler) is SequentialSampler else None
