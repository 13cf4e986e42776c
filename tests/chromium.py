"""A real browser for tests. They are skipped where there is none, unless ``REQUIRE_BROWSER=1``."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = (Path(__file__).parent / "show" / "axe" / "axe.min.js").read_text("utf-8")
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 360, "height": 740}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A browser for the length of a ``with`` block."""
    if reason := _missing():
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(f"expected a browser, as REQUIRE_BROWSER is set: {reason}")
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path)
        yield running
        running.close()


def _missing() -> str | None:
    """Why there is no browser to test with."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "Playwright is not installed"
    if not any(map(shutil.which, BROWSERS)):
        return f"none of {', '.join(BROWSERS)} was found; on Debian: apt-get install chromium"
    return None


def fits(page: Page) -> bool:
    """Whether a page needs no horizontal scroll, once it has taken the size of the window."""
    return page.evaluate(
        """() => new Promise((done) =>
          requestAnimationFrame(() => requestAnimationFrame(() =>
            done(document.documentElement.scrollWidth <= innerWidth))))"""
    )


def serious_violations(page: Page) -> list[tuple[str, list[str]]]:
    """What axe-core finds that keeps people out, with some of the elements concerned."""
    # Not as a script element, which the policy of a page does not allow.
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
