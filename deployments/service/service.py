"""What both doors stand on: one failover, one gate, and what is known of the providers. No Ray.

The methods here are the Python door: dicts in and dicts out, errors included, because a caller on
the cluster need not have our code on its path.
"""

import asyncio
import contextlib
import json
import logging
import math
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import ValidationError

from actors.breaker.messages import BreakerConfig
from actors.breaker.plan import of_functions
from actors.breaker.registry import COMMANDS
from actors.ledger.rows import LONGEST_TEXT, QUESTIONS, unknown_in
from actors.metrics import Meter, NoMeter
from deployments.breaker_client.client import BreakerClient
from deployments.config.application import INGRESS, ResolvedConfig, Tier, tuned
from deployments.config.settings import Overrides
from deployments.errors import BadRequest, BreakwaterError, ConfigError, NotFound, Unavailable, error_dict
from deployments.failover.deadline import Deadline
from deployments.failover.failover import Answer, Failover, Verb
from deployments.failover.image_fetch import ImageFetcher
from deployments.failover.model_rows import chat_rows, embedding_rows
from deployments.failover.stream import StreamAnswer
from deployments.openai_api.chat import Drop, Request, check_request, frames_to_chunks, writable
from deployments.openai_api.embeddings import check_embedding_request
from deployments.rpc.port import CallTransport
from deployments.service.auth import Authenticator
from deployments.service.health import external_providers, health_summary, provider_health, system_health
from deployments.telemetry.explain import Recent, explained, from_ledger
from deployments.telemetry.metrics import Metrics
from deployments.telemetry.request_record import Observer, RequestRecord, RequestSummary
from deployments.telemetry.tracer import Tracer
from deployments.usage.caller import Caller, check_caller, limit_reached
from deployments.usage.ledger_client import LedgerClient
from deployments.usage.records import UsageRecord

log = logging.getLogger(f"ray.serve.{__name__}")

MAX_ISOLATION = 30 * 86_400.0
USAGE_SECONDS = 10.0  # how long a question of usage may take the ledger
_BY_HANDLE = Caller("handle")
ACTOR_SECONDS = 0.5  # how long a question of health, or a command, waits for the breaker actor


