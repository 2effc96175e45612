"""The log of requests: what is written at once is what Python's own handlers would have written line by line."""

import itertools
import logging
import pathlib
from collections.abc import Iterable, Iterator
from logging.handlers import MemoryHandler, RotatingFileHandler
from typing import Any

import pytest

from deployments.telemetry.attempt_record import AttemptRecord
from deployments.telemetry.request_log import MOST_UNWRITTEN, SERVE_LOGGER, flush_log, log_request
from deployments.telemetry.request_record import RequestRecord
from deployments.usage.caller import Caller

FORMAT = logging.Formatter("%(levelname)s %(name)s -- %(message)s")


class Even(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno != logging.DEBUG


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger(SERVE_LOGGER)
    before = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [], False
    logger.setLevel(logging.DEBUG)
    yield logger
    for buffer in [handler for handler in logger.handlers if isinstance(handler, MemoryHandler)]:
        file = buffer.target
        buffer.close()
        if file is not None:
            file.close()
    logger.handlers, _, logger.propagate = before
    logger.setLevel(before[1])


def buffered(logger: logging.Logger, path: pathlib.Path, most: int = 0) -> MemoryHandler:
    """As Serve has it when it is tuned for throughput."""
    file = RotatingFileHandler(path, maxBytes=most, backupCount=500, encoding="utf-8")
    file.setFormatter(FORMAT)
    file.addFilter(Even())
    buffer = MemoryHandler(1000, target=file, flushLevel=logging.CRITICAL + 1)
    logger.addHandler(buffer)
    return buffer


def said(path: pathlib.Path) -> list[str]:
    """All lines, those of the oldest file first."""
    files = sorted(path.parent.glob(f"{path.name}*"), key=lambda p: int(p.suffix[1:] or 0), reverse=True)
    return [line for file in files for line in file.read_text("utf-8").splitlines()]


def speak(logger: logging.Logger) -> None:
    for number in range(40):
        logger.info("line %d with Größe", number)
        logger.debug("nobody wants it")
    try:
        raise KeyError("x")
    except KeyError:
        logger.exception("with a stack")


@pytest.mark.parametrize("most", [0, 400, 20])
def test_it_writes_what_the_handler_itself_would_write(
    logger: logging.Logger, tmp_path: pathlib.Path, most: int
) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours, theirs = tmp_path / "ours" / "log", tmp_path / "theirs" / "log"
    buffered(logger, ours, most)
    by_lines = buffered(logger, theirs, most)
    for _ in range(3):
        speak(logger)
        by_lines.flush()
        flush_log()
    assert said(ours) == [line for line in said(theirs) if line]
    assert len(said(ours)) > 100
    files = list(ours.parent.iterdir())
    assert len(files) == 1 if most == 0 else len(files) >= 3  # a file is turned over before what does not fit in
    assert longest(files) <= longest(theirs.parent.iterdir())


def longest(files: Iterable[pathlib.Path]) -> int:
    return max(file.stat().st_size for file in files)


def test_a_disk_that_is_full_loses_lines_and_nothing_else(
    logger: logging.Logger, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    buffer = buffered(logger, path)
    told = list[logging.LogRecord]()
    assert isinstance(buffer.target, RotatingFileHandler)
    monkeypatch.setattr(buffer.target, "handleError", told.append)
    monkeypatch.setattr(buffer.target, "format", lambda _: 1 / 0)
    logger.info("lost")
    flush_log()
    monkeypatch.undo()
    logger.info("written")
    flush_log()
    assert [record.getMessage() for record in told] == ["lost"]
    assert said(path) == ["INFO ray.serve -- written"]


def test_another_handler_is_flushed_as_it_is(logger: logging.Logger, tmp_path: pathlib.Path) -> None:
    file = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    file.setFormatter(FORMAT)
    logger.addHandler(MemoryHandler(1000, target=file, flushLevel=logging.CRITICAL + 1))
    logger.info("Hi")
    flush_log()
    assert said(tmp_path / "log") == ["INFO ray.serve -- Hi"]


def test_a_request_is_one_line_of_its_own_logger(logger: logging.Logger, tmp_path: pathlib.Path) -> None:
    buffered(logger, tmp_path / "log")
    record = RequestRecord("default", Caller("http"), request_id="an-id", observer=log_request)
    record.add_attempt(AttemptRecord("openai/gpt", "ok", 0.1, 2.0))
    record.finish("ok", "openai/gpt")
    logger.setLevel(logging.WARNING)
    RequestRecord("default", Caller("http"), observer=log_request).finish("ok")
    flush_log()
    (line,) = said(tmp_path / "log")
    assert line.startswith('INFO ray.serve.requests -- {"event":"request","request_id":"an-id"')


def test_each_lines_record_is_made_by_whom_ray_has_set(logger: logging.Logger) -> None:
    """Ray's factory of records gives each the instant that its JSON shows."""
    seen, made, before = list[logging.LogRecord](), itertools.count(), logging.getLogRecordFactory()
    keeper = logging.Handler()
    keeper.emit = seen.append  # type: ignore[method-assign]
    logger.addHandler(keeper)

    def numbered(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = before(*arguments, **named)
        record.number = next(made)
        return record

    logging.setLogRecordFactory(numbered)
    try:
        for name in ("one", "two"):
            RequestRecord("default", Caller("http"), request_id=name, observer=log_request).finish("ok")
    finally:
        logging.setLogRecordFactory(before)
    assert [getattr(record, "number", None) for record in seen] == [0, 1]


def test_lines_are_written_before_the_buffer_writes_each_by_itself(
    logger: logging.Logger, tmp_path: pathlib.Path
) -> None:
    buffer = buffered(logger, tmp_path / "log")
    flush_log()
    for _ in range(MOST_UNWRITTEN):
        RequestRecord("default", Caller("http"), observer=log_request).finish("ok")
    assert buffer.capacity > MOST_UNWRITTEN
    assert len(said(tmp_path / "log")) == MOST_UNWRITTEN
