"""The service under the HTTP API and the Python API: it begins each request and has it answered. No Ray."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Sequence
from dataclasses import asdict, replace

from msgspec import structs

from actors.breaker.messages import BreakerConfig
from actors.breaker.plan import parts_of, place_of
from actors.ledger.rows import LONGEST_TEXT
from actors.metrics import Meter, NoMeter
from deployments.breaker_client.client import BreakerClient
from deployments.config.application import INGRESS, apply_user_config
from deployments.config.resolved import ResolvedConfig
from deployments.doors.door import Served
from deployments.errors import BadRequest, ConfigError, NoAnswer
from deployments.failover.attempts.deadline import Deadline
from deployments.failover.calls import Answer, Verb
from deployments.failover.failover import Failover
from deployments.failover.streams.answer import StreamAnswer
from deployments.idempotency.answers_client import AnswersClient, alone
from deployments.idempotency.sharing import Sharing
from deployments.openai_api.chat import Request
from deployments.openai_api.json_types import JsonObject
from deployments.overload.loads import Loads
from deployments.providers.kinds import KINDS
from deployments.routing.image_fetch import ImageFetcher
from deployments.routing.model_rows import chat_rows, embedding_rows
from deployments.rpc.port import CallTransport
from deployments.service.admission import UNLIMITED, Admission, admit
from deployments.service.answers import ServedBy
from deployments.service.arguments import parse_seconds
from deployments.service.auth import Authenticator
from deployments.service.operations import ACTOR_SECONDS, Operations
from deployments.service.queries import Queries
from deployments.sessions.affinity import Affinity, session_key
from deployments.telemetry.explain import explain
from deployments.telemetry.metrics import Metrics
from deployments.telemetry.recent import RecentRequests
from deployments.telemetry.request_record import Observer, RequestRecord, RequestSummary
from deployments.telemetry.tracer import Tracer
from deployments.usage.caller import Caller, check_caller, scope_of
from deployments.usage.ledger_client import LedgerClient
from deployments.usage.prompt_estimate import estimate_prompt
from deployments.usage.records import UsageRecord

FAILED = frozenset({"failed_start", "failed_stream", "throttled", "misconfigured"})  # verdicts of actors/breaker

log = logging.getLogger(f"ray.serve.{__name__}")


class Service:
    """Answers requests, for the HTTP API and the Python API alike.

    `observers` get the summary of each finished request. Without `ledger` no usage is recorded and no limit holds, and
    without `answers` this replica has no others.
    """

    def __init__(
        self,
        resolved: ResolvedConfig,
        breaker: BreakerClient,
        transport: CallTransport,
        ledger: LedgerClient | None = None,
        observers: Sequence[Observer] = (),
        meter: Meter | None = None,
        traces: Tracer | None = None,
        answers: AnswersClient | None = None,
    ):
        self.resolved = resolved
        self._base_config = resolved.config  # without user_config
        self.breaker = breaker
        breaker.places = resolved.places
        breaker.loads = Loads(resolved.concurrency())
        self.ledger = ledger
        self.authenticator = Authenticator(resolved.config.auth)
        self.meter = meter or NoMeter()
        recent = RecentRequests()
        images = ImageFetcher(resolved.config.images.limits())
        affinity = resolved.config.affinity
        self.sharing = Sharing(resolved.config.idempotency, answers or alone(), self.meter)
        self._affinity = Affinity(float(affinity.seconds), float(affinity.longest))
        self.failover = Failover(chat_rows(resolved), {}, breaker, transport, images, self._affinity)
        self.embedder = Failover(embedding_rows(resolved), {}, breaker, transport, images)
        self.traces = traces
        self.queries = Queries(recent, ledger)
        self.operations = Operations(resolved, breaker, [self.failover.rows, self.embedder.rows], ledger)
        metrics = Metrics(self.meter, self.models(), self.targets)
        self._observers: tuple[Observer, ...] = (
            recent.add,
            metrics,
            self._bind,
            *observers,
            *([traces] if traces else []),
        )
        self._set_limits()
        for warning in resolved.warnings():
            log.warning("%s", warning)

    def _set_limits(self) -> None:
        config = self.resolved.config
        limits = {name: config.limits_of(name) for name in self.resolved.usable}
        self.failover.set_limits(limits)
        self.embedder.set_limits(limits)
        self.breaker.set_policy(config.policy())

    async def reconfigure(self, user_config: JsonObject) -> None:
        """Apply new thresholds and timeouts while running. The breaker registry keeps its state.

        An invalid `user_config` is logged as an error and changes nothing: a typing error must not take
        a healthy replica down.
        """
        try:
            config = apply_user_config(self._base_config, user_config)
        except ConfigError as error:
            log.error("user_config of %s is invalid, so nothing changes: %s", INGRESS, error)  # noqa: TRY400  no stack needed
            return
        self.resolved = replace(self.resolved, config=config)
        self._set_limits()
        if self.breaker.connected.is_set():
            with contextlib.suppress(Exception):  # a client that reconnects sends this anyway
                async with asyncio.timeout(ACTOR_SECONDS):
                    await self.breaker.call("hello", self.breaker_config())

    def breaker_config(self) -> BreakerConfig:
        """Return this application's part of the breaker actor's configuration: `{policy, targets}`."""
        return {"policy": asdict(self.resolved.config.policy()), "targets": sorted(self.targets)}

    @property
    def targets(self) -> set[str]:
        """Return every target of every row, of chats and of embeddings."""
        return self.failover.rows.targets | self.embedder.rows.targets

    def deadline(self, seconds: object = None, name: str = "timeout", now: float | None = None) -> Deadline:
        """Return the caller's own deadline, `seconds` from now, or the configured one.

        Raises BadRequest with `name` as param, which is where the caller has written them.
        """
        if seconds is None:
            return Deadline.after(float(self.resolved.config.timeouts.deadline), explicit=False, now=now)
        return Deadline.after(parse_seconds(seconds, name), explicit=True, now=now)

    async def admit(self, caller: Caller, request: Request, verb: Verb = "chat") -> RequestRecord:
        """Begin a request if its caller's limits allow it, and return its record.

        Raises LimitReached, NotPriced, and BadRequest for an invalid name of a tenant or an agent.
        """
        check_caller(caller, self.resolved.config.tenants)
        if caller.scope is not None:
            scope_of(caller)  # what is wrong with it is told before anything is counted
        if self.ledger is None:
            return self.begin(caller, request, verb)
        rows = (self.failover if verb == "chat" else self.embedder).rows
        output_tokens = self.resolved.config.limits.output_tokens
        admission = await admit(self.ledger, caller, request, rows, output_tokens, self.meter)
        try:
            return self.begin(caller, request, verb, admission)
        except BaseException:
            admission.withdraw()
            raise

    def begin(
        self, caller: Caller, request: Request, verb: Verb = "chat", admission: Admission = UNLIMITED
    ) -> RequestRecord:
        """Begin a request that was admitted, and return its record, with its usage record."""
        rows = (self.failover if verb == "chat" else self.embedder).rows
        row = rows.name_of(request.model)[:LONGEST_TEXT]
        usage = self._begin_usage(caller, request, row, admission)
        request_id = secrets.token_hex(8) if usage is None else usage.request_id
        trace = None if self.traces is None else self.traces.begin(caller.trace, verb)
        record = RequestRecord(row, caller, request.stream, usage, request_id, self._notify, self.breaker.now, trace)
        record.barred = admission.barred
        record.session = _session_of(caller, request, row)
        if (scopes := self.resolved.config.scopes) or caller.scope is not None or caller.key_tags:
            record.scope = scope_of(caller) | scopes.of(caller.tenant, caller.key_name)
        if rows.places:
            record.spread_key = record.session or _who(caller)
        return record

    def _begin_usage(self, caller: Caller, request: Request, row: str, admission: Admission) -> UsageRecord | None:
        if self.ledger is None:
            return None
        return self.ledger.begin(
            tenant=caller.tenant,
            agent=caller.agent,
            key_name=caller.key_name,
            caller_id=caller.request_id,
            model_row=row,
            door=caller.door,
            stream=request.stream,
            body=request.body,
            reservation=admission.reservation,
        )

    def _bind(self, summary: RequestSummary) -> None:
        """Remember who has a conversation's prompt in its cache now. The local model keeps none that is worth it."""
        if summary.session is None:
            return
        for record in summary.attempts:
            if record.verdict in FAILED:
                self._affinity.failed(summary.session, record.target)
        if summary.outcome == "ok" and summary.target is not None and not self._is_fixed(summary.target):
            self._affinity.served(summary.session, summary.target, self.breaker.now())

    def _is_fixed(self, target: str) -> bool:
        return KINDS[self.failover.rows.kind(target)].in_process

    def _notify(self, summary: RequestSummary) -> None:
        for observe in self._observers:
            observe(summary)

    def sample(self) -> None:
        """Set the gauges to their present values, and look for new keys. To be called once a second."""
        for tier in self.resolved.tiers:
            self.meter.set("breakwater_provider_info", (tier.name, tier.kind), float(tier.left_out is None))
        self.breaker.sample()
        self.authenticator.refresh()
        if self.ledger is not None:
            self.ledger.sample(self.meter)

    async def complete(self, request: Request, deadline: Deadline, caller: Caller) -> Answer:
        """Return the answer of a chat completion. Raises as `begin` and `Failover.complete` do."""
        return await self.failover.complete(request, deadline, await self.admit(caller, request))

    async def stream(self, request: Request, deadline: Deadline, caller: Caller) -> StreamAnswer:
        """Return a chat completion's stream once its first content is there. Raises as `complete` does."""
        return await self.failover.stream(request, deadline, await self.admit(caller, request))

    async def embeddings(self, request: Request, deadline: Deadline, caller: Caller) -> Answer:
        """Return the answer of an embedding request.

        Raises as `complete` does, and BadRequest if the row's vectors don't have the requested dimensions.
        """
        lengths, requested = self._lengths(request.model), request.body.get("dimensions")
        if lengths and requested is not None and requested not in lengths:
            message = f"Invalid 'dimensions': the vectors of '{request.model}' have {' or '.join(map(str, lengths))}."
            raise BadRequest(message, "dimensions", "invalid_value")
        if lengths and requested is None:
            request = structs.replace(request, body={**request.body, "dimensions": lengths[0]})
        return await self.embedder.complete(request, deadline, await self.admit(caller, request, "embed"), "embed")

    def estimate(self, request: Request) -> int:
        """Return about how many tokens a chat's prompt has at the first target of its row. Raises UnknownModel."""
        targets = self.failover.rows.targets_of(request.models)
        return estimate_prompt(request.body, self.failover.rows.base_model(targets[0]) if targets else "")

    def check_dropped(self, request: Request, dropped: Sequence[str]) -> None:
        """Raise BadRequest where a door has left something out of a request of which nothing may be."""
        if dropped and request.native is None and not self.failover.rows.may_drop_hints(request):
            message = f"No provider gets '{dropped[0]}' of this request, and nothing of it may be left out."
            raise BadRequest(message, dropped[0], "unsupported_parameter")

    def served(self, answer: Answer | StreamAnswer, request: Request) -> Served:
        """Return what a door says of a request."""
        estimate = self.estimate(request) if answer.usage is None else 0
        began = answer.record.began_at // 1000
        return Served(answer.record.request_id, began, estimate=estimate, native=answer.native)

    def measure(self, request: Request, error: NoAnswer) -> None:
        """Note in the error of a prompt that was too long how long it is, and what its row can hold."""
        if error.last is not None and error.last.kind == "too_long":
            rows = self.failover.rows
            windows = [rows.windows[target] for target in rows.targets_of(request.models) if target in rows.windows]
            error.tokens, error.window = self.estimate(request), max(windows, default=None)

    def _lengths(self, model: str) -> list[int]:
        """Return the vector lengths of a row, or of a pinned target in all rows that have it."""
        rows = self.resolved.config.embeddings
        if (row := self.embedder.rows.name_of(model)) in rows:
            return [rows[row].dimensions]
        return [row.dimensions for name, row in rows.items() if model in self.embedder.rows.of(name)]

    def served_by(self, answer: Answer | StreamAnswer, dropped: Sequence[str] | None = None) -> ServedBy:
        """Return who answered a request, and how. `dropped` is what was left out, where a door has other words for it.

        `explained` is there if the caller wants it and the request is over: a stream explains itself at its end.
        """
        provider, model = parts_of(answer.target)
        served: ServedBy = {
            "provider": provider,
            "model": model,
            "attempts": answer.record.made,
            "degraded": self.is_degraded(provider),
            "dropped": list(answer.dropped if dropped is None else dropped),
            "request_id": answer.record.request_id,
        }
        if place := place_of(answer.target):
            served["place"] = place
        if answer.record.explain and answer.record.summary is not None:
            served["explained"] = explain(answer.record)
        return served

    def is_degraded(self, provider: str) -> bool:
        """Return whether its answers are those of the model in this machine, which stands in for clouds."""
        return KINDS[self.resolved.config.providers[provider].kind].in_process

    def models(self) -> list[str]:
        """Return the names of all rows, those of chats first."""
        return list(dict.fromkeys([*self.failover.rows.names, *self.embedder.rows.names]))

    def model_names(self) -> list[str]:
        """Return all names that clients may write: those of the rows, and their other names."""
        return list(dict.fromkeys([*self.models(), *self.failover.rows.aliases, *self.embedder.rows.aliases]))

    def model(self, name: str) -> str:
        """Return the name if it is a row's, an other one included. Raises UnknownModel."""
        if not any(rows.name_of(name) in rows.names for rows in (self.failover.rows, self.embedder.rows)):
            raise self.failover.rows.unknown(name)
        return name


def _who(caller: Caller) -> bytes:
    """Return by what callers without a session are told apart, to spread them over places."""
    return "\0".join((caller.tenant or "", caller.key_name or "", caller.agent or "")).encode(errors="replace")


def _session_of(caller: Caller, request: Request, row: str) -> bytes | None:
    """Return the key of the request's conversation: by the caller's word, or by OpenAI's own field for the same."""
    session = caller.session or request.body.get("prompt_cache_key")
    if not isinstance(session, str) or not session:
        return None
    return session_key(caller.tenant, caller.key_name, row, session)
