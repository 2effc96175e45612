"""One cell: a client's request, a row of two tiers, and whether the first is down. What came of it, by which rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from deployments.errors import BadRequest, NoAnswer
from deployments.openai_api.chat import Request, check_request
from deployments.service.service import Service
from tests.dialects.fleet import CLOUDS, KINDS, PAIRS, RULES, Fleet, row_of, service_over, shipped_rows
from tests.fakes.clients import ClientRequest, client_requests
from tests.fakes.server import status

TABLES: list[list[str]] = []  # what is printed at the end
MOST_NAMES = 8  # of clients, in a row of a table


@dataclass(frozen=True, slots=True)
class Cell:
    row: str
    first: str
    then: str
    down: bool  # the first tier
    request: ClientRequest

    @property
    def name(self) -> str:
        state = "down" if self.down else "up"
        return f"{self.row}: {self.first} ({state}), {self.then}; {self.request.name}"


@dataclass(slots=True)
class Came:
    """`by` is the provider that answered, or None. `refused` are the rules that refused on the way.

    `asked` are the clouds that got a call.
    """

    by: str | None
    error: str = ""
    refused: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def all_cells() -> list[Cell]:
    return [
        Cell(row, first, then, down, request)
        for row in shipped_rows()
        for down in (True, False)
        for first, then in PAIRS
        for request in client_requests()
    ]


def is_impossible(cell: Cell) -> bool:
    """Are all tiers that are up without what the request demands? By documents, not by our own capabilities."""
    return all(lacks(tier, cell) for tier in ([cell.then] if cell.down else [cell.first, cell.then]))


def lacks(tier: str, cell: Cell) -> bool:
    """Is the tier without what the request demands? Claude has no word for JSON without a schema, by any API."""
    wanted = (cell.request.body.get("response_format") or {}).get("type")
    return KINDS[tier] in ("bedrock", "anthropic") and wanted == "json_object"


async def came_of(fleet: Fleet, cell: Cell) -> Came:
    """Ask, and read the answer to its end."""
    for name in CLOUDS:
        fake = fleet.fakes[name]
        fake.reset()
        fake.rules = RULES[name]
    if cell.down:
        fleet.fakes[cell.first].behave = status(500)
    try:
        request = check_request(cell.request.to(row_of(cell.row, cell.first, cell.then)))
    except BadRequest as error:
        return Came(None, f"our own check: {error}")
    async with service_over(fleet.config, fleet.transport) as service:
        came = await ask(service, request)
    came.asked = [name for name in CLOUDS if fleet.fakes[name].received]
    came.refused = [rule for name in CLOUDS for rule in fleet.fakes[name].refused]
    came.refused += [f"{KINDS[name]}: {text}" for name in CLOUDS for text in fleet.fakes[name].objections]
    return came


async def ask(service: Service, request: Request) -> Came:
    """Return what came of one request, read to its end."""
    deadline = service.deadline(None)
    try:
        if not request.stream:
            return Came((await service.failover.complete(request, deadline)).target.partition("/")[0])
        answer = await service.failover.stream(request, deadline)
    except (NoAnswer, BadRequest) as error:
        return Came(None, str(error))
    try:
        data = b"".join([frame async for frame in answer.frames()])
    finally:
        await answer.close()
    whole = data.endswith(b"data: [DONE]\n\n")
    return Came(answer.target.partition("/")[0] if whole else None, "" if whole else "the stream broke")


def table(title: str, cells: Sequence[tuple[Cell, Came]]) -> Iterator[str]:
    """Yield cells as a table, those of one tier and rule together."""
    yield f"{title}: {len(cells)}"
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell, came in cells:
        tier = cell.then if cell.down else cell.first
        groups.setdefault((cell.row, tier, _why(came)), []).append(cell)
    if groups:
        yield "| row | tier | rule or error | cells | clients |"
        yield "|---|---|---|---|---|"
    for key, alike in sorted(groups.items(), key=lambda item: -len(item[1])):
        names = sorted({cell.request.name for cell in alike})
        listed = ", ".join(names[:MOST_NAMES]) + (" ..." if len(names) > MOST_NAMES else "")
        yield f"| {' | '.join(key)} | {len(alike)} | {listed} |"


def _why(came: Came) -> str:
    return ", ".join(dict.fromkeys(came.refused)) or came.error
