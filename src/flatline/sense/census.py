"""The sites of a run with their windows and rolls: what exams and the pulse bring together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flatline.anatomy.atlas import Atlas, Place
from flatline.anatomy.inputs import joined
from flatline.anatomy.site import Site, Unplaced
from flatline.sense import pulse
from flatline.sense.drift import Drift
from flatline.sense.exam import Exam
from flatline.sense.gauge import Reading
from flatline.sense.gradients import Movement
from flatline.sense.harvest import Harvest, drawn, fetch, gathered
from flatline.sense.layers import NUMBERS, Layer
from flatline.sense.measures import shifts
from flatline.sense.optimizers import Pull, owners
from flatline.sense.pulse import MOST, Pulse
from flatline.sense.recorder import Recorder
from flatline.sense.roll import Change, Member, Roll
from flatline.sense.sample import Spare
from flatline.sense.taps import Taps
from flatline.sense.vitals import Ledger, Vitals
from flatline.sense.window import WINDOW_EXAMPLES, Window

Owners = Callable[[], list[tuple[torch.optim.Optimizer, list[Tensor]]]]


@dataclass
class Entry:
    """One site of the run."""

    place: Place
    roll: Roll
    index: int
    window: Window
    drift: Drift
    layer: Layer
    pulse: str


class Census:
    """Everything known about the units of a run.

    Args:
        atlas: Where the places come from.
        recorder: Where exams are written.
        taps: What is told the norms of gradients.
        spare: Runs what makes histograms.
        complete: An exam sees every example of the step.
    """

    def __init__(
        self, atlas: Atlas, recorder: Recorder, taps: Taps, spare: Spare, complete: bool = True
    ) -> None:
        self._atlas = atlas
        self._recorder = recorder
        self._taps = taps
        self._spare = spare
        self._complete = complete
        self._entries: dict[Place, Entry] = {}
        self._pulses: list[tuple[int, Pulse]] = []
        self._pending: list[tuple[Reading, Tensor]] = []
        self._movements: dict[Place, Movement] = {}
        self._looks: dict[Place, tuple[Tensor, Tensor]] = {}
        self._pulls: dict[Place, Pull] = {}
        self._written: tuple[tuple[Site, ...], tuple[Unplaced, ...]] | None = None
        self.own = 0.0
        self.batch = 0

    # -- at an exam, before the update --------------------------------------------------------

    def collect(self, exam: Exam, owned: Owners, updated: bool = False) -> None:
        """Take what an exam read, and enter sites seen for the first time.

        Args:
            exam: The exam.
            owned: Gives the optimizers with their parameters.
            updated: The weights have been updated already.
        """
        read = exam.finish()
        places = self._atlas.settle()
        self._pending = [entry for entry in read if entry[0].place in set(places)]
        fresh = [place for place in places if place not in self._entries]
        if fresh:
            self._enter(fresh, places, owned())
        seen = {reading.place for reading, _ in self._pending}
        # A place in doubt was measured, and may yet prove to be no site.
        self._movements = {place: one for place, one in exam.movements.items() if place in seen}
        for place in seen - self._movements.keys():
            self._movements[place] = Movement(place, updated=updated)
        for place in seen - self._looks.keys():
            self._looks[place] = self._look(place, [entry[0] for entry in self._pending])
        self._looks = {place: self._looks[place] for place in seen}
        self._pulls = owners(seen, [optimizer for optimizer, _ in owned()])
        self.own = exam.own

    def look(self, exam: Exam, parameters: Iterable[Tensor]) -> None:
        """Look at the known layers that these parameters make, which are about to be updated."""
        moving = {id(parameter) for parameter in parameters}
        for place in {reading.place for reading in exam.staff.done} & self._entries.keys():
            if any(id(feed.parameter) in moving for feed in place.feeds):
                self._looks[place] = self._look(place, exam.staff.done)

    def _look(self, place: Place, readings: Sequence[Reading]) -> tuple[Tensor, Tensor]:
        """The layer that feeds a site, before the update: taken apart, and in a few numbers."""
        inputs = reduce(joined, (one.inputs for one in readings if one.place is place))
        entry = self._entries[place]
        return entry.drift.look(inputs), entry.layer.read(inputs)

    def _enter(
        self,
        fresh: list[Place],
        places: list[Place],
        owners: list[tuple[torch.optim.Optimizer, list[Tensor]]],
    ) -> None:
        feeding: dict[str, int] = {}
        for place in places:
            for name in {feed.name for feed in place.feeds}:
                feeding[name] = feeding.get(name, 0) + 1
        shared = {
            place
            for place in places
            if any(feeding[feed.name] > 1 for feed in (place.beacon, place.matrix) if feed)
        }
        for place in shared & self._entries.keys():
            # A second site has turned up that adds to its gradient.
            self._distrust(self._entries[place])
        owner = {id(p): id(optimizer) for optimizer, group in owners for p in group}
        groups: dict[tuple[int, torch.device, torch.dtype], list[tuple[Place, str]]] = {}
        silent: list[Place] = []
        for place in fresh:
            kind = pulse.kind(place, place in shared)
            feed = place.beacon if kind == "exact" else place.matrix
            key = None if feed is None else owner.get(id(feed.parameter))
            if kind == "none" or feed is None or key is None:
                silent.append(place)
            else:
                group = (key, feed.parameter.device, feed.parameter.dtype)
                groups.setdefault(group, []).append((place, kind))
        for (key, _, _), members in groups.items():
            beats = Pulse([place for place, _ in members], [kind for _, kind in members])
            self._pulses.append((key, beats))
            for index, (place, kind) in enumerate(members):
                self._add(place, beats.roll, index, kind)
        if silent:
            roll = Roll([Member(place.units, "none", False) for place in silent])
            for index, place in enumerate(silent):
                self._add(place, roll, index, "none")
        self._entries = {place: self._entries[place] for place in places}

    def _add(self, place: Place, roll: Roll, index: int, kind: str) -> None:
        window = Window(place.activation, place.units, place.gated)
        self._entries[place] = Entry(place, roll, index, window, Drift(place), Layer(place), kind)

    @staticmethod
    def _distrust(entry: Entry) -> None:
        entry.pulse = entry.roll.members[entry.index].pulse = "none"

    # -- every step ---------------------------------------------------------------------------

    def pulses(self, optimizer: torch.optim.Optimizer) -> list[Pulse]:
        """The pulses of the sites whose parameters ``optimizer`` updates."""
        return [beats for owner, beats in self._pulses if owner == id(optimizer)]

    def beat(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Read the pulse of the sites whose parameters ``optimizer`` updates."""
        for beats in self.pulses(optimizer):
            beats.beat(step)

    def doubt(self, optimizer: torch.optim.Optimizer) -> None:
        """The gradients of this step do not cover all that the step computed."""
        self.take()
        for beats in self.pulses(optimizer):
            for index in range(len(beats.places)):
                beats.roll.doubt(index)

    def release(self, gone: set[int], owners: Owners) -> None:
        """Let go of the parameters of optimizers that are gone; what was seen stays.

        Where another optimizer has taken them over, their pulse goes on with that one.
        """
        self.take()
        owner = {id(p): id(optimizer) for optimizer, group in owners() for p in group}
        pulses = [
            (owner.get(id(beats.parameter)) if key in gone else key, beats)
            for key, beats in self._pulses
        ]
        self._pulses = [(key, beats) for key, beats in pulses if key is not None]

    @property
    def room(self) -> int:
        """How many steps may follow before the pulses must be taken."""
        return min((beats.room for _, beats in self._pulses), default=MOST)

    def turn(self) -> bool:
        """Make room for the next beats; returns whether a silence is suspicious."""
        return self._gather([beats.turn() for _, beats in self._pulses])

    def take(self) -> bool:
        """Bring all rows of the pulse to the rolls; returns whether a silence is suspicious."""
        return self._gather([beats.take() for _, beats in self._pulses])

    def _gather(self, turned: list[tuple[bool, list[int], list[float]]]) -> bool:
        for _, steps, norms in turned:
            self._taps.gradients(steps, norms)
        return any(found for found, _, _ in turned)

    def discard(self) -> None:
        """Drop an exam that was collected and will not be concluded."""
        self._pending, self._movements, self._looks, self._pulls = [], {}, {}, {}

    # -- at an exam, after the update ---------------------------------------------------------

    @np.errstate(all="ignore")  # numbers of a training that diverges are out of range
    def conclude(self, step: int) -> None:
        """Bring an exam to the host, judge what changed, and write it."""
        start = time.perf_counter()
        pending, self._pending = self._pending, []
        movements, self._movements = self._movements, {}
        if not pending:
            self._chart()  # it may have learnt why there is nothing to see
            return
        self.take()
        self.batch = max(reading.examples for reading, _ in pending)
        looks, self._looks = self._looks, {}
        pulls, self._pulls = self._pulls, {}
        extras = {
            place: torch.cat(
                [
                    self._entries[place].drift.settle(rows).reshape(-1),
                    numbers,
                    pulls[place].ratio(place, movements[place].gradient).to(numbers),
                ]
            )
            for place, (rows, numbers) in looks.items()
        }
        samples = self._spare(gathered, [reading for reading, _ in pending])
        harvest = fetch(pending, movements, extras, samples)
        found = {place: vitals for place, vitals in harvest.vitals.items() if vitals.examples}
        measures = harvest.measures
        alive = {place: ~vitals.silent for place, vitals in found.items()}
        self._compare(step, found, alive, measures)
        changes: dict[Place, Change] = {}
        previous: dict[str, Vitals | None] = {}
        for place, vitals in found.items():
            entry = self._entries[place]
            changes[place] = entry.roll.examine(
                entry.index, step, alive[place], vitals.examples, self._complete
            )
            shown = harvest.extras[place].astype(np.float32)
            measures[place] |= self._advance(step, entry, vitals, shown, changes[place].died)
            measures[place] |= pulls[place].rates()
            if entry.window.examples >= WINDOW_EXAMPLES:
                previous[place.name] = entry.window.vitals()
                entry.window = Window(place.activation, place.units, place.gated)
            else:
                previous[place.name] = None
            entry.window.add(vitals)
        # Before the exam, which wakes the writer.
        self._spare(self._draw, step, harvest)
        self._write(step, found, measures, changes, previous)
        self.own += time.perf_counter() - start

    def _draw(self, step: int, harvest: Harvest) -> None:
        """Write the histograms."""
        if harvest.samples:
            self._recorder.histograms(step, drawn(harvest))

    def _advance(
        self,
        step: int,
        entry: Entry,
        vitals: Vitals,
        shown: npt.NDArray[np.float32],
        died: npt.NDArray[np.intp],
    ) -> dict[str, float]:
        """Take apart how the site's pre-activations moved since the exam before.

        Returns:
            Numbers about the layer.
        """
        name = entry.place.name
        rows, numbers = np.split(shown, [entry.drift.ROWS * entry.place.units])
        rows = rows.reshape(entry.drift.ROWS, -1)
        deaths, shift = entry.drift.advance(step, vitals, entry.window.vitals().z_std, rows, died)
        if entry.drift.birth is not None:
            self._recorder.birth(step, name, entry.drift.birth)
            entry.drift.birth = None
        if deaths is not None:
            self._recorder.deaths(step, name, deaths.before, deaths.units, deaths.terms)
        whole = dict(zip((*NUMBERS, "decay_ratio"), numbers.tolist(), strict=True))
        return whole | shifts(shift, vitals.z_std)

    def _compare(
        self,
        step: int,
        found: dict[Place, Vitals],
        alive: dict[Place, npt.NDArray[np.bool_]],
        measures: dict[Place, dict[str, float]],
    ) -> None:
        """Set the exam against the pulse, and lose faith in zeros where something hides life.

        Where an example sends no gradient at all, a unit that fires on it alone looks silent;
        where that was not heard, it cannot be excluded.
        Where a unit was seen to fire unnoticed, something that was not foreseen hides life, in
        any site.
        """
        hidden = False
        for place, vitals in found.items():
            entry = self._entries[place]
            # A unit that jumps from rail to rail has no slope anywhere that could show it.
            unread = vitals.ignored | (vitals.fired == 0)
            hidden |= entry.roll.compare(entry.index, step, alive[place], unread, self._complete)
            entry.pulse = entry.roll.members[entry.index].pulse
        for place, entry in self._entries.items():
            if hidden or place.noisy or measures.get(place, {}).get("cold", 0) != 0:
                entry.roll.doubt(entry.index)

    def _write(
        self,
        step: int,
        found: dict[Place, Vitals],
        measures: dict[Place, dict[str, float]],
        changes: dict[Place, Change],
        previous: dict[str, Vitals | None],
    ) -> None:
        self._chart()
        for place, change in changes.items():
            for kind, units in (("revival", change.revived), ("death", change.died)):
                if len(units):
                    self._recorder.event(step, place.name, kind, units.tolist(), {})
        self._recorder.exam(
            step,
            {place.name: self._entries[place].window.vitals() for place in found},
            previous,
            {place.name: self._ledger(place) for place in found},
            {place.name: measures[place] for place in found},
        )

    def _chart(self) -> None:
        """Write the sites, if there is anything new."""
        anatomy = (
            tuple(entry.place.site(entry.pulse) for entry in self._entries.values()),
            self._atlas.unplaced,
        )
        if anatomy != self._written:
            self._recorder.anatomy(*anatomy)
            self._written = anatomy

    def _ledger(self, place: Place) -> Ledger:
        entry = self._entries[place]
        return entry.roll.ledger(entry.index)

    def hand_over(self, step: int) -> bool:
        """Write the ledgers as they stand; returns whether a silence is suspicious."""
        found = self.take()
        if self._pulses:
            live = [entry for entry in self._entries.values() if entry.pulse != "none"]
            self._recorder.ledgers(
                step, {entry.place.name: self._ledger(entry.place) for entry in live}
            )
        return found

    def silent(self) -> tuple[int, int]:
        """How many units are silent now, and how many there are."""
        ledgers = [self._ledger(place) for place in self._entries]
        dead = sum(int((one.first_silent > one.last_life).sum()) for one in ledgers)
        return dead, sum(len(one.last_life) for one in ledgers)

    @property
    def nbytes(self) -> int:
        """Memory held between exams, in bytes."""
        rolls = {id(entry.roll): entry.roll.nbytes for entry in self._entries.values()}
        rings = sum(beats.nbytes - beats.roll.nbytes for _, beats in self._pulses)
        windows = sum(entry.window.nbytes for entry in self._entries.values())
        drifts = sum(entry.drift.nbytes for entry in self._entries.values())
        layers = sum(entry.layer.nbytes for entry in self._entries.values())
        return sum(rolls.values()) + rings + windows + drifts + layers
