"""A text whose stream breaks off goes on at another provider, word for word, or its stream ends with an error."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.failover.streams.delivered import text_of
from deployments.openai_api.chat import DONE, check_request, chunk, frames_to_chunks
from deployments.telemetry.explain import explain
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.unit.test_failover import read
from tests.unit.test_metrics import counting
from tests.unit.test_restarts import BROKEN, CALL, ROLE, SECOND, TOOLS, USAGE, markers, summed
from tests.unit.test_usage_records import Ledgered, with_ledger
from tests.unit.world import ARGS, REQUEST, Script, World, world

TEXT = (
    "The sea is wide. It holds, as sailors say, more water than any well-known lake;\n\n"
    "- salt, about 3.5 %\n- fish\n- fish\n- whales, e.g. the blue one\n\n```py\ndef depth(m):\n    return m * 2\n```\n"
    "Über all das weiß man wenig. 日本語では海と言います。 And so it goes on and on and on, wave by wave, day by day."
)
STEP = 4
WORDS = [TEXT[at : at + STEP] for at in range(0, len(TEXT), STEP)]
USER = {"role": "user", "content": "Hi"}


def args(mode: str = "text", method: str | None = None, **more: Any) -> dict[str, Any]:
    """A first provider and two that may go on; of the second `method` says how."""
    second: dict[str, Any] = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}
    if method is not None:
        second["continues"] = {"*": method}
    return {
        "providers": {
            "aws": {"kind": "openai"},
            "openai": second,
            "local": {"kind": "local", "model_path": "smol.gguf"},
        },
        "models": {"default": {"aws": "haiku", "openai": "gpt", "local": "smol"}},
        "rows": {"*": {"continuation": {"mode": mode, **more}}},
    }


def pieces(text: str) -> list[dict[str, Any]]:
    return [ROLE, *({"content": text[at : at + 7]} for at in range(0, len(text), 7))]


def begun(body: Mapping[str, Any]) -> str:
    """What the assistant has said in a request for the rest."""
    return "".join(m["content"] for m in body["messages"] if m["role"] == "assistant")


def goes_on(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    assert body["messages"][-1]["role"] != "user" or not begun(body)
    return pieces(TEXT.removeprefix(begun(body)))


def repeats(_: Mapping[str, Any]) -> list[dict[str, Any]]:
    return pieces(TEXT)


def begins_anew(_: Mapping[str, Any]) -> list[dict[str, Any]]:
    return pieces("Seas are wide, and nobody knows them. " * 9)


def refuses(body: Mapping[str, Any]) -> list[dict[str, Any]] | Outcome:
    if body["messages"][-1]["role"] == "assistant":
        return Outcome("rejected", status=400, message="The conversation must end with a user message: no prefill.")
    return obeys(body)


def obeys(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Repeats the last words, as it was asked to, and goes on."""
    if not begun(body):
        return pieces(TEXT)
    anchor = body["messages"][-1]["content"].split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
    said = begun(body)
    assert said.endswith(anchor)
    return pieces(TEXT[len(said) - len(anchor) :])


def ignores(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return pieces(f"Sure, here is the rest:\n{TEXT.removeprefix(begun(body))}")


Dialect = Callable[[Mapping[str, Any]], Any]


async def asked(w: World, **body: Any) -> tuple[Any, bytes]:
    request = check_request({**REQUEST, "stream": True, "stream_options": {"include_usage": True}, **body})
    answer = await w.service.failover.stream(request, w.service.deadline())
    return answer, await read(answer)


def first(cut: int, **more: Any) -> Script:
    return Script([BROKEN], deltas=[ROLE, *({"content": word} for word in WORDS)], after=cut + 1, **more)


def second(dialect: Dialect, **more: Any) -> Script:
    return Script(**{"by_body": dialect, "head": SECOND, "usage": USAGE, **more})


def run(test: Callable[[World], Any], config: Mapping[str, Any], **scripts: Script) -> None:
    async def main() -> None:
        async with world(config, **scripts) as w:
            await test(w)

    run_virtually(main())


def said(data: bytes) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in frames_to_chunks(data) for choice in chunk.get("choices", [])
    )


