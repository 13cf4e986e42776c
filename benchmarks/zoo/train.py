"""Train one run of the zoo, as a program would: ``python -m benchmarks.zoo.train mlp-0``."""

from __future__ import annotations

import sys

import torch

from .runs import RUNS, named


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) != 2 or sys.argv[1].partition("~")[0] not in RUNS:
        sys.exit(f"expected the id of a run, found {sys.argv[1:]}; one is {next(iter(RUNS))}")
    run = named(sys.argv[1])
    training = run.begin()
    for _ in range(run.steps):
        loss = training.step()
    print(f"loss {loss:.4f}  skill {training.skill():.3f}")


if __name__ == "__main__":
    main()
