"""What all routes that ask a model read of a request's headers, and write into those of the answer. No Ray."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from starlette.requests import Request

from actors.ledger.rows import LONGEST_TEXT
from deployments.config.silence import longest_silence
from deployments.errors import BadRequest
from deployments.failover.attempts.deadline import Deadline
from deployments.failover.calls import Answer
from deployments.failover.streams.answer import StreamAnswer
from deployments.ingress.body.in_flight import Held
from deployments.ingress.responses import NOSNIFF
from deployments.ingress.server.utf8_headers import HIDDEN, TIMEOUT_HEADER
from deployments.keys.key import Key
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
_READ = frozenset({*SESSION_HEADERS, SCOPE_HEADER, b"x-tenant-id", b"x-agent-id", b"x-request-id", *_CHOICES})


Given = dict[bytes, str]  # headers: name to value


@dataclass(frozen=True, slots=True)
class Asked:
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
        self._longest_silence = math.inf if by_handle else longest_silence(os.environ)

    def caller(self, request: Request, identity: Identity, door: str = "http") -> Caller:
        """Return the caller, with the tenant who pays. Raises Forbidden if the key is bound to another tenant."""
        key = identity.key
        given = _given(request.scope["headers"])
        session, scope = _session_and_scope_in(request.scope["headers"], given)
        tenant = given.get(b"x-tenant-id") or None
        return Caller(
            "handle" if self._by_handle else door,
            key.speaks_for(tenant) if key else tenant,
            given.get(b"x-agent-id") or None,
            key.name if key else None,
            given.get(b"x-request-id", "")[:LONGEST_TEXT] or None,
            explain=_choice(given, EXPLAIN_HEADER, unless_told=False),
            hedge=_choice(given, HEDGE_HEADER, unless_told=True),
            continues=_choice(given, CONTINUE_HEADER, unless_told=True),
            priority=self._priority(given, key, tenant),
            trace=None if self._service.traces is None else extract(request.headers),
            session=session,
            scope=scope,
            key_tags=key.tags if key else frozenset(),
        )

    def _priority(self, given: Given, key: Key | None, tenant: str | None) -> Priority:
        """Return the request's priority, as far as its caller may have it."""
        word = given.get(PRIORITY_HEADER, "").lower() or "normal"
        if word not in PRIORITIES:
            name = PRIORITY_HEADER.decode()
            raise BadRequest(f"'{name}' must be critical, normal or batch.", name)
        settings = self._service.resolved.config.priorities
        most = settings.most(None if key is None else key.name, key.speaks_for(tenant) if key else tenant)
        return max(word, most, key=PRIORITIES.index)

    def deadline(self, request: Request) -> Deadline:
        """Return by when to answer: before HAProxy, which waits for no deadline of a caller, ends it untyped."""
        hidden: str | None = request.scope.get(HIDDEN)
        text = request.headers.get(TIMEOUT_HEADER) if hidden is None else hidden
        deadline = self._service.deadline(text, TIMEOUT_HEADER)
        if deadline.explicit and hidden is None:
            # Serve's own proxy reads the same header, and would answer with an untyped error: end before it does.
            deadline = replace(deadline, at=deadline.at - min(0.05, 0.2 * deadline.total))
        return deadline.answer_within(self._longest_silence)

    def headers(self, answer: Answer | StreamAnswer, dropped: Sequence[str] | None = None) -> dict[str, str]:
        """Return the headers of an answer. `dropped`: what was left out, where its client has other names for that."""
        served = self._service.served_by(answer)
        headers = {
            **NOSNIFF,
            "x-breakwater-provider": served["provider"],
            "x-breakwater-model": served["model"],
            "x-breakwater-attempts": str(served["attempts"]),
            "x-breakwater-request-id": served["request_id"],
        }
        if place := served.get("place"):
            headers["x-breakwater-place"] = place
        if hedged := answer.record.hedged:
            headers["x-breakwater-hedged"] = hedged
        if served["degraded"]:
            headers["x-breakwater-degraded"] = "true"
        if names := answer.dropped if dropped is None else dropped:
            headers["x-breakwater-dropped"] = dropped_header(names)
        return headers

    @staticmethod
    def with_drop(checked: Checked, request: Request) -> Checked:
        """Return the request with the header's choice of which unsupported fields may be dropped."""
        word = request.headers.get(DROP_HEADER)
        return checked if word is None else replace(checked, drop=parse_drop(word, DROP_HEADER))


def _given(headers: Sequence[tuple[bytes, bytes]]) -> Given:
    """Return what is read below, in one pass: few requests have more than one of these. Of several the first counts."""
    return {name: value.decode("latin-1") for name, value in reversed(headers) if name in _READ}


def _session_and_scope_in(headers: Sequence[tuple[bytes, bytes]], given: Given) -> tuple[str | None, str | None]:
    """Return the name of the conversation, and the scope."""
    session = next((value for name in SESSION_HEADERS if (value := given.get(name))), None)
    if SCOPE_HEADER not in given:
        return session, None
    # Of several scopes all hold (RFC 9110, 5.3): the first alone would let the request go too far.
    return session, ",".join(value.decode("latin-1") for name, value in headers if name == SCOPE_HEADER)


def _choice(given: Given, header: bytes, *, unless_told: bool) -> bool:
    """Return the header's choice; an empty one is none. What is neither would be taken for no, and nobody be told."""
    word = given.get(header, "").lower()
    if word not in ("true", "false", ""):
        name = header.decode()
        raise BadRequest(f"'{name}' must be true or false.", name)
    return word == "true" if word else unless_told
