"""The clients: agents of some tenants, each of which asks, reads the answer, pauses and asks again, by OpenAI's SDK.

The SDK sends nothing twice here, so that nothing is hidden. How a request ended is judged by seen.py.
"""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from tests.demo.config import POOR
from tests.demo.script import LOCAL, TEXT
from tests.demo.seen import End, Seen, end_of_answer, end_of_refusal, end_of_stream

PATIENCE = 40.0  # seconds; the server's own deadline is 30
MOST_TOKENS = 16  # of the local model, which has this machine alone; the fakes say what they say
BEGIN_SECONDS = 60.0
REFUSED = 4  # times its pause an agent waits that was refused for its budget
QUESTIONS = ("What is a breakwater?", "What is a wall in the sea for?", "Why is a harbour calm?")


@dataclass(frozen=True, slots=True)
class Agent:
    """One client. `pause`: seconds between an answer and the next question."""

    tenant: str
    name: str
    row: str
    stream: bool
    pause: float


AGENTS = (
    Agent("acme", "support", "chat", stream=True, pause=1.0),
    Agent("acme", "helpdesk", "chat", stream=False, pause=1.3),
    Agent("acme", "search", "search", stream=False, pause=1.2),
    Agent("acme", "research", "search", stream=True, pause=1.5),
    Agent("globex", "writer", "write", stream=True, pause=0.8),
    Agent("globex", "editor", "write", stream=False, pause=1.4),
    Agent("globex", "coder", "code", stream=True, pause=0.9),
    Agent("globex", "reviewer", "code", stream=False, pause=1.6),
    Agent(POOR, "intern", "chat", stream=True, pause=1.1),
)


@dataclass(slots=True)
class Answer:
    """What an answer's client has read of it."""

    text: str = ""
    finish: str | None = None
    went_on_to: str | None = None  # a target

    def read(self, choices: Any, marker: Mapping[str, Any]) -> None:
        for choice in choices:
            said = getattr(choice, "delta", None) or choice.message
            self.text += said.content or ""
            self.finish = choice.finish_reason or self.finish
        self.went_on_to = (marker.get("continued") or {}).get("to", self.went_on_to)

    def end(self, provider: str) -> tuple[End, str]:
        by_local = provider == LOCAL or (self.went_on_to or "").startswith(f"{LOCAL}/")
        return end_of_answer(self.text, self.finish, None if by_local else TEXT)


class Traffic:
    """All agents. A request belongs to the phase in which it began."""

    def __init__(self, url: str):
        self.phase = 0
        self._asked: defaultdict[int, list[asyncio.Task[Seen]]] = defaultdict(list)
        self._questions = itertools.cycle(QUESTIONS)
        # No proxy that the environment names: all of this is on this machine.
        own = httpx2.AsyncClient(trust_env=False, timeout=PATIENCE)
        self._client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, http_client=own)

    async def begin(self) -> None:
        """Have each agent answered once, which is not counted: a ledger that has just started may ask for a second."""
        async with asyncio.timeout(BEGIN_SECONDS):
            await asyncio.gather(*[self._begin(agent) for agent in AGENTS])

    async def _begin(self, agent: Agent) -> None:
        for pause in itertools.repeat(1.0):
            if (await self.ask(agent)).end == "whole":
                return
            await asyncio.sleep(pause)

    async def run(self) -> None:
        """Ask until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for agent in AGENTS:
                    group.create_task(self._ask_on(agent))
        finally:
            await self.close()

    async def close(self) -> None:
        await self._client.close()

    async def of(self, phase: int) -> list[Seen]:
        """Return the requests of a phase that is over, once all of them have ended."""
        return list(await asyncio.gather(*self._asked.pop(phase, [])))

    async def _ask_on(self, agent: Agent) -> None:
        await asyncio.sleep(agent.pause * AGENTS.index(agent) / len(AGENTS))
        while True:
            task = asyncio.create_task(self.ask(agent))
            self._asked[self.phase].append(task)
            is_refused = (await task).end == "budget"
            await asyncio.sleep(agent.pause * (REFUSED if is_refused else 1))

    async def ask(self, agent: Agent) -> Seen:
        """Ask once, and return what became of it."""
        began, headers, answer = time.monotonic(), {}, Answer()
        try:
            raw = await self._client.chat.completions.with_raw_response.create(
                model=agent.row,
                messages=[{"role": "user", "content": next(self._questions)}],
                stream=agent.stream,
                max_completion_tokens=MOST_TOKENS,
                extra_headers={"x-tenant-id": agent.tenant, "x-agent-id": agent.name},
                timeout=PATIENCE,
            )
            headers = dict(raw.headers)
            await _read(answer, raw.parse(), stream=agent.stream)
            end, why = answer.end(headers.get("x-breakwater-provider", ""))
        except openai.APIStatusError as error:
            headers = dict(error.response.headers)
            end, why = end_of_refusal(error.status_code, error.code)
        except openai.APIConnectionError as error:
            end, why = "lost", type(error.__cause__ or error).__name__
        except openai.APIError as error:
            end, why = end_of_stream(error.code)
        except Exception as error:  # whatever a client sees beside these is no answer
            end, why = "lost", type(error).__name__
        return Seen(
            agent.row,
            end,
            time.monotonic() - began,
            headers.get("x-breakwater-provider", ""),
            int(headers.get("x-breakwater-attempts", "0")),
            answer.went_on_to is not None,
            headers.get("x-breakwater-request-id", ""),
            why,
        )


async def _read(answer: Answer, given: Any, *, stream: bool) -> None:
    if not stream:
        answer.read(given.choices, {})
        return
    async for chunk in given:
        answer.read(chunk.choices, (chunk.model_extra or {}).get("breakwater") or {})
