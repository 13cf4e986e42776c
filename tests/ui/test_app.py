"""What the server answers, without a server: every request and every store that it may meet."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

import recordings
import stored
from flatline.diagnose.thresholds import Thresholds
from flatline.record import schema
from flatline.record.store import Store
from flatline.show.report import build
from flatline.ui import app as app_module
from flatline.ui import events, pages
from flatline.ui.app import application
from flatline.ui.runs import Runs

HOST = "127.0.0.1:7557"
ADDRESSES = (
    "/",
    "/events",
    "/compare?id=a&id=b",
    "/run?id=a",
    "/run/events?id=a",
    "/run/verdict?id=a",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def store(path: Path) -> Store:
    return Store(path)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams do not wait."""
    monkeypatch.setattr(events, "LOOK_SECONDS", 0)
    monkeypatch.setattr(app_module, "LIST_SECONDS", 0)
    monkeypatch.setattr("flatline.ui.runs.PACE_SECONDS", 0)


def visitor(path: Path, looks: int = 2, **options) -> TestClient:
    """Somebody who asks; a stream ends after some looks at the store."""
    left = iter([False] * looks)
    app = application(Runs(path, **options), lambda: next(left, True))
    return TestClient(app, base_url=f"http://{HOST}", raise_server_exceptions=True)


def told(stream: str) -> list[tuple[str, str]]:
    found = re.findall(r"^event: (\w+)\ndata: (.*)\n\n", stream, re.MULTILINE)
    return [(kind, json.loads(said)) for kind, said in found]


# -- the list ---------------------------------------------------------------------------------


def rows_of(page: str) -> list[list[str]]:
    """The text of each cell of the list."""
    rows = re.findall(r"<tr [^>]*id=.*?</tr>", page, re.DOTALL)
    cells = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in rows]
    return [
        [re.sub(r"\s+", " ", re.sub("<.*?>", "", cell)).strip() for cell in row] for row in cells
    ]


def test_runs_are_listed_newest_first_with_what_is_known_without_judging(path, store):
    stored.put(store, recordings.tiny(), "older")
    going = stored.begin(store, recordings.running(), "going")
    page = visitor(path).get("/")
    assert page.status_code == 200
    started = "2026-01-02 03:04"
    assert rows_of(page.text) == [
        ["digits_mlp going", "running", "", "0 of 6", "2", started, ""],
        ["digits_mlp older", "finished", "…", "3 of 12", "24", started, "12 s"],
    ]
    going.close("failed")
    assert rows_of(visitor(path).get("/").text)[0][1:3] == ["failed", "…"]


def test_the_list_counts_what_the_last_exam_found_silent_and_says_that_this_is_not_dead(
    path, store
):
    stored.put(store, recordings.sick_mlp())
    page = visitor(path).get("/").text
    report = build(recordings.sick_mlp()).to_dict()
    silent = sum(report["exams"][-1]["silent"])
    place = re.findall(r'role="columnheader">(.*?)<', page).index("found silent")

    assert rows_of(page)[0][place] == f"{silent} of {sum(s['units'] for s in report['sites'])}"
    assert "fired on no example of the run's last exam" in page


def test_a_verdict_is_that_of_the_report_and_shows_in_the_list_from_then_on(path, store):
    for name in ("tiny", "healthy_mlp", "empty"):
        stored.put(store, recordings.ALL[name](), name)
    reader = visitor(path)
    said = {name: reader.get(f"/run/verdict?id={name}").json() for name in ("tiny", "empty")}
    assert said == {"tiny": {"verdict": "warning"}, "empty": {"verdict": "unknown"}}
    assert build(recordings.tiny()).verdict == "warning"
    assert [row[2] for row in rows_of(reader.get("/").text)] == ["unknown", "…", "warning"]
    reader.get("/run?id=healthy_mlp")
    assert [row[2] for row in rows_of(reader.get("/").text)] == ["unknown", "healthy", "warning"]


def test_runs_are_judged_by_the_thresholds_of_the_project(path, store):
    run = stored.put(store, recordings.healthy_mlp())
    lenient = Thresholds(warning_share=0.9, critical_share=0.95)
    sick = stored.put(store, recordings.sick_mlp(), "sick")
    assert (
        visitor(path, thresholds=lenient).get(f"/run/verdict?id={sick}").json()
        != visitor(path).get(f"/run/verdict?id={sick}").json()
    )
    assert "warning_share" in visitor(path, thresholds=lenient).get(f"/run?id={run}").text


