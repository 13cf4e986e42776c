"""The run store: what goes in comes out, and nothing that happens to a process harms it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from flatline import activations
from flatline.anatomy.site import Site, Unplaced
from flatline.errors import StoreError
from flatline.record import schema
from flatline.record import writer as writer_module
from flatline.record.recording import dump_activation, load_activation, merge_ledgers
from flatline.record.store import Store
from flatline.sense import histogram
from flatline.sense.vitals import Ledger, Vitals, merge, pack

RELU = activations.get("relu")
SITE = Site("net.0", RELU, 3, feeds=("net.0.weight",), reads=("net.2.weight",), pulse="exact")


def vitals(units: int = 3, examples: int = 8, seed: int = 0) -> Vitals:
    rng = np.random.default_rng(seed)
    return replace(
        Vitals.empty(units),
        examples=examples,
        fired=rng.integers(0, examples + 1, units).astype(np.int32),
        z_max=rng.normal(size=units).astype(np.float32),
        h_abs=rng.uniform(size=units),
        twin=np.arange(units, dtype=np.int32),
    )


def ledger(last: list[int], first: list[int], silent: list[int], exact: bool = True) -> Ledger:
    return Ledger(
        np.array(last, np.int32),
        np.array(first, np.int32),
        np.array(silent, np.int64),
        np.full(len(last), exact),
    )


def drawn(seed: int) -> histogram.Histograms:
    values = np.random.default_rng(seed).normal(size=(9, 3)).astype(np.float32)
    return histogram.histograms(np.arange(3, dtype=np.int32), values)


def equal(a: Vitals | Ledger, b: Vitals | Ledger) -> bool:
    return type(a) is type(b) and pack(a) == pack(b)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "runs.db"


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    with Store(path if request.param == "file" else None, create=True) as store:
        yield store


def test_what_is_written_is_read_back(store: Store) -> None:
    writer = store.create_run({"name": "a", "steps": 0})
    current, previous = vitals(seed=1), vitals(seed=2)
    book = ledger([-1, 4, 2], [0, 5, -1], [512, 40, 0])
    writer.anatomy([SITE], [Unplaced("net.4", "no parameter feeds it")])
    writer.exam(5, {"net.0": current}, {"net.0": previous}, {"net.0": book}, {})
    writer.steps([(0, 2.5, 0.1, 3.0), (1, None, 0.1, None), (2, float("nan"), None, None)])
    writer.metric("accuracy", 2, 0.5)
    writer.metric("accuracy", 3, float("inf"))
    writer.event(4, "net.0", "death", np.array([1, 2]), {"z": np.float32(0.5), "nan": np.nan})
    writer.lost("net.5", "it is compiled")
    writer.facts(steps=3)
    writer.close("finished")

    found = store.load(writer.id)
    assert found.facts["status"] == "finished"
    assert found.facts["steps"] == 3
    assert found.sites == (SITE,)
    assert found.unplaced == (Unplaced("net.4", "no parameter feeds it"),)
    assert equal(found.windows["net.0"], merge(previous, current))
    assert equal(found.ledgers["net.0"], book)
    assert found.exams == [(5, {"net.0": {"silent": 2}})]
    assert found.steps.step.tolist() == [0, 1, 2]
    assert (found.steps.loss[0], found.steps.gradient[0]) == (2.5, 3.0)
    assert np.isnan(found.steps.loss[1:]).all()
    assert found.metrics == {"accuracy": [(2, 0.5), (3, float("inf"))]}
    (event,) = found.events
    assert (event.step, event.site, event.kind) == (4, "net.0", "death")
    assert event.units == (1, 2)
    assert event.evidence == {"z": 0.5, "nan": None}
    assert found.lost == [("net.5", "it is compiled")]
    assert writer.error is None


def test_the_latest_exam_replaces_older_vitals_and_keeps_an_unchanged_window(store: Store) -> None:
    writer = store.create_run({})
    writer.anatomy([SITE], [])
    full, second, third = (vitals(seed=i) for i in range(3))
    book = ledger([1, 1, 1], [-1, 2, -1], [0, 4, 0])
    writer.exam(1, {"net.0": second}, {"net.0": full}, {"net.0": book}, {"net.0": {"batch": 8}})
    writer.exam(2, {"net.0": third}, {"net.0": None}, {"net.0": book}, {"net.0": {"batch": 4}})
    writer.close("finished")
    found = store.load(writer.id)
    assert equal(found.windows["net.0"], merge(full, third))
    assert [(step, row["net.0"]["batch"]) for step, row in found.exams] == [(1, 8), (2, 4)]


def test_new_anatomy_with_other_units_drops_what_was_seen_of_the_old(store: Store) -> None:
    writer = store.create_run({})
    writer.anatomy([SITE], [])
    writer.exam(1, {"net.0": vitals(3)}, {"net.0": vitals(3)}, {}, {})
    writer.anatomy([replace(SITE, units=5)], [])
    new = vitals(5)
    writer.exam(2, {"net.0": new}, {"net.0": None}, {}, {})
    writer.close("finished")
    found = store.load(writer.id)
    assert found.sites == (replace(SITE, units=5),)
    assert equal(found.windows["net.0"], new)


def test_ranks_of_one_run_are_merged(store: Store) -> None:
    one = store.create_run({"name": "ddp"}, run_id="shared", rank=1)
    zero = store.create_run({"name": "ddp", "world_size": 2}, run_id="shared", rank=0)
    windows = [vitals(seed=7), vitals(seed=8)]
    other = Site("expert", RELU, 2)
    for writer, window in zip((zero, one), windows, strict=True):
        writer.anatomy([SITE] if writer is zero else [SITE, other], [])
        book = ledger([3 + writer.rank] * 3, [5] * 3, [60] * 3)
        writer.exam(5, {"net.0": window}, {}, {"net.0": book}, {"net.0": {"batch": 1.0}})
        writer.facts(examples=100 + writer.rank)
    one.close("failed")
    zero.close("finished")
    assert [run["id"] for run in store.runs()] == ["shared"]
    found = store.load("shared")
    assert found.facts["world_size"] == 2
    assert found.facts["examples"] == 100
    assert found.facts["status"] == "finished"
    assert found.sites == (SITE, other)
    assert found.windows["net.0"].examples == 16
    assert equal(found.windows["net.0"], merge(*windows))
    # Rank 0 witnessed 60 silent examples in steps 4 and 5, of which step 5 counts.
    assert found.ledgers["net.0"].last_life.tolist() == [4] * 3
    assert found.ledgers["net.0"].silent_examples.tolist() == [90] * 3


def test_a_later_rank_leaves_the_facts_of_rank_zero(store: Store) -> None:
    store.create_run({"name": "mine"}, run_id="x", rank=0).close("finished")
    store.create_run({"name": "yours"}, run_id="x", rank=1).close("finished")
    assert store.runs()[0]["name"] == "mine"


@pytest.mark.parametrize(
    ("books", "last", "first", "silent"),
    [
        pytest.param([((5, -1, 0), 9)], 5, -1, 0, id="alone"),
        pytest.param([((5, 7, 40), 9), ((5, 6, 40), 9)], 5, 6, 80, id="agree"),
        pytest.param([((5, -1, 0), 9), ((-1, 0, 100), 9)], 5, -1, 40, id="one fires"),
        pytest.param([((8, 9, 10), 9), ((3, 4, 60), 9)], 8, 9, 20, id="later life elsewhere"),
    ],
)
def test_merged_ledgers_count_silence_since_the_last_life_anywhere(
    books: list[tuple[tuple[int, int, int], int]], last: int, first: int, silent: int
) -> None:
    merged = merge_ledgers([(step, ledger([a], [b], [c])) for (a, b, c), step in books])
    assert merged.last_life.tolist() == [last]
    assert merged.first_silent.tolist() == [first]
    assert merged.silent_examples.tolist() == [silent]
    assert not merge_ledgers(
        [(9, ledger([1], [-1], [0])), (9, ledger([1], [-1], [0], exact=False))]
    ).exact[0]


@pytest.mark.parametrize("name", activations.names())
def test_activations_come_back_with_their_intervals(name: str) -> None:
    kept = activations.get(name)
    found = load_activation(dump_activation(kept))
    for entry in fields(kept):
        if entry.name != "function":
            assert getattr(found, entry.name) == getattr(kept, entry.name)


def test_histograms_are_read_back_by_site_and_step(store: Store) -> None:
    writer = store.create_run({})
    writer.anatomy([SITE], [])
    found = [drawn(seed) for seed in range(3)]
    for step, one in enumerate(found):
        writer.histograms(10 * step, {"net.0": one, "no site": one})
    writer.close("finished")
    read = store.load(writer.id).histograms
    assert {*read} == {"net.0"}
    assert [step for step, _ in read["net.0"]] == [0, 10, 20]
    for (_, blob), one in zip(read["net.0"], found, strict=True):
        assert blob == histogram.pack(one)


def test_of_several_ranks_the_lowest_is_heard_where_both_drew(store: Store) -> None:
    for rank in (1, 0):
        writer = store.create_run({"world_size": 2}, "shared", rank)
        writer.anatomy([SITE], [])
        writer.histograms(4, {"net.0": drawn(rank)})
        writer.histograms(9 + rank, {"net.0": drawn(rank)})
        writer.close("finished")
    read = dict(store.load("shared").histograms["net.0"])
    assert [*read] == [4, 9, 10]
    assert read[4] == read[9] == histogram.pack(drawn(0))


def test_so_many_exams_keep_their_histograms_evenly(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "KEPT", 4)
    writer = store.create_run({})
    other = store.create_run({})
    for one in (writer, other):
        one.anatomy([SITE], [])
    other.histograms(1, {"net.0": drawn(0)})
    kept = {}
    for number in range(23):
        writer.histograms(100 + number, {"net.0": drawn(number)})
        writer.flush()
        kept[number] = [step - 100 for step, _ in store.load(writer.id).histograms["net.0"]]
    writer.close("finished")
    other.close("finished")
    assert kept[3] == [0, 1, 2, 3]
    assert kept[7] == [0, 2, 4, 6, 7]
    assert kept[22] == [0, 8, 16, 22]
    assert len(store.load(other.id).histograms["net.0"]) == 1


@pytest.mark.parametrize("create", [True, False])
def test_a_store_from_before_histograms_opens(path: Path, create: bool) -> None:
    with Store(path) as store:
        old = store.create_run({"name": "old"})
        old.anatomy([SITE], [])
        old.close("finished")
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE histograms")
        db.execute("PRAGMA user_version=2")
    with Store(path, create=create) as store:
        assert store.load(old.id).histograms == {}
    with Store(path) as store:
        new = store.create_run({"name": "new"})
        new.anatomy([SITE], [])
        new.histograms(0, {"net.0": drawn(1)})
        new.close("finished")
        assert [step for step, _ in store.load(new.id).histograms["net.0"]] == [0]
        assert store.load(old.id).histograms == {}


def test_an_activation_of_another_version_is_read_without_what_is_not_known() -> None:
    kept = activations.get("tanh")
    written = json.loads(dump_activation(kept)) | {"on_output": True}
    assert load_activation(json.dumps(written)) == kept


def test_find_by_id_prefix_and_name(store: Store) -> None:
    for key, name in (("abc1", "base"), ("abd2", "wide"), ("f003", "base")):
        store.create_run({"name": name}, run_id=key).close("finished")
    assert store.find(None) == "f003"
    assert store.find("abd2") == "abd2"
    assert store.find("abc") == "abc1"
    assert store.find("base") == "f003"
    with pytest.raises(StoreError, match="begins 2 of them: abd2, abc1"):
        store.find("ab")
    with pytest.raises(StoreError, match="found 'wyde'; did you mean wide"):
        store.find("wyde")
    with pytest.raises(StoreError, match="flatline runs lists them"):
        store.find("%%%%%%")
    with pytest.raises(StoreError, match="found 'abc'"):
        store.load("abc")


def test_an_empty_store_says_what_to_do(path: Path) -> None:
    with Store(path, create=True) as store, pytest.raises(StoreError, match="flatline run SCRIPT"):
        store.find(None)


def test_missing_file_is_not_made_by_reading(path: Path) -> None:
    with pytest.raises(StoreError, match=r"found no file; .* flatline run SCRIPT"):
        Store(path, create=False)
    assert not path.parent.exists()


def test_a_blank_file_holds_no_runs(tmp_path: Path) -> None:
    (tmp_path / "runs.db").touch()
    with Store(tmp_path / "runs.db", create=False) as store:
        assert store.runs() == []
    assert (tmp_path / "runs.db").stat().st_size == 0


@pytest.mark.parametrize("create", [True, False])
def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path, create: bool) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("meeting notes " * 100)
    with pytest.raises(StoreError, match=r"expected .*notes\.txt to be a run store"):
        Store(text, create=create)
    assert text.read_text() == "meeting notes " * 100
    other = tmp_path / "other.db"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE mine (a)")
    db.close()
    before = other.read_bytes()
    with pytest.raises(StoreError, match="database of another program"):
        Store(other, create=create)
    assert other.read_bytes() == before
    with pytest.raises(StoreError, match="found the folder"):
        Store(tmp_path, create=create)
    with pytest.raises(StoreError):
        Store(text / "runs.db", create=create)


@pytest.mark.parametrize("create", [True, False])
def test_a_newer_store_is_refused(path: Path, create: bool) -> None:
    Store(path, create=True).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    db.close()
    with pytest.raises(StoreError, match="newer flatline; upgrade"):
        Store(path, create=create)


def test_a_damaged_store_is_a_plain_error(path: Path) -> None:
    with Store(path, create=True) as store:
        store.create_run({}).close("finished")
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(StoreError, match="damaged"), Store(path, create=False) as store:
        store.runs()


def test_a_locked_store_is_a_plain_error_at_the_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)
    with Store(path, create=True) as store, _locked(path):
        assert store.runs() == []  # reading goes on
        with pytest.raises(StoreError, match="locked by another process"):
            store.create_run({})


def test_a_store_that_stays_locked_never_raises_into_training(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)
    with Store(path, create=True) as store:
        writer = store.create_run({})
        with _locked(path):
            writer.metric("a", 0, 1.0)
            writer.flush()
            assert "locked" in str(writer.error)
        writer.metric("a", 1, 1.0)
        writer.flush()
        writer.close("finished")
        assert store.load(writer.id).metrics == {}


def test_a_lock_that_is_given_back_in_time_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 1.0)
    with Store(path, create=True) as store:
        writer = store.create_run({})
        with _locked(path):
            writer.metric("a", 0, 1.0)
            writer.exam(0, {}, {}, {}, {})
            time.sleep(0.3)
        writer.close("finished")
        assert writer.error is None
        assert store.load(writer.id).metrics == {"a": [(0, 1.0)]}


class _locked:
    """Another connection that holds the write lock."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self.db.execute("ROLLBACK")
        self.db.close()