CASES: list[tuple[str, Dialect, bool | None]] = [
    ("prefill", goes_on, True),
    ("continue_final_message", goes_on, True),
    ("prefix", repeats, True),
    ("partial", begins_anew, False),
    ("prefill", refuses, False),
    ("continue_final_message", ignores, False),
    ("instruct", obeys, None),  # behind a line's end it may have quoted the last words
    ("instruct", begins_anew, False),
]


@pytest.mark.parametrize(("method", "dialect", "always"), CASES, ids=[f"{m}, {d.__name__}" for m, d, _ in CASES])
def test_at_every_cut_the_client_gets_the_text_or_an_error(method: str, dialect: Dialect, always: bool | None) -> None:
    async def test() -> None:
        whole = 0
        for cut in range(1, len(WORDS)):
            async with world(args(method=method), aws=first(cut), openai=second(dialect)) as w:
                w.provider("local").ends = [Outcome("server_error", status=500)]
                _, data = await asked(w)
            text, delivered = said(data), "".join(WORDS[:cut])
            if data.endswith(DONE):
                assert text == TEXT, cut
                chunks = frames_to_chunks(data)
                assert {(chunk["id"], chunk["created"]) for chunk in chunks} == {("chatcmpl-1", 1)}
                assert sum("role" in c["delta"] for chunk in chunks for c in chunk["choices"]) == 1
                whole += 1
            else:
                assert text == delivered, cut
                assert frames_to_chunks(data)[-1]["error"]["message"] == "The stream from aws/haiku broke off: cut."
        assert whole == len(WORDS) - 1 if always else whole < len(WORDS) - 1
        assert always is False or whole > 0.8 * len(WORDS)

    run_virtually(test())


def test_what_follows_is_one_answer_with_what_went_before_and_its_marker_says_so() -> None:
    async def test(w: World) -> None:
        answer, data = await asked(w)
        chunks = frames_to_chunks(data)
        assert {(chunk["id"], chunk["created"]) for chunk in chunks} == {("chatcmpl-1", 1)}
        assert sum("role" in c["delta"] for chunk in chunks for c in chunk["choices"]) == 1
        message = summed(data).choices[0].message
        assert (message.role, message.content) == ("assistant", TEXT)
        told = {"from": "aws/haiku", "to": "openai/gpt", "method": "prefill", "why": "broken", "at": 40}
        assert markers(data) == [told]
        marked = next(chunk for chunk in chunks if "breakwater" in chunk and "continued" in chunk["breakwater"])
        assert [choice["delta"] for choice in marked["choices"]] == [{}]
        explained = explain(answer.record)
        assert explained is not None
        assert [c.get("seam") for c in explained["candidates"]] == [None, "prefill", None]
        assert [c["outcome"] for c in explained["candidates"]] == ["broken", "ok", "not reached"]

    run(test, args(method="prefill"), aws=first(10), openai=second(goes_on))


def test_by_default_and_where_the_caller_says_so_nobody_goes_on() -> None:
    for config, continues in ((args("off"), True), (args(method="prefill"), False), (ARGS, True)):

        async def test(w: World, continues: bool = continues) -> None:
            request = check_request({**REQUEST, "stream": True})
            record = w.service.begin(Caller("http", continues=continues), request)
            answer = await w.service.failover.stream(request, w.service.deadline(), record)
            data = await read(answer)
            assert not data.endswith(DONE)
            assert w.provider("openai").calls == 0

        run(test, config, aws=first(10), openai=second(goes_on))


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"modalities": ["text", "audio"]},
        {"messages": [USER, {"role": "assistant", "content": "I say:"}]},
        {"stop": ["is wide. It holdings"]},
        {"max_tokens": 3},
    ],
    ids=lambda more: next(iter(reversed(more))),
)
def test_what_can_not_be_continued_ends_as_before(more: dict[str, Any]) -> None:
    async def test(w: World) -> None:
        _, data = await asked(w, **more)
        assert not data.endswith(DONE)
        assert w.provider("openai").calls == 0

    run(test, args(method="prefill"), aws=first(6), openai=second(goes_on), local=second(goes_on))


@pytest.mark.parametrize("delta", [CALL[0], {"refusal": "No"}, {"content": [{"type": "text", "text": "x"}]}])
def test_an_answer_that_holds_more_than_a_text_ends_as_before(delta: dict[str, Any]) -> None:
    async def test(w: World) -> None:
        _, data = await asked(w)
        assert not data.endswith(DONE)
        assert w.provider("openai").calls == 0

    broken = Script([BROKEN], deltas=[ROLE, {"content": "The sea"}, delta], after=3)
    run(test, args(method="prefill"), aws=broken, openai=second(goes_on))


