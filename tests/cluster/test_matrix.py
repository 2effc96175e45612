"""Every way a call can end, on every wire, streamed and not, by every door.

`uv run pytest -m matrix` runs all of it and prints the table; the default run has a slice: each quick
fault on one wire, streamed over HTTP by one API in turn, and whole by handle.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import DOORS, WIRES, Cluster
from tests.cluster.doors import Doors
from tests.cluster.faults import FAULTS, Case, Fault
from tests.cluster.replies import APIS

Cell = tuple[Fault, str, bool, str]

CELLS: list[Cell] = [
    (f, wire, stream, door) for f in FAULTS for wire in f.wires for stream in f.streams for door in DOORS
]
QUICK = [f for f in FAULTS if not f.slow]


def sliced() -> Iterator[Cell]:
    for number, f in enumerate(QUICK):
        wire = f.wires[number % len(f.wires)]
        for stream, door in ((True, list(APIS)[number // 3 % 3]), (False, "handle")):
            if stream in f.streams:
                yield f, wire, stream, door


def name_of(cell: Cell) -> str:
    f, wire, stream, door = cell
    return f"{f.code} {f.what}-{wire}-{'stream' if stream else 'whole'}-{door}"


@pytest.fixture(scope="package")
def doors(cluster: Cluster) -> Iterator[Doors]:
    made = Doors(cluster)
    for stream in (False, True):  # a handle's first call sets up its router, which takes a second
        made.ask(
            "handle", {"model": "no such model", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
        )
    yield made
    made.close()


@pytest.fixture
def case(llm: Cluster, doors: Doors, request: pytest.FixtureRequest) -> Iterator[Case]:
    _, wire, stream, door = request.param
    words = {name: llm.fakes[name].words for name in WIRES}
    yield Case(llm, doors, wire, stream, door)
    for name in WIRES:
        llm.fakes[name].words = words[name]


@pytest.mark.parametrize("case", list(sliced()), indirect=True, ids=name_of)
def test_a_slice_of_the_matrix(case: Case, request: pytest.FixtureRequest) -> None:
    fault: Any = request.node.callspec.params["case"][0]
    fault.check(case)


@pytest.mark.matrix
@pytest.mark.parametrize("case", CELLS, indirect=True, ids=name_of)
def test_the_matrix(case: Case, request: pytest.FixtureRequest, matrix: list[Any]) -> None:
    fault, *cell = request.node.callspec.params["case"]
    passed = False
    try:
        fault.check(case)
        passed = True
    finally:
        matrix.append((f"{fault.code}: {fault.what}", *cell, passed, case.seconds))
