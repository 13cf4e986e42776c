"""The page in a real browser. Skipped where there is none, unless ``REQUIRE_BROWSER=1``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import chromium
import recordings
from chromium import DESKTOP, PHONE
from flatline.show import history, words
from flatline.show.report import Report, build
from flatline.show.text import percent

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

#: Counts the units of a picture that are drawn in the colour of a kind, from its pixels.
COUNT_PIXELS = """
([canvas, kind]) => {
  const probe = document.body.appendChild(document.createElement("span"));
  probe.style.color = `var(--kind-${kind})`;
  const wanted = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
  probe.remove();
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, width, height).data;
  const ratio = width / parseFloat(canvas.style.width);
  const cell = Math.round((canvas.clientWidth < 480 ? 9 : 13) * ratio);
  let found = 0;
  for (let y = Math.round(ratio); y < height; y += cell) {
    for (let x = Math.round(ratio); x < width; x += cell) {
      const at = 4 * (y * width + x);
      if (wanted.every((value, channel) => Math.abs(pixels[at + channel] - value) < 3)) found++;
    }
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.launched() as running:
        yield running


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Report, str]]:
    """Every report with the address of its page."""
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for name, recording in {**recordings.ALL, "wide": lambda: recordings.wide(20_000)}.items():
        report = build(recording())
        report.to_html(folder / f"{name}.html")
        made[name] = report, (folder / f"{name}.html").as_uri()
    return made


class Reader:
    """Somebody with a browser, who notices every error and every request."""

    def __init__(self, browser: Browser, reports: dict[str, tuple[Report, str]]) -> None:
        self._browser = browser
        self._reports = reports
        self.noticed: list[str] = []

    def open(
        self, name: str, *, wait: bool = True, script: str = "", **context
    ) -> tuple[Report, Page]:
        report, address = self._reports[name]
        page = self._browser.new_context(**{"viewport": DESKTOP, **context}).new_page()
        page.add_init_script(script)
        page.set_default_timeout(10_000)
        page.on("console", lambda said: self.noticed.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: self.noticed.append(f"error: {error}"))
        page.on("request", lambda r: r.url != address and self.noticed.append(f"request: {r.url}"))
        page.goto(address)
        if wait:
            page.wait_for_selector("html[data-ready]")
        return report, page

    def close(self) -> None:
        for context in self._browser.contexts:
            context.close()


@pytest.fixture
def reader(browser: Browser, reports: dict[str, tuple[Report, str]]) -> Iterator[Reader]:
    somebody = Reader(browser, reports)
    yield somebody
    somebody.close()
    assert somebody.noticed == []


def marks(locator: Locator) -> int:
    """Number of marks that a picture says it has drawn."""
    return int(locator.get_attribute("data-marks") or -1)


def picture(page: Page, site: int) -> Locator:
    return page.locator(f"#site-{site} canvas")


def tell(page: Page) -> str:
    """What is shown beside the pointer."""
    return page.locator("#tip").text_content() or ""


def unit_name(report: Report, site: int, unit: int) -> str:
    return f"{report.sites[site].name}:{unit}"


def kinds_of(report: Report, site: int) -> dict[int, str]:
    """Kinds of the units of a site that are not healthy."""
    name = report.sites[site].name
    return {unit.unit: words.kind(unit) for unit in report.units if unit.site == name}


# -- it opens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*recordings.ALL, "wide"])
def test_every_page_opens_without_a_fault_and_fits_any_screen(reader, name):
    """The reader fixture fails on any error, console message or request."""
    _, page = reader.open(name)
    assert page.locator("h1").is_visible()
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        page.mouse.move(200, 300)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_name_becomes_code(reader):
    _, page = reader.open("hostile")
    assert page.evaluate("({}).polluted === undefined && document.images.length === 0")
    assert page.locator("script").count() == 4


def test_without_scripts_the_words_and_tables_remain(reader):
    report, page = reader.open("deep", wait=False, java_script_enabled=False)
    assert page.locator("h1").text_content() == words.sentences(report)[0]
    assert page.locator(".site >> visible=true").count() == len(report.sites)
    assert page.locator("svg.bar").first.bounding_box()["width"] > 300
    assert page.get_by_text("needs JavaScript").is_visible()
    assert page.locator("button >> visible=true").count() == 0
    page.get_by_text("as a table").click()
    assert page.get_by_role("region", name="Dead share by site and step").is_visible()


