"""The alerts that the console shows: Prometheus's own words, asked for seldom, and never an error."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.console.alerts import KEPT_SECONDS, MOST, WHERE, FiringAlerts, firing_in


def alert(name: str, state: str = "firing", **labels: str) -> dict[str, Any]:
    return {
        "labels": {"alertname": name, "severity": "warning", **labels},
        "annotations": {"summary": f"{name} it is", "runbook": "docs/operations.md#x", "description": "long"},
        "state": state,
        "activeAt": "2026-11-30T10:00:00.123Z",
        "value": "1e+00",
    }


def answer(*alerts: dict[str, Any]) -> dict[str, Any]:
    """As Prometheus has it: HTTP API, GET /api/v1/alerts."""
    return {"status": "success", "data": {"alerts": list(alerts)}}


def test_only_ours_that_fire_are_shown() -> None:
    found = firing_in(answer(alert("BreakwaterProviderOpen"), alert("BreakwaterSlow", "pending"), alert("NodeDown")))
    assert found == [
        {
            "name": "BreakwaterProviderOpen",
            "severity": "warning",
            "since": "2026-11-30T10:00:00.123Z",
            "summary": "BreakwaterProviderOpen it is",
            "runbook": "docs/operations.md#x",
        }
    ]


def test_a_storm_of_alerts_does_not_fill_a_page() -> None:
    assert len(firing_in(answer(*(alert(f"Breakwater{i}") for i in range(MOST + 9))))) == MOST


class Prometheus:
    def __init__(self) -> None:
        self.asked = 0
        self.body: bytes = json.dumps(answer(alert("BreakwaterProviderOpen"))).encode()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(200 if self.path == "/prometheus/api/v1/alerts" else 404)
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/prometheus/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    made = Prometheus()
    yield made
    made.close()


def test_without_prometheus_nobody_is_asked() -> None:
    assert asyncio.run(FiringAlerts({}).look()) == {"source": None, "trouble": None, "data": []}


def test_one_answer_serves_all_pages_for_a_while(prometheus: Prometheus) -> None:
    now = 0.0

    async def main() -> None:
        nonlocal now
        alerts = FiringAlerts({WHERE: prometheus.url}, lambda: now)
        answers = await asyncio.gather(*(alerts.look() for _ in range(5)))
        assert [len(each["data"]) for each in answers] == [1] * 5
        assert prometheus.asked == 1
        now += KEPT_SECONDS + 1
        await alerts.look()
        assert prometheus.asked == 2

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data": {"alerts": [{"state": "firing"}]}}'])
def test_what_is_no_answer_of_prometheus_is_trouble_and_no_error(prometheus: Prometheus, body: bytes) -> None:
    prometheus.body = body
    told = asyncio.run(FiringAlerts({WHERE: prometheus.url}).look())
    assert told["data"] == []
    assert told["trouble"] is not None
    assert WHERE in told["trouble"]


def test_a_prometheus_that_is_away_is_trouble_and_its_address_is_not_told(prometheus: Prometheus) -> None:
    prometheus.close()
    told = asyncio.run(FiringAlerts({WHERE: prometheus.url.replace("http://", "http://user:secret@")}).look())
    assert told["trouble"] is not None
    assert "secret" not in told["trouble"]
