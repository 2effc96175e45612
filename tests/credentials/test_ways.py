"""Each source of a credential in each way to use it: whole, streamed, with tools, refused, and expired."""

import asyncio
import pathlib
from functools import partial

import pytest

from deployments.providers.base import Call
from deployments.replica import build_provider
from tests.credentials.cases import CASES, WAYS, Case
from tests.credentials.test_sources import Stage, staged
from tests.credentials.ways import Way, expiry
from tests.providers.conftest import LIMITS

EXPIRING = [case for case in CASES if case.vendor is not None]


@pytest.fixture(autouse=True)
def environment(clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def go(stage: Stage, way: Way) -> None:
    async def main() -> None:
        provider = build_provider(stage.config, "p")
        call = Call({"messages": [{"role": "user", "content": "Hi"}]}, stage.case.model, "row", LIMITS)
        try:
            await way(provider, call, stage.api)
        finally:
            await provider.close()

    asyncio.run(main())
    assert stage.api.refused == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_way_goes_with_the_credential(
    case: Case, way: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged(case, tmp_path, monkeypatch) as stage:
        go(stage, WAYS[way])


@pytest.mark.parametrize("case", EXPIRING, ids=lambda case: case.name)
def test_a_credential_that_ends_is_followed_by_another(
    case: Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged(case, tmp_path, monkeypatch, life=case.life) as stage:
        go(stage, partial(expiry, ahead=case.ahead))
        assert stage.identity is not None
        assert stage.identity.refused == []