# -- the pictures are true --------------------------------------------------------------------


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_unit_is_drawn_in_the_colour_of_its_state(reader, viewport):
    report, page = reader.open("sick_mlp", viewport=viewport)
    for index, site in enumerate(report.sites):
        canvas = picture(page, index)
        assert marks(canvas) == site.units
        counts = words.split(site)
        # The marks of these kinds are filled at their upper left corner.
        for kind in ("healthy", "dead", "saturated", "ignored", "duplicate"):
            drawn = page.evaluate(COUNT_PIXELS, [canvas.element_handle(), kind])
            assert drawn == counts.get(kind, 0), (site.name, kind)


def test_the_legend_counts_all_units(reader):
    report, page = reader.open("sick_mlp")
    told = {}
    for entry in page.locator("#legend button").all_text_contents():
        kind, number = entry.strip().rsplit(" ", 1)
        told[kind.strip()] = int(number.replace(",", ""))
    assert told == words.totals(report)


def test_a_wide_site_is_drawn_in_columns_that_hold_every_unit(reader):
    report, page = reader.open("wide", viewport=PHONE)
    canvas = picture(page, 1)
    columns = marks(canvas)
    assert 20 < columns < 40
    box = canvas.bounding_box()
    held = Counter()
    for column in range(columns):
        canvas.hover(position={"x": (column + 0.5) * box["width"] / columns, "y": 20})
        for number, kind in re.findall(r"([\d,]+) (healthy|dead)", tell(page)):
            held[kind] += int(number.replace(",", ""))
    assert held == words.split(report.sites[1])


@pytest.mark.parametrize("name", ["sick_mlp", "tiny", "broken_metrics", "wide"])
def test_plots_have_a_mark_for_every_value(reader, name):
    report, page = reader.open(name)
    plots = dict(
        zip(
            page.locator(".chart h3").all_text_contents(),
            page.locator(".chart").all(),
            strict=True,
        )
    )
    bins = history.Bins.of(report, 360)
    losers = [site for site in report.sites if site.deaths]
    assert any("Share of" in title for title in plots) == bool(losers)
    for title, plot in plots.items():
        if title.startswith("Share of"):
            assert marks(plot.locator("canvas.heat")) == len(losers) * bins.number
            continue
        found = marks(plot.locator(".plot"))
        if title.startswith("Deaths in"):
            assert found == sum(map(bool, bins.sums(report.deaths)))
        else:
            points = report.metrics[title.removesuffix(" (logarithmic)")]
            _, values = history.thin(points, 500)
            assert found == sum(value is not None for value in values)


def test_a_point_of_the_map_tells_the_share_of_the_table(reader):
    _, page = reader.open("sick_mlp")
    heat = page.locator("canvas.heat")
    heat.focus()
    page.keyboard.press("ArrowRight")
    assert tell(page).startswith("net.0, steps 2–3: 1.6% dead (2 of 128)")
    for _ in range(80):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert tell(page) == "net.2, steps 162–163: 0% dead (0 of 96)"
    page.keyboard.press("ArrowUp")
    assert tell(page) == "net.0, steps 162–163: 34% dead (44 of 128)"
    assert page.locator("#live").text_content() == tell(page)


def test_the_map_says_the_same_shares_as_the_table(reader):
    report, page = reader.open("tiny")
    bins = history.Bins.of(report, 360)
    page.locator("canvas.heat").focus()
    (site,) = (site for site in report.sites if site.deaths)
    for step, share in enumerate(history.shares(site, bins)[1:], start=1):
        page.keyboard.press("ArrowRight")
        assert tell(page).startswith(f"net.0, step {step}: {percent(share)} dead (")


def test_all_plots_share_one_cursor_and_one_range(reader):
    _, page = reader.open("sick_mlp")
    over = page.locator(".u-over")
    over.nth(1).scroll_into_view_if_needed()
    box = over.nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 126.5 / 500, box["y"] + 20)
    readout = page.locator(".readout")
    assert readout.text_content().startswith("steps 126–127: 21 died, loss ")
    lines = page.locator(".u-cursor-x").evaluate_all(
        "lines => lines.map(line => line.getBoundingClientRect().left)"
    )
    lines.append(page.locator(".heat-cursor").bounding_box()["x"])
    assert max(lines) - min(lines) < 2

    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 25, steps=4)
    page.mouse.up()
    whole = page.get_by_role("button", name="Show the whole run")
    whole.wait_for()
    box = over.last.bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + 10)
    assert readout.text_content().startswith("steps 100–101")
    whole.click()
    page.mouse.move(box["x"] + 1, box["y"] + 10)
    assert readout.text_content().startswith("steps 0–1: 2 died")


