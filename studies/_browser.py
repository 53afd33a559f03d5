"""Chromium, by Playwright: that of the machine, or the one that Playwright has installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class NoBrowserError(RuntimeError):
    """There is no browser to test or measure in."""


@contextmanager
def open_browser() -> Iterator[Any]:
    """Yield Playwright's ``Browser``; raise NoBrowserError where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NoBrowserError("playwright is not installed: pip install playwright.") from error
    with sync_playwright() as driver:
        own = driver.chromium.executable_path
        path = next(filter(None, map(shutil.which, _NAMES)), own)
        if not Path(path).exists():
            raise NoBrowserError(
                "There is no Chromium in PATH, and Playwright has installed none: install the "
                "system's, or run playwright install chromium."
            )
        browser = driver.chromium.launch(executable_path=path)
        try:
            yield browser
        finally:
            browser.close()
