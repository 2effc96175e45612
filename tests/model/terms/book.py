"""The ledger of a simulated replica: real lines, kept in memory, and what was told of each request at its end."""

import pathlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from actors.ledger.rows import AttemptRow, merged
from actors.ledger.single_writer.reading import parse
from deployments.telemetry.request_record import RequestSummary
from deployments.usage.ledger_client import LedgerClient


class Book(LedgerClient):
    def __init__(self, folder: pathlib.Path, clock: Callable[[], float]):
        async def away() -> Any:
            raise ConnectionError

        super().__init__(away, folder, clock=clock)
        self.lines: list[bytes] = []
        self.summaries: dict[str, RequestSummary] = {}

    def write(self, line: bytes) -> None:
        self.lines.append(line)

    def note(self, summary: RequestSummary) -> None:
        self.summaries[summary.request_id] = summary

    def rows(self) -> dict[str, list[AttemptRow]]:
        """Request id to the rows of its attempts."""
        records, wrong = parse(b"".join(self.lines))
        assert not wrong
        found = defaultdict[str, list[AttemptRow]](list)
        for row in merged(r.attempt for r in records if r.attempt is not None):
            found[row.request_id].append(row)
        return found

    def shut(self) -> None:
        self._journal.close()
