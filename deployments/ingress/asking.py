"""What all routes that ask a model read of a request's headers, and write into those of the answer. No Ray."""

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, structs
from starlette.requests import Request

from actors.breaker.plan import parts_of, place_of
from actors.ledger.rows import LONGEST_TEXT
from deployments.config.silence import longest_silence
from deployments.errors import BadRequest
from deployments.failover.attempts.deadline import Deadline
from deployments.failover.calls import Answer
from deployments.failover.streams.answer import StreamAnswer
from deployments.ingress.body.in_flight import Held
from deployments.ingress.responses import NOSNIFF, RawHeaders
from deployments.ingress.server.headers import Headers, first_headers
from deployments.ingress.server.utf8_headers import HIDDEN, TIMEOUT_HEADER
from deployments.keys.key import Key
from deployments.newest import Newest
from deployments.openai_api.chat import Request as Checked
from deployments.openai_api.json_types import JsonDict
from deployments.overload.line import PRIORITIES, Priority
from deployments.routing.request_fit import dropped_header
from deployments.service.arguments import parse_drop
from deployments.service.auth import Identity
from deployments.telemetry.trace_context import extract
from deployments.usage.caller import Caller

if TYPE_CHECKING:
    from deployments.service.service import Service

DROP_HEADER = "x-breakwater-drop-unsupported"
EXPLAIN_HEADER = b"x-breakwater-explain"
HEDGE_HEADER = b"x-breakwater-hedge"
PRIORITY_HEADER = b"x-breakwater-priority"
CONTINUE_HEADER = b"x-breakwater-continue"
# Our own, what Ray Serve's LLM servers and others read, Claude Code's and Codex's. The first one counts.
SESSION_HEADERS = (b"x-breakwater-session", b"x-session-id", b"x-claude-code-session-id", b"session-id")
SCOPE_HEADER = b"x-breakwater-scope"
_CHOICES = frozenset({EXPLAIN_HEADER, HEDGE_HEADER, CONTINUE_HEADER, PRIORITY_HEADER})
_OF_CALLERS = frozenset({*SESSION_HEADERS, SCOPE_HEADER, b"x-tenant-id", b"x-agent-id", *_CHOICES})
_DROP, _TIMEOUT = DROP_HEADER.encode(), TIMEOUT_HEADER.encode()
_TARGETS = 1000  # of which is kept what answers say of them: a client may pin any


class Asked(Struct, frozen=True):
    """A request that was read. `held` is its body, which its handler releases."""

    request: Request
    caller: Caller
    deadline: Deadline
    body: JsonDict
    held: Held


