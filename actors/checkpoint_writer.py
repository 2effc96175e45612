"""Save a state that changes, one write at a time, and never let the store hold up whoever changed it. No Ray.

While the store is away the newest state waits here, and nobody waits for it: "can't save" is a state that the actor
lives with. The write that hangs then is the only one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

SAVE_SECONDS = 1.0  # how long a change waits to be saved before it is published all the same


class CheckpointWriter:
    """`version` returns that of the state. `write` puts the state as it is then into the store, or raises."""

    def __init__(self, version: Callable[[], int], write: Callable[[], Awaitable[None]]):
        self._version = version
        self._write = write
        self._tried = asyncio.Event()  # is set, and replaced by another, after each try
        self._task: asyncio.Task[None] | None = None
        self._dirty = self._behind = False
        self.saved = -1  # the version that is in the store

    async def save(self, version: int) -> None:
        """Return when the store has this version or a later one, or has refused it, or is away."""
        if self.saved >= version:
            return
        self._dirty = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_all())
        if self._behind:
            return
        try:
            async with asyncio.timeout(SAVE_SECONDS):
                await self._wait(version)
        except TimeoutError:
            self._fall_behind(f"it has not answered within {SAVE_SECONDS:g} s")

    async def _wait(self, version: int) -> None:
        """Wait for a try that had the version, whatever became of it: a write that is under way may be too old."""
        while self.saved < version and not self._behind:
            await self._tried.wait()

    async def _write_all(self) -> None:
        while self._dirty:
            self._dirty = False
            version = self._version()
            try:
                await self._write()
            except Exception as error:
                self._fall_behind(str(error) or type(error).__name__)
            else:
                self._catch_up(version)
            self._tried.set()
            self._tried = asyncio.Event()

    def _fall_behind(self, why: str) -> None:
        if not self._behind:  # once an absence, not once a try
            log.error("The checkpoint could not be written (%s). The actor goes on, and tries again.", why)
        self._behind = True

    def _catch_up(self, version: int) -> None:
        if self._behind:
            log.warning("The checkpoint is written again.")
        self._behind, self.saved = False, version
