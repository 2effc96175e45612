"""One log line a request, in the log that Ray Serve shows: JSON, without content, without a secret. No Ray.

When Serve is tuned for throughput it buffers a replica's log by the thousand lines, so the ingress flushes it once a
second: all lines in one write. Python's handler would format each line twice, and need five system calls for it.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from logging.handlers import MemoryHandler, RotatingFileHandler
from typing import IO

from actors.breaker.plan import parts_of, place_of
from actors.ledger.rows import encode_json
from deployments.openai_api.json_types import JsonDict
from deployments.telemetry.attempt_record import AttemptRecord
from deployments.telemetry.request_record import RequestSummary

SERVE_LOGGER = "ray.serve"  # Serve writes this logger and all beneath it to the replica's log
MOST_UNWRITTEN = 500  # lines; a buffer of Serve takes a thousand, and writes each of them by itself when it is full
_request_log = logging.getLogger(f"{SERVE_LOGGER}.requests")


class RequestLog:
    """Writes the lines of one process's requests to the log of Serve."""

    def __init__(self) -> None:
        self._unwritten = 0

    def add(self, summary: RequestSummary) -> None:
        if not _request_log.isEnabledFor(logging.INFO):
            return
        # `info` would walk the stack for each line to find out that it is this one. Ray has a say in each record.
        made = _request_log.makeRecord(
            _request_log.name, logging.INFO, __file__, 0, line_of(summary), (), None, "log_request"
        )
        _request_log.handle(made)
        self._unwritten += 1
        if self._unwritten >= MOST_UNWRITTEN:
            self.flush()

    def flush(self) -> None:
        """Write what Serve has buffered of this process's log."""
        self._unwritten = 0
        for handler in logging.getLogger(SERVE_LOGGER).handlers:
            if isinstance(handler, MemoryHandler) and type(handler.target) is RotatingFileHandler:
                _write_at_once(handler, handler.target)
            else:
                handler.flush()


_log = RequestLog()
log_request, flush_log = _log.add, _log.flush


def line_of(summary: RequestSummary) -> str:
    """Return the log line of a request that is over, as a JSON object."""
    provider, model = parts_of(summary.target or "")
    place = place_of(summary.target or "")
    attempts = [_attempt(record) for record in summary.attempts]
    used = summary.used
    return encode_json(
        {
            "event": "request",
            "request_id": summary.request_id,
            "x_request_id": summary.caller.request_id,
            "row": summary.row,
            "door": summary.caller.door,
            "stream": summary.stream,
            "outcome": summary.outcome,
            "provider": provider or None,
            "model": model or None,
            **({"place": place} if place else {}),
            "attempts": attempts,
            "ms": summary.ms,
            "first_token_ms": summary.first_ms,
            "added_ms": summary.added_ms,
            "tokens_in": used["tokens_in"],
            "tokens_out": used["tokens_out"],
        }
    )


def _attempt(record: AttemptRecord) -> JsonDict:
    told: JsonDict = {
        "target": record.target,
        "outcome": record.outcome,
        "status": record.status,
        "ms": record.ms,
    }
    if record.seam:
        told["seam"] = record.seam
    if record.hedge:
        told["hedge"] = record.hedge
    return told


def _write_at_once(buffer: MemoryHandler, file: RotatingFileHandler) -> None:
    """Write all lines that wait, each formatted once."""
    with _held(buffer), _held(file):
        records, buffer.buffer = [record for record in buffer.buffer if file.filter(record)], []
        if not records:
            return
        try:
            _write(file, [file.format(record) + file.terminator for record in records])
        except Exception:
            file.handleError(records[-1])


def _write(file: RotatingFileHandler, lines: list[str]) -> None:
    """Write lines, nearly always at once. The file is turned over before each that does not fit in any more."""
    text, size = "".join(lines), _stream_of(file).seek(0, os.SEEK_END)
    if 0 < file.maxBytes <= size + len(text) and os.path.isfile(file.baseFilename):
        text = ""
        for line in lines:
            if size and file.maxBytes <= size + len(line):
                _stream_of(file).write(text)
                file.doRollover()
                text, size = "", 0
            text, size = text + line, size + len(line.encode(errors="replace"))
    _stream_of(file).write(text)
    file.flush()


def _stream_of(file: RotatingFileHandler) -> IO[str]:
    if file.stream is None:  # it is opened late, or was closed
        file.stream = file._open()
    return file.stream


@contextlib.contextmanager
def _held(handler: logging.Handler) -> Iterator[None]:
    handler.acquire()
    try:
        yield
    finally:
        handler.release()
