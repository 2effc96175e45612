"""A real browser for a test: Debian's Chromium, driven in an environment that is not ours."""

import json
import pathlib
import queue
import subprocess
import threading
from typing import Any

from tests.clients.client import Missing, clean_environment, program, with_packages

DRIVER = "playwright==1.65.2"
PATIENCE = 120.0  # seconds for one step; the first pays for the driver's installation


class Browser:
    """What it can do is in with_playwright.py; a step that fails is an AssertionError."""

    def __init__(self, folder: pathlib.Path):
        try:
            chromium = program("chromium")
        except Missing as missing:
            raise Missing(f"{missing}: apt-get install chromium") from None
        script = pathlib.Path(__file__).with_name("with_playwright.py")
        self._log = folder / "stderr.log"
        with self._log.open("w") as errors:
            self._process = subprocess.Popen(
                [*with_packages(DRIVER), "python", str(script), chromium],
                cwd=folder,
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put("")

    def do(self, step: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": step, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._lines.get(timeout=PATIENCE)
        assert line, f"the browser has ended: {self._log.read_text()[-2000:]}"
        said = json.loads(line)
        assert "failed" not in said, said["failed"]
        return said["value"]

    def open(self, url: str, **look: Any) -> None:
        self.do("open", url=url, **look)

    def see(self, at: str, seconds: float = 10.0) -> None:
        self.do("wait", at=at, seconds=seconds)

    def miss(self, at: str, seconds: float = 10.0) -> None:
        self.do("wait", at=at, seconds=seconds, gone=True)

    def click(self, at: str) -> None:
        self.do("click", at=at)

    def fill(self, at: str, text: str) -> None:
        self.do("fill", at=at, text=text)

    def text(self, at: str) -> str:
        return str(self.do("text", at=at))

    def run(self, script: str) -> Any:
        return self.do("run", script=script)

    def complaints(self) -> list[str]:
        """But for answers that a page must expect: a refused key, and a server that is away."""
        return [text for text in self.do("complaints") if not text.startswith("Failed to load resource")]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._reader.join(10)