def test_reading_never_writes(path: Path) -> None:
    with Store(path, create=True) as store:
        store.create_run({"name": "a"}).close("finished")
    before = path.read_bytes()
    with Store(path, create=False) as store:
        assert store.runs()[0]["name"] == "a"
        with pytest.raises(StoreError, match="reading only"):
            store.create_run({})
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_store_is_read_and_refuses_runs(path: Path) -> None:
    with Store(path, create=True) as store:
        store.create_run({"name": "a"}).close("finished")
    path.chmod(stat.S_IRUSR)
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with Store(path, create=False) as store:
            assert store.runs()[0]["name"] == "a"
        with pytest.raises(StoreError, match="read-only"), Store(path, create=True) as store:
            store.create_run({})
    finally:
        path.parent.chmod(stat.S_IRWXU)


def test_a_run_whose_process_is_gone_reads_as_interrupted(path: Path) -> None:
    code = (
        "import sys; from flatline.record.store import Store\n"
        "Store(sys.argv[1], create=True).create_run({'name': 'gone'})\n"
        "import os; os._exit(1)"
    )
    _python(code, str(path)).communicate(timeout=60)
    with Store(path, create=True) as store:
        writer = store.create_run({"name": "here"})
        assert [(r["name"], r["status"]) for r in store.runs()] == [
            ("here", "running"),
            ("gone", "interrupted"),
        ]
        assert store.load(store.find("gone")).facts["status"] == "interrupted"
        writer.close("failed")
        assert store.runs()[0]["status"] == "failed"


