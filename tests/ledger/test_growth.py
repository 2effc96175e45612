"""A whole service with its actors, and clients who never use a name twice: nothing grows for ever.

What is drawn is what each request says, and how its tiers answer. The service, the breaker's registry and the ledger's
writer are walked through before and after: each container that both walks reach is counted.
"""

import asyncio
import pathlib
import random
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from actors.ledger.budget import Limit, Limits
from deployments.errors import BreakwaterError
from deployments.openai_api.chat import check_request
from deployments.python_api.guarded_functions import Functions
from deployments.service.service import Service
from deployments.usage.budget import Budget
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.ledger.world import world as ledger_world
from tests.unit.world import ARGS, World, world

ROUNDS = 600  # requests before the first count, and after it
SLACK = 64  # entries that a container may gain: requests under way, rows on their way
# What may hold more than ROUNDS entries, up to a bound of its own. tests/unit/test_bounds.py lists the bounds.
BOUNDED = frozenset(
    {
        *(
            "RecentRequests._kept",
            "RecentRequests._ids",
            "ModelRows._as_they_are",
            "ResponseTimes._times",
            "StallDetector._usual",
        ),
        *("CutCalls._targets", "_Seen.answered"),
        *("Latencies._tails", "Latencies._recent", "Latencies._at_once", "_Recent.calls", "Tail._new", "Tail._old"),
        *("LedgerClient._estimators", "Budget._standings", "Budget._claimed", "Budget._ours", "Budget._ahead"),
        *("Counters._minutes", "Counters._minutes[]", "Counters._older", "Counters._older[]"),
        *("Leases._subjects", "Leases._subjects[]", "Leases._of[]", "Held.now", "Held.periods", "Held.periods[]"),
        *("ScriptedHop.traces",),  # the test's own
    }
)
ENDS = (
    None,
    Outcome("server_error", status=500, message="no"),
    Outcome("connect", message="refused"),
    Outcome("rate_limited", status=429, retry_after=1.0),
    Outcome("rejected", status=400, message="temperature is not supported", param="temperature"),
    Outcome("misconfigured", status=401, message="our key is refused"),
    Outcome("model_missing", status=404, message="no such model"),
)
_HOLDERS = (dict, OrderedDict, list, set, deque)
_OPAQUE = (type, types.ModuleType, types.FunctionType, types.CodeType, types.FrameType, asyncio.AbstractEventLoop)


def containers(*roots: Any) -> dict[int, tuple[str, Any]]:
    """Return each container that the roots reach through objects of ours, by the class and attribute that holds it."""
    found, seen, waiting = dict[int, tuple[str, Any]](), set[int](), [(type(root).__name__, root) for root in roots]
    while waiting:
        name, one = waiting.pop()
        if id(one) in seen or isinstance(one, _OPAQUE):
            continue
        seen.add(id(one))
        if isinstance(one, _HOLDERS):
            found[id(one)] = name, one
        waiting += _inner(name, one)
    return found


