"""The Service in front of the machines: it sends clients to those whose readiness probe passes."""

import threading

from tests.nodes.load import Load
from tests.nodes.site import Site

PERIOD = 1.0  # seconds between two probes


class Service:
    def __init__(self, site: Site, load: Load):
        self._site, self._load = site, load
        self._stop = threading.Event()

    def __enter__(self) -> "Service":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(PERIOD):
            if ready := self._site.ready():
                self._load.entries[:] = ready
