"""A browser that is told a step a line, as JSON, and says what came of it. Playwright drives Debian's Chromium."""

import json
import sys
from typing import Any

from playwright.sync_api import Error, sync_playwright

VIOLATIONS = """addEventListener("securitypolicyviolation",
    (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sample}`));"""


class Steps:
    def __init__(self, browser: Any):
        self._browser = browser
        self._context: Any = None
        self._page: Any = None
        self._said: list[str] = []

    def open(self, url: str, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """A new tab of a new session."""
        if self._context is not None:
            self._context.close()
        size = {"width": width, "height": height}
        self._context = self._browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        self._page = self._context.new_page()
        self._said = []
        self._page.on("console", lambda message: message.type == "error" and self._said.append(message.text))
        self._page.on("pageerror", lambda error: self._said.append(f"uncaught: {error}"))
        self._page.on("dialog", lambda dialog: (self._said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self._page.add_init_script(VIOLATIONS)
        self._page.goto(url)

    def wait(self, at: str, seconds: float, gone: bool = False) -> None:
        self._page.locator(at).first.wait_for(state="hidden" if gone else "visible", timeout=1000 * seconds)

    def click(self, at: str) -> None:
        self._page.locator(at).click(timeout=5000)

    def fill(self, at: str, text: str) -> None:
        self._page.locator(at).fill(text, timeout=5000)

    def choose(self, at: str, label: str) -> None:
        self._page.locator(at).select_option(label=label, timeout=5000)

    def press(self, key: str) -> None:
        self._page.keyboard.press(key)

    def text(self, at: str) -> str:
        return str(self._page.locator(at).first.inner_text(timeout=5000))

    def run(self, script: str) -> Any:
        return self._page.evaluate(script)

    def resize(self, width: int, height: int) -> None:
        self._page.set_viewport_size({"width": width, "height": height})

    def scheme(self, scheme: str) -> None:
        self._page.emulate_media(color_scheme=scheme)

    def shot(self, path: str) -> None:
        self._page.screenshot(path=path, full_page=True)

    def download(self, at: str, path: str) -> str:
        with self._page.expect_download(timeout=10_000) as coming:
            self._page.locator(at).click(timeout=5000)
        coming.value.save_as(path)
        return path

    def complaints(self) -> list[str]:
        """Errors of the console, violations of the page's policy, dialogs that a script opened."""
        self._page.evaluate("new Promise((done) => requestAnimationFrame(done))")
        return self._said


def main(chromium: str) -> None:
    with sync_playwright() as playwright:
        # A name of somebody else's that leads to this machine, as after DNS rebinding.
        names = "--host-resolver-rules=MAP evil.example 127.0.0.1"
        steps = Steps(playwright.chromium.launch(executable_path=chromium, args=[names]))
        for line in sys.stdin:
            task = json.loads(line)
            try:
                said = {"value": getattr(steps, task.pop("do"))(**task)}
            except Error as error:
                said = {"failed": str(error)}
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
