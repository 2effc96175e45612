"""Twelve clients' own requests, on each shipped row and pair of tiers: no client sees an error while one tier is up."""

import asyncio
from collections.abc import Iterable

from tests.dialects.cells import TABLES, Came, Cell, all_cells, came_of, is_impossible, lacks, table
from tests.dialects.fleet import fleet
from tests.fakes.clients import CLIENTS, client_requests


def asked(cells: Iterable[Cell]) -> list[tuple[Cell, Came]]:
    """Return what came of each cell."""

    async def main() -> list[tuple[Cell, Came]]:
        async with fleet() as tiers:
            return [(cell, await came_of(tiers, cell)) for cell in cells]

    return asyncio.run(main())


def test_the_table_has_every_client_with_its_package_and_how_the_row_was_taken() -> None:
    rows = client_requests()
    assert {row.client for row in rows} == set(CLIENTS)
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.package and row.taken and row.body["messages"] for row in rows)


def test_no_client_sees_an_error_when_one_of_two_tiers_is_down_or_both_are_up() -> None:
    cells = asked(cell for cell in all_cells() if not is_impossible(cell))
    failed = [(cell, came) for cell, came in cells if came.by is None]
    moved = [(cell, came) for cell, came in cells if not cell.down and came.by == cell.then]
    TABLES.append(list(table(f"Errors for the client, of {len(cells)} cells", failed)))
    TABLES.append(list(table("Answered by the second tier, though the first was up", moved)))
    assert {cell.request.client for cell, _ in cells} == set(CLIENTS)
    assert [cell.name for cell, _ in failed] == []


def test_a_tier_that_has_no_word_for_what_is_demanded_is_not_asked() -> None:
    cells = asked(cell for cell in all_cells() if is_impossible(cell))
    assert cells
    assert [(came.by, came.asked) for _, came in cells] == [
        (None, [] if lacks(cell.first, cell) else [cell.first]) for cell, _ in cells
    ]
