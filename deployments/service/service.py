"""What both doors stand on: one failover, one gate, and what is known of the providers. No Ray.

The methods here are the Python door: dicts in and dicts out, errors included, because a caller on
the cluster need not have our code on its path.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from actors.ledger.rows import LONGEST_TEXT
from actors.metrics import Meter, NoMeter
from deployments.breaker_client.client import BreakerClient
from deployments.config.application import INGRESS, ResolvedConfig, tuned
from deployments.errors import BadRequest, ConfigError
from deployments.failover.calls import Answer, Verb
from deployments.failover.deadline import Deadline
from deployments.failover.failover import Failover
from deployments.failover.stream import StreamAnswer
from deployments.openai_api.chat import Request
from deployments.routing.image_fetch import ImageFetcher
from deployments.routing.model_rows import chat_rows, embedding_rows
from deployments.rpc.port import CallTransport
from deployments.service.arguments import positive_seconds
from deployments.service.auth import Authenticator
from deployments.service.operations import ACTOR_SECONDS, Operations
from deployments.service.queries import Queries
from deployments.telemetry.explain import RecentRequests, explain
from deployments.telemetry.metrics import Metrics
from deployments.telemetry.request_record import Observer, RequestRecord, RequestSummary
from deployments.telemetry.tracer import Tracer
from deployments.usage.caller import Caller, check_caller, limit_reached
from deployments.usage.ledger_client import LedgerClient
from deployments.usage.records import UsageRecord

log = logging.getLogger(f"ray.serve.{__name__}")


class Service:
    """What the HTTP API and the Python API stand on. `observers` get the summary of each request that is over."""

    def __init__(
        self,
        layout: ResolvedConfig,
        link: BreakerClient,
        hop: CallTransport,
        ledger: LedgerClient | None = None,
        observers: Sequence[Observer] = (),
        meter: Meter | None = None,
        traces: Tracer | None = None,
    ):
        self.layout = layout
        self._configured = layout.config  # as the application's args have it
        self.link = link
        self.ledger = ledger
        self.authenticator = Authenticator(layout.config.auth)
        self.meter = meter or NoMeter()
        recent = RecentRequests()
        images = ImageFetcher(layout.config.images.limits())
        self.failover = Failover(chat_rows(layout), {}, link, hop, images)
        self.embedder = Failover(embedding_rows(layout), {}, link, hop, images)
        self.traces = traces
        self.queries = Queries(recent, ledger)
        self.operations = Operations(layout, link, [self.failover.rows, self.embedder.rows], ledger)
        counted = Metrics(self.meter, self.models(), self.targets)
        self._observers: tuple[Observer, ...] = (recent.add, counted, *observers, *([traces] if traces else []))
        self._set_limits()

    def _set_limits(self) -> None:
        config = self.layout.config
        limits = {name: config.limits_of(name) for name in self.layout.usable}
        self.failover.set_limits(limits)
        self.embedder.set_limits(limits)
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
                async with asyncio.timeout(ACTOR_SECONDS):
                    await self.link.call("hello", self.breaker_config())

    def breaker_config(self) -> dict[str, Any]:
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
        return Deadline.after(positive_seconds(seconds, "timeout"), explicit=True)

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
        for observe in self._observers:
            observe(ended)

    def sample(self) -> None:
        """Tell the meter what is so now; to be called once a second."""
        for tier in self.layout.tiers:
            self.meter.set("breakwater_provider_info", (tier.name, tier.kind), float(tier.left_out is None))
        self.link.sample()
        if self.ledger is not None:
            self.ledger.sample(self.meter)

    async def complete(self, request: Request, deadline: Deadline, caller: Caller) -> Answer:
        """Answer a chat completion. Raises as `begin` and `Failover.complete` do."""
        return await self.failover.complete(request, deadline, self.begin(caller, request))

    async def stream(self, request: Request, deadline: Deadline, caller: Caller) -> StreamAnswer:
        """Answer a chat completion as a stream whose first content has come. Raises as `complete` does."""
        return await self.failover.stream(request, deadline, self.begin(caller, request))

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

    def served_by(self, answer: Answer | StreamAnswer) -> dict[str, Any]:
        """Who answered: the truth about one request."""
        provider, _, model = answer.target.partition("/")
        return {
            "provider": provider,
            "model": model,
            "attempts": answer.record.made,
            "degraded": self.layout.config.providers[provider].kind == "local",
            "dropped": list(answer.dropped),
            "request_id": answer.record.request_id,
            **self._explained(answer.record),
        }

    def _explained(self, record: RequestRecord) -> dict[str, Any]:
        """A stream that has just begun explains itself at its end."""
        return {"explained": explain(record)} if record.explain and record.summary is not None else {}

    def models(self) -> list[str]:
        return list(dict.fromkeys([*self.failover.rows.names, *self.embedder.rows.names]))

    def model(self, name: str) -> str:
        """A row's name. Raises UnknownModel."""
        if name not in self.models():
            raise self.failover.rows.unknown(name)
        return name
