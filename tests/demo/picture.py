"""A picture of the console in the middle of the demo, by Debian's Chromium: for the README."""

import contextlib
import pathlib
from collections.abc import Iterator

from tests.bench.processes import CannotRun
from tests.browser.browser import Browser
from tests.clients.client import Missing

WIDTH, HEIGHT = 1280, 900
PAGE = "/"  # of the console
SHOWN = "main, body"  # what must be on the page before it is taken


@contextlib.contextmanager
def camera(folder: pathlib.Path) -> Iterator[Browser]:
    """A browser that has been started, so that its picture is taken at the moment it is asked for."""
    try:
        browser = Browser(folder)
    except Missing as missing:
        raise CannotRun(str(missing)) from None
    try:
        browser.open("about:blank")
        yield browser
    finally:
        browser.close()


def take(browser: Browser, url: str, file: pathlib.Path) -> None:
    """Open the console and take its picture. Called in the middle of the phase that is pictured, in a thread."""
    browser.open(f"{url}{PAGE}", width=WIDTH, height=HEIGHT)
    browser.see(SHOWN)
    browser.run("new Promise((done) => setTimeout(done, 1500))")  # its data comes live
    browser.do("shot", path=str(file))
