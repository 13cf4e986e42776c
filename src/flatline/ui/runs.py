"""What the server knows of the stored runs, read and judged as seldom as can be.

A page is built when somebody looks, and again only when more of the run is stored: building one
takes time that a training on the same machine would rather have.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from flatline.diagnose.thresholds import DEFAULT, Thresholds
from flatline.record.store import Overview, Store
from flatline.show import words
from flatline.show.report import Report, build
from flatline.ui import pages
from flatline.ui.pages import is_running

#: Pages kept at most.
KEPT = 8
#: A page of a run in progress is built at most this often.
PACE_SECONDS = 1.0
#: Nor does building it take a larger share of a processor's time.
SHARE = 0.25


@dataclass(frozen=True)
class Page:
    """The page of a run.

    Attributes:
        text: The page.
        stamp: The stamp of the run that it shows; see :meth:`flatline.record.store.Store.stamp`.
        seconds: Time of the processor that it took to build it.
    """

    text: str
    stamp: str
    seconds: float


class Runs:
    """The runs of one store.

    Args:
        path: The store's file, which need not exist yet.
        thresholds: What runs are judged by.
        named: The store to name in commands, where it is not the usual one.
    """

    def __init__(
        self, path: Path, thresholds: Thresholds = DEFAULT, named: str | None = None
    ) -> None:
        self.path = path
        self._thresholds = thresholds
        self._named = named
        self._pages: OrderedDict[str, Page] = OrderedDict()
        self._known: dict[str, Overview] = {}
        self._verdicts: dict[str, str] = {}
        self._building, self._judging = Lock(), Lock()

    def overviews(self) -> list[Overview]:
        """What can be told of all runs without judging them, newest first."""
        found = self._store().overviews(self._known)
        self._known = {str(one.facts["id"]): one for one in found}
        return found

    def stamp(self, run_id: str | None = None) -> str:
        """Changes whenever more of a run, or of any run, is stored."""
        return self._store().stamp(run_id)

    def page(self, run_id: str) -> str:
        """The page of a run as it stands now.

        Raises:
            UnknownRunError: There is no such run.
            StoreError: The store cannot be read.
        """
        with self._building:
            page = self._pages.pop(run_id, None)
            if page is None or page.stamp != self.stamp(run_id):
                page = self._build(run_id)
            self._pages[run_id] = page
            while len(self._pages) > KEPT:
                self._pages.popitem(last=False)
        return page.text

    def pace(self, run_id: str) -> float:
        """Seconds between two pages of a run, so that building them leaves a training its time."""
        page = self._pages.get(run_id)
        return PACE_SECONDS if page is None else max(PACE_SECONDS, page.seconds / SHARE)

    def verdict(self, run_id: str) -> str:
        """The verdict on a run, which stays once it has ended; one is judged after the other.

        Raises:
            UnknownRunError: There is no such run.
            StoreError: The store cannot be read.
        """
        with self._judging:
            known = self._verdicts.get(run_id)
            return known or self._judge(
                build(self._store().load(run_id), units=0, thresholds=self._thresholds)
            )

    def comparison(self, run_ids: Sequence[str]) -> str:
        """The page that sets runs side by side; the others are compared with the first.

        Raises:
            UnknownRunError: There is no such run.
            StoreError: The store cannot be read.
        """
        with self._building:
            return pages.comparison([self._report(run_id) for run_id in run_ids])

    def verdicts(self) -> dict[str, str]:
        """The verdicts that are known by now."""
        return dict(self._verdicts)

    def _build(self, run_id: str) -> Page:
        began = time.thread_time()
        stamp = self.stamp(run_id)  # first: what is written meanwhile asks for another page
        text = pages.run(self._report(run_id), stamp)
        return Page(text, stamp, time.thread_time() - began)

    def _report(self, run_id: str) -> Report:
        recording = self._store().load(run_id)
        report = build(recording, store=self._named, thresholds=self._thresholds)
        self._judge(report)
        return report

    def _judge(self, report: Report) -> str:
        verdict = words.verdict(report)
        if not is_running(report.run):
            self._verdicts[str(report.run["id"])] = verdict
        return verdict

    def _store(self) -> Store:
        return Store(self.path, create=False)
