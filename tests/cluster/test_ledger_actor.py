"""The ledger actor on a real cluster: one for all, killed and back, and a link that never notices for long."""

import asyncio
import os
import pathlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import ray

from actors.breaker.outcomes import Outcome
from actors.ledger_actor import ledger_actor
from actors.singleton import NAMESPACE
from deployments.config.ledger import LedgerSettings
from deployments.usage.ledger_client import LedgerClient
from tests.cluster.conftest import Cluster

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


@pytest.fixture
def settings(cluster: Cluster, tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    """An application's name and ledger of the test's own; its actor is ended afterwards."""
    app = f"app-{request.node.name}"
    yield app, LedgerSettings(folder=str(tmp_path))
    ray.kill(ray.get_actor(f"{app}-ledger", namespace=NAMESPACE), no_restart=True)


def connector(app: str, config: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
    async def connect() -> Callable[..., Awaitable[Any]]:
        actor = await ledger_actor(app, config).get_or_create(config, newest=True)

        def call(method: str, *arguments: Any) -> Awaitable[Any]:
            answer: Awaitable[Any] = getattr(actor, method).remote(*arguments)
            return answer

        return call

    return connect


async def until(what: Callable[[], Awaitable[Any]], seconds: float = 60.0) -> Any:
    async with asyncio.timeout(seconds):
        while True:
            try:
                if value := await what():
                    return value
            except (ConnectionError, ray.exceptions.RayError):
                pass
            await asyncio.sleep(0.05)


def test_the_actor_killed_while_rows_come_in_loses_and_doubles_none(settings: tuple[str, LedgerSettings]) -> None:
    app, ledger = settings

    async def main() -> None:
        connect = connector(app, ledger.for_actor(app))
        links = [LedgerClient(connect, ledger.journals(app)) for _ in range(2)]
        for link in links:
            link.start()
        first, second = [await connect() for _ in range(2)]
        assert await first("whoami") == await second("whoami")
        for n in range(300):
            links[n % 2].begin(tenant="acme").open("openai/gpt").settle(Outcome("ok", content=True), USAGE)
            if n % 100 == 50:
                pid = (await until(lambda: first("whoami")))["pid"]
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.005)

        async def all_there() -> bool:
            return all(link.health()["lag_rows"] == 0 and link.health()["store"] == "up" for link in links)

        await until(all_there)
        (total,) = await links[0].usage({"tenant": "acme"})
        assert (total["requests"], total["answers"], total["tokens_in"], total["lost"]) == (300, 300, 2100, 0)
        for link in links:
            await link.close()

    asyncio.run(main())


def test_a_store_that_is_not_configured_where_the_actor_runs_is_away_and_says_why(
    settings: tuple[str, LedgerSettings],
) -> None:
    app, ledger = settings
    config = {**ledger.for_actor(app), "url_env": "NO_SUCH_LEDGER_URL"}

    async def main() -> None:
        actor = await connector(app, config)()
        assert (await actor("write", "r", 1, b""))["store"] == "down"
        health = await actor("health")
        assert health["store"] == "down"
        assert "NO_SUCH_LEDGER_URL is not set" in health["trouble"]

    asyncio.run(main())