def _inner(name: str, one: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(one, dict):
        yield from ((f"{name}[]", value) for value in list(one.values()))
    elif isinstance(one, list | tuple | set | frozenset | deque):
        yield from ((f"{name}[]", value) for value in list(one))
    elif isinstance(one, types.MethodType):
        yield name, one.__self__
    elif type(one).__module__.partition(".")[0] in ("deployments", "actors", "tests"):
        for key, value in list(getattr(one, "__dict__", {}).items()):
            yield f"{type(one).__name__}.{key}", value
        for slot in {s for c in type(one).__mro__ for s in getattr(c, "__slots__", ())}:
            key = f"_{type(one).__name__.lstrip('_')}{slot}" if slot.startswith("__") else slot
            if hasattr(one, key) and key != "__weakref__":
                yield f"{type(one).__name__}.{slot}", getattr(one, key)


def sizes(*roots: Any) -> dict[int, tuple[str, int]]:
    return {key: (name, len(one)) for key, (name, one) in containers(*roots).items()}


def grown(before: dict[int, tuple[str, int]], after: dict[int, tuple[str, int]]) -> dict[str, int]:
    """Return by how much the containers of each name have grown together, but for those of a larger bound."""
    totals: dict[str, int] = {}
    for sign, counted in ((-1, before), (1, after)):
        for name, size in counted.values():
            totals[name] = totals.get(name, 0) + sign * size
    return {name: more for name, more in totals.items() if more > SLACK and name not in BOUNDED}


class Stranger:
    """A client who makes up each name. Drawn from a seed, so that a failure can be seen again."""

    def __init__(self, w: World, seed: int):
        self.w, self.draw, self.number = w, random.Random(seed), 0
        self.functions = Functions(w.service)

    def name(self, sort: str) -> str:
        return f"{sort}{self.number}-{self.draw.getrandbits(40):x}"

    async def ask(self) -> None:
        self.number += 1
        for script in self.w.hop.providers.values():
            script.ends = [self.draw.choice(ENDS)]
            script.after = self.draw.choice([None, 1])
        if self.draw.random() < 0.6:
            await self.call_a_function()
        request = check_request(self.body())
        caller = Caller("http", self.name("tenant"), self.name("agent"), self.name("key"), self.name("id"))
        service = self.w.service
        try:
            if request.stream:
                answer = await service.stream(request, service.deadline(5), caller)
                async for _ in answer.frames():
                    if self.draw.random() < 0.05:
                        break
                await answer.close()
            else:
                await service.complete(request, service.deadline(5), caller)
        except BreakwaterError:
            pass
        if self.number % 20 == 0:
            await asyncio.sleep(1)

    def body(self) -> dict[str, Any]:
        provider = self.draw.choice(["aws", "openai", "local", ""])
        tool = {"type": "object", "properties": {self.name("p"): {"type": "string", "minLength": 1}}}
        return {
            "model": f"{provider}/{self.name('m')}" if provider else self.draw.choice(["default", self.name("row")]),
            "messages": [{"role": "user", "content": self.name("text")}],
            "stream": self.draw.random() < 0.5,
            "temperature": self.draw.random(),
            "user": self.name("user"),
            "tools": [{"type": "function", "function": {"name": self.name("tool."), "parameters": tool}}],
        }

    async def call_a_function(self) -> None:
        planned = await self.functions.begin([self.name("f"), f"aws/{self.name('f')}"])
        for one in planned["candidates"]:
            if one["permit"] is not None:
                kind = self.draw.choice(["ok", "server_error", "connect"])
                ended = {"target": one["target"], "kind": kind, "epoch": 0, "incarnation": 1}
                await self.functions.report([{**ended, **one["permit"], "ms": 5.0}])


def in_service(test: Callable[[World, Any], Any], folder: pathlib.Path) -> None:
    async def main() -> None:
        async with ledger_world(folder) as books, world(ARGS) as w:
            link = books.replica(limits=Limits(each={"tenant": Limit(1000, 1_000_000), "key": Limit(1000)}))
            service = Service(w.service.resolved, w.breaker, w.hop, link)
            w.service = service
            await asyncio.sleep(1)
            await test(w, books)

    run_virtually(main())


@pytest.mark.parametrize("away", [False, True], ids=["with its actors", "without the ledger"])
def test_nothing_grows_with_the_names_that_clients_make_up(tmp_path: pathlib.Path, away: bool) -> None:
    async def run(w: World, books: Any) -> None:
        stranger = Stranger(w, 11)
        roots = (w.service, w.actor.board, books.actor.desk)
        counts = []
        for _ in range(2):
            books.actor.away = away
            for _ in range(ROUNDS):
                await stranger.ask()
            await asyncio.sleep(20)
            counts.append(sizes(*roots))
        books.actor.away = False
        assert len(counts[0]) > 500, "the walk has reached the service"
        assert {"Budget._standings", "ResponseTimes._times"} <= {name for name, _ in counts[1].values()}
        assert grown(*counts) == {}

    in_service(run, tmp_path)


def test_the_walk_finds_what_grows() -> None:
    budget = Budget(Limits())
    before = sizes([budget])
    budget._giving = {str(n): [] for n in range(SLACK + 1)}
    assert grown(before, sizes([budget])) == {"Budget._giving": SLACK + 1}
