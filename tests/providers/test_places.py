"""Two keys, and two regions, of one provider: real adapters over fakes that speak the vendors' wire.

The fakes refuse a wrong key as their vendors do (tests/fakes/vendors/doors.py), and sign what AWS signs.
"""

import asyncio
import contextlib
import json
import pathlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from deployments.service.arguments import CallOptions
from deployments.usage.caller import Caller
from tests.fakes.anthropic_wire import AnthropicWire
from tests.fakes.bedrock_wire import BedrockWire
from tests.fakes.gemini_wire import GeminiWire
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.responses_wire import ResponsesWire
from tests.fakes.server import FakeServer, Received, Vendor, status
from tests.fakes.vendors import Rule, doors
from tests.providers.whole_app import MODELS, whole_app
from tests.unit.world import REQUEST, World

WRONG, SECOND = "a-wrong-key", "another-key-of-the-vendor"
VENDORS: dict[str, tuple[type[Vendor], Rule]] = {
    "openai": (OpenAIWire, doors.openai),
    "openai_responses": (ResponsesWire, doors.openai),
    "bedrock": (BedrockWire, doors.bedrock),
    "google": (GeminiWire, doors.gemini),
    "anthropic": (AnthropicWire, doors.anthropic),
}
KINDS = sorted(VENDORS)
kinds = pytest.mark.parametrize("kind", KINDS)
CREDENTIALS = """
[right]
aws_access_key_id = {}
aws_secret_access_key = {}
[wrong]
aws_access_key_id = AKIAWRONG
aws_secret_access_key = {}
"""


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("RIGHT_KEY", doors.API_KEY)
    monkeypatch.setenv("WRONG_KEY", WRONG)
    file = tmp_path / "credentials"
    file.write_text(CREDENTIALS.format(*doors.LONG_TERM, WRONG))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))


@contextlib.contextmanager
def served(kind: str, number: int = 1) -> Iterator[list[FakeServer]]:
    fakes = [FakeServer(VENDORS[kind][0]()) for _ in range(number)]
    for fake in fakes:
        fake.rules = [VENDORS[kind][1]]
    try:
        yield fakes
    finally:
        for fake in fakes:
            fake.stop()


def place(kind: str, name: str, key: str = "right", at: FakeServer | None = None, **more: Any) -> dict[str, Any]:
    """Return a place that is asked by the right key, or by a wrong one."""
    where = {} if at is None else {"endpoint_url": at.url} if kind == "bedrock" else {"base_url": base_url(kind, at)}
    by = {"profile": key} if kind == "bedrock" else {"api_key_env": f"{key.upper()}_KEY"}
    return {"name": name, **by, **where, **more}


def base_url(kind: str, fake: FakeServer) -> str:
    return f"{fake.url}/v1" if kind.startswith("openai") else fake.url


def args(kind: str, fake: FakeServer, places: list[dict[str, Any]], spare: FakeServer | None = None) -> dict[str, Any]:
    """Return a configuration of one provider with these places, and of another one behind it."""
    own: dict[str, Any] = {"kind": kind.partition("_")[0], "places": places}
    own |= {"api": "responses"} if kind == "openai_responses" else {}
    own |= (
        {"endpoint_url": fake.url, "region": "us-east-1"} if kind == "bedrock" else {"base_url": base_url(kind, fake)}
    )
    row = {"p": MODELS[kind]}
    providers = {"p": own}
    if spare is not None:
        providers["spare"] = {"kind": "openai", "base_url": f"{spare.url}/v1", "api_key_env": "RIGHT_KEY"}
        row["spare"] = "gpt-4o"
    return {"providers": providers, "models": {"default": row, "other": {"p": f"{MODELS[kind]}-2"}}}


