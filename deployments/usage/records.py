"""The usage record of one request: each attempt has a row before it is sent, and each row one ending. No Ray.

    record = client.begin(tenant="acme", model_row="gpt-4", body=request.body)
    attempt = record.open("openai/gpt-4.1")     # in the journal when this returns
    attempt.delivered(frames)                  # whatever goes to the client
    attempt.settle(outcome, usage)             # ends the request too if nothing can follow
    record.finish("server_error")              # no provider answered; does nothing if it has ended

Nothing here waits, and nothing here fails a request. It must not know where lines go.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from msgspec import structs

from actors.breaker.outcomes import Outcome
from actors.breaker.plan import Target, parts_of
from actors.ledger.budget import Spend, subjects_of
from actors.ledger.messages import AttemptLine, RequestEnding, RequestIdentity, RequestTrail, Used
from actors.ledger.rows import LONGEST_TEXT, SETTLED, json_bytes, line
from deployments.openai_api.usage import LIFETIMES, account_of
from deployments.usage.budget import Reservation
from deployments.usage.prices import PriceList
from deployments.usage.prompt_estimate import estimate_prompt
from deployments.usage.rates import Tokens
from deployments.usage.token_estimate import DeliveredText, TokenEstimator, text_in

# How an attempt ends that no provider bills for, if no content had come. In all others the prompt was sent, or may
# have been, and is billed: docs/observability.md, "What a cut answer costs".
_FREE = frozenset(
    {
        *("connect", "throttled", "overloaded", "server_error", "credential", "quota", "model_missing"),
        *("unreachable", "busy", "conflict", "unsupported", "bad_request", "too_long", "rejected"),
    }
)


Trail = Callable[[], RequestTrail]  # returns what a request went through; called when its last line is written
_NO_TRAIL: RequestTrail = {"trail": None}


class UsageSink(Protocol):
    """What a usage record needs of the ledger client."""

    prices: PriceList

    def now(self) -> int: ...

    def seconds(self) -> float: ...

    def estimator(self, target: Target, caller: tuple[str, ...]) -> TokenEstimator: ...

    def write(self, line: bytes) -> None: ...

    def spent(self, subjects: list[str], spend: Spend) -> None: ...

    def opened(self, entry: "AttemptUsage") -> None: ...

    def closed(self, entry: "AttemptUsage") -> None: ...


class UsageRecord:
    __slots__ = (
        "_identity",
        "_sink",
        "_written",
        "began_at",
        "body",
        "ended",
        "made",
        "request_id",
        "reservation",
        "served",
        "subjects",
    )

    def __init__(
        self,
        sink: UsageSink,
        owner: str,
        request_id: str,
        *,
        tenant: str | None = None,
        agent: str | None = None,
        key_name: str | None = None,
        caller_id: str | None = None,
        model_row: str | None = None,
        door: str | None = None,
        stream: bool = False,
        body: Mapping[str, Any] | None = None,
        reservation: Reservation | None = None,
    ):
        self._sink = sink
        self._written = False
        self.request_id = request_id
        self.began_at = sink.now()
        self.body = body or {}
        self.subjects = subjects_of(tenant, key_name)
        self.reservation = reservation
        self.made = 0
        self.ended = False
        self.served: tuple[str, str] | None = None
        identity: RequestIdentity = {
            "request_id": request_id,
            "owner": owner,
            "began_at": self.began_at,
            "tenant": _short(tenant),
            "agent": _short(agent),
            "key_name": _short(key_name),
            "caller_id": _short(caller_id),
            "model_row": _short(model_row),
            "door": door,
            "stream": stream,
        }
        self._identity = json_bytes(identity)

    def open(self, target: Target) -> "AttemptUsage":
        """Write the row of an attempt that is about to be made, and return it."""
        self.made += 1
        entry = AttemptUsage(self._sink, self, target, self.made)
        entry.write()
        self._sink.opened(entry)
        return entry

    def finish(self, outcome: str, trail: Trail | None = None) -> None:
        """End the request. Only the first ending counts. `trail` says what it went through."""
        if not self.ended:
            self.write(None, self.ending(outcome, trail))

    def ending(self, outcome: str, trail: Trail | None = None) -> RequestEnding:
        """Return what the request's line says of its end, and end it: nothing is held for it any more."""
        self.ended = True
        if self.reservation is not None:
            self.reservation.release()
        provider, model = self.served or (None, None)
        return {
            "version": SETTLED,
            "state": "settled",
            "outcome": outcome,
            "ended_at": self._sink.now(),
            "provider": provider,
            "model": model,
            "attempts": self.made,
            **(_NO_TRAIL if trail is None else trail()),
        }

    def write(self, attempt: AttemptLine | None, ending: RequestEnding | None = None) -> None:
        """Write a line: the request as far as it is known, with one of its attempts or none."""
        now = self._sink.now()
        self._sink.write(line(now, self._identity, attempt, ending))
        if not self._written and self.subjects:
            if self.reservation is not None:
                self.reservation.begin()
            self._sink.spent(self.subjects, Spend(now, requests=1))
        self._written = True


