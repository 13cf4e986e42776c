"""The live page in a real browser, served by one process while another one trains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import chromium
import recordings
import stored
from chromium import DESKTOP, PHONE
from flatline.record.recording import Recording
from flatline.record.store import Store
from flatline.show import words
from flatline.show.report import Report, build
from serving import Served, Training, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

ENDED = ("healthy_mlp", "sick_mlp", "tiny")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.launched() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory whose store holds some runs that have ended."""
    folder = tmp_path_factory.mktemp("work")
    with Store(folder / ".flatline" / "runs.db") as store:
        for name in ENDED:
            stored.put(store, recordings.ALL[name](), name)
        stored.put(store, stored.trap(recordings.HOSTILE[0]), recordings.HOSTILE[1])
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    with served(folder, "--port", "0") as running:
        yield running


@dataclass
class Visitor:
    """Somebody with a browser, who notices every error and every request to elsewhere."""

    browser: Browser
    address: str
    noticed: list[str] = field(default_factory=list)

    def open(self, path: str = "/", **context) -> Page:
        page = self.browser.new_context(**{"viewport": DESKTOP, **context}).new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda said: self.noticed.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: self.noticed.append(f"error: {error}"))
        page.on("request", self._request)
        page.goto(self.address + path)
        return page

    def _request(self, request) -> None:
        if not request.url.startswith((self.address + "/", "data:")):
            self.noticed.append(f"request: {request.url}")


@pytest.fixture
def visitor(browser: Browser, server: Served) -> Iterator[Visitor]:
    somebody = Visitor(browser, server.address)
    yield somebody
    for context in browser.contexts:
        context.close()
    assert somebody.noticed == []


@pytest.fixture
def training(folder: Path) -> Iterator[Training]:
    """A training that a test may end."""
    running = Training(folder, "--budget", "50", "--name", "followed")
    yield running
    running.kill()


class Growing:
    """A run in progress that this process writes, one step at a time."""

    def __init__(self, folder: Path, recording: Recording) -> None:
        self.steps = recording.facts["steps"]
        facts = {**recording.facts, "status": "running"}
        with Store(folder / ".flatline" / "runs.db") as store:
            self.writer = stored.begin(store, recordings.replace(recording, facts=facts), self.id)

    @property
    def id(self) -> str:
        return f"growing{id(self)}"

    def grow(self, page: Page) -> None:
        """Add a step, and wait for the page to show it."""
        self.step()
        page.get_by_text(f"running, {self.steps} steps so far").wait_for()

    def step(self) -> None:
        """Add a step."""
        self.writer.steps([(self.steps, 0.1, 0.005, 1.0)])
        self.steps += 1
        self.writer.facts(steps=self.steps)
        self.writer.flush()


@pytest.fixture
def growing(folder: Path) -> Iterator[Growing]:
    run = Growing(folder, recordings.sick_mlp())
    yield run
    run.writer.close("finished")


def report(folder: Path, run: str | None = None) -> Report:
    """What the store holds now."""
    with Store(folder / ".flatline" / "runs.db", create=False) as store:
        return build(store.load(store.find(run)))


def follow(visitor: Visitor, run: str, **context) -> Page:
    """The page of a run in progress."""
    page = visitor.open(f"/run?id={run}", **context)
    page.wait_for_selector("html[data-ready]")
    page.evaluate("window.sameDocument = true")
    return page


def steps(page: Page) -> int:
    """How far the run is, by its page."""
    words = page.locator(".sub").text_content()
    return int(re.search(r"([\d,]+) steps?", words)[1].replace(",", ""))


def wait_for_more(page: Page) -> None:
    """Wait until the page has been renewed."""
    shown = page.locator("#following").get_attribute("data-stamp")
    page.locator(f"#following:not([data-stamp='{shown}'])").wait_for()


def picture(page: Page, site: int) -> Locator:
    return page.locator(f"#site-{site} canvas")


def wait_for_verdicts(page: Page) -> None:
    """Wait until all runs in the list are judged."""
    page.locator("#runs td").filter(has_text="…").first.wait_for(state="detached")


# -- the list -----------------------------------------------------------------------------------


