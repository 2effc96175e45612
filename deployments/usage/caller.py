"""The caller's identity, the errors of limits, and the parsing and printing of usage queries. Pure."""

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from actors.ledger.budget import Refusal
from actors.ledger.rows import LONGEST_TEXT, NANOS, clean
from deployments.errors import BadRequest, LimitReached
from deployments.overload.line import Priority
from deployments.validation import TAG

LAST_SECOND = 253_402_300_800.0  # of the year 9999: more no store can hold
_UNITS = {"requests_per_minute": "requests a minute", "tokens_per_minute": "tokens a minute"}


class Caller(Struct, frozen=True):
    """`request_id` is the caller's own word for the request, which may repeat; `session` its name for a conversation.

    `explain`: the answer is to say what the request went through. `trace` are W3C's headers of the trace that
    the request is a part of, kept only where traces are on. `scope` are the tags that targets must have to serve it, as
    the caller has written them, and `key_tags` those of its key. `hedge`: a second leg may be sent, if the row has any.
    `continues`: another provider may go on with a text, if the row lets it.
    `priority`: who comes first where targets have as many calls as they take.
    """

    door: str
    tenant: str | None = None
    agent: str | None = None
    key_name: str | None = None
    request_id: str | None = None
    explain: bool = False
    trace: Any = None
    session: str | None = None
    scope: object = None
    key_tags: frozenset[str] = frozenset()
    hedge: bool = True
    continues: bool = True
    priority: Priority = "normal"

    @property
    def account(self) -> str | None:
        """Return by what callers are told apart: the key's name, or else the tenant. Without either all are one."""
        return self.key_name or self.tenant


def check_caller(caller: Caller, declared: Collection[str] | None) -> None:
    """Raises BadRequest for what is no name, and for a tenant that is not among the `declared`, if there are any."""
    tenant, agent = ("tenant_id", "agent_id") if caller.door == "handle" else ("x-tenant-id", "x-agent-id")
    for name, who in ((tenant, caller.tenant), (agent, caller.agent)):
        if who is not None and not (isinstance(who, str) and who.strip()):
            raise BadRequest(f"Invalid '{name}': a name is needed, not {who!r}.", name, "invalid_value")
        if who is not None and clean(who) != who:  # the ledger would count it under another name
            raise BadRequest(f"Invalid '{name}': it has NUL or half a surrogate pair.", name, "invalid_value")
        if who is not None and len(who) > LONGEST_TEXT:  # cut off, two names would be one account
            raise BadRequest(f"Invalid '{name}': {LONGEST_TEXT} characters at most.", name, "invalid_value")
    if (session := caller.session) is not None and not (isinstance(session, str) and 0 < len(session) <= LONGEST_TEXT):
        name = "session" if caller.door == "handle" else "x-breakwater-session"
        raise BadRequest(f"Invalid '{name}': a name of {LONGEST_TEXT} characters at most.", name, "invalid_value")
    if declared is not None and caller.tenant is not None and caller.tenant not in declared:
        raise BadRequest(f"Invalid '{tenant}': there is no tenant of this name.", tenant, "invalid_value")


_TAG = re.compile(TAG)


def scope_of(caller: Caller) -> frozenset[str]:
    """Return the tags that targets must have to serve a request. Raises BadRequest for what names none.

    A scope that is empty may be a variable that was not set: to take it for none would let the request go anywhere.
    """
    if caller.scope is None:
        return caller.key_tags
    given = caller.scope.split(",") if isinstance(caller.scope, str) else caller.scope
    words = [w.strip().lower() if isinstance(w, str) else "" for w in given] if isinstance(given, Sequence) else []
    if not words or not all(map(_TAG.fullmatch, words)):
        name = "scope" if caller.door == "handle" else "x-breakwater-scope"
        raise BadRequest(f"Invalid '{name}': tags of targets are needed, as eu,no-train.", name)
    return caller.key_tags.union(words)


def limit_reached(refusal: Refusal) -> LimitReached:
    """Return the error of a request that is over a limit, with OpenAI's codes."""
    who, seconds = refusal.subject.replace(":", " ", 1), refusal.reset_seconds
    if refusal.limit == "ledger_away":
        message = (
            f"The limits of {who} can't be checked, because the ledger does not answer. Try again in {seconds:.0f} s."
        )
        return LimitReached(message, refusal.status, "ledger_unavailable", seconds)
    dollars = f"${refusal.most / NANOS:.2f} that it may use this month"
    if refusal.under_way:
        rest = dollars if refusal.limit == "monthly_cost" else f"{refusal.most} {_UNITS[refusal.limit]}"
        message = f"The requests of {who} that are under way may need the rest of its {rest}. Try again in 1 s."
        return LimitReached(message, refusal.status, "rate_limit_exceeded", seconds)
    if refusal.limit == "monthly_cost":
        message = f"{who} has used the {dollars}."
        return LimitReached(message, refusal.status, "insufficient_quota", seconds)
    message = f"{who} has used its {refusal.most} {_UNITS[refusal.limit]}. Try again in {seconds:.0f} s."
    return LimitReached(message, refusal.status, "rate_limit_exceeded", seconds)


def question_of(params: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return filters and groups of a usage query: names as in the ledger, instants as ISO dates or seconds."""
    filters: dict[str, Any] = {k: v for k, v in params.items() if k not in ("group_by", "format")}
    for name in ("since", "until"):
        if name in filters:
            filters[name] = instant_of(filters[name], name)
    groups = [name for part in params.get("group_by", "").split(",") if (name := part.strip())]
    return filters, list(dict.fromkeys(groups))


def instant_of(text: str, name: str) -> float:
    """Return an instant in seconds since 1970. Raises BadRequest with `name` as param."""
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if abs(seconds) <= LAST_SECOND:  # NaN is not
            return seconds
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"Invalid '{name}': an ISO date or seconds since 1970, not {text!r}.", name) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return the rows under these columns, which are there without a row too. What is not known is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _harmless(v) for k, v in row.items()} for row in rows)
    return text.getvalue()


# What a spreadsheet takes for a formula: full-width signs too, and behind what another country's separates cells with.
_FORMULA = re.compile(r"(^|[;,|\t\r\n])([\s\"'\ufeff]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")


def _harmless(value: Any) -> Any:
    """A name that a client chose must not become a formula in somebody's spreadsheet (OWASP, CSV injection)."""
    if not isinstance(value, str):
        return value
    text = _FORMULA.sub(r"\1\2'", value)
    return f"'{text}" if text[:1] in ("\t", "\r", "\n") else text