class AttemptUsage:
    """One attempt's row: what it has used."""

    __slots__ = (
        "_began",
        "_counted",
        "_known",
        "_prompt_tokens",
        "_record",
        "_served",
        "_sink",
        "_version",
        "_written",
        "first_ms",
        "name",
        "passed",
        "settled",
        "target",
        "told",
    )

    def __init__(self, sink: UsageSink, record: UsageRecord, target: Target, number: int):
        self._sink, self._record = sink, record
        self._began = sink.seconds()
        self._version = self._written = 0
        self.target = target
        self.passed = DeliveredText()
        self.first_ms: float | None = None
        self.told: Mapping[str, Any] | None = None  # the provider's usage so far, for an answer that breaks off
        self._counted: Used | None = None
        self._prompt_tokens: int | None = None
        self.settled = False
        provider, model = parts_of(target)
        self._served = provider, model[:LONGEST_TEXT]
        self._known: AttemptLine = {
            "number": number,
            "provider": provider,
            "model": self._served[1],
            "began_at": sink.now(),
        }
        self.name = record.request_id, number

    def delivered(self, data: bytes) -> None:
        """Count frames that go to the client."""
        if self.settled:
            return
        if self.first_ms is None:
            self.first_ms = self._ms()
        self.passed.add(data)

    def progress(self) -> None:
        """Write down what was delivered so far, if it is more than the last time."""
        if self.passed.size != self._written:
            self._written = self.passed.size
            self._version += 1
            used = self._used(None, b"")
            more: AttemptLine = {"version": self._version, "content": True, "first_ms": self.first_ms}
            self._record.write({**self._known, **used, **more})

    def write(self) -> None:
        """Write down that the attempt was begun."""
        self._record.write(self._known)

    def count(
        self,
        outcome: Outcome,
        usage: Mapping[str, Any] | None = None,
        body: bytes = b"",
        *,
        first: bytes = b"",
    ) -> Used:
        """Return what an attempt that ends so has used; arguments as `settle` has them. It is counted once."""
        if self._counted is None:
            if first:
                self.delivered(first)
            free = _is_free(outcome) and not self._has_content(outcome)
            self._counted = self._used(usage, body, sent=not free)
            if self._counted["counted"] == "none":
                self._counted["cost"] = 0
        return self._counted

    def _has_content(self, outcome: Outcome) -> bool:
        return outcome.content or self.passed.size > 0

    def settle(
        self,
        outcome: Outcome,
        usage: Mapping[str, Any] | None = None,
        body: bytes = b"",
        *,
        first: bytes = b"",
        over: bool = True,
        trail: Trail | None = None,
        hedge: str = "",
    ) -> Used:
        """Write down how it ended, and return what it has used: nothing if it had ended before.

        `usage` is OpenAI's, `body` a whole answer, `first` frames that are still to be delivered. It is its request's
        end too if no other can be asked, or will be (`over`); then `trail` says what the request went through. `hedge`
        is what became of it beside another leg: see rows.AttemptRow.
        """
        if self.settled:
            return {}
        used = self.count(outcome, usage, body, first=first)
        self.settled = True
        self._sink.closed(self)
        record = self._record
        if self._has_content(outcome) and not outcome.content:
            outcome = replace(outcome, content=True)
        now = self._sink.now()
        if outcome.kind == "ok":
            record.served = self._served
        attempt: AttemptLine = {
            **self._known,
            **used,
            "version": SETTLED,
            "state": "settled",
            "kind": outcome.kind,
            "content": outcome.content,
            "ms": self._ms(),
            "first_ms": self.first_ms,
            "ended_at": now,
        }
        if hedge:
            attempt["hedge"] = hedge
        last = over and outcome.last and not record.ended
        record.write(attempt, record.ending(outcome.kind, trail) if last else None)
        if record.subjects:
            tokens = used["tokens_in"] + used["tokens_out"]
            self._sink.spent(record.subjects, Spend(now, 0, tokens, used["cost"] or 0))
        return used

    def _ms(self) -> float:
        return round((self._sink.seconds() - self._began) * 1000, 1)

    def _used(
        self,
        usage: Mapping[str, Any] | None,
        body: bytes,
        *,
        sent: bool = True,
    ) -> Used:
        """Return tokens, where they come from, and what they cost."""
        counted, tokens = "none", _NO_TOKENS
        usage = account_of(usage)  # a foreign server may say anything, or nothing
        if usage is not None:
            counted, tokens = "provider", tokens_of(usage)
            if not tokens.output and "messages" in self._record.body:  # of vectors there are none; a text has some
                tokens = structs.replace(tokens, output=self._answer(body))
                counted = "estimated" if tokens.output else counted
            elif self.passed.size:
                self._estimator().learn(self.passed, tokens.output - tokens.reasoning)
        elif sent or self.passed.size or body:
            counted = "estimated"
            told = _NO_TOKENS if (known := account_of(self.told)) is None else tokens_of(known)
            tokens = structs.replace(
                told,
                input=told.input or self._prompt(),
                output=max(self._answer(body), told.output),
                reasoning=0,
            )
        provider, model = self._served
        priced = counted != "none" or self._sink.prices.free(provider, model)
        return {
            "tokens_in": tokens.input,
            "tokens_out": tokens.output,
            "tokens_cached": tokens.cached,
            "tokens_reasoning": tokens.reasoning,
            "counted": counted,
            "cost": self._sink.prices.cost(provider, model, tokens) if priced else None,
        }

    def _estimator(self) -> TokenEstimator:
        return self._sink.estimator(self.target, tuple(self._record.subjects))

    def _answer(self, body: bytes) -> int:
        """Return the estimate of the answer's tokens: of a whole body, or of what was delivered."""
        estimator = self._estimator()
        return round(estimator.by_text.of(text_in(body))) if body else estimator.tokens(self.passed)

    def _prompt(self) -> int:
        """Return the estimate of the prompt's tokens, which is made once and only if nobody told them."""
        if self._prompt_tokens is None:
            window = self._sink.prices.windows.get(self.target)
            base = self._sink.prices.base_model(*self._served)
            self._prompt_tokens = estimate_prompt(self._record.body, base, window)
        return self._prompt_tokens