def names(page: Page) -> list[str]:
    return page.locator("#runs tbody tr:not([hidden]) a").all_text_contents()


def test_the_list_judges_what_is_in_sight(visitor, folder):
    page = visitor.open()
    page.wait_for_selector("html[data-ready]")
    wait_for_verdicts(page)
    verdicts = page.locator("#runs tbody tr td:nth-of-type(2)").all_text_contents()
    ids = page.locator("#runs tbody small").all_text_contents()
    known = dict(zip(ids, verdicts, strict=True))
    for name in ENDED:
        assert known[name] == words.verdict(report(folder, name))


def test_runs_out_of_sight_are_judged_when_they_come_into_sight(browser, folder):
    with served(folder, "--port", "0") as fresh:
        page = Visitor(browser, fresh.address).open(viewport={"width": 1440, "height": 240})
        first, last = (page.locator("#runs tbody tr").nth(place) for place in (0, -1))
        first.get_by_text("…").wait_for(state="detached")
        page.wait_for_timeout(300)
        assert "…" in last.text_content()
        last.scroll_into_view_if_needed()
        last.get_by_text("…").wait_for(state="detached")
        page.context.close()


def test_the_list_is_filtered_by_any_of_its_words(visitor):
    page = visitor.open()
    page.wait_for_selector("html[data-ready]")
    page.get_by_label("Filter").focus()
    page.keyboard.type("digits sick_")
    assert page.locator("#runs tbody tr:not([hidden]) small").all_text_contents() == ["sick_mlp"]
    assert re.fullmatch(r"1 of \d runs", page.locator("#count").text_content())
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.get_by_label("Filter").input_value() == "digits sick_"
    assert len(names(page)) == 1
    page.get_by_label("Filter").fill("")
    assert len(names(page)) == page.locator("#runs tbody tr").count() > 3


def test_chosen_runs_are_set_side_by_side(visitor, growing):
    page = visitor.open()
    page.wait_for_selector("html[data-ready]")
    page.get_by_role("button", name="Select runs").click()
    page.get_by_role("checkbox", name="sick_mlp").check()
    assert page.locator("#compare").is_hidden()
    box = page.get_by_role("checkbox", name=growing.id)
    box.focus()
    page.keyboard.press("Space")
    growing.step()
    page.get_by_role("row").filter(has_text=growing.id).get_by_text(str(growing.steps)).wait_for()
    assert box.is_checked()
    assert box.evaluate("box => box === document.activeElement")
    page.get_by_role("link", name="Compare 2 runs").click()
    page.get_by_role("heading", name="2 runs side by side").wait_for()
    assert "digits_mlp (sick_mlp)" in page.locator("main").text_content()
    assert chromium.serious_violations(page) == []
    page.get_by_role("link", name="All runs").click()
    page.wait_for_selector("#runs")
    assert page.get_by_role("checkbox").count() == 0


def test_a_name_is_only_ever_text(visitor):
    page = visitor.open()
    page.get_by_role("link", name="alert(1)").click()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("h1").is_visible()
    assert page.evaluate("document.images.length === 0 && ({}).polluted === undefined")
    page.get_by_role("link", name="All runs").click()
    page.wait_for_selector("#runs")


