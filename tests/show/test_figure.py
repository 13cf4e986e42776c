"""The report as a picture."""

from __future__ import annotations

import builtins
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import recordings
from flatline.errors import UsageError
from flatline.show import figure, words
from flatline.show.marks import KINDS
from flatline.show.report import Report, build

STARTS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("ending", figure.FORMATS)
def test_each_format_is_written_the_same_every_time(tmp_path, ending):
    report = build(recordings.tiny())
    for name in ("a", "b"):
        figure.draw(report, tmp_path / f"{name}.{ending}")
    first = (tmp_path / f"a.{ending}").read_bytes()
    assert first.startswith(STARTS[ending])
    assert first == (tmp_path / f"b.{ending}").read_bytes()


@pytest.mark.parametrize("name", recordings.ALL)
def test_every_report_can_be_drawn(tmp_path, name):
    figure.draw(build(recordings.ALL[name]()), tmp_path / "report.svg")
    ElementTree.parse(tmp_path / "report.svg")


def test_bars_are_as_long_as_the_shares_of_states():
    report = build(recordings.sick_mlp())
    axes = figure._figure(report).axes[0]
    drawn = [patch.get_width() for patch in axes.patches]
    shares = [number / site.units for site in report.sites for number in words.split(site).values()]
    assert drawn == pytest.approx(shares)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"{site.name} ({site.units:,})" for site in report.sites
    ]


def test_the_colours_are_those_of_the_page():
    assert set(figure.colours()) == set(KINDS)
    assert figure.colours()["dead"] == "#c62f2f"


def test_an_ending_that_is_no_picture_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"expected a picture ending in \.png, \.svg, \.pdf"):
        figure.draw(Report(), tmp_path / "report.gif")


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'flatline\[plot\]'"):
        figure.draw(Report(), tmp_path / "report.png")


def test_a_file_that_cannot_be_written_is_an_error_in_words(tmp_path):
    with pytest.raises(UsageError, match="expected a file that can be written"):
        figure.draw(Report(), tmp_path / "missing" / "report.png")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
@pytest.mark.parametrize("ending", figure.FORMATS)
def test_a_full_disk_is_an_error_in_words(tmp_path, ending):
    full = tmp_path / f"report.{ending}"
    full.symlink_to("/dev/full")
    with pytest.raises(UsageError, match="expected a file that can be written"):
        figure.draw(Report(), full)