def tokens_of(usage: Mapping[str, Any]) -> Tokens:
    """Return what a usage in OpenAI's words says; a number that is missing or no count is 0."""
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if usage.keys() <= _PLAIN:
        return Tokens(prompt, completion)
    tier = usage.get("service_tier")
    counts: dict[str, Any] = {"tier": tier} if isinstance(tier, str) else {}
    for part, names in _DETAILS.items():
        if type(details := usage.get(part)) is dict:
            counts |= {names[name]: _count(details, name) for name in details if name in names}
            if LIFETIMES in details:
                counts["written_1h"] = _count(details[LIFETIMES], "ephemeral_1h_input_tokens")
    return Tokens(prompt, completion, **counts)


_PLAIN = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_NO_TOKENS = Tokens(0, 0)
_DETAILS = {
    "prompt_tokens_details": {
        "cached_tokens": "cached",
        "cache_write_tokens": "written",
        "audio_tokens": "audio_input",
    },
    "completion_tokens_details": {"reasoning_tokens": "reasoning", "audio_tokens": "audio_output"},
}


def _is_free(outcome: Outcome) -> bool:
    """Return whether no provider bills what ends so before any content: it never came there, or was refused."""
    return outcome.kind in _FREE or (outcome.status is not None and outcome.status >= 400)


def _short(text: str | None) -> str | None:
    return text if text is None else text[:LONGEST_TEXT]


def _count(data: Any, name: str) -> int:
    """Return a number of the provider's; 0 if it is missing or no count."""
    value = data.get(name) if type(data) is dict or isinstance(data, Mapping) else None
    return value if isinstance(value, int) and 0 <= value < 2**40 else 0
