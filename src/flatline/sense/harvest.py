"""Brings what an exam read from the device to the host."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flatline.anatomy.atlas import Place
from flatline.sense.gauge import ROWS, Reading
from flatline.sense.gradients import Movement
from flatline.sense.histogram import Histograms, histograms
from flatline.sense.measures import concentration, measure, ranks, signal
from flatline.sense.sample import Sample, joined
from flatline.sense.sizes import sizes
from flatline.sense.vitals import Vitals, merge

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Harvest:
    """One exam, by site.

    Attributes:
        vitals: Vitals of the units.
        measures: Numbers about the site as a whole.
        extras: What else was to be brought along.
        samples: Values of some units: index of each column, and the rows.
    """

    vitals: dict[Place, Vitals]
    measures: dict[Place, dict[str, float]]
    extras: dict[Place, Array]
    samples: dict[Place, tuple[Array, Array]]


def fetch(
    pending: Sequence[tuple[Reading, Tensor]],
    movements: Mapping[Place, Movement],
    extras: Mapping[Place, Tensor] | None = None,
    samples: Mapping[Place, Sample] | None = None,
) -> Harvest:
    """Everything an exam read, with one transfer per device.

    Args:
        pending: Readings with their :meth:`Reading.flat`.
        movements: What moved at each site; after the update.
        extras: Further numbers of each site.
        samples: What was copied of each site.
    """
    extras, samples = extras or {}, samples or {}
    moved = {place: movement.numbers() for place, movement in movements.items()}
    flats = [flat for _, flat in pending]
    flats += [numbers.reshape(-1) for numbers in (*moved.values(), *extras.values())]
    flats += [flat for sample in samples.values() for flat in sample.flat()]
    numbers = iter(_to_host(flats))
    found: dict[Place, Vitals] = {}
    measures: dict[Place, dict[str, float]] = {}
    cold: dict[Place, float] = {}
    for reading, _ in pending:
        place = reading.place
        vitals, whole, silent = _read(reading, next(numbers))
        measures[place] = measures.get(place) or whole
        cold[place] = cold.get(place, 0) + silent
        found[place] = merge(found[place], vitals) if place in found else vitals
    for place, movement in movements.items():
        gradient, update = next(numbers).reshape(2, place.units).astype(np.float32)
        bad = ~np.isfinite(gradient) & (movement.gradient is not None)
        vitals = found[place]
        nonfinite = vitals.nonfinite | bad
        found[place] = replace(vitals, gradient=gradient, update=update, nonfinite=nonfinite)
    for place, vitals in found.items():
        measures[place] |= measure(vitals) | {"cold": cold[place]}
    shown = {place: next(numbers) for place in extras}
    drawn = {
        place: (next(numbers), next(numbers).reshape(sample.rows.shape))
        for place, sample in samples.items()
    }
    return Harvest(found, measures, shown, drawn)


def gathered(readings: Iterable[Reading]) -> dict[Place, Sample]:
    """What was copied of each site in all its calls."""
    found: dict[Place, list[Sample]] = {}
    for reading in readings:
        found.setdefault(reading.place, []).extend(reading.samples)
    return joined(found)


def drawn(harvest: Harvest) -> dict[str, Histograms]:
    """The histograms of what was copied, by site."""
    return {
        place.name: histograms(units.astype(np.int32), rows.astype(np.float32, copy=False))
        for place, (units, rows) in harvest.samples.items()
    }


def _read(reading: Reading, numbers: Array) -> tuple[Vitals, dict[str, float], float]:
    """Vitals of a reading, numbers about its site, and the examples that sent no gradient.

    Args:
        reading: The reading.
        numbers: Its :meth:`Reading.flat`, on the host.
    """
    units = reading.place.units
    if reading.examples == 0:
        return Vitals.empty(units), {}, 0.0
    cold, numbers = numbers[0], numbers[1:]
    rows = numbers[: ROWS * units].reshape(ROWS, units)
    fired, railed, z_min, z_max, h_min, h_max, h_sum, z_sum, z_sq, reach, power = rows[:11]
    single = np.float32
    vitals = Vitals(
        examples=reading.examples,
        fired=fired.astype(np.int32),
        railed=railed.astype(np.int32),
        z_min=z_min.astype(single),
        z_max=z_max.astype(single),
        h_min=h_min.astype(single),
        h_max=h_max.astype(single),
        h_abs=h_sum.astype(np.float64) / reading.weight,
        z_sum=z_sum.astype(np.float64) / reading.weight,
        z_sq=z_sq.astype(np.float64) / reading.weight,
        twin=twins(rows[11:], z_min, z_max, z_sq, reading.examples * reading.weight),
        nonfinite=~np.isfinite(z_min + z_max + h_min + h_max),
        ignored=reach == 0,
        gradient=np.full(units, np.nan, single),
        update=np.full(units, np.nan, single),
    )
    whole = ranks(numbers[ROWS * units :]) | concentration(reach * vitals.h_abs)
    whole |= signal(power, fired == 0)
    return vitals, whole | sizes(reading.place, reading.weight, reading.examples), float(cold)


def twins(
    probes: npt.NDArray[np.floating],
    z_min: npt.NDArray[np.floating],
    z_max: npt.NDArray[np.floating],
    z_sq: npt.NDArray[np.floating],
    count: int,
) -> npt.NDArray[np.int32]:
    """Groups of units with the same pre-activations, each named by its smallest unit.

    Units that agree up to 1e-5 in every element agree in each projection up to 1e-5 times the
    length of z, and in both extrema; sorting by one projection makes them neighbours.

    Args:
        probes: Projections, shape ``(probes, units)``.
        z_min: Smallest z per unit.
        z_max: Largest z per unit.
        z_sq: Sum of squares of z per unit.
        count: Number of elements behind each projection.

    Example:
        >>> p = np.array([[1.0, 2.0, 1.0]] * 4)
        >>> e = np.array([0.5, 0.7, 0.5])
        >>> twins(p, e, e, e, 1).tolist()
        [0, 1, 0]
    """
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.sqrt(z_sq)
        # A probe weighs elements by about 0.7; rounding grows with the number of summands.
        slack = (4e-5 + 2e-7 * math.sqrt(max(count, 1))) * length
        wide = 1e-5 * np.maximum(np.abs(z_min), np.abs(z_max))
        order = np.lexsort((z_min, z_max, probes[0]))
        before, after = order[:-1], order[1:]
        alike = np.abs(probes[:, after] - probes[:, before]) <= slack[after]
        near = np.abs(z_min[after] - z_min[before]) <= wide[after]
        near &= np.abs(z_max[after] - z_max[before]) <= wide[after]
    chain = np.concatenate([[0], np.cumsum(~(alike.all(axis=0) & near))])
    smallest = np.full(len(order), len(order), np.int64)
    np.minimum.at(smallest, chain, order)
    group = np.empty(len(order), np.int32)
    group[order] = smallest[chain]
    return group


def _to_host(flats: Sequence[Tensor]) -> list[Array]:
    """All tensors as arrays, with one transfer per device."""
    found: list[Any] = [None] * len(flats)
    devices: dict[torch.device, list[int]] = {}
    for place, flat in enumerate(flats):
        devices.setdefault(flat.device, []).append(place)
    for places in devices.values():
        joined = torch.cat([flats[place] for place in places]).cpu().numpy()
        ends = np.cumsum([flats[place].numel() for place in places])
        for place, part in zip(places, np.split(joined, ends[:-1]), strict=True):
            found[place] = part
    return found