@pytest.mark.parametrize("path", ["/", "/run?id=sick_mlp", "/run?id=nobody", "trap"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_any_screen_and_keep_nobody_out(visitor, path, scheme):
    if path == "trap":
        path = "/run?id=%3Cimg%20src=x%20onerror=alert(1)%3E"
    page = visitor.open(path, color_scheme=scheme)
    page.locator("h1").wait_for()
    if path == "/":
        wait_for_verdicts(page)
    if "nobody" in path:
        visitor.noticed.clear()  # the browser says that it got a 404
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        assert chromium.fits(page), viewport
        assert chromium.serious_violations(page) == []


# -- following a run ------------------------------------------------------------------------------


def test_a_run_shows_in_the_open_list_and_its_page_follows_it_to_its_end(visitor, folder, training):
    page = visitor.open()
    page.wait_for_selector("html[data-ready]")
    oldest = page.locator("#runs tbody tr").last
    oldest.evaluate("row => { row.sameRow = true; window.sameDocument = true; }")
    page.get_by_label("Filter").fill("followed")
    page.get_by_role("link", name="followed").wait_for()
    assert names(page) == ["followed"]
    row = page.get_by_role("row").filter(has_text="followed")
    assert "running" in row.text_content()
    row.get_by_text("3 of 36").wait_for()
    assert oldest.evaluate("row => row.sameRow && window.sameDocument")

    row.get_by_role("link").click()
    page.wait_for_selector("html[data-ready]")
    page.evaluate("window.sameDocument = true")
    assert page.locator("#following").text_content() == "Live"
    look = """() => [
      document.querySelector(".sub").textContent,
      Number([...document.querySelectorAll(".chart")]
        .find((chart) => chart.querySelector("h3").textContent.startsWith("loss"))
        .querySelector(".plot").dataset.marks),
    ]"""
    before = steps(page)
    for _ in range(3):
        while steps(page) == before:
            wait_for_more(page)
        words_of_run, marks = page.evaluate(look)
        assert before < marks == int(re.search(r"(\d+) steps so far", words_of_run)[1])
        before = marks
    training.end()
    page.get_by_text("Finished", exact=True).wait_for()
    final = report(folder)
    assert page.locator("h1").text_content() == words.sentences(final)[0]
    assert steps(page) == final.run["steps"] > before
    assert page.title().startswith(words.verdict(final))
    assert page.evaluate("window.sameDocument")


def test_the_reader_keeps_place_and_choices(visitor, growing):
    page = follow(visitor, growing.id, reduced_motion="reduce")
    # A unit, a state, a site, a page of the list, a range of steps, an open table, and the place.
    picture(page, 0).click(position={"x": 13 * 3 + 5, "y": 5})
    picture(page, 1).click(position={"x": 5, "y": 5})
    page.locator("#legend button", has_text="dead").click()
    page.get_by_label("Site", exact=True).select_option(label="net.0")
    page.get_by_role("button", name="Next").click()
    page.locator(".stack").focus()
    page.keyboard.press("Home")
    page.keyboard.press("+")
    page.get_by_text("as a table").click()
    page.locator("#explorer tbody button").nth(3).focus()
    look = """() => ({
      cards: [...document.querySelectorAll(".unit-card > p b")].map((one) => one.textContent),
      kinds: [...document.querySelectorAll("#legend [aria-pressed=true]")].map(
        (one) => one.textContent.trim()),
      site: document.getElementById("site-filter").selectedOptions[0].textContent,
      listed: document.querySelector("[data-count]").textContent,
      zoomed: [...document.querySelectorAll("#charts button")].map((one) => !one.hidden),
      opened: document.querySelectorAll("details[open]").length,
      focus: document.activeElement.textContent,
      place: Math.round(document.activeElement.getBoundingClientRect().top),
      address: location.href,
    })"""
    before = page.evaluate(look)
    assert before["cards"] == ["net.0:3", "net.2:0"]
    assert before["site"] == "net.0"
    assert before["listed"].startswith("26–")
    assert before["zoomed"] == [True]
    assert before["opened"] == 1
    assert before["focus"].startswith("net.0:")
    for _ in range(2):
        growing.grow(page)
        after = page.evaluate(look)
        assert abs(after.pop("place") - before["place"]) <= 2
        assert after == {key: value for key, value in before.items() if key != "place"}
    assert page.evaluate("window.sameDocument")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "CANVAS"


def test_the_place_is_kept_where_nothing_has_the_focus(visitor, growing):
    page = follow(visitor, growing.id, viewport=PHONE)
    page.locator("#findings").evaluate("part => part.scrollIntoView({ behavior: 'instant' })")
    before = page.locator("#findings").bounding_box()["y"]
    growing.grow(page)
    assert abs(page.locator("#findings").bounding_box()["y"] - before) <= 2
    assert page.evaluate("scrollY") > 500


def test_a_part_that_is_scrolled_to_is_reached(visitor, growing):
    page = follow(visitor, growing.id, viewport=PHONE)
    page.get_by_role("link", name="Run", exact=True).click()
    growing.grow(page)
    page.wait_for_timeout(300)
    assert page.locator("#run").bounding_box()["y"] < PHONE["height"]


def test_sites_that_were_asked_for_stay_shown(visitor, folder):
    run = Growing(folder, recordings.deep(40))
    page = follow(visitor, run.id)
    page.goto(page.url + "#unit=39:1")
    run.grow(page)
    assert page.locator(".site >> visible=true").count() == 25
    assert "blocks.39.mlp.fc_in:1" in page.locator("#site-39 .unit-card").text_content()
    search = page.get_by_label("Find sites")
    search.press_sequentially("blocks.1")
    search.press("ArrowLeft")
    run.grow(page)
    assert page.locator(".site >> visible=true").count() == 11
    search.press("0")  # before the last character
    assert search.input_value() == "blocks.01"
    search.fill("")
    assert page.locator(".site >> visible=true").count() == 25
    page.get_by_role("button", name="sites less affected").click()
    run.grow(page)
    assert page.locator(".site >> visible=true").count() == 40
    assert page.get_by_role("button", name="sites less affected").count() == 0
    picture(page, 39).focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#live").text_content().startswith("blocks.39.mlp.fc_in:2: healthy")
    run.writer.close("finished")
    page.get_by_text("Finished", exact=True).wait_for()


def test_a_theme_that_is_switched_holds_and_is_switched_once(visitor, growing):
    page = follow(visitor, growing.id, color_scheme="light")
    page.get_by_role("button", name="Use the dark theme").click()
    for _ in range(2):
        growing.grow(page)
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    page.get_by_role("button", name="Use the light theme").click()
    assert page.evaluate(theme) == "light"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(theme) == "light"


def test_nothing_moves_while_the_reader_selects_words(visitor, growing):
    page = follow(visitor, growing.id)
    before = growing.steps
    page.locator("h1").select_text()
    growing.step()
    page.get_by_text("New figures wait while you select").wait_for()
    assert page.evaluate("getSelection().toString()") == page.locator("h1").text_content().strip()
    assert steps(page) == before
    page.evaluate("getSelection().removeAllRanges()")
    page.get_by_text(f"running, {growing.steps} steps so far").wait_for()
    assert page.locator("#following").text_content() == "Live"


def test_nothing_moves_while_the_reader_drags(visitor, growing):
    page = follow(visitor, growing.id)
    before = growing.steps
    over = page.locator(".u-over").first
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 20, steps=3)
    growing.step()
    page.get_by_text("New figures wait while you select").wait_for()
    assert steps(page) == before
    page.mouse.up()
    page.get_by_text(f"running, {growing.steps} steps so far").wait_for()
    assert page.get_by_role("button", name="Show the whole run").is_visible()


def test_a_page_that_cannot_be_seen_asks_for_nothing_until_it_can(visitor, growing):
    page = follow(visitor, growing.id)
    growing.grow(page)
    before = growing.steps
    hide = """hidden => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    growing.step()
    page.wait_for_timeout(1500)
    assert steps(page) == before
    page.evaluate(hide, False)
    page.get_by_text(f"running, {growing.steps} steps so far").wait_for()


def test_a_killed_training_reads_as_interrupted(visitor, training):
    page = visitor.open()
    page.get_by_role("row").filter(has_text="followed").filter(has_text="running").get_by_role(
        "link"
    ).click()
    page.wait_for_selector("html[data-ready]")
    training.kill()
    page.get_by_text("Interrupted", exact=True).wait_for()
    assert "interrupted after" in page.locator(".sub").text_content()


def test_a_page_whose_server_is_gone_says_so_and_goes_on_when_it_is_back(browser, folder, growing):
    with served(folder, "--port", "0") as first:
        visitor = Visitor(browser, first.address)
        page = follow(visitor, growing.id)
        first.end()
    page.get_by_text("Connection lost; trying again").wait_for()
    growing.step()
    with served(folder, "--port", str(first.port)) as second:
        assert second.port == first.port
        page.get_by_text(f"running, {growing.steps} steps so far").wait_for()
        assert page.locator("#following").text_content() == "Live"
        assert page.evaluate("window.sameDocument")
    page.context.close()
    assert all("ERR_CONNECTION_REFUSED" in said or "INCOMPLETE" in said for said in visitor.noticed)
