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
from flatline.record.store import Store
from flatline.show import words
from flatline.show.report import Report, build
from serving import Served, Training, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ENDED = ("healthy_mlp", "sick_mlp", "deep")


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


@pytest.fixture(scope="module")
def endless(folder: Path) -> Iterator[str]:
    """The name of a training that no test ends."""
    running = Training(folder, "--budget", "50", "--name", "endless")
    yield "endless"
    running.kill()


def report(folder: Path, run: str | None = None) -> Report:
    """What the store holds now."""
    with Store(folder / ".flatline" / "runs.db", create=False) as store:
        return build(store.load(store.find(run)))


def follow(visitor: Visitor, name: str, **context) -> Page:
    """The page of a run in progress, from the list."""
    page = visitor.open(**context)
    page.get_by_role("row").filter(has_text="running").get_by_role("link", name=name).click()
    page.wait_for_selector("html[data-ready]")
    page.evaluate("window.sameDocument = true")
    return page


def steps(page: Page) -> int:
    """How far the run is, by its page."""
    words = page.locator(".sub").text_content()
    return int(re.search(r"([\d,]+) steps?", words)[1].replace(",", ""))


def wait_for_more(page: Page, least: int = 0) -> None:
    """Wait until the page has been renewed, and has come so far."""
    while True:
        shown = page.locator("#following").get_attribute("data-stamp")
        page.locator(f"#following:not([data-stamp='{shown}'])").wait_for()
        if steps(page) >= least:
            return


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
    loss = page.locator(".chart").filter(has_text="loss").locator(".plot")
    before = steps(page)
    for _ in range(3):
        wait_for_more(page)
        assert steps(page) > before
        before = steps(page)
        assert int(loss.get_attribute("data-marks")) == before
    training.end()
    page.get_by_text("Finished", exact=True).wait_for()
    final = report(folder)
    assert page.locator("h1").text_content() == words.sentences(final)[0]
    assert steps(page) == final.run["steps"] > before
    assert page.title().startswith(words.verdict(final))
    assert page.evaluate("window.sameDocument")


def test_the_reader_keeps_place_and_choices(visitor, endless):
    page = follow(visitor, endless)
    wait_for_more(page, 40)
    # A unit, a state, a site, a range of steps, an open table, and the place.
    page.locator("#site-0 canvas").click(position={"x": 5, "y": 5})
    page.locator("#legend button", has_text="silent so far").or_(
        page.locator("#legend button", has_text="dead")
    ).first.click()
    page.get_by_label("Site", exact=True).select_option(label="0")
    page.locator(".stack").focus()
    page.keyboard.press("Home")
    page.keyboard.press("+")
    page.get_by_text("as a table").click()
    page.locator("#explorer").scroll_into_view_if_needed()
    page.locator("#explorer tbody button").first.focus()
    look = """() => ({
      card: document.querySelector("#site-0 .unit-card b").textContent,
      kinds: [...document.querySelectorAll("#legend [aria-pressed=true]")].map(
        (one) => one.dataset.kind ?? one.textContent.replace(/[\\d\\s]+$/, "").trim()),
      site: document.getElementById("site-filter").selectedOptions[0].textContent,
      whole: [...document.querySelectorAll("#charts button")].map((one) => one.hidden),
      opened: document.querySelectorAll("details[open]").length,
      focus: document.activeElement.textContent,
      place: Math.round(document.activeElement.getBoundingClientRect().top),
    })"""
    before = page.evaluate(look)
    assert before["card"] == "0:0"
    assert before["site"] == "0"
    assert before["whole"] == [False]
    assert before["opened"] == 1
    assert before["focus"].startswith("0:")
    wait_for_more(page)
    after = page.evaluate(look)
    assert abs(after.pop("place") - before.pop("place")) <= 2
    assert after == before
    assert page.evaluate("window.sameDocument")


def test_a_theme_that_is_switched_holds_and_is_switched_once(visitor, endless):
    page = follow(visitor, endless, color_scheme="light")
    page.get_by_role("button", name="Use the dark theme").click()
    for _ in range(2):
        wait_for_more(page)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.get_by_role("button", name="Use the light theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_nothing_moves_while_the_reader_selects_words(visitor, endless):
    page = follow(visitor, endless)
    wait_for_more(page)
    page.locator("h1").select_text()
    before = steps(page)
    page.get_by_text("New figures wait while you select").wait_for()
    assert page.evaluate("getSelection().toString()") == page.locator("h1").text_content().strip()
    page.wait_for_timeout(1500)
    assert steps(page) == before
    page.evaluate("getSelection().removeAllRanges()")
    wait_for_more(page)
    assert page.locator("#following").text_content() == "Live"


def test_a_page_that_cannot_be_seen_asks_for_nothing_until_it_can(visitor, endless):
    page = follow(visitor, endless)
    wait_for_more(page)
    hide = """hidden => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.wait_for_timeout(500)  # what was asked for before may still come
    before = steps(page)
    page.wait_for_timeout(1500)
    assert steps(page) == before
    page.evaluate(hide, False)
    wait_for_more(page, before + 1)


def test_a_killed_training_reads_as_interrupted(visitor, training):
    page = follow(visitor, "followed")
    wait_for_more(page)
    training.kill()
    page.get_by_text("Interrupted", exact=True).wait_for()
    assert "interrupted after" in page.locator(".sub").text_content()


def test_a_page_whose_server_is_gone_says_so_and_goes_on_when_it_is_back(browser, folder, endless):
    with served(folder, "--port", "0") as first:
        visitor = Visitor(browser, first.address)
        page = follow(visitor, endless)
        wait_for_more(page)
        first.end()
    page.get_by_text("Connection lost; trying again").wait_for()
    with served(folder, "--port", str(first.port)) as second:
        assert second.port == first.port
        wait_for_more(page)
        assert page.locator("#following").text_content() == "Live"
        assert page.evaluate("window.sameDocument")
    page.context.close()
    assert all("ERR_CONNECTION_REFUSED" in said or "INCOMPLETE" in said for said in visitor.noticed)
