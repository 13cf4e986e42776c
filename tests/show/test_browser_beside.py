"""Lives of units, runs side by side and trials in a real browser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import chromium
import recordings
import trial_documents
from flatline.sense.histogram import histograms, pack
from flatline.show.comparison import Comparison
from flatline.show.report import Report, build
from flatline.show.trial_page import trial_html
from recordings import with_an_autopsy

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.launched() as running:
        yield running


def _pair() -> Comparison:
    return Comparison((build(recordings.sick_mlp()), build(recordings.tiny())))


def _odd() -> Report:
    """Units of which an exam drew values that are equal, far from firing, or not finite."""
    recording = recordings.tiny()
    values = np.array([[0.5, -9.0, math.nan, 1.0], [0.5, -8.0, math.inf, math.nan]] * 20)
    blob = pack(histograms(np.arange(4, dtype=np.int32), values))
    return build(replace(recording, histograms={"net.0": [(8, blob)]}))


PAGES: dict[str, Callable[[], str]] = {
    "life": lambda: build(with_an_autopsy()).to_html(),
    "odd": lambda: _odd().to_html(),
    "compare": lambda: _pair().to_html(),
    "hostile": lambda: Comparison(
        tuple(build(recordings.ALL[name]()) for name in ("hostile", "empty", "running"))
    ).to_html(),
    "trial": lambda: trial_html(trial_documents.digits()),
    "hostile-trial": lambda: trial_html(trial_documents.hostile()),
    "bare-trial": lambda: trial_html(trial_documents.bare()),
}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("pages")
    for name, source in PAGES.items():
        (folder / f"{name}.html").write_text(source(), "utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in PAGES}


@pytest.fixture
def visit(browser: Browser, addresses: dict[str, str]) -> Iterator[Open]:
    """Opens a page; at the end nothing may have been logged or requested."""
    noticed: list[str] = []

    def opened(name: str, mark: str = "", **context) -> Page:
        address = addresses[name]
        page = browser.new_context(**{"viewport": chromium.DESKTOP, **context}).new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda said: noticed.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: noticed.append(f"error: {error}"))
        page.on("request", lambda r: r.url.split("#")[0] != address and noticed.append(r.url))
        page.goto(address + mark)
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in browser.contexts:
        context.close()
    assert noticed == []


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("compare", "light"),
        ("compare", "dark"),
        ("trial", "light"),
        ("trial", "dark"),
        ("hostile", "light"),
        ("hostile-trial", "dark"),
        ("bare-trial", "light"),
    ],
)
def test_every_page_fits_its_screen_and_keeps_nobody_out(visit, name, scheme):
    page = visit(name, color_scheme=scheme)
    assert page.locator("h1").is_visible()
    for viewport in (chromium.DESKTOP, chromium.PHONE):
        page.set_viewport_size(viewport)
        assert chromium.fits(page)
    assert chromium.serious_violations(page) == []
    assert page.evaluate("document.images.length === 0")


# -- the life of a unit -----------------------------------------------------------------------


def test_a_card_tells_the_life_of_its_unit(visit):
    page = visit("life", "#unit=0:3")
    card = page.locator(".unit-card")
    life = build(with_an_autopsy()).lives.of("net.0", 3)
    rows = card.locator(".life tr").all_text_contents()
    assert len(rows) == len(life.story)
    for row, moment in zip(rows, life.story, strict=True):
        assert row.startswith(f"step {moment.step}{moment.event} ")
    table = card.get_by_role("table").nth(1)
    assert table.get_by_role("row", name="bias +0.5 −0.5").count() == 1
    assert table.get_by_role("row", name="weight +0.5 −1.75").count() == 1
    assert chromium.serious_violations(page) == []


def test_the_pre_activation_is_drawn_in_proportion(visit):
    page = visit("life", "#unit=0:3")
    spreads = build(with_an_autopsy()).lives.of("net.0", 3).spreads
    dots = page.locator(".spreads circle")
    assert dots.count() == len(spreads)
    at = [float(dot.get_attribute("cx")) for dot in dots.all()]
    zero = float(page.locator(".spreads .zero").get_attribute("x1"))
    scale = (at[0] - zero) / spreads[0].mean
    for x, spread in zip(at, spreads, strict=True):
        assert x - zero == pytest.approx(scale * spread.mean, abs=0.5)
    bars = [float(bar.get_attribute("width")) for bar in page.locator(".spreads rect").all()]
    for bar, spread in zip(bars, spreads, strict=True):
        assert bar == pytest.approx(2 * scale * spread.deviation, abs=1)


def test_histograms_are_those_of_the_data(visit):
    page = visit("life", "#unit=0:3")
    drawn = build(with_an_autopsy()).lives.of("net.0", 3).histograms
    assert [one.moments for one in drawn] == [
        ("first exam",), ("last alive",), ("first dead",), ("last exam",)
    ]  # fmt: skip
    rows = page.locator(".ridge g")
    assert rows.count() == len(drawn)
    zero = float(page.locator(".ridge .end").get_attribute("x1"))
    for row, one in zip(rows.all(), drawn, strict=True):
        assert row.locator("text").all_text_contents() == [f"step {one.step}", *one.moments]
        bars = row.locator(".bar").all()
        counts = [count for count in one.counts if count]
        assert len(bars) == len(counts)
        left, wide, high = (
            [float(bar.get_attribute(name)) for bar in bars] for name in ("x", "width", "height")
        )
        scale = (left[-1] + wide[-1] - left[0]) / (one.high - one.low)
        assert left[0] - zero == pytest.approx(scale * one.low, abs=0.5)
        for found, count in zip(high, counts, strict=True):
            assert found == pytest.approx(max(high) * count / max(counts), abs=0.5)
    flat = page.locator(".ridge .flat")
    assert float(flat.get_attribute("x")) + float(flat.get_attribute("width")) == zero
    said = page.locator(".ridge").get_attribute("aria-label")
    assert f"step {drawn[0].step} (first exam): 64 values from " in said
    note = page.locator("figure:has(.ridge) figcaption").text_content()
    assert "64 values of z at each exam" in note
    assert "Shaded: z ≤ 0, where relu does not fire." in note
    assert chromium.serious_violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_histograms_of_odd_values_are_drawn_as_far_as_they_can_be(visit, scheme):
    page = visit("odd", "#unit=0:0", color_scheme=scheme, viewport=chromium.PHONE)
    ridge, rows = page.locator(".ridge"), {}
    for unit in range(4):
        page.evaluate(f"location.hash = '#unit=0:{unit}'")
        page.locator(".unit-card b").get_by_text(f"net.0:{unit}", exact=True).first.wait_for()
        rows[unit] = ridge.locator(".bar").count()
        assert ridge.locator("text").all_text_contents()[:2] == ["step 8", "only exam"]
        assert "NaN" not in ridge.evaluate("(svg) => svg.outerHTML")
        said = ridge.get_attribute("aria-label")
        inside = ridge.locator(".end").count()
        if unit == 0:
            assert "40 values, all 0.5" in said
            assert inside == 1  # values without any width tell nothing but where they lie
        if unit == 1:
            assert "40 values from −9 to −8" in said
            assert inside == 1  # all values lie beyond it, however far
        if unit == 2:
            assert "none finite, 40 values not finite" in said
        if unit == 3:
            assert "20 values, all 1, 20 values not finite" in said
    assert rows == {0: 1, 1: 2, 2: 0, 3: 1}
    assert chromium.fits(page)
    assert chromium.serious_violations(page) == []


def test_a_site_without_histograms_says_so(visit):
    page = visit("life", "#unit=1:2")
    card = page.locator(".unit-card")
    assert "No histogram: no exam drew one of this site." in card.text_content()
    assert card.locator(".ridge").count() == 0
    assert card.locator(".spreads").count() == 1


def test_a_healthy_unit_has_a_life_too_and_its_command_can_be_copied(visit):
    page = visit("life", "#unit=0:0", permissions=["clipboard-read", "clipboard-write"])
    card = page.locator(".unit-card")
    assert "is healthy" in card.text_content()
    assert card.locator(".life tr").count() >= 2
    card.get_by_role("button", name="Copy flatline explain").click()
    card.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "flatline explain 0123456789 net.0:0"


def test_every_remedy_of_a_finding_can_be_copied_as_command_and_code(visit):
    page = visit("life", permissions=["clipboard-read", "clipboard-write"])
    report = build(with_an_autopsy())
    usable = [one for finding in report.to_dict()["findings"] for one in finding["remedies"]]
    usable = [line for one in usable if "code" in one for line in (one["command"], one["code"])]
    lines = page.locator("#findings .command")
    assert lines.locator("code").all_text_contents() == usable
    for place in (0, 1):
        lines.nth(place).get_by_role("button").click()
        lines.nth(place).get_by_text("Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == usable[place]


# -- side by side -----------------------------------------------------------------------------


def test_plots_of_several_runs_hold_a_mark_for_every_value(visit):
    page = visit("compare")
    pair = _pair()
    plots = dict(
        zip(
            page.locator(".chart h3").all_text_contents(),
            page.locator(".plot").all(),
            strict=True,
        )
    )
    assert {title.split(" ")[0] for title in plots} == {"Dead", "loss", "lr", "val_accuracy"}
    (accuracy,) = (plot for title, plot in plots.items() if title.startswith("val_accuracy"))
    known = [v for r in pair.reports for _, v in r.metrics["val_accuracy"] if v == v]
    assert int(accuracy.get_attribute("data-marks")) == len(known)


def test_plots_of_several_runs_share_a_cursor_that_tells_each_value(visit):
    page = visit("compare")
    over = page.locator(".u-over")
    over.nth(1).scroll_into_view_if_needed()
    box = over.nth(1).bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + 20)
    for readout in page.locator(".chart .readout").all():
        assert (readout.text_content() or "").startswith("step ")
    loss = page.locator(".chart .readout").nth(1).text_content()
    first = dict(_pair().reports[0].metrics["loss"])[0]
    assert loss.startswith(f"step 0: A {first:.4g}, B ")
    page.locator(".stack").focus()
    page.keyboard.press("ArrowRight")
    assert "step" in page.locator("#live").text_content()


def test_the_theme_of_pages_beside_can_be_switched(visit):
    for name in ("compare", "trial"):
        page = visit(name, color_scheme="light")
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.get_by_role("button", name="Use the dark theme").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


# -- a trial ----------------------------------------------------------------------------------


def test_intervals_of_a_trial_lie_on_one_scale(visit):
    page = visit("trial")
    boxes = [one.bounding_box() for one in page.locator(".arm .interval").all()]
    zero = page.locator(".arm .zero").first.bounding_box()["x"]
    better, undecided, worse = boxes
    assert better["x"] + better["width"] < zero < worse["x"]
    assert undecided["x"] < zero < undecided["x"] + undecided["width"]
    assert better["width"] / worse["width"] == pytest.approx(0.12 / 0.20, rel=0.03)


def test_the_command_of_a_trial_can_be_copied(visit):
    page = visit("trial", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy flatline run").click()
    page.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "flatline run --apply lr=x0.1 train.py --epochs 5"
