"""axe-core, by which people test pages for accessibility; from npm, into a folder of its own."""

import pathlib
from typing import Any

from tests.browser.browser import Browser
from tests.clients.client import npm_install

PACKAGE = "axe-core@4.14.1"


class Axe:
    """Raises Missing where npm is not installed."""

    def __init__(self, folder: pathlib.Path):
        npm_install(folder, PACKAGE)
        self._script = (folder / "node_modules/axe-core/axe.min.js").read_text()

    def findings(self, browser: Browser) -> list[Any]:
        """Return what it finds on the page that is shown: impact, rule, and the first elements."""
        browser.run(self._script)
        look = "v => [v.impact, v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 200))]"
        return list(browser.run(f"axe.run().then(r => r.violations.map({look}))"))