def test_plots_obey_the_keyboard(reader):
    _, page = reader.open("sick_mlp")
    page.locator(".stack").focus()
    page.keyboard.press("End")
    live = page.locator("#live")
    assert live.text_content().startswith("steps 498–499: none died, loss 0.11")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert live.text_content().startswith("steps 2–3")
    page.keyboard.press("+")
    assert page.get_by_role("button", name="Show the whole run").is_visible()
    page.keyboard.press("0")
    assert page.get_by_role("button", name="Show the whole run").is_hidden()


# -- from the picture to a unit ---------------------------------------------------------------


def test_pointing_at_a_unit_tells_its_state(reader):
    report, page = reader.open("sick_mlp")
    kinds = kinds_of(report, 0)
    canvas = picture(page, 0)
    columns = 64
    for unit in (0, 1, 3, 127):
        line, column = divmod(unit, columns)
        canvas.hover(position={"x": 13 * column + 5, "y": 13 * line + 5})
        assert tell(page).startswith(f"net.0:{unit}: {kinds.get(unit, 'healthy')}")
    page.locator("h1").hover()
    assert page.locator("#tip").is_hidden()


def test_arrow_keys_walk_over_the_units(reader):
    report, page = reader.open("sick_mlp")
    kinds = kinds_of(report, 1)
    live = page.locator("#live")
    page.locator("#legend button").last.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    walked = [live.text_content()]
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "End", "ArrowRight", "Home"):
        page.keyboard.press(key)
        walked.append(live.text_content())
    units = (0, 1, 49, 48, 95, 95, 0)
    for said, unit in zip(walked, units, strict=True):
        assert said.startswith(f"net.2:{unit}: {kinds.get(unit, 'healthy')}")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    card = page.locator("#site-1 .unit-card")
    assert card.is_visible()
    assert "net.2:1 is dead" in card.text_content()
    page.keyboard.press("Escape")
    assert card.count() == 0


def test_a_card_tells_all_that_is_known_of_a_unit(reader):
    report, page = reader.open("sick_mlp")
    picture(page, 0).click(position={"x": 13 * 3 + 5, "y": 5})
    card = page.locator("#site-0 .unit-card").text_content()
    (unit,) = (unit for unit in report.units if (unit.site, unit.unit) == ("net.0", 3))
    assert f"net.0:3 is dead: {words.MEANINGS['dead']}." in card
    for said in (words.since([unit]), *words.rests_on([unit]), unit.cause):
        assert said in card
    assert page.url.endswith("#unit=0:3")


def test_an_address_opens_its_unit(reader):
    _, page = reader.open("sick_mlp")
    page.goto(page.url + "#unit=1:31")
    page.wait_for_selector("#site-1 .unit-card")
    assert "net.2:31 is dead" in page.locator(".unit-card").text_content()
    page.goto(page.url.split("#")[0] + "#unit=9:99999")
    assert page.locator("#site-9").count() == 0


# -- the list of units ------------------------------------------------------------------------


def count_of(page: Page) -> int:
    return int(page.locator("[data-count]").get_attribute("data-count"))


def test_units_are_filtered_by_site_and_state(reader):
    report, page = reader.open("sick_mlp")
    assert count_of(page) == len(report.units)
    page.get_by_label("Site", exact=True).select_option(label="net.2")
    of_site = kinds_of(report, 1)
    assert count_of(page) == len(of_site)
    page.locator("#explorer").get_by_role("button", name="dormant").click()
    assert count_of(page) == Counter(of_site.values())["dormant"] == 3
    rows = page.locator("#explorer tbody tr")
    assert rows.locator("th").all_text_contents() == [f"net.2:{unit}" for unit in (4, 5, 6)]
    legend = page.locator("#legend button[aria-pressed=true]")
    assert legend.count() == 1
    assert "dormant" in legend.text_content()
    legend.click()
    page.get_by_label("Site", exact=True).select_option(label="all sites")
    assert count_of(page) == len(report.units)


