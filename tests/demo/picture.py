"""A picture of the console in the middle of the demo, by Debian's Chromium: for the README."""

import contextlib
import pathlib
from collections.abc import Iterator

from tests.bench.processes import CannotRun
from tests.browser.browser import Browser
from tests.clients.client import Missing

WIDTH, HEIGHT = 1280, 900
PAGE = "/"  # its overview, which is looked at from the first phase on, so that its lists are full
SHOWN = "#traffic .card, #tiers .tier"  # what must be on the page before its picture is taken


class Camera:
    """Looks at the console, and takes its picture when it is told to."""

    def __init__(self, browser: Browser, file: pathlib.Path):
        self._browser, self._file = browser, file

    def look(self, url: str) -> None:
        """Open the console, before the first phase."""
        self._browser.open(f"{url}{PAGE}", width=WIDTH, height=HEIGHT)

    def take(self) -> None:
        """Take the picture, in the middle of the phase that is pictured."""
        self._browser.see(SHOWN)
        self._browser.do("shot", path=str(self._file))


@contextlib.contextmanager
def camera(folder: pathlib.Path, file: pathlib.Path) -> Iterator[Camera]:
    """A camera whose browser has been started, so that its picture is taken at the moment it is asked for."""
    try:
        browser = Browser(folder)
    except Missing as missing:
        raise CannotRun(str(missing)) from None
    try:
        browser.open("about:blank")
        yield Camera(browser, file.absolute())
    finally:
        browser.close()
