"""Some seconds of Schemathesis over the whole application without Ray: the same requests each time."""

import asyncio
import contextlib
import pathlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from deployments.ingress.http import build_http_api
from tests.fakes.server import FakeServer
from tests.fuzz.fuzzer import ADMIN_KEY, SPARE, TAG, TENANT, TENANT_KEY, description_for, fuzz
from tests.providers.conftest import WIRES
from tests.providers.whole_app import args_for, whole_app
from tests.unit.world import World

VECTORS = "text-embedding-3-small"
# The phase of coverage tries each field alone with each wrong value: the long run has it.
QUICK = ["--generation-deterministic", "--max-examples", "1", "--no-shrink", "--phases", "examples,fuzzing"]


def args_of(fakes: dict[str, FakeServer], *, keys: bool) -> dict[str, Any]:
    args = args_for(fakes)
    args["providers"][SPARE] = args["providers"]["openai"]
    args["providers"] = {name: {**settings, "tags": [TAG]} for name, settings in args["providers"].items()}
    args["embeddings"] = {VECTORS: {"dimensions": 1536, "targets": {"openai": VECTORS}}}
    args["auth"] = {"admin_key_env": "FUZZ_ADMIN_KEY", **({"api_keys_env": "FUZZ_KEYS"} if keys else {})}
    return args


@dataclass
class Served:
    url: str
    world: World


@contextlib.asynccontextmanager
async def listening(args: dict[str, Any]) -> AsyncIterator[Served]:
    async with whole_app(args) as w:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            config = uvicorn.Config(build_http_api(w.service), log_level="warning", lifespan="off")
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve([listener]))
            yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", w)
            server.should_exit = True
            await serving


@pytest.fixture
def fakes() -> Iterator[dict[str, FakeServer]]:
    made = {kind: FakeServer(wire()) for kind, wire in WIRES.items()}
    yield made
    for fake in made.values():
        fake.stop()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, authority: pathlib.Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAFAKE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "OPENAI_API_KEY": "sk-fake",
        "GOOGLE_API_KEY": "fake",
        "ANTHROPIC_API_KEY": "sk-ant-fake",
        "FUZZ_ADMIN_KEY": ADMIN_KEY,
        "FUZZ_KEYS": f"{TENANT_KEY}:{TENANT}:fuzz",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("keys", [True], ids=["with keys"])  # the long run is without keys too
def test_every_answer_is_as_described_and_no_circuit_moves(
    keys: bool, fakes: dict[str, FakeServer], tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = args_of(fakes, keys=keys)
    description = description_for([*args["models"]], [VECTORS], [*args["providers"]], keys=keys)
    for path in ("/v1/usage", "/v1/traffic"):  # there is no ledger
        del description["paths"][path]

    async def main() -> None:
        async with listening(args) as served:
            fuzzed = await asyncio.to_thread(fuzz, served.url, description, tmp_path, QUICK, 300)
            assert fuzzed.passed, fuzzed.output[-20_000:]
            assert fuzzed.answers["POST /v1/chat/completions 200"], "nothing was answered"
            await served.world.settle()
            for target, told in served.world.targets().items():
                if not target.startswith(SPARE):
                    assert (told["state"], told["consecutive_failures"]) == ("closed", 0), target

    asyncio.run(main())
    assert not [record for record in caplog.records if record.exc_info]
    assert not [each.path for fake in fakes.values() for each in fake.received if each.under_way]
