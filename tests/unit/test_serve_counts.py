"""What Serve counts of the requests that go the short way: by its own methods, and not where it has more to do."""

import inspect
import logging
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from ray.serve._private import replica
from ray.serve._private.constants import SERVE_LOGGER_NAME
from ray.serve._private.logging_utils import log_access_log_filter
from ray.serve._private.utils import Semaphore

from deployments.ingress.server.counts import ServeCounts, counts_around
from tests.clock import run_virtually


def with_handlers(monkeypatch: pytest.MonkeyPatch, *handlers: logging.Handler) -> None:
    """Have Serve's log written by these alone. To be called in the test: pytest adds handlers of its own before it."""
    monkeypatch.setattr(logging.getLogger(SERVE_LOGGER_NAME), "handlers", list(handlers))


def quiet() -> logging.Handler:
    made = logging.NullHandler()
    made.addFilter(log_access_log_filter)
    return made


def serves(**other: Any) -> Any:
    """Return what is used of Serve's object for a replica that takes two requests at a time."""
    made = SimpleNamespace(
        _semaphore=Semaphore(lambda: 2),
        _metrics_manager=mock.Mock(),
        _deployment_id=SimpleNamespace(app_name="llm", name="Ingress"),
        _route_prefix="/",
        _http_options=SimpleNamespace(request_timeout_s=None),
        _user_callable_wrapper=SimpleNamespace(_run_user_code_in_separate_thread=False),
    )
    made.__dict__.update(other)
    return made


def test_a_request_holds_its_slot_and_is_counted_from_its_begin_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with_handlers(monkeypatch, quiet())

    async def main() -> None:
        made = serves()
        counts, metrics = ServeCounts(made), made._metrics_manager
        await counts.begin("one")
        assert counts.has_room()
        await counts.begin("two")
        assert not counts.has_room()
        counts.end(200, 1.5)
        counts.end(0, 1.0)  # there was no answer
        assert counts.has_room()
        assert (metrics.inc_num_ongoing_requests.call_count, metrics.dec_num_ongoing_requests.call_count) == (2, 2)
        told = [call.kwargs["is_error"] for call in metrics.record_request_metrics.call_args_list]
        assert told == [False, True]
        [answered] = metrics.record_ingress_request_metrics.call_args_list
        said = answered.kwargs
        assert (said["status_code"], said["method"], said["route"], said["is_error"]) == ("200", "POST", "/", False)

    run_virtually(main())


@pytest.mark.parametrize(
    "other",
    [
        {"_http_options": SimpleNamespace(request_timeout_s=30.0)},
        {"_user_callable_wrapper": SimpleNamespace(_run_user_code_in_separate_thread=True)},
    ],
)
def test_where_serve_does_more_than_count_nothing_goes_past_it(
    other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_handlers(monkeypatch, quiet())
    assert ServeCounts(serves()).has_room()
    assert not ServeCounts(serves(**other)).has_room()


def test_an_access_log_that_is_turned_on_gets_its_lines_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = ServeCounts(serves())
    for handler, room in ((quiet(), True), (logging.NullHandler(), False), (quiet(), True)):
        with_handlers(monkeypatch, handler)
        assert counts.has_room() is room


def test_a_serve_that_is_not_as_it_was_goes_the_long_way(caplog: pytest.LogCaptureFixture) -> None:
    class Around:
        async def _app(self) -> None: ...

    assert counts_around(Around()) is None
    assert "goes the long way" in caplog.text


def test_serve_counts_its_own_requests_by_the_same_methods() -> None:
    source = inspect.getsource(replica)
    for used in (
        "self._metrics_manager.inc_num_ongoing_requests(request_metadata)",
        "self._metrics_manager.dec_num_ongoing_requests(request_metadata)",
        "self._metrics_manager.record_request_metrics(",
        "self._metrics_manager.record_ingress_request_metrics(",
        "await self._semaphore.acquire()",
        "_user_callable_wrapper._run_user_code_in_separate_thread",
    ):
        assert used in source, used
