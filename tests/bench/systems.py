"""The systems side by side: our own as a user starts it, LiteLLM's proxy and Portkey's gateway from their registries.

Each is told of one upstream and answers `POST /v1/chat/completions` on a port of its own. The others run
as lean as they can: one worker, no key, no database, no log of requests, no telemetry.
"""

import contextlib
import functools
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.bench.processes import CannotRun, is_free, pin, running
from tests.bench.scenarios import MODEL, WHOLE
from tests.clients.client import clean_environment
from tests.cluster.conftest import ROOT, free_port, joined_environment, serve_env

LITELLM, PORTKEY = "1.109.1", "1.15.2"
# Portkey is built with this server below it; with later ones it fails all streams (Portkey-AI/gateway#1389).
PORTKEY_PACKAGE = {
    "dependencies": {"@portkey-ai/gateway": PORTKEY},
    "overrides": {"@hono/node-server": "1.13.5"},
}
# Its own pins of these two are not in every registry yet; neither is on the way of a request.
OVERRIDES = "litellm-proxy-extras==0.4.110\ncertifi==2026.10.18\n"
START_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class System:
    """Something that answers. All its processes are in one session, on these cores."""

    name: str
    port: int
    session: int
    cores: set[int] | None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a system runs: a folder of its own, cores, and the two upstreams' ports."""

    folder: pathlib.Path
    cores: set[int] | None
    upstreams: tuple[int, int]
    root: pathlib.Path = ROOT  # of the checkout, for our own
    env: dict[str, str] = field(default_factory=dict)  # more for our own
    ingresses: int = 1
    replicas: int = 1

    @property
    def python(self) -> pathlib.Path:
        """The checkout's own, so that another Python, or another version of a package, can run beside ours."""
        its_own = self.root / ".venv" / "bin" / "python"
        return its_own if its_own.exists() else pathlib.Path(sys.executable)


@contextlib.contextmanager
def upstream(port: int, folder: pathlib.Path, cores: set[int] | None) -> Iterator[System]:
    command = [sys.executable, "-m", "tests.bench.upstream", str(port)]
    with started("direct", port, command, folder, cores, dict(os.environ), ROOT) as made:
        yield made


@contextlib.contextmanager
def breakwater(
    place: Place, name: str = "breakwater", edit: Callable[[dict[str, Any]], None] | None = None
) -> Iterator[System]:
    """`edit` changes the configuration."""
    port = free_port()
    config, made_config = place.folder / "config.yaml", config_of(place, port)
    if edit is not None:
        edit(made_config)
    config.write_text(yaml.safe_dump(made_config, sort_keys=False))
    # Our environment first: Serve starts HAProxy by a script that asks for `python`.
    path = f"{place.python.parent}:{os.environ['PATH']}"
    its_own = {"BREAKWATER_ADMIN_KEY": "admin", "PATH": path, **serve_env(place.root), **place.env}
    env = {**os.environ, **joined_environment(its_own)}
    command = [str(place.python), "-m", "ray.serve.scripts", "run", str(config)]
    with started(name, port, command, place.folder, place.cores, env, place.root) as made:
        yield made


def config_of(place: Place, port: int) -> dict[str, Any]:
    """The shipped config with two OpenAI-compatible servers for the clouds, and a fixed number of replicas."""
    config: dict[str, Any] = yaml.safe_load((place.root / "serve_config.yaml").read_text())
    config["http_options"]["port"] = port
    [app] = config["applications"]
    first, second = (f"http://127.0.0.1:{upstream}/v1" for upstream in place.upstreams)
    app["args"] |= {
        "providers": {"first": {"kind": "openai", "base_url": first}, "second": {"kind": "openai", "base_url": second}},
        "models": {MODEL: {"first": "gpt-bench", "second": "gpt-bench"}},
        "prices": {"gpt-bench": {"input": 2, "output": 8}},
        "ledger": {"folder": str(place.folder / "ledger")},
        "auth": {"admin_key_env": "BREAKWATER_ADMIN_KEY"},
    }
    replicas = {"Ingress": place.ingresses, "first": place.replicas, "second": 1}
    options = {one["name"]: one for one in app.get("deployments", [])}
    app["deployments"] = [
        {"name": name, **options.get(name, {}), "autoscaling_config": {"min_replicas": number, "max_replicas": number}}
        for name, number in replicas.items()
    ]
    return config