def test_a_run_is_seen_while_it_goes_on(path: Path) -> None:
    with Store(path, create=True) as store, Store(path, create=False) as reader:
        writer = store.create_run({})
        writer.anatomy([SITE], [])
        writer.exam(0, {"net.0": vitals()}, {}, {}, {})
        end = time.monotonic() + 10
        while not reader.load(writer.id).windows and time.monotonic() < end:
            time.sleep(0.02)
        assert equal(reader.load(writer.id).windows["net.0"], vitals())
        writer.metric("loss", 0, 1.0)  # without an exam: within half a second
        end = time.monotonic() + 10
        while not reader.load(writer.id).metrics and time.monotonic() < end:
            time.sleep(0.02)
        assert reader.load(writer.id).metrics == {"loss": [(0, 1.0)]}
        writer.close("finished")


def test_a_stamp_changes_with_all_that_is_stored_and_with_nothing_else(path: Path) -> None:
    writer = Store(path).create_run({"steps": 0})
    store = Store(path, create=False)
    stamps = [(store.stamp(), store.stamp(writer.id))]
    for write in (
        lambda: writer.facts(steps=3),
        lambda: writer.exam(3, {}, {}, {}, {SITE.name: {"batch": 4.0}}),
        lambda: writer.metric("accuracy", 3, 0.5),
        lambda: writer.close("finished"),
    ):
        write()
        writer.flush()
        stamps.append((store.stamp(), store.stamp(writer.id)))
        assert (store.stamp(), store.stamp(writer.id)) == stamps[-1]
    of_all, of_one = zip(*stamps, strict=True)
    assert len(set(of_all)) == len(set(of_one)) == 5
    Store(path).create_run({}).close("finished")
    assert store.stamp() not in of_all
    assert store.stamp(writer.id) == of_one[-1]


