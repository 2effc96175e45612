"""The benchmark's upstream and its load, over a socket."""

import asyncio

import pytest

from tests.bench.load import Pool, closed_loop, request_bytes
from tests.bench.scenarios import Ask
from tests.bench.upstream import Upstream


@pytest.mark.parametrize("ask", [Ask("whole"), Ask("stream", frames=3), Ask("paced", delay=1, frames=4, pace=1)])
def test_the_upstream_answers_whole_and_the_load_sees_it(ask: Ask) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pool = Pool(port, request_bytes(port, {}, ask.body()), ask.words)
        await pool.open(1)
        samples = await closed_loop(pool.send, connections=1, seconds=0.02)
        pool.close()
        wrong = Pool(port, request_bytes(port, {}, ask.body()), ask.words + 1)
        assert not (await wrong.send(0.0)).whole
        wrong.close()
        server.close()
        await server.wait_closed()
        assert samples
        assert all(s.whole and 0 < s.first <= s.total for s in samples)

    asyncio.run(main())