def test_a_text_that_broke_off_within_one_sign_is_none() -> None:
    frames = [chunk(SECOND, {"content": "The sea "}), chunk(SECOND, {"content": "EMOJI"}).replace(b"EMOJI", b"\\ud83d")]
    assert text_of(frames[:1]) == "The sea "
    assert text_of(frames) is None


@pytest.mark.parametrize("kind", ["content_filter", "bad_request"])
def test_a_policy_is_not_gone_round(kind: str) -> None:
    async def test(w: World) -> None:
        _, data = await asked(w)
        assert not data.endswith(DONE)
        assert w.provider("openai").calls == 0

    broken = Script([Outcome(kind, content=True)], deltas=[ROLE, {"content": "The sea"}], after=2)
    run(test, args(method="prefill"), aws=broken, openai=second(goes_on))


def test_the_request_for_the_rest_is_the_clients_own() -> None:
    async def test(w: World) -> None:
        system = {"role": "system", "content": "Be  terse.\n"}
        more = {"tools": TOOLS, "max_tokens": 500, "reasoning_effort": "high", "temperature": 0.3, "stop": ["#"]}
        await asked(w, messages=[system, USER], **more)
        [body] = w.provider("openai").bodies
        assert body["messages"][:2] == [system, USER]
        assert body["messages"][2] == {"role": "assistant", "content": "The"}
        assert (body["tools"], body["temperature"], body["stop"]) == (TOOLS, 0.3, ["#"])
        assert "reasoning_effort" not in body
        assert body["max_tokens"] < 500

    run(test, args(method="prefill"), aws=first(5), openai=second(goes_on))


def test_the_next_is_asked_where_what_one_says_is_not_proven_and_the_client_sees_nothing_of_it() -> None:
    async def test(w: World) -> None:
        answer, data = await asked(w)
        assert summed(data).choices[0].message.content == TEXT
        assert [m["to"] for m in markers(data)] == ["local/smol"]
        assert [entry["outcome"] for entry in answer.record.entries] == ["broken", "unverified", "ok"]
        assert w.targets()["openai/gpt"]["consecutive_failures"] == 0
        assert w.provider("openai").cancelled == 1, "it is let go of at once"

    run(test, args(method="prefill"), aws=first(10), openai=second(begins_anew, pace=0.1), local=second(goes_on))


def test_a_refusal_of_the_last_turn_moves_no_circuit_and_is_remembered() -> None:
    async def test(w: World) -> None:
        _, data = await asked(w)
        assert not data.endswith(DONE)
        assert (w.targets()["openai/gpt"]["state"], w.targets()["openai/gpt"]["failed"]) == ("closed", 0)
        w.provider("aws").ends = [BROKEN]
        answer, data = await asked(w)
        assert summed(data).choices[0].message.content == TEXT
        assert [c.seam for c in answer.record.records if c.target == "openai/gpt"] == ["instruct"]

    local = Script([Outcome("server_error", status=500)])
    run(test, args(method="prefill"), aws=first(10), openai=second(refuses), local=local)


