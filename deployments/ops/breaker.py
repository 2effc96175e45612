"""Back up and restore what an operator has told the breaker: thresholds set by hand, and isolations.

    python -m deployments.ops.breaker backup http://127.0.0.1:8000 breaker.json
    python -m deployments.ops.breaker restore http://127.0.0.1:8000 breaker.json

BREAKWATER_ADMIN_KEY has the operators' key, and BREAKWATER_KEY a caller's, where callers need one. A new cluster knows
none of this, and what it does not know of circuits it learns from three failures: so circuits are not kept. Each
command prints one sentence, and exits with 1 if it could not be done.
"""

import json
import os
import pathlib
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

SCHEMA = 1
SECONDS = 10.0  # for one answer
LEAST_LEFT = 1.0  # seconds of an isolation that are worth to be restored


def main(arguments: Sequence[str]) -> int:
    try:
        match arguments:
            case ["backup", url, name]:
                print(back_up(url.rstrip("/"), pathlib.Path(name)))
            case ["restore", url, name]:
                print(restore(url.rstrip("/"), pathlib.Path(name)))
            case _:
                raise ValueError("Say backup URL FILE or restore URL FILE.")
    except (OSError, ValueError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return 1
    return 0


def back_up(url: str, path: pathlib.Path) -> str:
    """Write the file, which must not be there yet. Return a sentence about it."""
    overrides = _call(url, "/v1/breaker", "BREAKWATER_ADMIN_KEY")["overrides"]
    health = _call(url, "/v1/providers", "BREAKWATER_KEY")["provider_health"]
    thresholds = {name: each["value"] for name, each in overrides.items()}
    isolated = {name: left for provider, each in health.items() for name, left in _isolated(provider, each)}
    told = {"schema": SCHEMA, "at": time.time(), "thresholds": thresholds, "isolated": isolated}
    with path.open("x", encoding="utf-8") as file:
        json.dump(told, file, indent=2)
    return f"{path} holds {_counted(thresholds, isolated)}."


def restore(url: str, path: pathlib.Path) -> str:
    """Tell the breaker what the file holds. Return a sentence about it. An isolation lasts as long as it would have."""
    told = _read(path)
    passed = max(0.0, time.time() - told["at"])
    left = {name: seconds - passed for name, seconds in told["isolated"].items() if seconds - passed > LEAST_LEFT}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("PATCH", "/v1/breaker", {name: value}) for name, value in told["thresholds"].items()
    ]
    for name, seconds in left.items():
        calls.append(("POST", f"/v1/providers/{quote(name, safe='')}/isolate?seconds={seconds:.0f}", {}))
    refused = [why for call in calls if (why := _refused(url, *call)) is not None]
    if refused:  # the others are told
        raise OSError("; ".join(refused))
    return f"The breaker has {_counted(told['thresholds'], left)} from {path}."


def _read(path: pathlib.Path) -> dict[str, Any]:
    told = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no back-up of a breaker that this version reads")
    return told


def _refused(url: str, method: str, path: str, body: dict[str, Any]) -> str | None:
    """Return why the server did not take it; None if it did."""
    try:
        _call(url, path, "BREAKWATER_ADMIN_KEY", method, body)
    except OSError as error:
        return str(error)
    return None


def _isolated(provider: str, health: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the provider, or those of its places, all of whose targets are isolated, and for how many seconds."""
    sites: dict[str, list[dict[str, Any]]] = {}
    for target, each in health["targets"].items():
        sites.setdefault(target.partition("/")[0], []).append(each)
    whole = {provider: list(health["targets"].values())} if health["isolated"] else sites
    for name, targets in whole.items():
        if targets and all(each["isolated"] for each in targets):
            yield name, max(each.get("isolated_for_seconds", 0.0) for each in targets)


def _counted(thresholds: dict[str, Any], isolated: dict[str, float]) -> str:
    return f"{len(thresholds)} thresholds and {len(isolated)} isolated providers"


def _call(url: str, path: str, key: str, method: str = "GET", body: dict[str, Any] | None = None) -> Any:
    """Return the answer's JSON. Raises OSError with a sentence."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}{path}", data, {"content-type": "application/json"}, method=method)
    if secret := os.environ.get(key):
        request.add_header("authorization", f"Bearer {secret}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise OSError(f"{method} {path}: {error.code} {_message(error)} (the key is that of {key})") from None
    except (urllib.error.URLError, ValueError) as error:
        raise OSError(f"{url} can't be asked: {error}") from None


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return str(error.reason)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