def test_more_runs_than_a_browser_bears_are_counted(path, store, monkeypatch):
    monkeypatch.setattr(pages, "MANY", 2)
    for _ in range(5):
        store.create_run({}).close("finished")
    page = visitor(path).get("/").text
    assert len(rows_of(page)) == 2
    assert "and 3 older" in page


# -- the page of a run ------------------------------------------------------------------------


def test_the_page_of_a_run_is_its_report(path, store):
    run = stored.put(store, recordings.sick_mlp())
    page = visitor(path, named=str(path)).get(f"/run?id={run}").text
    with Store(path, create=False) as kept:
        alone = build(kept.load(run), store=str(path)).to_html()
    main = re.compile("<main>.*</main>", re.DOTALL)
    assert main.search(page)[0] == main.search(alone)[0]
    data = re.compile('<script type="application/json" id="data">.*?</script>')
    assert data.search(page)[0] == data.search(alone)[0]
    assert "data-events" not in page.partition("<main>")[0]


def test_runs_are_set_side_by_side(path, store):
    for name in ("tiny", "sick_mlp"):
        stored.put(store, recordings.ALL[name](), name)
    reader = visitor(path)
    page = reader.get("/compare?id=tiny&id=sick_mlp")
    assert page.status_code == 200
    assert "digits_mlp (tiny)" in page.text
    assert "digits_mlp (sick_mlp)" in page.text
    few, many = reader.get("/compare?id=tiny"), reader.get("/compare?" + "id=tiny&" * 13)
    assert few.status_code == many.status_code == 400
    assert "Expected 2 to 12 runs to compare, found 1." in few.text
    assert reader.get("/compare?id=tiny&id=nobody").status_code == 404


def test_a_page_is_built_again_only_when_more_is_stored(path, store):
    writer = stored.begin(store, recordings.running())
    runs = Runs(path)
    page = runs.page(writer.id)
    assert runs.page(writer.id) is page
    stored.put(store, recordings.tiny(), "another")
    assert runs.page(writer.id) is page
    writer.facts(steps=99)
    writer.flush()
    assert "99 steps so far" in runs.page(writer.id)
    assert f'data-events="/run/events?id={writer.id}"' in page
    writer.close("finished")
    assert "data-events" not in runs.page(writer.id).partition("<main>")[0]


def test_building_pages_leaves_a_training_its_time(path, store, monkeypatch):
    monkeypatch.setattr("flatline.ui.runs.PACE_SECONDS", 1.0)
    run = stored.put(store, recordings.tiny())
    runs = Runs(path)
    assert runs.pace(run) == 1.0
    runs.page(run)
    clock = iter([0.0, 3.0])
    monkeypatch.setattr("flatline.ui.runs.time.thread_time", lambda: next(clock))
    runs._pages.clear()
    runs.page(run)
    assert runs.pace(run) == 12.0


# -- events -----------------------------------------------------------------------------------


def streamed(runs: Runs, address: str, *steps) -> list[tuple[str, str]]:
    """What a stream tells of while some steps happen, one before each look at the store."""
    left = iter(steps)

    def closing() -> bool:
        step = next(left, StopIteration)
        if step is StopIteration:
            return True
        step()
        return False

    reader = TestClient(application(runs, closing), base_url=f"http://{HOST}")
    answer = reader.get(address)
    assert answer.headers["content-type"].startswith("text/event-stream")
    return told(answer.text)


@pytest.mark.parametrize("of_one", [True, False])
def test_a_stream_tells_of_what_is_stored(path, store, of_one):
    writer = stored.begin(store, recordings.running())

    def step():
        writer.facts(steps=7)
        writer.flush()

    found = streamed(
        Runs(path),
        f"/run/events?id={writer.id}" if of_one else "/events",
        lambda: None,
        lambda: None,
        step,
        lambda: None,
        lambda: stored.put(store, recordings.tiny(), "another"),
        lambda: writer.close("finished"),
    )
    kinds, stamps = zip(*found, strict=True)
    assert set(kinds) == {"changed"}
    assert len(set(stamps)) == len(stamps) == (3 if of_one else 4)