class Service:
    """`watches` are told of each request that is over."""

    def __init__(
        self,
        layout: ResolvedConfig,
        link: BreakerClient,
        hop: CallTransport,
        ledger: LedgerClient | None = None,
        watches: Sequence[Observer] = (),
        meter: Meter | None = None,
        traces: Tracer | None = None,
    ):
        self.layout = layout
        self._configured = layout.config  # as the application's args have it
        self.link = link
        self.ledger = ledger
        self.gate = Authenticator(layout.config.auth)
        self.meter = meter or NoMeter()
        self._recent = Recent()
        images = ImageFetcher(layout.config.images.limits())
        self.failover = Failover(chat_rows(layout), {}, link, hop, images)
        self.embedder = Failover(embedding_rows(layout), {}, link, hop, images)
        self.traces = traces
        counted = Metrics(self.meter, self.models(), self.targets)
        self._watches: tuple[Observer, ...] = (self._recent.add, counted, *watches, *([traces] if traces else []))
        self._set_limits()

    def _set_limits(self) -> None:
        config = self.layout.config
        limits = {name: config.limits_of(name) for name in self.layout.usable}
        self.failover.limits = self.embedder.limits = limits
        self.link.set_policy(config.policy())

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Take new thresholds and timeouts while running; the board keeps its state.

        What can't be used is refused with an error in the log, and nothing changes: a typing error must
        not take a healthy replica down.
        """
        try:
            config = tuned(self._configured, user_config)
        except ConfigError as error:
            log.error("user_config of %s is not used: %s", INGRESS, error)  # noqa: TRY400  the sentence is all
            return
        self.layout = ResolvedConfig(config, self.layout.tiers)
        self._set_limits()
        if self.link.connected.is_set():
            with contextlib.suppress(Exception):  # a link that comes back says hello with this anyway
                await self._actor("hello", self.board_config())

    def board_config(self) -> BreakerConfig:
        """What the breaker actor is told of this application."""
        return {"policy": asdict(self.layout.config.policy()), "targets": sorted(self.targets)}

    @property
    def targets(self) -> set[str]:
        """Every target of every row, of chats and of embeddings."""
        return self.failover.rows.targets | self.embedder.rows.targets

    def deadline(self, seconds: Any = None) -> Deadline:
        """The caller's own deadline, or the configured one. Raises BadRequest."""
        if seconds is None:
            return Deadline.after(float(self.layout.config.timeouts.deadline), explicit=False)
        return Deadline.after(_positive(seconds, "timeout"), explicit=True)

    def begin(self, caller: Caller, request: Request, verb: Verb = "chat") -> RequestRecord:
        """The request's trail, with its account.

        Raises LimitReached if its tenant or key has none left, BadRequest for no name.
        """
        check_caller(caller, self.layout.config.tenants)
        account = self._account(caller, request)
        request_id = secrets.token_hex(8) if account is None else account.request_id
        row = request.model[:LONGEST_TEXT]
        trace = None if self.traces is None else self.traces.begin(caller.trace, verb)
        return RequestRecord(row, caller, request.stream, account, request_id, self._over, self.link.now, trace)

    def _account(self, caller: Caller, request: Request) -> UsageRecord | None:
        if self.ledger is None:
            return None
        if (refusal := self.ledger.admit(caller.tenant, caller.key_name)) is not None:
            error = limit_reached(refusal)
            self.meter.add("breakwater_refused_total", (str(error.code),))
            raise error
        return self.ledger.begin(
            tenant=caller.tenant,
            agent=caller.agent,
            key_name=caller.key_name,
            caller_id=caller.request_id,
            model_row=request.model,
            door=caller.door,
            stream=request.stream,
            body=request.body,
        )

    def _over(self, ended: RequestSummary) -> None:
        for watch in self._watches:
            watch(ended)

    def sample(self) -> None:
        """Tell the meter what is so now; to be called once a second."""
        for tier in self.layout.tiers:
            self.meter.set("breakwater_provider_info", (tier.name, tier.kind), float(tier.left_out is None))
        self.link.sample()
        if self.ledger is not None:
            self.ledger.sample(self.meter)

    async def request(self, name: str) -> dict[str, Any]:
        """What a request went through, by our id or its `x-request-id`. Raises NotFound and Unavailable."""
        found = self._recent.find(name)
        if found is None and self.ledger is not None:
            try:
                async with asyncio.timeout(USAGE_SECONDS):
                    rows = await self.ledger.request(name)
            except Exception as error:
                raise Unavailable(f"The ledger did not answer: {type(error).__name__}.") from error
            found = None if rows is None else from_ledger(rows["request"], rows["attempts"])
        if found is None:
            raise NotFound(f"The request '{name}' is not known.")
        return found

    async def chat(
        self,
        request: Any,
        timeout_seconds: float | None = None,
        drop_unsupported: str | None = None,
        caller: Caller = _BY_HANDLE,
    ) -> dict[str, Any]:
        """A chat completion, with `breakwater: {provider, model, attempts, degraded, dropped}`.

        On failure `{"error": {..., attempts}, "status": HTTP status}`.
        """
        try:
            checked = replace(check_request(_with_stream(request, False)), drop=drop_of(drop_unsupported))
            deadline = self.deadline(timeout_seconds)
            answer = await self.failover.complete(checked, deadline, self.begin(caller, checked))
        except BreakwaterError as error:
            return error_dict(error)
        return {**json.loads(answer.body), "breakwater": self.served_by(answer)}

    async def embed(
        self, request: Any, timeout_seconds: float | None = None, caller: Caller = _BY_HANDLE
    ) -> dict[str, Any]:
        """OpenAI's embeddings, with `breakwater` as in `chat`: its `model` says whose vectors they are."""
        try:
            answer = await self.embeddings(
                check_embedding_request(writable(request)), self.deadline(timeout_seconds), caller
            )
        except BreakwaterError as error:
            return error_dict(error)
        return {**json.loads(answer.body), "breakwater": self.served_by(answer)}

    async def embeddings(self, request: Request, deadline: Deadline, caller: Caller) -> Answer:
        """Raises as `Failover.complete` does, and BadRequest for a length that the row does not have."""
        lengths, asked = self._lengths(request.model), request.body.get("dimensions")
        if lengths and asked is not None and asked not in lengths:
            message = f"Invalid 'dimensions': the vectors of '{request.model}' have {' or '.join(map(str, lengths))}."
            raise BadRequest(message, "dimensions", "invalid_value")
        if lengths and asked is None:
            request = Request({**request.body, "dimensions": lengths[0]}, request.drop)
        return await self.embedder.complete(request, deadline, self.begin(caller, request, "embed"), "embed")

    def _lengths(self, model: str) -> list[int]:
        """How long the vectors of a row are, or those of a pinned target in the rows that have it."""
        rows = self.layout.config.embeddings
        if model in rows:
            return [rows[model].dimensions]
        return [row.dimensions for name, row in rows.items() if model in self.embedder.rows.of(name)]

    async def stream_chat(
        self,
        request: Any,
        timeout_seconds: float | None = None,
        drop_unsupported: str | None = None,
        caller: Caller = _BY_HANDLE,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Chunks, the first with `breakwater` as in `chat`. A failure is a last `{"error": ...}`."""
        try:
            checked = replace(check_request(_with_stream(request, True)), drop=drop_of(drop_unsupported))
            answer = await self.failover.stream(checked, self.deadline(timeout_seconds), self.begin(caller, checked))
        except BreakwaterError as error:
            yield error_dict(error)
            return
        extra = {"breakwater": self.served_by(answer)}
        try:
            async with contextlib.aclosing(answer.frames()) as frames:
                async for data in frames:
                    for chunk in frames_to_chunks(data):
                        yield {**chunk, **extra}
                        extra = {}
        finally:
            await answer.close()

    def served_by(self, answer: Answer | StreamAnswer) -> dict[str, Any]:
        """Who answered: the truth about one request."""
        provider, _, model = answer.target.partition("/")
        return {
            "provider": provider,
            "model": model,
            "attempts": answer.trail.made,
            "degraded": self.layout.config.providers[provider].kind == "local",
            "dropped": list(answer.dropped),
            "request_id": answer.trail.request_id,
            **self._explained(answer.trail),
        }

    def _explained(self, trail: RequestRecord) -> dict[str, Any]:
        """A stream that has just begun explains itself at its end."""
        return {"explained": explained(trail)} if trail.explain and trail.ended is not None else {}

    def models(self) -> list[str]:
        return list(dict.fromkeys([*self.failover.rows.names, *self.embedder.rows.names]))

    def model(self, name: str) -> str:
        """A row's name. Raises UnknownModel."""
        if name not in self.models():
            raise self.failover.rows.unknown(name)
        return name

    def tier(self, name: str) -> Tier:
        every = [*self.layout.tiers, *external_providers(self.layout.tiers, self.link.last_seen())]
        for tier in every:
            if tier.name == name:
                return tier
        known = ", ".join(t.name for t in every)
        raise NotFound(f"The provider '{name}' does not exist. Known providers: {known}.")

    async def health_summary(self) -> dict[str, Any]:
        targets, away = await self._targets()
        tiers = [*self.layout.tiers, *external_providers(self.layout.tiers, targets)]
        summary = health_summary(tiers, targets, actor_away=away)
        return summary if self.ledger is None else {**summary, "ledger": self.ledger.health()}

    async def usage(self, filters: Mapping[str, Any], group_by: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Who used what: see actors/ledger/queries.py. Raises BadRequest and Unavailable."""
        if (name := unknown_in(filters, group_by)) is not None:
            raise BadRequest(f"There is no '{name}' to ask the usage by. Known: {', '.join(QUESTIONS)}.", name)
        try:
            async with asyncio.timeout(USAGE_SECONDS):
                if self.ledger is None:
                    raise ConnectionError("no ledger")
                return await self.ledger.usage(filters, group_by)
        except Exception as error:
            raise Unavailable(f"The ledger did not answer: {type(error).__name__}.") from error

    async def usage_stats(self, tenant_id: str | None = None, agent_id: str | None = None) -> dict[str, Any]:
        """What a tenant, an agent, or all have used: in total, and by provider and model."""
        filters = {k: v for k, v in (("tenant", tenant_id), ("agent", agent_id)) if v is not None}
        try:
            total, *_ = await self.usage(filters) or [{}]
            models = await self.usage(filters, ["provider", "model"])
        except BreakwaterError as error:
            return error_dict(error)
        return {"tenant_id": tenant_id, "agent_id": agent_id, **total, "by_model": models}

    async def system_health(self) -> dict[str, Any]:
        targets, _ = await self._targets()
        return system_health(self.layout.config.mode, self.layout.tiers, targets)

    async def provider_health(self, name: str) -> dict[str, Any]:
        tier = self.tier(name)
        targets, _ = await self._targets()
        return provider_health(tier, targets)

    async def command(self, verb: str, provider: str, seconds: Any = None) -> dict[str, Any]:
        """Isolate (for `seconds`, by default an hour), restore, recover or reset a provider; its health afterwards."""
        if verb not in COMMANDS:
            raise NotFound(f"No such command: {verb}. Known commands: {', '.join(COMMANDS)}.")
        tier = self.tier(provider)
        limit = None if seconds is None else _positive(seconds, "seconds", MAX_ISOLATION)
        await self._ordered("command", verb, tier.name, limit)
        return await self.provider_health(provider)

    async def thresholds(self, changes: Any = None) -> dict[str, Any]:
        """The breaker's policy in force; `changes` are set over the config and kept, null takes one back."""
        if changes:
            try:
                checked = Overrides.model_validate(changes).model_dump(exclude_unset=True)
            except ValidationError as error:
                key = ".".join(str(part) for part in error.errors()[0]["loc"])
                raise BadRequest(f"Invalid '{key}': {error.errors()[0]['msg']}.", key) from None
            return dict(await self._ordered("override", checked))
        return dict((await self._told("health"))["policy"])

    async def _ordered(self, method: str, *arguments: Any) -> Any:
        """An operator's word holds here from the next request on; the other replicas hear of it in a moment."""
        answer = await self._told(method, *arguments)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(ACTOR_SECONDS):
                await self.link.look()
        return answer

    async def _told(self, method: str, *arguments: Any) -> Any:
        try:
            return await self._actor(method, *arguments)
        except Exception as error:
            raise Unavailable(f"The breaker actor did not answer: {type(error).__name__}.") from error

    def ready(self) -> bool:
        """Can any row be answered, as far as we know?"""
        return any(
            (plan := self.link.plan(rows.of(n))).candidates or plan.panics
            for rows in (self.failover.rows, self.embedder.rows)
            for n in rows.names
        )

    async def _targets(self) -> tuple[dict[str, Any], bool]:
        """What is known of each target, and whether that is without the actor: its last sight then."""
        try:
            known, away = (await self._actor("health"))["targets"], False
        except Exception as error:
            log.warning("no health from the breaker actor: %s", type(error).__name__)
            known, away = self.link.last_seen(), True
        mine = self.targets
        return {name: t for name, t in known.items() if name in mine or of_functions(name)}, away

    async def _actor(self, method: str, *arguments: Any) -> Any:
        async with asyncio.timeout(ACTOR_SECONDS):
            return await self.link.call(method, *arguments)


def drop_of(word: Any) -> Drop | None:
    """Raises BadRequest."""
    match word:
        case None | "none" | "hints" | "all":
            return word
    raise BadRequest("'drop_unsupported' must be one of none, hints, all.", "drop_unsupported", "invalid_value")


def _positive(value: Any, name: str, most: float = math.inf) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and 0 < number <= most):
        limit = "" if most == math.inf else f", {most:g} at most"
        raise BadRequest(f"'{name}' must be a positive number of seconds{limit}, not {value!r}.", name)
    return number


def _with_stream(request: Any, stream: bool) -> Any:
    return {**request, "stream": stream} if isinstance(request, dict) else request
