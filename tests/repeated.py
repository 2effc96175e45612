"""Something that is done again and again beside a test."""

import threading
from typing import Self


class Repeated:
    """`look` is called every `period` seconds within the block, on a thread of its own."""

    period = 1.0

    def look(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.period):
            self.look()
