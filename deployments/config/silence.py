"""How long may we be silent towards HAProxy, by the configuration, and how long does HAProxy wait? Pure."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deployments.config.application import Config

VARIABLE = "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S"
MARGIN = 5.0  # seconds: we end what is over, and a busy machine takes its time


def longest_silence(environment: Mapping[str, str]) -> float:
    """Return for how many seconds an answer may be silent before HAProxy ends it in our place."""
    waits = _haproxy_waits(environment)
    return math.inf if waits is None else max(1.0, waits - MARGIN)


def _haproxy_waits(environment: Mapping[str, str]) -> int | None:
    waits = environment.get(VARIABLE, "")
    return int(waits) if waits.isdecimal() and int(waits) > 0 else None


def silence_warnings(config: "Config", environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each limit of the config that HAProxy does not wait for.

    Until the first content of an answer we send nothing, for as long as `deadline`. A stream is silent for as long as
    `idle`. HAProxy ends an answer that has been silent for the time in VARIABLE; without it, it waits for ever.
    """
    if (waits := _haproxy_waits(environment)) is None:
        return []
    return [
        f"{key}: {seconds:g} s, but HAProxy ends an answer after {waits} s of silence: "
        f"set {VARIABLE} to {seconds + MARGIN:.0f} or more where Ray starts"
        for key, seconds in _silences(config)
        if seconds + MARGIN > waits
    ]


def _silences(config: "Config") -> Iterator[tuple[str, float]]:
    yield "timeouts.deadline", config.timeouts.deadline
    yield "timeouts.idle", config.timeouts.idle
    for name, settings in config.providers.items():
        if settings.timeouts.idle is not None:
            yield f"providers.{name}.timeouts.idle", settings.timeouts.idle