def test_all_units_can_be_paged_through(reader):
    report, page = reader.open("sick_mlp")
    seen = []
    following = page.get_by_role("button", name="Next")
    while True:
        seen += page.locator("#explorer tbody th").all_text_contents()
        if following.is_disabled():
            break
        following.click()
    assert seen == [f"{unit.site}:{unit.unit}" for unit in report.units]


def test_a_row_leads_to_its_unit(reader):
    _, page = reader.open("deep")
    page.get_by_label("Site", exact=True).select_option(label="blocks.7.mlp.fc_in")
    assert page.locator("#site-7").is_hidden()
    page.get_by_role("button", name="blocks.7.mlp.fc_in:2", exact=True).click()
    assert page.locator("#site-7").is_visible()
    card = page.locator("#site-7 .unit-card")
    assert "is dead" in card.text_content()
    card.get_by_role("button", name="Close").click()
    assert card.count() == 0
    assert picture(page, 7).evaluate("canvas => canvas === document.activeElement")


def test_sites_less_affected_are_shown_when_asked_for(reader):
    report, page = reader.open("deep")
    assert page.locator(".site >> visible=true").count() == 24
    page.get_by_role("button", name="276 sites less affected").click()
    assert page.locator(".site >> visible=true").count() == len(report.sites)
    assert marks(picture(page, 299)) == 64


def test_sites_are_found_by_a_part_of_their_name(reader):
    report, page = reader.open("deep")
    shown = page.locator(".site >> visible=true")
    field = page.get_by_label("Find sites")
    field.fill("BLOCKS.29")
    wanted = [site.name for site in report.sites if site.name.startswith("blocks.29")]
    assert page.locator(".site >> visible=true >> .name").all_text_contents() == wanted
    assert page.locator("#site-filters").get_by_role("status").text_content() == "11 sites"
    assert marks(picture(page, 299)) == 64
    field.fill("no such site")
    assert shown.count() == 0
    field.fill("")
    assert shown.count() == 24
    assert page.get_by_role("button", name="276 sites less affected").is_visible()


# -- appearance -------------------------------------------------------------------------------


def is_dark(page: Page) -> bool:
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", background))) < 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_switched(reader, scheme):
    report, page = reader.open("sick_mlp", color_scheme=scheme)
    assert is_dark(page) == (scheme == "dark")
    other = "light" if scheme == "dark" else "dark"
    page.get_by_role("button", name=f"Use the {other} theme").click()
    assert is_dark(page) == (other == "dark")
    dead = words.split(report.sites[0])["dead"]
    assert page.evaluate(COUNT_PIXELS, [picture(page, 0).element_handle(), "dead"]) == dead
    assert page.evaluate("localStorage.getItem('flatline-theme')") == other


@pytest.mark.parametrize("kept", ["light", "dark"])
def test_the_theme_that_was_chosen_holds_from_the_first_paint(reader, kept):
    # Set before the page's own scripts run, as a browser finds it on a later visit.
    script = f"localStorage.setItem('flatline-theme', '{kept}')"
    other = "light" if kept == "dark" else "dark"
    _, page = reader.open("tiny", color_scheme=other, script=script)
    assert is_dark(page) == (kept == "dark")
    head = page.content().partition("<body>")[0]
    assert head.index("flatline-theme") < head.index("<style>")


def test_paper_is_light_and_the_screen_is_dark_again_afterwards(reader):
    _, page = reader.open("sick_mlp", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not is_dark(page)
    assert page.locator(".stack").bounding_box()["width"] <= 700
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert is_dark(page)
    assert len(page.pdf()) > 10_000


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("sick_mlp", "light"), ("sick_mlp", "dark"), ("deep", "light"), ("hostile", "dark")],
)
def test_axe_finds_no_serious_violation(reader, name, scheme):
    _, page = reader.open(name, color_scheme=scheme)
    if name == "sick_mlp":
        picture(page, 0).click(position={"x": 5, "y": 5})
        page.locator("summary").click()
        page.locator("#legend button").last.click()
    assert chromium.serious_violations(page) == []


def test_the_first_tab_leads_past_the_head(reader):
    _, page = reader.open("sick_mlp")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#verdict') !== null")


def test_commands_can_be_copied(reader):
    report, page = reader.open("sick_mlp", permissions=["clipboard-read", "clipboard-write"])
    page.locator(".commands").get_by_role("button").first.click()
    page.get_by_text("Copied").first.wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == words.commands(report)[0][0]
