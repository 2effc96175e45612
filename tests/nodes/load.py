"""The clients of a site: so many requests a second, on new and on kept connections, and so many long streams.

What becomes of each is kept with the machine that it came in by and its time. A client of a machine that is down turns
to another as soon as it is told to: that is the work of the Service in front of the machines.
"""

import asyncio
import itertools
import json
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx2

from tests.nodes.machine import Machine
from tests.nodes.provider import AT_LENGTH, FRAMES, PACE, QUESTION
from tests.nodes.site import KEY, Site

LONGEST_WAIT = 75.0  # seconds that a client waits: longer than the deadline of a request, and than HAProxy waits
HUNG = 40.0  # seconds without a frame


@dataclass
class Asked:
    name: str  # its x-request-id
    entry: str
    began: float  # on time.monotonic
    seconds: float = 0.0
    status: int = 0  # 0: the connection failed
    code: str = ""  # of the error, or how the connection failed
    by: str = ""  # who answered, after how many attempts


@dataclass
class Streamed:
    entry: str
    began: float
    frames: int = 0
    ended: str = ""  # "whole", the code of an error frame, or how the connection failed; "" while it goes on
    last: float = 0.0  # when something came
    gap: float = 0.0  # the longest silence between two frames, or before the end

    def hear(self, now: float) -> None:
        self.gap = max(self.gap, now - (self.last or now))
        self.last = now


@dataclass
class Load:
    site: Site
    rate: float = 20.0
    streams: int = 20
    pace: float = PACE
    entries: list[Machine] = field(default_factory=list)  # where the Service sends clients now
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    asked: list[Asked] = field(default_factory=list)
    streamed: list[Streamed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.entries = self.entries or list(self.site.workers)

    def __enter__(self) -> "Load":
        for fake in self.site.fakes.values():
            fake.pace = self.pace
        self._ending = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._ending = True
        self._thread.join()

    async def _run(self) -> None:
        kept = httpx2.AsyncClient(timeout=LONGEST_WAIT, verify=False)
        fresh = httpx2.AsyncClient(
            timeout=LONGEST_WAIT, verify=False, limits=httpx2.Limits(max_keepalive_connections=0)
        )
        async with kept, fresh, asyncio.TaskGroup() as tasks:
            for _ in range(self.streams):
                tasks.create_task(self._stream_on(fresh))
                await asyncio.sleep(self.pace / self.streams)
            began = time.monotonic()
            for number in itertools.count():
                if self._ending:
                    return
                await asyncio.sleep(max(0.0, began + number / self.rate - time.monotonic()))
                entry = self.entries[number % len(self.entries)]
                tasks.create_task(self._ask((kept, fresh)[number // len(self.entries) % 2], entry))

    async def _ask(self, client: httpx2.AsyncClient, entry: Machine) -> None:
        made = Asked(f"{self.name}-{len(self.asked)}", entry.name, time.monotonic())
        self.asked.append(made)
        try:
            headers = HEADERS | {"x-request-id": made.name}
            answer = await client.post(url_of(entry), json=body(stream=False), headers=headers)
            made.status, made.code = answer.status_code, code_of(answer.content)
            told = ("x-breakwater-provider", "x-breakwater-attempts")
            made.by = " ".join(answer.headers.get(name, "") for name in told)
        except httpx2.HTTPError as error:
            made.code = type(error).__name__
        made.seconds = time.monotonic() - made.began

    async def _stream_on(self, client: httpx2.AsyncClient) -> None:
        """One stream after the other, by the entries in turn."""
        for number in itertools.count(len(self.streamed)):
            if self._ending:
                return
            entry = self.entries[number % len(self.entries)]
            made = Streamed(entry.name, time.monotonic())
            self.streamed.append(made)
            try:
                async with asyncio.timeout(FRAMES * self.pace + LONGEST_WAIT):
                    made.ended = await self._stream(client, entry, made)
            except (httpx2.HTTPError, TimeoutError) as error:
                made.ended = type(error).__name__
                made.hear(time.monotonic())
                await asyncio.sleep(0.2)

    async def _stream(self, client: httpx2.AsyncClient, entry: Machine, made: Streamed) -> str:
        async with client.stream("POST", url_of(entry), json=body(stream=True), headers=HEADERS) as answer:
            if answer.status_code != 200:
                return f"{answer.status_code} {code_of(await answer.aread())}"
            async for line in answer.aiter_lines():
                if not line.startswith("data: "):
                    continue
                made.hear(time.monotonic())
                if line == "data: [DONE]":
                    return "whole"
                if '"error"' in line:
                    return f"error frame {code_of(line.removeprefix('data: ').encode())}"
                made.frames += 1
        return "closed without an end"

    # What became of it.

    def since(self, began: float, entries: Iterable[str]) -> "Outcome":
        """Return what became of all that was under way then or began later, of clients of these machines."""
        names = set(entries)
        asked = [a for a in self.asked if a.entry in names and a.began + a.seconds >= began]
        streamed = [s for s in self.streamed if s.entry in names and (not s.ended or s.last >= began)]
        return Outcome(asked, streamed)


@dataclass
class Outcome:
    asked: list[Asked]
    streamed: list[Streamed]

    @property
    def lost(self) -> list[Asked]:
        return [each for each in self.asked if each.status != 200]

    @property
    def longest(self) -> float:
        return max((each.seconds for each in self.asked), default=0.0)

    @property
    def broken(self) -> list[Streamed]:
        return [each for each in self.streamed if each.ended != "whole"]

    @property
    def longest_gap(self) -> float:
        return max((each.gap for each in self.streamed), default=0.0)

    @property
    def whole(self) -> int:
        return len(self.streamed) - len(self.broken)

    def slower_than(self, seconds: float) -> int:
        return sum(each.seconds > seconds for each in self.asked)

    def line(self, name: str) -> str:
        lost = ", ".join(sorted({f"{each.status} {each.code}" for each in self.lost}))
        broken = ", ".join(sorted({each.ended for each in self.broken}))
        return (
            f"| {name} | {len(self.asked)} | {len(self.lost)} {lost} | {self.slower_than(1.0)} | {self.longest:.2f} s "
            f"| {self.whole} of {len(self.streamed)} {broken} | {self.longest_gap:.1f} s |"
        )


HEAD = """
| clients | requests | lost | over 1 s | longest | streams whole | longest silence |
|---|--:|---|--:|--:|---|--:|"""


def print_table(*rows: tuple[str, Outcome]) -> None:
    print(HEAD)
    for name, outcome in rows:
        print(outcome.line(name))


HEADERS = {"authorization": f"Bearer {KEY}"}


def url_of(entry: Machine) -> str:
    return f"http://{entry.address}:8000/v1/chat/completions"


def body(*, stream: bool) -> dict[str, object]:
    content = AT_LENGTH if stream else QUESTION
    return {"model": "default", "messages": [{"role": "user", "content": content}], "stream": stream}


def code_of(data: bytes) -> str:
    """Return the code of an error, or its type, or its beginning where it is none of ours."""
    try:
        error = json.loads(data).get("error") or {}
    except ValueError:
        return data[:60].decode(errors="replace").strip()
    return str(error.get("code") or error.get("type") or "")


def quiet(seconds: float) -> None:
    """Let the clients ask for so long."""
    time.sleep(max(0.0, seconds))
