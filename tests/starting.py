"""What every start of Breakwater beside others needs: ports that are free, and serve.env. It needs no pytest."""

import contextlib
import pathlib
import random
import socket

ROOT = pathlib.Path(__file__).parents[1]
# Below the ports that the kernel gives to whoever asks, because each is bound only some time after it was found.
PORTS = iter(random.sample(range(20_000, 30_000), k=10_000))


def free_port() -> int:
    for port in PORTS:
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def serve_env(root: pathlib.Path = ROOT) -> dict[str, str]:
    """A checkout's serve.env, as `uv run --env-file` reads it."""
    lines = (root / "serve.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def joined_environment(extra: dict[str, str]) -> dict[str, str]:
    ports = {
        name: str(free_port())
        for name in (
            "RAY_SERVE_HAPROXY_METRICS_PORT",
            "RAY_SERVE_HAPROXY_STATS_PORT",
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
        )
    }
    # Shutting down waits this long for others to notice, and nobody else is here; and each change waits for a look.
    quick = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.1", "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.1"}
    return {**serve_env(), **ports, **quick, **extra}