def test_a_text_may_break_off_twice_where_the_row_says_so() -> None:
    def broken_too(body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return goes_on(body)[:9]

    for attempts, whole in ((1, False), (2, True)):

        async def test(w: World, whole: bool = whole) -> None:
            _, data = await asked(w)
            assert data.endswith(DONE) is whole
            assert len(markers(data)) == (2 if whole else 1)
            if whole:
                assert summed(data).choices[0].message.content == TEXT
            else:
                assert TEXT.startswith(said(data))
                assert frames_to_chunks(data)[-1]["error"]["code"] == "stream_interrupted"

        script = Script([BROKEN], by_body=broken_too, after=99, head=SECOND)
        config = args(method="prefill", attempts=attempts)
        run(test, config, aws=first(10), openai=script, local=second(goes_on))


def test_thoughts_of_the_one_that_goes_on_are_no_part_of_the_text() -> None:
    def thinks(body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [ROLE, {"reasoning_content": "hmm"}, *goes_on(body)[1:]]

    async def test(w: World) -> None:
        _, data = await asked(w)
        assert said(data) == TEXT
        assert b"hmm" not in data

    run(test, args(method="prefill"), aws=first(10), openai=second(thinks))


@pytest.mark.parametrize("answer", ["", " \n"])
def test_a_rest_that_says_nothing_is_none(answer: str) -> None:
    async def test(w: World) -> None:
        _, data = await asked(w)
        assert not data.endswith(DONE)
        assert said(data) == "".join(WORDS[:10])

    script = Script(deltas=[ROLE, {"content": answer}], head=SECOND)
    run(test, args(method="prefill"), aws=first(10), openai=script)


def test_a_rest_that_is_only_what_had_to_be_said_is_none() -> None:
    async def test(w: World) -> None:
        _, data = await asked(w)
        assert not data.endswith(DONE)

    def says_it(body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return pieces("".join(WORDS[:10]).removeprefix(begun(body)))

    local = Script([Outcome("server_error", status=500)])
    run(test, args(method="prefill"), aws=first(10), openai=second(says_it), local=local)


def test_a_text_that_is_too_long_to_be_kept_ends_as_before_and_nothing_stays_kept() -> None:
    async def test(w: World) -> None:
        _, data = await asked(w)
        assert not data.endswith(DONE)
        assert w.service.failover._kept.held == 0

    long = Script([BROKEN], deltas=[{"content": "x" * 4000}] * 9, after=9)
    run(test, args(method="prefill", max_text=1024), aws=long, openai=second(goes_on))


def test_nothing_stays_kept_of_streams_that_are_over() -> None:
    async def test(w: World) -> None:
        for script in (Script(), first(10), Script(words=["a"] * 50)):
            w.hop.providers["aws"] = script
            await asked(w)
            assert w.service.failover._kept.held == 0
        request = check_request({**REQUEST, "stream": True})
        answer = await w.service.failover.stream(request, w.service.deadline())
        frames = answer.frames()
        await anext(frames)
        assert w.service.failover._kept.held > 0
        await frames.aclose()
        await answer.close()
        assert w.service.failover._kept.held == 0

    run(test, args(method="prefill"), aws=first(10), openai=second(goes_on))


def test_a_call_of_a_tool_may_follow_a_sentence_at_a_model_that_is_known_to_go_on() -> None:
    config = args()
    config["providers"]["openai"] = {"kind": "anthropic", "api_key_env": "HOME"}
    config["models"]["default"]["openai"] = "claude-haiku-4-5"

    async def test(w: World) -> None:
        _, data = await asked(w, tools=TOOLS)
        message = summed(data).choices[0].message
        assert message.content == "I look it up."
        assert message.tool_calls
        assert message.tool_calls[0].function.arguments == '{"a": 1}'  # type: ignore[union-attr]

    broken = Script([BROKEN], deltas=[ROLE, {"content": "I look "}, {"content": "it up."}], after=3)
    run(test, config, aws=broken, openai=Script(deltas=[ROLE, {"content": " up."}, *CALL], head=SECOND, usage=USAGE))


def test_a_row_whose_json_goes_on_begins_anew_as_others_do() -> None:
    for deltas in ([ROLE, {"content": "x" * 2000}], [ROLE, {"refusal": "No."}], [ROLE, *CALL]):

        async def test(w: World) -> None:
            _, data = await asked(w, response_format={"type": "json_object"}, tools=TOOLS)
            assert data.endswith(DONE)

        thinking = Script([BROKEN], deltas=[ROLE, {"reasoning_content": "hm"}], after=2)
        run(test, args("all", max_text=1024), aws=thinking, openai=Script(deltas=deltas, head=SECOND, usage=USAGE))


def test_a_model_that_has_nothing_to_add_is_not_ill() -> None:
    async def test(w: World) -> None:
        for number in range(2):  # a third one would open the circuit of the first provider
            w.provider("aws").ends = [BROKEN]
            request = check_request({**REQUEST, "stream": True})
            record = w.service.begin(Caller("http", tenant=f"t{number}"), request)
            await read(await w.service.failover.stream(request, w.service.deadline(), record))
        await w.settle()
        assert w.targets()["openai/gpt"]["failed"] == 0

    empty = Script(by_body=lambda _: Outcome("empty"))
    run(test, args(method="prefill"), aws=first(10), openai=empty, local=second(goes_on))


def test_an_answer_that_thought_for_long_goes_on_too() -> None:
    thoughts = [{"reasoning_content": "hm " * 40}] * 3000
    deltas = [ROLE, *thoughts, *({"content": word} for word in WORDS[:10])]

    async def test(w: World) -> None:
        _, data = await asked(w)
        assert said(data) == TEXT
        assert w.service.failover._kept.held == 0

    broken = Script([BROKEN], deltas=deltas, after=len(deltas))
    run(test, args(method="prefill"), aws=broken, openai=second(goes_on))


def test_a_long_text_is_kept_as_a_text() -> None:
    words = [f"word{n} " for n in range(6000)]

    def rest(body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return pieces(("".join(words) + "and the end.").removeprefix(begun(body)))

    async def test(w: World) -> None:
        _, data = await asked(w)
        assert said(data) == "".join(words) + "and the end."

    broken = Script([BROKEN], deltas=[ROLE, *({"content": word} for word in words)], after=len(words) + 1)
    run(test, args(method="prefill"), aws=broken, openai=second(rest))


@pytest.mark.parametrize("kind", ["content_filter", "bad_request", "server_error"])
def test_the_request_has_ended_as_its_client_sees_it(kind: str) -> None:
    async def test(w: World) -> None:
        answer, data = await asked(w)
        assert frames_to_chunks(data)[-1]["error"]["message"] == "The stream from aws/haiku broke off: cut."
        summary = answer.record.summary
        assert (summary.outcome, summary.target) == ("broken", "aws/haiku")

    ill = Script([Outcome(kind, content=True)], deltas=[ROLE, {"content": " is"}], after=2, head=SECOND)
    local = Script([Outcome("server_error", status=500)])
    run(test, args(method="prefill"), aws=first(10), openai=ill, local=local)


def test_a_server_that_says_the_role_with_each_delta_says_it_once() -> None:
    def always(body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [{"role": "assistant", **delta} for delta in goes_on(body)]

    async def test(w: World) -> None:
        _, data = await asked(w)
        message = summed(data).choices[0].message
        assert (message.role, message.content) == ("assistant", TEXT)

    run(test, args(method="prefill"), aws=first(10), openai=second(always))


JSON = '{"sea": "wide", "fish": [1, 2, 3], "depth": {"m": 3688}}'


@pytest.mark.parametrize(("rest", "whole"), [(JSON, True), (JSON.replace("]", ""), False)])
def test_json_goes_on_where_the_row_says_all_and_ends_well_only_if_it_is_json(rest: str, whole: bool) -> None:
    async def test(w: World) -> None:
        _, data = await asked(w, response_format={"type": "json_object"})
        assert data.endswith(DONE) is whole
        if whole:
            assert said(data) == JSON
        else:
            assert "error" in frames_to_chunks(data)[-1]

    def dialect(body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return pieces(rest.removeprefix(begun(body)))

    broken = Script([BROKEN], deltas=[ROLE, *({"content": JSON[at : at + 5]} for at in range(0, 20, 5))], after=5)
    local = Script([Outcome("server_error", status=500)])
    run(test, args("all", method="prefill"), aws=broken, openai=second(dialect), local=local)


def test_the_ledger_has_a_row_of_both_and_the_usage_is_their_sum() -> None:
    async def test(x: Ledgered) -> None:
        data = await read(await x.stream(stream_options={"include_usage": True}))
        _, (one, other) = x.rows
        usage = next(chunk for chunk in frames_to_chunks(data) if chunk.get("usage"))
        assert usage["usage"]["completion_tokens"] == (one.tokens_out or 0) + (other.tokens_out or 0)
        assert [told["counted"] for told in usage["breakwater"]["usage"]] == ["estimated", "provider"]
        assert (one.tokens_out or 0) > 0

    with_ledger(test, args(method="prefill"), aws=first(10), openai=second(goes_on))


def test_it_is_counted_by_its_method() -> None:
    async def test(w: World) -> None:
        meter, request = counting(w), check_request({**REQUEST, "stream": True})
        record = w.service.begin(Caller("http"), request)
        await read(await w.service.failover.stream(request, w.service.deadline(), record))
        assert meter.of("continued_total") == {
            ("default", "aws", "openai", "prefill", "unverified"): 1,
            ("default", "openai", "local", "continue_final_message", "ok"): 1,
        }

    run(test, args(method="prefill"), aws=first(10), openai=second(begins_anew), local=second(goes_on))