def in_app(config: dict[str, Any], work: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with whole_app(config) as w:
            await work(w)

    asyncio.run(main())


async def ask(w: World, model: str = "default", *, stream: bool = False) -> dict[str, Any]:
    """Return what the answer says of who gave it."""
    request, options = {**REQUEST, "model": model}, CallOptions(caller=Caller("handle", explain=True))
    if not stream:
        answer: dict[str, Any] = (await w.python.chat(request, options))["breakwater"]
        return answer
    chunks = [c async for c in w.python.stream_chat(request, options)]
    found: dict[str, Any] = next(c["breakwater"] for c in reversed(chunks) if "breakwater" in c)
    return found


def candidates(answer: dict[str, Any]) -> list[tuple[str | None, str]]:
    return [(c.get("place"), c["outcome"]) for c in answer["explained"]["candidates"]]


def key_of(request: Received) -> str:
    headers = request.headers
    found = headers.get("x-api-key") or headers.get("x-goog-api-key") or headers["authorization"]
    return found.removeprefix("Bearer ").partition("Credential=")[2].partition("/")[0] or found.removeprefix("Bearer ")


@kinds
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_refused_key_takes_its_place_out_and_the_next_key_answers(kind: str, stream: bool) -> None:
    with served(kind) as (fake,):

        async def work(w: World) -> None:
            answer = await ask(w, stream=stream)
            assert (answer["explained"]["provider"], answer["explained"]["place"]) == ("p", "second")
            assert candidates(answer) == [("first", "credential"), ("second", "ok")]
            await w.settle()
            await ask(w, "other", stream=stream)
            told = json.dumps([answer, w.targets()])
            assert not any(secret in told for secret in (WRONG, doors.API_KEY, "AKIAWRONG", *doors.LONG_TERM))

        in_app(args(kind, fake, [place(kind, "first", "wrong"), place(kind, "second")]), work)
    right = doors.LONG_TERM[0] if kind == "bedrock" else doors.API_KEY
    wrong = "AKIAWRONG" if kind == "bedrock" else WRONG
    assert [key_of(request) for request in fake.received] == [wrong, right, right]


@kinds
def test_a_throttle_of_one_bucket_is_not_asked_for_twice(kind: str) -> None:
    with served(kind) as (fake,):
        fake.script = [status(429, retry_after="7")]

        async def work(w: World) -> None:
            answer = await ask(w)
            assert candidates(answer) == [("a", "throttled"), ("b", "skipped: throttled"), ("c", "ok")]
            await w.settle()
            assert candidates(await ask(w))[:2] == [("a", "skipped: throttled"), ("b", "skipped: throttled")]

        same = [place(kind, name, bucket="project") for name in "ab"]
        in_app(args(kind, fake, [*same, place(kind, "c", bucket="other")]), work)
    assert len(fake.received) == 3


@kinds
def test_a_dead_host_with_three_places_is_one_attempt(kind: str) -> None:
    with served(kind) as (fake,), served("openai") as (spare,):
        fake.refuse()

        async def work(w: World) -> None:
            answer = await ask(w)
            skipped = [(name, "skipped: host_failed") for name in "bc"]
            assert candidates(answer) == [("a", "connect"), *skipped, (None, "ok")]
            assert (answer["provider"], answer["attempts"]) == ("spare", 2)

        in_app(args(kind, fake, [place(kind, name, bucket=name) for name in "abc"], spare), work)


@kinds
def test_a_server_that_fails_is_asked_once_and_another_host_answers(kind: str) -> None:
    with served(kind, 2) as (near, far):
        near.behave = status(500)

        async def work(w: World) -> None:
            answer = await ask(w)
            assert candidates(answer) == [("a", "server_error"), ("b", "skipped: host_failed"), ("far", "ok")]

        in_app(args(kind, near, [place(kind, "a"), place(kind, "b"), place(kind, "far", at=far)]), work)
    assert (len(near.received), len(far.received)) == (1, 1)


def test_each_region_of_bedrock_is_asked_with_a_signature_of_its_own() -> None:
    with served("bedrock", 2) as (east, west):
        east.refuse()

        async def work(w: World) -> None:
            answer = await ask(w)
            assert candidates(answer) == [("us-east-1", "connect"), ("eu-west-1", "ok")]

        regions = [
            place("bedrock", region, at=fake, region=region)
            for region, fake in (("us-east-1", east), ("eu-west-1", west))
        ]
        in_app(args("bedrock", east, regions), work)
    (request,) = west.received
    assert "/eu-west-1/bedrock/" in request.headers["authorization"]
    assert west.refused == []


def test_embeddings_go_by_places_too() -> None:
    with served("openai") as (fake,):
        config = args("openai", fake, [place("openai", "first", "wrong"), place("openai", "second")])
        config["embeddings"] = {"e": {"dimensions": 8, "targets": {"p": "an-embedding-model"}}}

        async def work(w: World) -> None:
            answer = await w.python.embed({"model": "e", "input": "Hi"}, CallOptions())
            assert answer["breakwater"]["place"] == "second"

        in_app(config, work)
    assert [key_of(request) for request in fake.received] == [WRONG, doors.API_KEY]


@pytest.mark.parametrize(
    ("named", "by", "outcomes"),
    [({"place": "new"}, "b", ["lost", "ok"]), ({}, "a", ["ok"])],
    ids=["a place more", "no places"],
)
def test_an_ingress_of_another_version_knows_other_places_and_is_answered(
    named: dict[str, str], by: str, outcomes: list[str]
) -> None:
    """One that knows of no places gets the first one's key. For a place that is not here no other is taken."""
    with served("openai") as (fake,):

        async def work(w: World) -> None:
            complete = w.hop.complete

            def other_version(provider: str, call: dict[str, Any], on_piece: Any = None) -> Any:
                if call.get("place") == "a":
                    call = {key: value for key, value in call.items() if key != "place"} | named
                return complete(provider, call, on_piece)

            w.hop.complete = other_version  # type: ignore[method-assign,assignment]
            answer = await ask(w)
            assert answer["place"] == by
            assert [outcome for _, outcome in candidates(answer)][: len(outcomes)] == outcomes
            await w.settle()
            assert {t["state"] for t in w.targets().values()} == {"closed"}

        in_app(args("openai", fake, [place("openai", name) for name in "ab"]), work)
    assert len(fake.received) == 1
