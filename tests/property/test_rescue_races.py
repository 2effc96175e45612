"""Whoever speaks first after a silence: the client has one text, no sign of it twice, and nobody is left behind."""

import asyncio
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.openai_api.chat import check_request
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.unit.test_continuation import TEXT, WORDS, Dialect, begun, goes_on, ignores, pieces, second
from tests.unit.test_failover import read
from tests.unit.test_hedging import hedged
from tests.unit.test_rescue import asked, config, said
from tests.unit.test_restarts import BROKEN, ROLE
from tests.unit.world import REQUEST, Script, world


def ignores_the_text(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return ignores(body) if begun(body) else pieces(TEXT)


SECONDS = st.sampled_from((0.0, 0.05, 0.5, 1.0, 1.9, 2.0, 2.05, 2.1, 3.0, 4.0, 7.0, 20.0))


@given(
    st.integers(1, 40),
    SECONDS,
    st.one_of(st.none(), st.integers(2, 70)),
    st.dictionaries(st.integers(1, 60), SECONDS, max_size=3),
    SECONDS,
    st.sampled_from((0.0, 0.1, 1.0)),
    st.sampled_from((goes_on, ignores_the_text)),
    st.booleans(),
)
def test_one_text_whoever_speaks_first(
    cut: int,
    pause: float,
    ends: int | None,
    more: dict[int, float],
    wait: float,
    pace: float,
    dialect: Dialect,
    ok: bool,
) -> None:
    async def main() -> None:
        deltas = [ROLE, *({"content": word} for word in WORDS)]
        first = Script([BROKEN if ends else None], deltas=deltas, after=ends, pauses={**more, cut: pause})
        other = second(dialect, seconds=wait, pace=pace)
        if not ok:
            other.ends = [BROKEN]
            other.after = 3
        async with world(config(), aws=first, openai=other, local=second(goes_on)) as w:
            answer, data, _ = await asked(w)
            text = said(data)
            assert TEXT.startswith(text)
            assert (text == TEXT) is data.endswith(b"data: [DONE]\n\n"), data[-300:]
            legs = [hedge for _, _, hedge in hedged(answer) if hedge]
            assert len(legs) <= 1
            assert "lost" not in legs or "won" not in legs
            await asyncio.sleep(0.3)
            assert not +w.breaker.under_way

    run_virtually(main())


@given(
    st.integers(1, 40),
    SECONDS,
    st.one_of(st.none(), st.integers(2, 70)),
    SECONDS,
    st.sampled_from((0.0, 0.1, 0.4)),
    st.sampled_from((goes_on, ignores_the_text)),
    st.sampled_from((2.0, 2.0000001, 2.1, 2.5, 3.0, 3.05, 4.0, 6.0)),
    st.tuples(st.integers(0, 6), st.integers(0, 4)),
    st.booleans(),
)
def test_whenever_a_client_leaves_nothing_is_left_behind(
    cut: int,
    pause: float,
    ends: int | None,
    wait: float,
    pace: float,
    dialect: Dialect,
    leaves: float,
    turns: tuple[int, int],
    twice: bool,
) -> None:
    async def main() -> None:
        deltas = [ROLE, *({"content": word} for word in WORDS)]
        first = Script([BROKEN if ends else None], deltas=deltas, after=ends, pauses={cut: pause})
        async with world(
            config(), aws=first, openai=second(dialect, seconds=wait, pace=pace), local=second(goes_on)
        ) as w:
            request = check_request({**REQUEST, "stream": True})
            record = w.service.begin(Caller("http"), request)
            answer = await w.service.failover.stream(request, w.service.deadline(), record)
            reading = asyncio.create_task(read(answer))
            await asyncio.sleep(leaves)
            for wait_turns in turns if twice else turns[:1]:
                for _ in range(wait_turns):
                    await asyncio.sleep(0)
                reading.cancel()
            await asyncio.wait([reading])
            await asyncio.sleep(0.5)
            assert record.summary is not None
            assert not +w.breaker.under_way
            assert not w.breaker.silence._waiting
            assert not w.breaker.latencies._waiting
            assert not w.service.failover._kept.held
            assert sorted(r.number for r in record.records if r.number) == list(range(1, record.made + 1))

    run_virtually(main())
