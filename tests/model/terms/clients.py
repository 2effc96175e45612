"""Clients that read texts, and those that send a request twice with one key over HTTP."""

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.ingress.http import build_http_api
from deployments.openai_api.chat import DONE, frames_to_chunks
from deployments.service.service import Service
from deployments.usage.caller import Caller
from tests.model.clients import READ, Client
from tests.model.figures import Figures, Wrong
from tests.model.terms.book import Book
from tests.model.terms.texts import text_of
from tests.model.truth import Asked

CHAT = "/v1/chat/completions"
ROLE = re.compile(rb'"role"')


def check_text(asked: Asked, data: bytes) -> bool:
    """Return whether a stream was whole. Raises ValueError for what no stream may be."""
    chunks = list(frames_to_chunks(data))
    text = "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk.get("choices", []))
    whole, failed = data.endswith(DONE), any("error" in chunk for chunk in chunks)
    full = text_of(asked)
    if whole is failed:
        raise ValueError(f"sealed as whole, or ended without a word: {data[-200:]!r}")
    if not full.startswith(text.rstrip()) or (whole and text.rstrip() != full):
        raise ValueError(f"another text: ...{text[-120:]!r} of {len(full)} signs after {len(text)}")
    if len({chunk["id"] for chunk in chunks if "id" in chunk}) > 1:
        raise ValueError("one answer with two ids")
    if len(ROLE.findall(data)) > 1:
        raise ValueError("one answer with two roles")
    asked.seams = [chunk["breakwater"]["continued"] for chunk in chunks if "continued" in chunk.get("breakwater", {})]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    asked.used = usages[-1]["completion_tokens"] if usages else None
    return whole


class TextClient(Client):
    """As its parent, in a world whose providers say texts."""

    def _body(self, asked: Asked) -> dict[str, Any]:
        more = {"stream_options": {"include_usage": True}} if asked.stream else {}
        return {"model": asked.row, "stream": asked.stream, **more}

    def _caller(self, asked: Asked) -> Caller:
        return Caller("handle", priority=asked.priority)  # type: ignore[arg-type]

    def _check(self, asked: Asked, data: bytes) -> None:
        if asked.stream:
            return
        answer = json.loads(data)
        if answer["choices"][0]["message"]["content"] != text_of(asked):
            raise ValueError(f"another answer: {data[:120]!r}")
        asked.used = answer["usage"]["completion_tokens"]

    async def _read(self, asked: Asked, frames: AsyncIterator[bytes]) -> None:
        number, data = 0, b""
        async for frame in frames:
            number += 1
            data += frame
            if number == READ and asked.pauses:
                await asyncio.sleep(asked.pauses)
                self._look_for_held(asked)
        whole = check_text(asked, data)
        asked.end = "ok" if whole else "broken"
        if not whole:
            asked.why = data[-300:].decode(errors="replace")


@dataclass
class Reply:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    began_at: float | None = None


class KeyedClient:
    """Sends a request, and sends it again to any replica while the first try runs, or after its client has left."""

    def __init__(
        self, services: list[Service], books: list[Book], figures: Figures, now: Callable[[], float], seed: int
    ):
        self._apis = [build_http_api(service) for service in services]
        self._figures, self._now = figures, now
        self._rng = random.Random(f"{seed}/keys")
        self._books = books

    async def ask(self, asked: Asked) -> None:
        asked.began = self._now()
        again, leaves = self._rng.uniform(0.0, 4.0), self._rng.random() < 0.3
        other = self._rng.randrange(len(self._apis))
        first, second = Reply(), Reply()
        one = asyncio.create_task(self._send(asked, asked.replica, first))
        try:
            await asyncio.sleep(again)
            under_way = not first.ended
            if leaves and under_way:
                one.cancel()
                await asyncio.wait([one])
            await self._send(asked, other, second)
            if not leaves or not under_way:
                await one
        except asyncio.CancelledError:
            asked.end = "stuck"
            raise
        finally:
            one.cancel()
            await asyncio.wait([one])
        asked.ended = self._now()
        asked.first = second.began_at if second.status == 200 else None
        try:
            self._judge(asked, first if first.ended else None, second, under_way)
        except Exception as error:
            asked.end = "error"
            self._figures.wrong(Wrong("keys", self._now(), asked.replica, asked.number, repr(error)))

    async def _send(self, asked: Asked, replica: int, reply: Reply) -> None:
        more = {"stream_options": {"include_usage": True}} if asked.stream else {}
        messages = [{"role": "user", "content": str(asked.number)}]
        sent = json.dumps({"model": asked.row, "stream": asked.stream, "messages": messages, **more}).encode()
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if not gone.is_set():
                gone.set()
                return {"type": "http.request", "body": sent, "more_body": False}
            await asyncio.get_running_loop().create_future()
            raise AssertionError

        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                reply.status, reply.began_at = message["status"], self._now()
                reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                reply.body += message.get("body", b"")
                reply.ended = not message.get("more_body", False)

        # Two tenants have the same key for two requests of their own.
        headers = {"idempotency-key": f"key-{asked.number // 2}", "x-tenant-id": f"tenant-{asked.number % 2}"}
        given = [(b"content-type", b"application/json"), *((k.encode(), v.encode()) for k, v in headers.items())]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": given, "query_string": b""}
        with contextlib.suppress(asyncio.CancelledError):
            await self._apis[replica](scope, receive, send)

    def _judge(self, asked: Asked, first: Reply | None, second: Reply, under_way: bool) -> None:
        replies = [reply for reply in (first, second) if reply is not None]
        whole = [reply for reply in replies if reply.status == 200 and self._is_whole(asked, reply)]
        names = {reply.headers["x-breakwater-request-id"] for reply in whole}
        words = [reply.headers.get("x-breakwater-idempotent") for reply in replies]
        asked.told_apart = "unavailable" in words
        if len(names) > 1 and not asked.told_apart:
            raise ValueError(f"two answers for one key: {words}")
        if len({reply.body for reply in whole}) > len(names):
            raise ValueError("two texts for one key")
        if first in whole and not asked.told_apart and words[-1] not in ("joined", "replayed"):
            raise ValueError(f"the second try was {words[-1]}, status {second.status}")
        if (
            under_way
            and not asked.told_apart
            and len(whole) == 1
            and first is not None
            and second not in whole
            and first in whole
        ):
            raise ValueError(f"one of two that are one has failed: {words}, {second.body[-300:]!r}")
        last = replies[-1]
        asked.end = "ok" if whole else "broken" if last.status == 200 else "failed"
        asked.status, asked.why = last.status, last.body[-300:].decode(errors="replace")
        name = last.headers.get("x-breakwater-request-id", "")
        if (summary := next((b.summaries[name] for b in self._books if name in b.summaries), None)) is not None:
            asked.story = Told([record.as_dict() for record in summary.records])
            asked.request_id = summary.request_id
            asked.hedged = next((record.hedge for record in summary.attempts if record.hedge), "")
            asked.provider = last.headers.get("x-breakwater-provider")

    def _is_whole(self, asked: Asked, reply: Reply) -> bool:
        if asked.stream:
            return check_text(asked, reply.body)
        answer = json.loads(reply.body)
        asked.used = answer["usage"]["completion_tokens"]
        return bool(answer["choices"][0]["message"]["content"] == text_of(asked))


@dataclass(frozen=True)
class Told:
    entries: list[dict[str, Any]]