@contextlib.contextmanager
def plain(place: Place) -> Iterator[System]:
    """Ray Serve without ours, as `tests/bench/plain.py` says."""
    url = f"http://127.0.0.1:{place.upstreams[0]}/v1"

    def edit(config: dict[str, Any]) -> None:
        [app] = config["applications"]
        config["applications"] = [
            {"name": app["name"], "route_prefix": "/", "import_path": "tests.bench.plain:build", "args": {"url": url}}
        ]

    with breakwater(place, "plain", edit) as made:
        yield made


@contextlib.contextmanager
def litellm(place: Place) -> Iterator[System]:
    port = free_port()
    model = {"model": "openai/gpt-bench", "api_base": _url(place.upstreams[0]), "api_key": "sk-fake"}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": model}],
        "litellm_settings": {"telemetry": False},
    }
    (place.folder / "config.yaml").write_text(yaml.safe_dump(config))
    (place.folder / "overrides.txt").write_text(OVERRIDES)
    its_own = [program("uv"), "tool", "run", "--overrides", str(place.folder / "overrides.txt")]
    command = [*its_own, "--from", f"litellm[proxy]=={LITELLM}", "litellm"]
    quiet = {"LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    quiet |= {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}  # on loopback, with nothing behind it
    env = {**clean_environment(), **quiet}
    installed([*command, "--version"], "LiteLLM", "litellm", place.folder, env)
    command += ["--config", str(place.folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1"]
    with started("litellm", port, command, place.folder, place.cores, env, place.folder) as made:
        yield made


@contextlib.contextmanager
def portkey(place: Place) -> Iterator[System]:
    port, folder = free_port(), place.folder
    env = {**clean_environment(), "NODE_ENV": "production"}
    (folder / "package.json").write_text(json.dumps(PORTKEY_PACKAGE))
    install = [program("npm"), "install", "--no-audit", "--no-fund", "--prefix", str(folder)]
    installed(install, "Portkey's gateway", "portkey", folder, env)
    script = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    command = [program("node"), str(script), f"--port={port}", "--headless"]
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": _url(place.upstreams[0])}
    with started("portkey", port, command, folder, place.cores, env, folder, headers) as made:
        yield made


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"


SYSTEMS: Mapping[str, Callable[[Place], contextlib.AbstractContextManager[System]]] = {
    "breakwater": breakwater,
    "beside": functools.partial(breakwater, name="beside"),
    "plain": plain,
    "litellm": litellm,
    "portkey": portkey,
}
VERSIONS: Mapping[str, str] = {"litellm": LITELLM, "portkey": PORTKEY}


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise CannotRun(f"{name} is not installed: install it, or leave out what needs it (--without)")
    return found


def installed(command: Sequence[str], what: str, name: str, folder: pathlib.Path, env: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=dict(env), capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        why = " ".join((done.stderr or done.stdout).split())[-300:]
        raise CannotRun(f"{what} can't be installed from its registry (or use --without {name}): {why}")


@contextlib.contextmanager
def started(
    name: str,
    port: int,
    command: Sequence[str],
    folder: pathlib.Path,
    cores: set[int] | None,
    env: Mapping[str, str],
    cwd: pathlib.Path,
    headers: Mapping[str, str] | None = None,
) -> Iterator[System]:
    """A system that has answered once."""
    if not is_free(port):
        raise CannotRun(f"port {port}, meant for {name}, is taken")
    log = folder / f"{name}.log"
    with running(command, log, env, cwd) as process:
        made = System(name, port, process.pid, cores, dict(headers or {}))
        deadline = time.monotonic() + START_SECONDS
        while post(made, WHOLE.body()) != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                state = "has ended" if process.poll() is not None else "does not answer"
                raise CannotRun(f"{name} {state}; the end of its log:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        if cores:
            pin(process.pid, cores)  # only now: a start is no part of what is measured, and takes both cores
        yield made


def post(system: System, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> int:
    """The status of an answer; 0 without one."""
    connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=10)
    always = {"content-type": "application/json", "authorization": "Bearer sk-fake"}
    try:
        connection.request("POST", path, body, {**always, **system.headers, **headers})
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return response.status
    finally:
        connection.close()


def command(system: System, verb: str, provider: str) -> int:
    """An operator's command to our own."""
    return post(system, json.dumps({}).encode(), f"/v1/providers/{provider}/{verb}", authorization="Bearer admin")
