"""What a replica tells of a whole answer that comes in pieces. On a virtual clock."""

import asyncio

from deployments.rpc.port import PIECE_SECONDS
from deployments.rpc.telling import FIRST_SECONDS, Pieces
from tests.clock import run_virtually


def test_pieces_are_told_a_moment_after_the_first_and_then_seldom() -> None:
    async def main() -> None:
        told = list[int]()
        pieces = Pieces(lambda message: told.append(message["pieces"]))
        pieces()
        await asyncio.sleep(FIRST_SECONDS / 2)
        pieces()
        assert told == []
        await asyncio.sleep(FIRST_SECONDS)
        assert told == [1]
        for _ in range(15):
            pieces()
            await asyncio.sleep(PIECE_SECONDS / 10)
        assert told == [1, 2]
        pieces.close()

    run_virtually(main())


def test_of_an_answer_that_is_whole_at_once_nothing_is_told() -> None:
    async def main() -> None:
        told = list[int]()
        pieces = Pieces(lambda message: told.append(message["pieces"]))
        pieces()
        pieces.close()
        await asyncio.sleep(1)
        assert told == []
        Pieces(lambda message: told.append(0)).close()

    run_virtually(main())
