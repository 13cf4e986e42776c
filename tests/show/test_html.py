"""The page as text: what is in it, and what can never be."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tomllib
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recordings
from flatline.show import history, html, words
from flatline.show.marks import KINDS
from flatline.show.payload import BINS, payload
from flatline.show.report import Report, build
from page_source import Page, embedded

ROOT = Path(__file__).parents[2]
SHOW = ROOT / "src" / "flatline" / "show"


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: build(recording()).to_html() for name, recording in recordings.ALL.items()}


def test_golden_page(golden):
    source = build(recordings.tiny()).to_html()
    for name in (*html._STYLES, *html._SCRIPTS, "page/theme.js"):
        source = source.replace(html._joined(name), f"[{name}]")
    source = source.replace(html._charts(), "[charts]")
    golden("tiny.html", re.sub(r"sha256-[\w+/=]+", "sha256-…", source))


@pytest.mark.parametrize("name", recordings.ALL)
def test_pages_are_nested_well_and_their_ids_are_unique(name, pages):
    page = Page(pages[name])
    ids = Counter(found["id"] for _, found, _ in page.elements if "id" in found)
    assert max(ids.values()) == 1
    for _, found, _ in page.elements:
        target = found.get("href") or ""
        assert not target.startswith("#") or target[1:] in ids
        assert found.get("aria-labelledby", "") in {"", *ids}
    assert len(page.all("h1")) == 1


@pytest.mark.parametrize("name", recordings.ALL)
def test_pages_name_no_address_and_load_nothing(name, pages):
    page = Page(pages[name])
    assert "://" not in pages[name].replace("alert(1)", "")
    for _, found, _ in page.elements:
        assert "src" not in found
        assert found.get("href", "#")[0] == "#" or found["href"] == "data:,"
        assert "style" not in found
        assert not any(attribute.startswith("on") for attribute in found)


@pytest.mark.parametrize("name", recordings.ALL)
def test_only_our_scripts_may_run(name, pages):
    page = Page(pages[name])
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    scripts = re.findall(r"<script>(.*?)</script>", pages[name], re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", pages[name], re.DOTALL)
    assert (len(scripts), len(styles)) == (3, 1)
    for element in (*scripts, *styles):
        digest = base64.b64encode(hashlib.sha256(element.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_names_are_text_and_nothing_else(pages):
    page = Page(pages["hostile"])
    tags = Counter(tag for tag, _, _ in page.elements)
    assert tags["script"] == 4
    assert tags["img"] == 0
    names = [text for _, text in page.all("span", **{"class": "name"})]
    assert names[:4] == [" ".join(name.split()) for name in recordings.HOSTILE[:4]]
    visible = "".join("".join(t) for tag, _, t in page.elements if tag == "main")
    assert "\x1b" not in visible
    assert "\u202e" not in visible
    assert "49" not in names[3]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=20), min_size=1, max_size=3, unique=True))
def test_any_name_stays_inside_its_element(names):
    plans = [recordings.Plan(name, 3, dead={1: 2}) for name in names]
    recording = recordings.record(*plans, steps=9, metrics={name: [(1, 1.0)] for name in names})
    source = build(recording).to_html()
    expected = Page(build(recordings.record(*plans, steps=9)).to_html())
    tags = Counter(tag for tag, _, _ in Page(source).elements)
    assert {**tags, "li": 0} == {**Counter(tag for tag, _, _ in expected.elements), "li": 0}
    assert len(embedded(source)["sites"]) == len(names)


@given(st.recursive(st.text() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_embedded_json_cannot_end_its_element_and_says_the_same(data):
    source = html._embedded(data)
    assert not set("<>&\u2028\u2029") & set(source)
    assert json.loads(source) == data


@pytest.mark.parametrize("name", recordings.ALL)
def test_the_page_says_what_the_terminal_says(name, pages):
    report = build(recordings.ALL[name]())
    text = " ".join(
        "".join("".join(t) for tag, _, t in Page(pages[name]).elements if tag == "body").split()
    )
    sentences = [
        *words.sentences(report),
        *history.courses(report),
        *(words.message(one.message, one.sites) for one in report.findings),
        *(why for one in report.findings for _, why in words.advice(one)),
        *(words.listing(words.split(site)) for site in report.sites),
        *(f"{name}: {why}" for _, name, why in words.unseen(report)),
        *(command for command, _ in words.commands(report)),
    ]
    for sentence in sentences:
        assert " ".join(sentence.split()) in text


@pytest.mark.parametrize("name", recordings.ALL)
def test_the_data_behind_the_pictures_equals_the_json(name, pages):
    report = build(recordings.ALL[name]())
    data = embedded(pages[name])
    assert len(data["sites"]) == len(report.sites)
    for found, site in zip(data["sites"], report.sites, strict=True):
        packed = base64.b64decode(found["kinds"])
        kinds = [(packed[unit // 2] >> 4 * (unit % 2)) & 15 for unit in range(site.units)]
        assert Counter(KINDS[kind] for kind in kinds) == Counter(words.split(site))
        assert sum(died for _, died in found["deaths"]) == sum(died for _, died in site.deaths)
    units = data["units"]
    told = zip(units["site"], units["unit"], units["kind"], strict=True)
    assert [(report.sites[s].name, u, KINDS[k]) for s, u, k in told] == [
        (unit.site, unit.unit, words.kind(unit)) for unit in report.units
    ]
    since = [units["since"]["words"][index] for index in units["since"]["index"]]
    assert since == [words.since([unit]) for unit in report.units]
    assert data["exams"] == [step for step, _ in report.exams]


def test_a_report_made_by_hand_shows_its_listed_units():
    built = build(recordings.tiny())
    bare = [type(site)(**{**vars(site), "codes": b""}) for site in built.sites]
    by_hand = Report(**{**vars(built), "sites": tuple(bare)})
    assert payload(by_hand)["sites"] == payload(built)["sites"]


def test_a_million_units_make_a_small_page():
    report = build(recordings.wide())
    source = report.to_html()
    assert len(source) < 1_500_000
    data = embedded(source)
    assert data["bins"]["number"] <= BINS
    assert len(data["units"]["unit"]) == 10_000
    assert data["units"]["of"] == 200_117


def test_many_steps_and_metrics_make_a_small_page():
    long = [(step, 1.0 / (step + 1)) for step in range(200_000)]
    recording = recordings.record(
        recordings.Plan("net.0", 4, dead={1: 150_000}),
        steps=200_000,
        metrics={f"metric {index}": long[: 200_000 if index < 8 else 9] for index in range(300)},
    )
    source = build(recording).to_html()
    assert len(source) < 400_000
    assert "and 102 metrics more" in source


def test_the_demo_page_is_small(pages):
    assert len(pages["sick_mlp"].encode()) < 250_000  # of which histograms take some 50,000


def test_our_files_hold_nothing_that_ends_their_element():
    for path in (SHOW / "assets").rglob("*.*s"):
        assert not re.search(r"</(script|style)|<!--", path.read_text("utf-8"), re.IGNORECASE)


def test_every_file_of_the_page_is_packaged():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = setup["tool"]["setuptools"]["package-data"]["flatline"]
    files = [
        path for path in SHOW.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert len(files) > 12
    for path in files:
        name = path.relative_to(SHOW.parent).as_posix()
        assert any(
            fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns
        )


def test_every_script_of_ours_is_in_the_page():
    names = {path.relative_to(SHOW / "assets").as_posix() for path in SHOW.glob("assets/page/*.js")}
    assert names == {*html._SCRIPTS, "page/theme.js"}


def test_the_licence_of_the_charts_is_in_the_page(pages):
    licence = (SHOW / "assets/uplot/LICENSE").read_text("utf-8").strip()
    assert licence.startswith("The MIT License")
    assert licence in pages["empty"]


@pytest.mark.parametrize("name", recordings.ALL)
def test_a_notebook_shows_a_light_piece_of_a_page(name):
    report = build(recordings.ALL[name]())
    piece = report._repr_html_()
    page = Page(piece)
    assert len(piece) < 10_000
    assert not {"script", "style", "img", "svg"} & {tag for tag, _, _ in page.elements}
    assert not any("style" in found for _, found, _ in page.elements)
    text = " ".join("".join(page.elements[0][2]).split())
    assert words.sentences(report)[0] in text
