"""The alerts that fire, as Prometheus says. No Ray.

Prometheus alone can tell: an alert is a question about minutes of many replicas' figures. Where it is, Ray's own
variable says, which its dashboard reads too; without it nobody is asked.
"""

import asyncio
import json
import os
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import httpx2

WHERE = "RAY_PROMETHEUS_HOST"
OURS = "Breakwater"  # the names of our alerts begin so
SECONDS = 2.0  # that Prometheus may take
KEPT_SECONDS = 10.0  # an answer serves all pages of a replica for so long
MOST, MOST_BYTES = 100, 4 * 1024 * 1024


class Alert(TypedDict):
    name: str
    severity: str | None
    since: str | None  # ISO
    summary: str | None
    runbook: str | None


class Alerts(TypedDict):
    source: str | None  # prometheus; None where it is not known
    trouble: str | None  # why it could not be asked
    data: list[Alert]


class FiringAlerts:
    """`clock`: monotonic seconds."""

    def __init__(self, environ: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic):
        self._url, self._clock = environ.get(WHERE) or None, clock
        self._told: tuple[float, Alerts] | None = None
        self._asking = asyncio.Lock()

    async def look(self) -> Alerts:
        """Return the alerts that fire now. Never raises: what went wrong is `trouble`."""
        if self._url is None:
            return {"source": None, "trouble": None, "data": []}
        async with self._asking:
            if self._told is None or self._clock() - self._told[0] > KEPT_SECONDS:
                answer = await self._ask(self._url)
                self._told = self._clock(), answer
            return self._told[1]

    async def _ask(self, url: str) -> Alerts:
        try:
            async with asyncio.timeout(SECONDS):
                return {
                    "source": "prometheus",
                    "trouble": None,
                    "data": firing_in(json.loads(await self._fetched(url))),
                }
        except Exception as error:
            why = f"Prometheus of {WHERE} does not answer ({type(error).__name__})"
            return {"source": "prometheus", "trouble": why, "data": []}

    async def _fetched(self, url: str) -> bytes:
        # To make a context for TLS takes 20 ms of the loop, so it is made where it is needed, beside the loop.
        verify = await asyncio.to_thread(ssl.create_default_context) if url.startswith("https:") else False
        made = httpx2.AsyncClient(timeout=SECONDS, trust_env=False, verify=verify)
        async with made as http, http.stream("GET", f"{url.rstrip('/')}/api/v1/alerts") as response:
            response.raise_for_status()
            body = b""
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise ValueError("more than an answer of Prometheus has")
            return body


def firing_in(answer: Any) -> list[Alert]:
    """Return our alerts that fire, from Prometheus's answer. Raises what a malformed answer raises."""
    firing = [
        a for a in answer["data"]["alerts"] if a["state"] == "firing" and a["labels"]["alertname"].startswith(OURS)
    ]
    return [_alert(a) for a in firing[:MOST]]


def _alert(found: Mapping[str, Any]) -> Alert:
    labels, words = found["labels"], found.get("annotations", {})
    return {
        "name": labels["alertname"],
        "severity": labels.get("severity"),
        "since": found.get("activeAt"),
        "summary": words.get("summary"),
        "runbook": words.get("runbook"),
    }
