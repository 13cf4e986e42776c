"""Carries the runs of a trial out on a Ray cluster.

Every node reads the program and writes the run store at the same path, so the cluster must share
the folder that holds them, as one machine does by itself.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatline.errors import UsageError
from flatline.trials.engine import log_file
from flatline.trials.plan import Job
from flatline.trials.process import Ended, Running

if TYPE_CHECKING:
    from ray import ObjectRef

#: Times that a run is begun anew because its worker or its node was lost.
RETRIES = 3


class RayEngine:
    """Carries runs out as tasks of Ray.

    Connects to the cluster that ``RAY_ADDRESS`` names or that runs on this machine, and starts one
    here where there is none.

    Args:
        jobs: Runs that may be under way at once; ``None`` for all that the cluster has room for.
        limit: Seconds that each may take, from its start on a worker; ``None`` for no limit.
        logs: Folder for what they print.
        cpus: Cores that each run is given.
        gpus: GPUs that each run is given.

    Raises:
        UsageError: Ray is not installed, the cluster has no room for a single run, or Ray takes
            no such amount.
    """

    def __init__(
        self, jobs: int | None, limit: float | None, logs: Path, *, cpus: float = 1, gpus: float = 0
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                f"expected Ray for --engine ray, found that it cannot be imported ({error}); "
                "pip install 'flatline[ray]'"
            ) from error
        self._ray = ray
        self._limit, self._logs = limit, logs
        self._under_way: dict[ObjectRef[Ended], Job] = {}
        self._owns = not ray.is_initialized()
        if self._owns:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        try:
            resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
            room = _room(resources, cpus, gpus)
            task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_carry_out)
        except UsageError:
            self.close()
            raise
        except ValueError as error:
            self.close()
            raise UsageError(
                f"expected an amount that Ray can keep for a run, found {cpus:g} CPU and "
                f"{gpus:g} GPU: {error}; write for example --cpus-per-arm 1"
            ) from error
        self.slots = room if jobs is None else min(jobs, room)
        self._task = task

    def start(self, job: Job) -> None:
        """Begin a run."""
        log = log_file(self._logs, job)
        path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        self._under_way[self._task.remote(job, self._limit, log, path, os.getcwd())] = job

    def ended(self, patience: float) -> Ended | None:
        """A run that has ended."""
        ready, _ = self._ray.wait([*self._under_way], num_returns=1, timeout=patience)
        if not ready:
            return None
        job = self._under_way.pop(ready[0])
        try:
            ended: Ended = self._ray.get(ready[0])
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [""]
            return Ended(job, 1, fault=f"Ray could not carry it out: {lines[0]}")
        return ended

    def close(self) -> None:
        """End all runs that are still under way, and a Ray that was started for them."""
        for task in self._under_way:
            self._ray.cancel(task, force=True)  # the run's process ends with its worker
        self._under_way.clear()
        if self._owns:
            self._ray.shutdown()


def _room(resources: dict[str, Any], cpus: float, gpus: float) -> int:
    """Number of runs that a cluster has room for at once."""
    wanted = {"CPU": cpus, "GPU": gpus}
    room = min(int(resources.get(kind, 0) // each) for kind, each in wanted.items() if each)
    if room < 1:
        has = ", ".join(f"{resources.get(kind, 0):g} {kind}" for kind in wanted)
        raise UsageError(
            f"expected a Ray cluster with {cpus:g} CPU and {gpus:g} GPU for a run, found one with "
            f"{has}; ask for less with --cpus-per-arm and --gpus-per-arm, or add nodes"
        )
    return room


def _carry_out(
    job: Job, limit: float | None, log: Path, environment: dict[str, str], folder: str
) -> Ended:
    """One run, on whatever machine Ray has chosen."""
    return Running(job, log, environment, folder).wait(limit)