def test_a_stamp_changes_when_the_process_of_a_run_is_gone(path: Path) -> None:
    program = "import sys\nfrom flatline.record.store import Store\n" + (
        "print(Store(sys.argv[1]).create_run({}).id, flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        store = Store(path, create=False)
        before = store.stamp(), store.stamp(run)
        process.kill()
    assert store.stamp() != before[0]
    assert store.stamp(run) != before[1]
    assert store.overviews()[0].facts["status"] == "interrupted"


def test_an_overview_holds_what_the_last_exam_found_silent(store: Store) -> None:
    idle = store.create_run({"name": "idle"})
    writer = store.create_run({"name": "busy"})
    other = Site("net.2", RELU, 2, feeds=(), reads=(), pulse="exact")
    writer.anatomy([SITE, other], [])
    silent = ledger([-1, 4, 9], [0, 5, -1], [99, 50, 0])
    alive = ledger([9, 9], [-1, -1], [0, 0])
    for step, of_site in ((2, alive), (10, silent)):
        ledgers = {"net.0": of_site, "net.2": alive}
        writer.exam(step, {}, {}, ledgers, {name: {"batch": 4.0} for name in ledgers})
    writer.flush()
    busy, first = store.overviews()
    assert (busy.facts["name"], busy.units, busy.silent) == ("busy", 5, 2)
    assert (first.facts["id"], first.units, first.silent) == (idle.id, 0, None)
    writer.close("finished")
    idle.close("failed")
    assert [one.facts for one in store.overviews()] == store.runs()


def test_an_overview_of_a_run_that_has_ended_is_not_made_again(store: Store) -> None:
    store.create_run({}, "over").close("finished")
    going = store.create_run({"steps": 1}, "going")
    told = store.overviews()
    known = {str(one.facts["id"]): one for one in told}
    going.facts(steps=2)
    going.flush()
    again = store.overviews(known)
    assert again[1] is told[1]
    assert again[0].facts["steps"] == 2
    going.close("failed")
    assert [one.facts["status"] for one in store.overviews(known)] == ["failed", "finished"]


@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_handed_over_with_facts_waits_for_nothing(
    path: Path, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "COMMIT_SECONDS", 600.0)
    with Store(path, create=True) as store, Store(path, create=False) as reader:
        writer = store.create_run({}, "shared", rank)
        for step in range(3):
            writer.steps([(step, 1.0, 0.1, None)])
            writer.facts(steps=step + 1)
            end = time.monotonic() + 10
            while len(reader.load("shared").steps.step) <= step and time.monotonic() < end:
                time.sleep(0.02)
            assert len(reader.load("shared").steps.step) == step + 1
        writer.close("finished")


def test_closing_twice_and_writing_after_the_end_do_nothing(store: Store) -> None:
    writer = store.create_run({})
    writer.close("finished")
    writer.metric("late", 0, 1.0)
    writer.facts(steps=9)
    writer.flush()
    writer.close("failed")
    found = store.load(writer.id)
    assert found.metrics == {}
    assert found.facts["status"] == "finished"
    assert "steps" not in found.facts


def test_threads_share_a_store(store: Store) -> None:
    def one(name: str) -> None:
        writer = store.create_run({"name": name})
        for step in range(50):
            writer.metric("m", step, float(step))
        writer.close("finished")

    threads = [threading.Thread(target=one, args=(f"run {i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.runs()) == 4
    for run in store.runs():
        assert len(store.load(run["id"]).metrics["m"]) == 50


def test_a_forked_child_writes_nothing_and_harms_nothing(path: Path) -> None:
    code = """
import os, sys
import numpy as np
from flatline.record.store import Store
with Store(sys.argv[1], create=True) as store:
    writer = store.create_run({"name": "parent"})
    writer.metric("m", 0, 0.0)
    pid = os.fork()
    who = "child" if pid == 0 else "parent"
    for step in range(1, 200):
        writer.metric(who, step, 1.0)
        writer.facts(name=who)
    writer.exam(1, {}, {}, {}, {})
    writer.flush()
    writer.close("finished" if pid else "failed")
    if pid == 0:
        sys.exit(0)   # an orderly end, with everything Python does then
    assert os.waitpid(pid, 0)[1] == 0
    assert writer.error is None, writer.error
"""
    process = _python(code, str(path))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    with Store(path, create=False) as store:
        (facts,) = store.runs()
        found = store.load(facts["id"])
    assert (facts["name"], facts["status"]) == ("parent", "finished")
    assert {name: len(rows) for name, rows in found.metrics.items()} == {"m": 1, "parent": 199}


def test_a_kill_at_any_moment_leaves_a_store_that_opens(path: Path) -> None:
    code = """
import sys
from itertools import count
import numpy as np
from flatline import activations
from flatline.anatomy.site import Site
from flatline.record.store import Store
from flatline.sense.vitals import Ledger, Vitals
print("up", flush=True)
writer = Store(sys.argv[1], create=True).create_run({})
writer.anatomy([Site("s", activations.get("relu"), 400)], [])
for step in count():
    vitals = Vitals.empty(400)
    writer.steps([(step, 1.0, 0.1, 2.0)])
    writer.exam(step, {"s": vitals}, {"s": vitals}, {"s": Ledger.empty(400)}, {"s": {"a": 1.0}})
    writer.flush()
"""
    rng = np.random.default_rng()
    delays = [0.0, *rng.uniform(0.0, 0.4, 6)]
    for delay in delays:
        process = _python(code, str(path))
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        if not path.exists():
            continue
        with Store(path, create=False) as store:
            for run in store.runs():
                assert run["status"] == "interrupted"
                found = store.load(run["id"])
                # What was committed is whole: steps and exams of one commit agree.
                assert len(found.steps.step) - len(found.exams) in (0, 1), f"after {delay} s"
                assert not found.exams or "s" in found.windows
    with Store(path, create=True) as store:
        assert len(store.runs()) >= 1, "no kill came late enough to see a run"
        writer = store.create_run({"name": "after"})
        writer.close("finished")
        assert store.runs()[0]["status"] == "finished"
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def _python(code: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
