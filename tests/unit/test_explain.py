"""One request explained: in memory, in the ledger, and in the answer itself."""

import asyncio
import json
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from actors.ledger.rows import LONGEST_TRAIL, SETTLED, json_bytes, line
from actors.ledger.single_writer.reading import parse
from deployments.errors import NoAnswer, NotFound
from deployments.openai_api.chat import check_request, frames_to_chunks
from deployments.telemetry.attempt_record import AttemptRecord
from deployments.telemetry.recent import RecentRequests
from deployments.telemetry.request_record import RequestRecord, RequestSummary
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.unit.test_failover import SERVER_ERROR, complete, in_world
from tests.unit.test_http_api import client
from tests.unit.world import ARGS, REQUEST, World

THROTTLED = Outcome("throttled", status=429, retry_after=7.0, message="slow down")
ME = Caller("http", "acme", "agent", None, "my-own-id", explain=True)


async def asked(w: World, *, stream: bool = False, caller: Caller = ME) -> Any:
    checked = check_request({**REQUEST, "stream": stream})
    trail = await w.service.admit(caller, checked)
    if not stream:
        return (await w.service.failover.complete(checked, w.service.deadline(), trail)).record
    answer = await w.service.failover.stream(checked, w.service.deadline(), trail)
    async for _ in answer.frames():
        pass
    await answer.close()
    return answer.record


