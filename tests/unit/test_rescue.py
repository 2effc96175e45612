"""A stream that falls silent is rescued before its idle limit, within the row's budget. On a virtual clock."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from msgspec import structs

from actors.breaker.outcomes import Outcome
from deployments.failover.run import FailoverRun
from deployments.failover.streams.rescue import PAUSES, SILENT_SECONDS
from deployments.latency.hedging import BURST
from deployments.openai_api.chat import DONE, check_request, frames_to_chunks
from deployments.usage.caller import Caller
from tests.clock import VirtualLoop, run_virtually
from tests.unit.test_continuation import TEXT, WORDS, args, begins_anew, goes_on, obeys, said, second
from tests.unit.test_failover import read
from tests.unit.test_hedging import hedged, learn
from tests.unit.test_restarts import BROKEN, ROLE, markers
from tests.unit.test_usage_records import Ledgered, with_ledger
from tests.unit.world import REQUEST, Script, World, world

CUT = 20
FOR_EVER = 600.0


def config(mode: str = "text", **more: Any) -> dict[str, Any]:
    made = args(mode, "prefill")
    made["rows"]["*"]["hedging"] = {"budget": 0.05}
    return {**made, **more}


def with_third(*order: str) -> dict[str, Any]:
    """The same with a provider more; those two go on in this order."""
    made = config(models={"default": {"aws": "haiku", **dict.fromkeys(order, "gpt")}})
    made["providers"]["third"] = {"kind": "openai", "base_url": "http://127.0.0.1:8/v1", "continues": {"*": "prefill"}}
    return made


def silent(seconds: float = FOR_EVER, cut: int = CUT, **more: Any) -> Script:
    """A stream that says a part of the text, and then nothing for so long."""
    deltas = [ROLE, *({"content": word} for word in WORDS)]
    return Script(deltas=deltas, pauses={cut + 1: seconds}, **more)


def breaking(after: float) -> Script:
    """The same, that breaks off then."""
    deltas = [ROLE, *({"content": word} for word in WORDS)]
    return Script([BROKEN], deltas=deltas, after=CUT + 1, pauses={CUT + 1: after})


async def asked(w: World, caller: Caller | None = None, **body: Any) -> tuple[Any, bytes, float]:
    """The answer, its frames, and how long all of it took."""
    began = asyncio.get_running_loop().time()
    request = check_request({**REQUEST, "stream": True, "stream_options": {"include_usage": True}, **body})
    record = w.service.begin(caller or Caller("http"), request)
    answer = await w.service.failover.stream(request, w.service.deadline(), record)
    return answer, await read(answer), asyncio.get_running_loop().time() - began


def run(test: Callable[[World], Any], conf: dict[str, Any] | None = None, **scripts: Script) -> None:
    async def main() -> None:
        async with world(conf or config(), **scripts) as w:
            await test(w)
            await asyncio.sleep(0.3)
            assert not +w.breaker.under_way
            others = [t for t in asyncio.all_tasks() if "Rescue" in repr(t.get_coro())]
            assert not others

    run_virtually(main())


@pytest.mark.parametrize("dialect", [goes_on, obeys])
def test_a_silent_text_goes_on_elsewhere_long_before_its_idle_limit(dialect: Any) -> None:
    async def test(w: World) -> None:
        answer, data, seconds = await asked(w)
        assert said(data) == TEXT
        assert data.endswith(DONE)
        assert SILENT_SECONDS <= seconds < SILENT_SECONDS + 0.5
        assert hedged(answer) == [("aws", "overtaken", ""), ("openai", "ok", "won")]
        assert [m["why"] for m in markers(data)] == ["overtaken"]
        assert (w.provider("aws").cancelled, w.provider("openai").cancelled) == (1, 0)
        await w.settle()
        assert w.targets()["aws/haiku"]["consecutive_failures"] == 0  # only its idle limit tells that it is ill

    made = config()
    if dialect is obeys:
        made["providers"]["openai"]["continues"] = {"*": "instruct"}
    run(test, made, aws=silent(), openai=second(dialect, seconds=0.1))


def test_where_the_first_speaks_before_the_other_is_proven_nobody_sees_the_other() -> None:
    async def test(w: World) -> None:
        answer, data, _ = await asked(w)
        assert said(data) == TEXT
        assert not markers(data)
        assert hedged(answer) == [("openai", "cancelled", "lost"), ("aws", "ok", "")]
        assert w.provider("openai").cancelled == 1

    run(test, aws=silent(2.5), openai=second(goes_on, seconds=1.0))


def test_a_first_that_breaks_off_after_the_other_was_let_go_still_goes_on_there() -> None:
    async def test(w: World) -> None:
        answer, data, _ = await asked(w)
        assert said(data) == TEXT
        assert [m["to"] for m in markers(data)] == ["openai/gpt"]
        assert hedged(answer) == [("openai", "cancelled", "lost"), ("aws", "broken", ""), ("openai", "ok", "")]

    broken = Script([BROKEN], deltas=[ROLE, *({"content": w} for w in WORDS)], after=40, pauses={21: 2.5})
    run(test, aws=broken, openai=second(goes_on, seconds=1.0))


def test_a_first_that_breaks_off_meanwhile_goes_on_at_the_one_that_was_asked() -> None:
    async def test(w: World) -> None:
        answer, data, seconds = await asked(w)
        assert said(data) == TEXT
        assert seconds < 4.5
        assert w.provider("openai").calls == 1
        assert hedged(answer) == [("aws", "broken", ""), ("openai", "ok", "won")]

    broken = Script([BROKEN], deltas=[ROLE, *({"content": w} for w in WORDS)], after=21, pauses={21: 3.0})
    run(test, aws=broken, openai=second(goes_on, seconds=2.0))


def test_an_answer_that_is_not_proven_is_let_go_and_the_first_is_still_waited_for() -> None:
    async def test(w: World) -> None:
        answer, data, _ = await asked(w)
        assert said(data) == TEXT
        assert not markers(data)
        assert hedged(answer) == [("openai", "unverified", "failed"), ("aws", "ok", "")]

    made = config()
    made["providers"]["openai"]["continues"] = {"*": "instruct"}
    run(test, made, aws=silent(8.0), openai=second(begins_anew))


def test_a_second_that_fails_leaves_it_to_the_idle_limit_and_the_next_provider() -> None:
    async def test(w: World) -> None:
        answer, data, seconds = await asked(w)
        assert said(data) == TEXT
        assert seconds > 15
        assert [(p, o) for p, o, _ in hedged(answer)] == [
            ("openai", "server_error"),
            ("aws", "unreachable"),
            ("third", "ok"),
        ]

    made = with_third("openai", "third")
    del made["providers"]["local"]
    down = Outcome("server_error", status=500)
    run(test, made, aws=silent(), openai=Script([down]), third=second(goes_on))


def test_while_its_model_thinks_another_one_begins_anew() -> None:
    async def test(w: World) -> None:
        answer, data, seconds = await asked(w)
        assert said(data) == TEXT
        assert seconds < 4
        assert [(m["method"], m["why"]) for m in markers(data)] == [("restart", "overtaken")]
        assert hedged(answer) == [("aws", "overtaken", ""), ("openai", "ok", "won")]

    thinks = Script(deltas=[ROLE, {"reasoning_content": "Hm. "}, {"content": "x"}], pauses={2: FOR_EVER})
    run(test, config("off"), aws=thinks, openai=second(lambda body: goes_on({**body, "messages": []} | body)))


def test_a_stream_that_always_pauses_is_given_three_of_its_pauses() -> None:
    async def test(w: World) -> None:
        _, data, seconds = await asked(w)
        assert said(data) == TEXT
        assert 20.0 + PAUSES <= seconds < 20.0 + PAUSES + 0.5

    run(test, aws=silent(pace=1.0), openai=second(goes_on))


@pytest.mark.parametrize("why", ["off", "caller", "spent", "throttled", "isolated"])
def test_nobody_is_asked_beside_it_where_no_second_leg_may_be_sent(why: str) -> None:
    async def test(w: World) -> None:
        hedges = w.service.failover._ground.hedges
        if why == "spent":
            for _ in range(int(BURST)):
                assert hedges.take("default", w.breaker.now())
        if why == "throttled":
            hedges.note_throttled("default", asyncio.get_running_loop().time() + 5)
        if why == "isolated":
            w.actor.board.command(w.actor.now, "isolate", "openai", 60.0)
            await w.breaker.call("expect", ["openai/gpt"])
            await w.settle()
        answer, data, seconds = await asked(w, Caller("http", hedge=why != "caller"))
        assert seconds > 15
        assert not any(hedge for _, _, hedge in hedged(answer)), hedged(answer)
        assert said(data).startswith("".join(WORDS[:CUT]))

    made = config()
    if why == "off":
        del made["rows"]["*"]["hedging"]
    run(test, made, aws=silent(), openai=second(goes_on))


def test_there_is_one_extra_call_at_the_most() -> None:
    async def test(w: World) -> None:
        answer, data, _ = await asked(w)
        assert said(data) == TEXT
        assert hedged(answer) == [("openai", "cancelled", "lost"), ("aws", "ok", "")]
        assert w.provider("openai").calls == 1

    twice = Script(deltas=[ROLE, *({"content": w} for w in WORDS)], pauses={11: 2.5, 31: 8.0})
    run(test, aws=twice, openai=second(goes_on, seconds=1.0))


def test_a_request_that_has_had_a_second_leg_is_not_rescued() -> None:
    async def test(w: World) -> None:
        learn(w, 0.1)
        answer, data, seconds = await asked(w)
        assert said(data) == TEXT
        assert seconds > 15
        legs = [(p, o) for p, o, hedge in hedged(answer) if hedge]
        assert legs == [("openai", "cancelled")]

    made = with_third("openai", "third")
    late = silent()
    late.seconds = 4.5
    run(test, made, aws=late, openai=second(goes_on, seconds=9.0), third=second(goes_on))


def test_a_client_that_leaves_meanwhile_lets_go_of_both() -> None:
    async def test(w: World) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.0):
                await asked(w)
        assert (w.provider("aws").cancelled, w.provider("openai").cancelled) == (1, 1)

    run(test, aws=silent(), openai=second(goes_on, seconds=2.0))


def test_a_client_that_leaves_while_the_other_is_waited_for_lets_go_of_it() -> None:
    async def test(w: World) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.5):
                await asked(w)
        assert w.provider("openai").cancelled == 1

    run(test, aws=breaking(after=3.0), openai=second(goes_on, seconds=2.0))


def test_a_client_that_leaves_while_the_first_is_closed_lets_go_of_the_other() -> None:
    class Slow:
        """A stream that takes its time to close."""

        def __init__(self, source: Any):
            self.source, self.seconds = source, 5.0

        async def __anext__(self) -> Any:
            return await anext(self.source)

        async def aclose(self) -> None:
            seconds, self.seconds = self.seconds, 0.0
            await asyncio.sleep(seconds)
            await self.source.aclose()

    async def test(w: World) -> None:
        request = check_request({**REQUEST, "stream": True})
        answer = await w.service.failover.stream(request, w.service.deadline())
        answer._source = Slow(answer._source)  # type: ignore[assignment]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.0):
                await read(answer)

    run(test, aws=silent(), openai=second(goes_on, pace=0.05))


@pytest.mark.parametrize("at", [1.0, 3.0])
@pytest.mark.parametrize("turns", range(1, 6))
def test_a_client_that_is_cancelled_twice_leaves_a_request_that_has_ended(turns: int, at: float) -> None:
    async def test(w: World) -> None:
        request = check_request({**REQUEST, "stream": True})
        record = w.service.begin(Caller("http"), request)
        answer = await w.service.failover.stream(request, w.service.deadline(), record)
        reading = asyncio.create_task(read(answer))
        await asyncio.sleep(at)
        reading.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert record.summary is not None

    run(test, aws=silent(), openai=second(goes_on, seconds=2.0))


def test_what_a_failed_rescue_says_of_other_places_holds() -> None:
    async def test(w: World) -> None:
        down = Outcome("server_error", status=500)
        w.provider("openai#a").ends = w.provider("openai#b").ends = [down]
        _, data, _ = await asked(w)
        assert said(data) == TEXT
        assert (w.provider("openai#a").calls, w.provider("openai#b").calls) == (1, 0)

    made = with_third("openai", "third")
    made["providers"]["openai"]["places"] = [{"name": n, "api_key_env": f"KEY_{n}"} for n in "ab"]
    run(test, made, aws=breaking(after=5.0), third=second(goes_on))


def test_who_can_not_be_asked_as_a_chat_is_not_asked_after_a_rescue_either() -> None:
    async def test(w: World) -> None:
        request = check_request({**REQUEST, "stream": True})
        answer = await w.service.failover.stream(request, w.service.deadline())
        run, rows = answer._elsewhere, w.service.failover.rows
        assert isinstance(run, FailoverRun)
        fit = run._fits["third/gpt"]
        run._fits["third/gpt"] = structs.replace(fit, extras={})
        with patch.object(rows, "fit_as_chat", lambda *_: structs.replace(fit, extras=None, missing=("messages",))):
            await read(answer)
        assert (w.provider("third").calls, w.provider("openai").calls) == (0, 2)

    made = with_third("third", "openai")
    broken = Script([BROKEN], deltas=[ROLE, *({"content": w} for w in WORDS)], after=40, pauses={21: 2.5})
    run(test, made, aws=broken, openai=second(goes_on, seconds=1.0), third=second(goes_on))


def test_where_the_one_that_goes_on_breaks_off_too_its_end_is_the_requests() -> None:
    async def test(w: World) -> None:
        answer, data, _ = await asked(w)
        assert b"The stream from openai/gpt broke off: cut" in data
        assert (answer.record.summary.outcome, answer.record.summary.target) == ("broken", "openai/gpt")

    made = config(models={"default": {"aws": "haiku", "openai": "gpt"}})
    del made["providers"]["local"]
    run(test, made, aws=silent(), openai=second(lambda body: goes_on(body)[:6], ends=[BROKEN], after=6))


def test_what_a_rescue_opens_with_is_counted_once() -> None:
    async def test(x: Ledgered) -> None:
        await read(await x.stream())
        _, rows = x.rows
        counted.append(rows[-1].tokens_out)

    counted: list[int] = []
    made = config()
    made["providers"]["openai"]["continues"] = {"*": "instruct"}
    for first in (breaking(after=0.0), silent()):
        with_ledger(test, made, aws=first, openai=second(obeys, usage=None))
    assert counted[0] == counted[1] > 0


def test_a_process_that_stood_still_asks_nobody_for_it() -> None:
    async def test(w: World) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)

        def stand_still() -> None:
            loop.now += 6.0

        loop.call_later(0.5, stand_still)
        _, data, _ = await asked(w)
        assert said(data) == TEXT
        assert w.provider("openai").calls == 0

    run(test, aws=silent(7.0), openai=second(goes_on))


def test_the_ledger_has_a_row_of_both_and_the_client_the_sum() -> None:
    async def test(x: Ledgered) -> None:
        data = await read(await x.stream(stream_options={"include_usage": True}))
        _, rows = x.rows
        [usage] = [chunk for chunk in frames_to_chunks(data) if chunk.get("usage")]
        assert [(row.provider, row.kind, row.counted) for row in rows] == [
            ("aws", "overtaken", "estimated"),
            ("openai", "ok", "provider"),
        ]
        assert usage["usage"]["completion_tokens"] == sum(row.tokens_out or 0 for row in rows)

    with_ledger(test, config(), aws=silent(), openai=second(goes_on))


def test_where_nobody_can_go_on_it_ends_as_without_a_rescue() -> None:
    async def test(w: World) -> None:
        _, data, seconds = await asked(w)
        assert b'"code":"stream_interrupted"' in data
        assert said(data) == "".join(WORDS[:CUT])
        assert seconds > 15

    made = config(models={"default": {"aws": "haiku", "openai": "gpt"}})
    run(test, made, aws=silent(), openai=Script([Outcome("server_error", status=500)]))


@pytest.mark.parametrize("dialect", [goes_on, obeys, begins_anew])
def test_at_every_cut_the_client_gets_the_text(dialect: Any) -> None:
    """Also where the other one is of no use: the first one says the rest after a while."""

    async def main(cut: int) -> tuple[bytes, int]:
        async with world(made, aws=silent(9.0, cut), openai=second(dialect, seconds=0.1)) as w:
            _, data, _ = await asked(w)
            return data, len(markers(data))

    made, rescued = config(), 0
    made["providers"]["openai"]["continues"] = {"*": "prefill" if dialect is goes_on else "instruct"}
    for cut in range(1, len(WORDS)):
        data, seams = run_virtually(main(cut))
        assert (said(data), data.endswith(DONE)) == (TEXT, True), cut
        rescued += seams
    assert rescued == 0 if dialect is begins_anew else rescued > 0.8 * len(WORDS)
