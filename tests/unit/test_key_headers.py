"""A key is the same key in `Authorization` and in `x-api-key`, where Anthropic's clients put it."""

import pytest

from tests.clock import run_virtually
from tests.unit.test_http_api import GUARDED, client
from tests.unit.world import REQUEST

BEARER, OTHER = "authorization", "x-api-key"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "alpha:acme,beta:other")
    monkeypatch.setenv("ADMIN", "root")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({OTHER: "alpha"}, 200),
        ({BEARER: "Bearer alpha", OTHER: "alpha"}, 200),
        ({BEARER: "Bearer wrong", OTHER: "alpha"}, 200),
        ({BEARER: "Bearer alpha", OTHER: "wrong"}, 200),
        ({BEARER: "Basic alpha", OTHER: "alpha"}, 200),
        ({BEARER: "Bearer alpha", OTHER: ""}, 200),
        ({OTHER: "wrong"}, 401),
        ({BEARER: "Bearer wrong", OTHER: "wrong"}, 401),
        ({OTHER: ""}, 401),
    ],
)
def test_one_valid_key_is_enough(headers: dict[str, str], status: int) -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, _):
            response = await http.post("/v1/chat/completions", json=REQUEST, headers=headers)
            assert response.status_code == status

    run_virtually(main())


@pytest.mark.parametrize("headers", [{BEARER: "Bearer alpha"}, {OTHER: "alpha"}])
def test_a_key_speaks_for_its_tenant_whatever_its_header(headers: dict[str, str]) -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, _):
            given = {**headers, "x-tenant-id": "other"}
            response = await http.post("/v1/chat/completions", json=REQUEST, headers=given)
            assert response.status_code == 403

    run_virtually(main())


def test_the_operators_key_may_be_there_too() -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, _):
            assert (await http.get("/v1/breaker", headers={OTHER: "root"})).status_code == 200
            assert (await http.get("/v1/breaker", headers={OTHER: "alpha"})).status_code == 401

    run_virtually(main())
