"""The configuration that the demo serves, made of the shipped one, and its environment. Pure."""

import pathlib
from collections.abc import Mapping
from typing import Any

from tests.demo.script import CLOUDS, LOCAL

ADMIN_KEY = "demo"
# Each cloud is first in one row at least, so that each can be missed. `write` lets a text go on, `code` does not.
ROWS: Mapping[str, tuple[str, ...]] = {
    "chat": ("openai", "google_genai", "anthropic", LOCAL),
    "search": ("google_genai", "anthropic", "openai", LOCAL),
    "write": ("anthropic", "openai", "google_genai", LOCAL),
    "code": ("anthropic", "google_genai", "openai", LOCAL),
}
FIRST: Mapping[str, str] = {row: providers[0] for row, providers in ROWS.items()}
PRICES = {
    "gpt-5.4-mini": {"input": 0.75, "output": 4.5},
    "gemini-3.8-flash": {"input": 0.75, "output": 3.75},
    "claude-haiku-4-5-20251001": {"input": 1, "output": 5},
}
POOR = "initech"
BUDGET = 0.005  # US dollars, which it has used towards the end of the first round
LIMITS = {"tenants": {POOR: {"monthly_cost": BUDGET}, "acme": {"requests_per_minute": 600}}}
# A hang is to be seen within seconds, also of a model that thinks, whose first content may take `timeout_seconds`.
HASTY = {"timeout_seconds": 3, "connect": 2, "first_token": 2, "idle": 4}


def config_of(shipped: Mapping[str, Any], urls: Mapping[str, str], port: int, ledger: pathlib.Path) -> dict[str, Any]:
    """Return the shipped configuration with the clouds at these URLs, and the demo's rows, limits and times."""
    [application] = shipped["applications"]
    args = application["args"]
    providers = {name: dict(args["providers"][name]) for name in (*CLOUDS, LOCAL)}
    for name in CLOUDS:
        providers[name] |= {"base_url": urls[name], "timeouts": HASTY}
    models = args["models"]["default"]
    args = {
        **args,
        "providers": providers,
        "models": {row: {name: models[name] for name in names} for row, names in ROWS.items()},
        "rows": {"write": {"continuation": {"mode": "text"}}},
        "prices": {**PRICES, f"{LOCAL}/{models[LOCAL]}": {"input": 0, "output": 0}},
        "limits": LIMITS,
        "ledger": {"folder": str(ledger)},
        "auth": {"admin_key_env": "BREAKWATER_ADMIN_KEY"},
        "breaker": {"failure_threshold": 3, "recovery_timeout": 3},
        "timeouts": {**args["timeouts"], "deadline": 30},
    }
    one = {"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}}
    deployments = [{"name": name, **one} for name in ("Ingress", *CLOUDS, LOCAL)]
    http = {**shipped["http_options"], "host": "127.0.0.1", "port": port}
    return {
        **shipped,
        "http_options": http,
        "applications": [{**application, "args": args, "deployments": deployments}],
    }


def environment_of(folder: pathlib.Path) -> dict[str, str]:
    """Return what the environment says beside serve.env: keys that are none, and a home, so that nothing is left."""
    haproxy = folder / "haproxy"
    return {
        "HOME": str(folder),
        "RAY_TMPDIR": str(folder),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "OPENAI_API_KEY": "sk-fake",
        "GOOGLE_API_KEY": "fake",
        "ANTHROPIC_API_KEY": "sk-ant-fake",
        "BREAKWATER_ADMIN_KEY": ADMIN_KEY,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