def test_a_stream_tells_of_a_change_once_its_time_has_come(path, store, monkeypatch):
    writer = stored.begin(store, recordings.running())

    def step():
        writer.metric("loss", 1, 0.5)
        writer.flush()

    address = f"/run/events?id={writer.id}"
    assert len(streamed(Runs(path), address, step, step, step)) == 3
    monkeypatch.setattr("flatline.ui.runs.PACE_SECONDS", 1e6)
    assert len(streamed(Runs(path), address, step, step, step)) == 2
    writer.close("finished")


def test_a_stream_tells_of_a_store_that_is_lost_and_found(path, store):
    run = stored.put(store, recordings.tiny())
    away = path.with_name("away.db")
    found = streamed(
        Runs(path),
        f"/run/events?id={run}",
        lambda: None,
        lambda: path.rename(away),
        lambda: None,
        lambda: away.rename(path),
    )
    assert [kind for kind, _ in found] == ["changed", "trouble", "changed"]
    assert "found no file" in found[1][1]
    assert found[0] == found[2]


# -- stores that cannot be read -----------------------------------------------------------------


def newer(path: Path) -> None:
    Store(path)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    db.close()


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE songs (title)")
    db.close()


TROUBLES = {
    "missing": (lambda path: None, "found no file"),
    "newer": (newer, "written by a newer flatline"),
    "of another program": (foreign, "a database of another program"),
    "no database": (lambda path: path.write_text("not a database" * 99), "none or is damaged"),
    "a folder": (Path.mkdir, "found the folder"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_store_that_cannot_be_read_is_told_in_a_sentence(path, trouble):
    make, sentence = TROUBLES[trouble]
    make(path)
    reader = visitor(path)
    for address in ("/", "/run?id=a", "/run/verdict?id=a", "/compare?id=a&id=b"):
        answer = reader.get(address)
        assert answer.status_code == 503, address
        assert sentence in answer.text
        assert "Traceback" not in answer.text
    for address in ("/events", "/run/events?id=a"):
        ((kind, said),) = told(visitor(path).get(address).text)
        assert kind == "trouble"
        assert sentence in said


def test_a_locked_store_is_told_in_a_sentence(path, store, monkeypatch):
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    db.execute("BEGIN EXCLUSIVE")
    db.execute("CREATE TABLE mine (a)")
    try:
        answer = visitor(path).get("/")
    finally:
        db.close()
    assert answer.status_code == 503
    assert "locked by another process" in answer.text


def test_an_empty_store_says_how_to_begin_and_shows_the_first_run(path):
    path.touch()  # as it is before the tables are made
    reader = visitor(path)
    page = reader.get("/")
    assert page.status_code == 200
    assert "No runs yet" in page.text
    stored.put(Store(path), recordings.tiny())
    assert len(rows_of(reader.get("/").text)) == 1


def test_a_store_that_appears_later_is_shown(path):
    reader = visitor(path)
    assert reader.get("/").status_code == 503
    stored.put(Store(path), recordings.tiny())
    assert len(rows_of(reader.get("/").text)) == 1


def test_an_unknown_run_and_an_unknown_page_are_told_in_a_sentence(path, store):
    reader = visitor(path)
    for address, sentence in (
        ("/run?id=nobody", "Expected the id of a run"),
        ("/run/verdict?id=nobody", "expected the id of a run"),
        ("/run", "Expected the id of a run"),
        ("/favicon.ico", "There is no such page"),
        ("/run?id=%00%0a%1b%5b31m", "Expected the id of a run"),
        ("/../../etc/passwd", "There is no such page"),
    ):
        answer = reader.get(address)
        assert answer.status_code == 404, address
        assert sentence in answer.text


def test_a_fault_of_ours_is_told_in_a_sentence_and_logged(path, store, monkeypatch, caplog):
    def fail(*_, **__):
        raise ZeroDivisionError("boom")

    run = stored.put(store, recordings.tiny())
    monkeypatch.setattr("flatline.ui.runs.build", fail)
    for address in (f"/run?id={run}", f"/run/verdict?id={run}"):
        answer = visitor(path).get(address)
        assert answer.status_code == 500
        assert "fault inside flatline: ZeroDivisionError: boom" in answer.text
        assert "Traceback" not in answer.text
    assert len(caplog.records) == 2


# -- names --------------------------------------------------------------------------------------


def test_runs_of_any_name_are_listed_and_reached(path, store):
    ids = [
        stored.put(store, stored.trap(name), f"{name}{place}")
        for place, name in enumerate(stored.TRAPS)
    ]
    reader = visitor(path)
    page = reader.get("/").text
    links = re.findall('href="(/run[^"]*)"', page)
    assert len(links) == len(ids)
    assert links == [f"/run?id={quote(run, safe='')}" for run in reversed(ids)]
    for link in links:
        assert reader.get(link).status_code == 200, link
    assert page.count("<script") == 2
    assert "<img" not in page
    assert "\u202e" not in page
    assert max(map(len, page.split("<tbody")[1].split("\n"))) < 31_000


def test_names_with_half_a_character_are_shown(path, store):
    run = store.create_run({"name": "half \ud800", "device": "\udcff"})
    run.close("finished")
    assert "half \\ud800" in visitor(path).get("/").text
    assert visitor(path).get(f"/run?id={run.id}").status_code == 200


# -- who may ask --------------------------------------------------------------------------------

FOREIGN = [
    {"host": "evil.example"},
    {"host": "evil.example:7557"},
    {"host": "127.0.0.1.evil.example"},
    {"host": "localhost.evil.example:7557"},
    {"host": "evil.example@127.0.0.1"},
    {"host": "127.0.0.1:7557/evil.example"},
    {"host": "127.0.0.1:port"},
    {"host": "2130706433"},
    {"host": "0.0.0.0:7557"},
    {"host": ""},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://evil.example"},
    {"origin": "http://127.0.0.1:8888"},
    {"origin": "https://127.0.0.1:7557"},
    {"origin": "http://localhost:7557"},
    {"origin": "http://127.0.0.1:7557.evil.example"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_requests_of_others_are_refused_before_anything_is_read(tmp_path, headers):
    reader = visitor(tmp_path)  # a folder, of which any reading would be told
    for address in ADDRESSES:
        answer = reader.get(address, headers=headers)
        assert answer.status_code == 403
        assert answer.text.startswith("expected a request")


def test_two_hosts_are_one_too_many(path, store):
    twice = [("host", HOST), ("host", "evil.example")]
    assert visitor(path).get("/", headers=twice).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost:7557"},
        {"host": "LOCALHOST"},
        {"host": "127.0.0.1:9000"},
        {"origin": f"http://{HOST}"},
        {"host": "localhost:9000", "origin": "http://localhost:9000"},
    ],
    ids=str,
)
def test_requests_of_our_own_pages_are_answered_also_through_a_tunnel(path, store, headers):
    assert visitor(path).get("/", headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_no_method_but_reading_is_answered(path, store, method):
    stored.put(store, recordings.tiny())
    before = path.read_bytes()
    for address in ADDRESSES:
        assert visitor(path).request(method, address).status_code == 405
    assert path.read_bytes() == before


def test_reading_changes_nothing(path, store):
    run = stored.put(store, recordings.tiny())
    before = path.read_bytes()
    for address in (
        "/",
        "/events",
        f"/run?id={run}",
        f"/run/events?id={run}",
        f"/run/verdict?id={run}",
    ):
        assert visitor(path).get(address).status_code == 200
    assert path.read_bytes() == before


# -- what the browser may do --------------------------------------------------------------------


def test_every_answer_forbids_all_that_no_page_needs(path, store):
    run = stored.put(store, recordings.tiny())
    reader = visitor(path)
    for address in (*ADDRESSES, f"/run?id={run}", "/nothing"):
        headers = reader.get(address).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


def test_the_policy_allows_exactly_the_scripts_of_the_page(path, store):
    run = stored.put(store, recordings.tiny())
    reader = visitor(path)
    for address in ("/", f"/run?id={run}", "/run?id=nobody"):
        answer = reader.get(address)
        scripts = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
        hashes = {
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in scripts
        }
        policy = dict(
            part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
        )
        assert set(policy["script-src"].split()) == hashes
        assert policy.get("connect-src") == (None if "nobody" in address else "'self'")
