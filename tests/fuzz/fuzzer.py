"""Schemathesis over the HTTP API, in a process of its own, and what came of it."""

import collections
import copy
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.described import DOCUMENT

HERE = pathlib.Path(__file__).parent
ADMIN_KEY, TENANT_KEY, TENANT = "an-admins-key", "a-tenants-key", "acme"
# The operators' commands go to a provider that is in no row: isolated, it takes nothing from the calls beside them.
SPARE = "spare"
TAG = "eu"  # of each provider, so that a scope leaves somebody


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """One run. `answers` counts by method, route and status; `output` is what Schemathesis printed."""

    passed: bool
    answers: Mapping[str, int]
    slowest: Mapping[str, Any]
    output: str

    @property
    def by_status(self) -> Mapping[str, int]:
        found: collections.Counter[str] = collections.Counter()
        for answer, count in self.answers.items():
            found[answer.rpartition(" ")[2]] += count
        return found


def description_for(rows: Sequence[str], vectors: Sequence[str], providers: Sequence[str], *, keys: bool) -> Any:
    """Return the description with the names of one application, where names that nobody knows would be all 404s.

    `keys`: the application needs keys, so a call without one must be refused.
    """
    document = copy.deepcopy(dict(DOCUMENT))
    schemas, paths = document["components"]["schemas"], document["paths"]
    schemas["ChatRequest"]["properties"]["model"] = {"enum": list(rows)}
    schemas["EmbeddingRequest"]["properties"]["model"] = {"enum": list(vectors)}
    for path, names in (
        ("/v1/models/{name}", rows),
        ("/v1/providers/{name}", providers),
        ("/v1/providers/{name}/{verb}", [SPARE]),
    ):
        for operation in paths[path].values():
            operation["parameters"] = [*_named(operation["parameters"], names)]
    document["components"]["parameters"]["Scope"]["schema"] = {"enum": [TAG]}
    if keys:  # the key is bound to a tenant, and speaks for no other
        document["components"]["parameters"]["Tenant"]["schema"] = {"enum": [TENANT, ""]}
        for operation in [document, *(each for methods in paths.values() for each in methods.values())]:
            _need_key(operation)
    return document


def _named(parameters: Iterable[Mapping[str, Any]], names: Sequence[str]) -> Iterable[Mapping[str, Any]]:
    for parameter in parameters:
        yield {**parameter, "schema": {"enum": list(names)}} if parameter.get("name") == "name" else parameter


def _need_key(operation: dict[str, Any]) -> None:
    needs = operation.get("security", [])
    if any(needs):
        operation["security"] = [need for need in needs if need]


def fuzz(
    url: str, description: Any, folder: pathlib.Path, options: Sequence[str], seconds: float, more: str = ""
) -> Fuzzed:
    """Run Schemathesis against the application at `url`, with `more` at the end of its configuration.

    It is given up after `seconds`.
    """
    (folder / "openapi.json").write_text(json.dumps(description))
    config = (HERE / "schemathesis.toml").read_text() + more
    for name, key in (("key", TENANT_KEY), ("adminKey", ADMIN_KEY)):
        config += f'\n[auth.openapi.{name}]\nbearer = "{key}"\n'
    (folder / "schemathesis.toml").write_text(config)
    counts = folder / "counts.json"
    ours = {"FUZZ_COUNTS": str(counts), "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml"), "run"]
    done = subprocess.run(
        [*command, str(folder / "openapi.json"), "--url", url, "--no-color", *options],
        cwd=folder,
        env={**os.environ, **ours},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    (folder / "output.txt").write_text(done.stdout)
    told = json.loads(counts.read_text()) if counts.exists() else {"answers": {}, "slowest": {}}
    return Fuzzed(done.returncode == 0, told["answers"], told["slowest"], done.stdout)