@in_world
async def test_it_names_each_candidate_in_order_and_why_it_was_not_the_one(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(5)
    w.provider("openai").ends = [THROTTLED]
    w.provider("openai").seconds, w.provider("local").seconds = 0.2, 0.3
    trail = await asked(w)
    told = await w.service.queries.request(trail.request_id)
    assert (told["outcome"], told["provider"], told["model"], told["attempts"]) == ("ok", "local", "smol", 2)
    assert (told["row"], told["tenant"], told["agent"], told["x_request_id"]) == (
        "default",
        "acme",
        "agent",
        "my-own-id",
    )
    skipped, throttled, served = told["candidates"]
    assert (skipped["provider"], skipped["outcome"], skipped["state"]) == ("aws", "skipped: open", "open")
    assert skipped["epoch"] == 1
    assert skipped["since_seconds"] == pytest.approx(5, abs=0.3)
    assert skipped["retry_in_seconds"] == pytest.approx(55, abs=0.3)
    assert (throttled["outcome"], throttled["verdict"], throttled["status"]) == ("throttled", "throttled", 429)
    assert (throttled["at_ms"], throttled["ms"]) == (0, 200)
    assert throttled["message"] == "slow down"
    assert (served["outcome"], served["verdict"], served["at_ms"], served["ms"]) == ("ok", "ok", 200, 300)
    assert (served["upstream_ms"], served["upstream_connect_ms"]) == (300, 1)
    assert (told["ms"], told["first_token_ms"], told["added_ms"]) == (500, 500, 0)


@pytest.mark.parametrize(("named", "told"), [("qwen2.5-7b.gguf", "qwen2.5-7b.gguf"), ("gpt", None)])
def test_a_model_that_the_provider_calls_otherwise_is_told_by_that_name_too(named: str, told: str | None) -> None:
    """A server that ignores the id in a request answers with the model that it has."""
    asked = AttemptRecord("openai/gpt", "ok", 0.0, upstream={"ms": 1.0, "model": named}).as_candidate()
    assert (asked["model"], asked.get("upstream_model"), asked["upstream_ms"]) == ("gpt", told, 1.0)


@in_world
async def test_a_stream_has_the_time_of_its_first_token_and_names_who_was_not_reached(w: World) -> None:
    w.provider("aws").seconds, w.provider("aws").pace = 0.25, 0.5
    trail = await asked(w, stream=True)
    told = await w.service.queries.request(trail.request_id)
    served, *others = told["candidates"]
    assert (served["first_token_ms"], served["upstream_first_ms"], served["ms"]) == (250, 250, 1250)
    assert [(c["provider"], c["outcome"]) for c in others] == [("openai", "not reached"), ("local", "not reached")]
    assert (told["first_token_ms"], told["ms"], told["added_ms"]) == (250, 1250, 0)


@in_world
async def test_a_request_that_nobody_answered_is_explained_too(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [SERVER_ERROR]
    with pytest.raises(NoAnswer) as caught:
        await asked(w)
    told = caught.value.explained
    assert told is not None
    assert told["outcome"] == "no_provider_available"
    assert [c["outcome"] for c in told["candidates"]] == ["server_error"] * 3
    assert (told["provider"], told["first_token_ms"], told["added_ms"]) == (None, None, None)
    assert await w.service.queries.request(told["request_id"]) == told


@in_world
async def test_a_client_that_leaves_in_mid_stream_has_left_a_whole_trail(w: World) -> None:
    checked = check_request({**REQUEST, "stream": True})
    trail = w.service.begin(ME, checked)
    answer = await w.service.failover.stream(checked, w.service.deadline(), trail)
    frames = answer.frames()
    await anext(frames)
    await frames.aclose()
    await answer.close()
    told = await w.service.queries.request(trail.request_id)
    assert (told["outcome"], told["provider"]) == ("cancelled", "aws")
    assert told["candidates"][0]["verdict"] == "neutral"


@in_world
async def test_a_name_of_the_callers_own_finds_the_newest_of_that_name(w: World) -> None:
    await asked(w)
    trail = await asked(w)
    assert (await w.service.queries.request("my-own-id"))["request_id"] == trail.request_id
    with pytest.raises(NotFound):
        await w.service.queries.request("nobody's")


def test_the_last_ten_thousand_are_kept_and_no_more() -> None:
    async def main() -> list[RequestSummary]:
        made = []
        for number in range(4):
            trail = RequestRecord("row", Caller("http", request_id=f"theirs-{number % 3}"), request_id=f"ours-{number}")
            trail.finish("ok")
            assert trail.summary is not None
            made.append(trail.summary)
        return made

    recent = RecentRequests(most=2)
    for ended in run_virtually(main()):
        recent.add(ended)
    assert [bool(recent.find(f"ours-{n}")) for n in range(4)] == [False, False, True, True]
    assert recent.find_named("theirs-1") is None
    assert recent.find_named("theirs-0") == recent.find("ours-3")
    assert len(recent._ids) == 2


def test_the_answer_itself_explains_if_it_is_asked_to() -> None:
    async def main() -> None:
        async with client() as (http, w):
            w.provider("aws").ends = [SERVER_ERROR]
            plain = (await http.post("/v1/chat/completions", json=REQUEST)).json()
            assert "breakwater" not in plain
            headers = {"x-breakwater-explain": "true", "x-request-id": "mine"}
            response = await http.post("/v1/chat/completions", json=REQUEST, headers=headers)
            told = response.json()["breakwater"]
            assert told["provider"] == "openai"
            assert [c["outcome"] for c in told["explained"]["candidates"]] == ["server_error", "ok", "not reached"]
            assert (await http.get("/v1/requests/mine")).json() == told["explained"]
            name = response.headers["x-breakwater-request-id"]
            assert (await http.get(f"/v1/requests/{name}")).json() == told["explained"]
            streamed = await http.post("/v1/chat/completions", json={**REQUEST, "stream": True}, headers=headers)
            assert streamed.content.endswith(b"data: [DONE]\n\n")
            *_, last = frames_to_chunks(streamed.content)
            assert last["choices"] == []
            assert last["breakwater"]["explained"]["stream"] is True
            for script in w.hop.providers.values():
                script.ends = [SERVER_ERROR]
            failed = (await http.post("/v1/chat/completions", json=REQUEST, headers=headers)).json()
            assert failed["breakwater"]["explained"]["outcome"] == "no_provider_available"
            assert (await http.get("/v1/requests/unknown")).status_code == 404

    run_virtually(main())


def test_a_request_is_told_to_its_own_key_and_tenant_and_to_the_admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "a:acme,b:other,c::third")
    monkeypatch.setenv("ADMIN", "root")
    args = {"auth": {"api_keys_env": "KEYS", "admin_key_env": "ADMIN"}}

    async def main() -> None:
        async with client({**ARGS, **args}) as (http, _):
            made = await http.post("/v1/chat/completions", json=REQUEST, headers={"authorization": "Bearer a"})
            path = f"/v1/requests/{made.headers['x-breakwater-request-id']}"
            seen = {
                key: (await http.get(path, headers={"authorization": f"Bearer {key}"})).status_code
                for key in ("a", "b", "c", "root", "wrong")
            }
            assert seen == {"a": 200, "b": 404, "c": 404, "root": 200, "wrong": 401}

    run_virtually(main())


def test_a_trail_that_no_row_can_hold_is_left_out_and_its_row_is_kept() -> None:
    for text, kept in (("[]", "[]"), ("x" * LONGEST_TRAIL, None), ("\x00" * (LONGEST_TRAIL // 6 + 1), None)):
        identity = json_bytes({"request_id": "r", "owner": "o", "began_at": 1})
        (record,), wrong = parse(line(1, identity, None, {"version": SETTLED, "outcome": "ok", "trail": text}))
        assert not wrong
        assert (record.request.trail, record.request.outcome) == (kept, "ok")


def test_no_content_and_no_long_message_is_in_it() -> None:
    async def main() -> None:
        async with client() as (http, w):
            w.provider("aws").ends = [Outcome("server_error", status=500, message="x" * 10_000)]
            body = {**REQUEST, "messages": [{"role": "user", "content": "my secret question"}]}
            made = await http.post("/v1/chat/completions", json=body)
            told = await http.get(f"/v1/requests/{made.headers['x-breakwater-request-id']}")
            assert "secret" not in told.text
            assert "says hello" not in told.text
            assert len(told.content) < 2000
            assert json.loads(told.content)["candidates"][0]["message"] == "x" * 200

    run_virtually(main())