class Asking:
    """`by_handle`: the requests come by Python handle, and not through HAProxy."""

    def __init__(self, service: "Service", *, by_handle: bool = False):
        self._service, self._by_handle = service, by_handle
        self._told = Newest[str, RawHeaders](_TARGETS)
        self._longest_silence = math.inf if by_handle else longest_silence(os.environ)

    def caller(self, request: Request, identity: Identity, door: str = "http") -> Caller:
        """Return the caller, with the tenant who pays. Raises Forbidden if the key is bound to another tenant."""
        headers, key = first_headers(request.scope), identity.key
        door = "handle" if self._by_handle else door
        request_id = (_text(headers, b"x-request-id") or "")[:LONGEST_TEXT] or None
        if key is None and self._service.traces is None and _OF_CALLERS.isdisjoint(headers):
            return Caller(door, request_id=request_id, priority=self._priority(headers, None, None))
        tenant = _text(headers, b"x-tenant-id") or None
        return Caller(
            door,
            key.speaks_for(tenant) if key else tenant,
            _text(headers, b"x-agent-id") or None,
            key.name if key else None,
            request_id,
            explain=_choice(headers, EXPLAIN_HEADER, unless_told=False),
            hedge=_choice(headers, HEDGE_HEADER, unless_told=True),
            continues=_choice(headers, CONTINUE_HEADER, unless_told=True),
            priority=self._priority(headers, key, tenant),
            trace=None if self._service.traces is None else extract(request.headers),
            session=session_in(headers),
            scope=_scope_in(request.scope["headers"]) if SCOPE_HEADER in headers else None,
            key_tags=key.tags if key else frozenset(),
        )

    def _priority(self, headers: Headers, key: Key | None, tenant: str | None) -> Priority:
        """Return the request's priority, as far as its caller may have it."""
        word = (_text(headers, PRIORITY_HEADER) or "").lower() or "normal"
        if word not in PRIORITIES:
            name = PRIORITY_HEADER.decode()
            raise BadRequest(f"'{name}' must be critical, normal or batch.", name)
        settings = self._service.resolved.config.priorities
        most = settings.most(None if key is None else key.name, key.speaks_for(tenant) if key else tenant)
        return most if most == word else max(word, most, key=PRIORITIES.index)

    def deadline(self, request: Request, now: float) -> Deadline:
        """Return by when to answer: before HAProxy, which waits for no deadline of a caller, ends it untyped."""
        hidden: str | None = request.scope.get(HIDDEN)
        text = _text(first_headers(request.scope), _TIMEOUT) if hidden is None else hidden
        deadline = self._service.deadline(text, TIMEOUT_HEADER, now)
        if deadline.explicit and hidden is None:
            # Serve's own proxy reads the same header, and would answer with an untyped error: end before it does.
            deadline = structs.replace(deadline, at=deadline.at - min(0.05, 0.2 * deadline.total))
        return deadline.answer_within(self._longest_silence, now)

    def headers(self, answer: Answer | StreamAnswer, dropped: Sequence[str] | None = None) -> RawHeaders:
        """Return the headers of an answer. `dropped`: what was left out, where its client has other names for that."""
        record, target = answer.record, answer.target
        if (told := self._told.get(target)) is None:
            told = self._told[target] = self._told_of(target)
        headers = [*told, (b"x-breakwater-attempts", b"%d" % record.made)]
        headers.append((b"x-breakwater-request-id", record.request_id.encode("latin-1")))
        if record.hedged:
            headers.append((b"x-breakwater-hedged", record.hedged.encode("latin-1")))
        if names := answer.dropped if dropped is None else dropped:
            headers.append((b"x-breakwater-dropped", dropped_header(names).encode("latin-1")))
        return headers

    def _told_of(self, target: str) -> RawHeaders:
        """Return what each answer of a target says of it."""
        provider, model = parts_of(target)
        told = {**NOSNIFF, "x-breakwater-provider": provider, "x-breakwater-model": model}
        if place := place_of(target):
            told["x-breakwater-place"] = place
        if self._service.is_degraded(provider):
            told["x-breakwater-degraded"] = "true"
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told.items()]

    @staticmethod
    def with_drop(checked: Checked, request: Request) -> Checked:
        """Return the request with the header's choice of which unsupported fields may be dropped."""
        word = _text(first_headers(request.scope), _DROP)
        return checked if word is None else structs.replace(checked, drop=parse_drop(word, DROP_HEADER))


def _text(headers: Headers, name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def session_in(headers: Headers) -> str | None:
    """Return the name of the conversation. An empty one is none: a proxy sends it where its variable is not set."""
    return next((value for name in SESSION_HEADERS if (value := _text(headers, name))), None)


def _scope_in(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the scope. Of several all hold (RFC 9110, 5.3): the first alone would let the request go too far."""
    return ",".join(value.decode("latin-1") for name, value in headers if name == SCOPE_HEADER)


def _choice(headers: Headers, header: bytes, *, unless_told: bool) -> bool:
    """Return the header's choice; an empty one is none. What is neither would be taken for no, and nobody be told."""
    word = (_text(headers, header) or "").lower()
    if word not in ("true", "false", ""):
        name = header.decode()
        raise BadRequest(f"'{name}' must be true or false.", name)
    return word == "true" if word else unless_told
