"""Ingress: the Ray shell around one Service. A plain class: only app.py makes a deployment of it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Any

import ray
import uvicorn
from ray import serve
from ray.serve._private import http_util
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp
from uvicorn.config import HTTP_PROTOCOLS

from actors.answers_actor import answers_actor
from actors.breaker_actor import breaker_actor
from actors.ledger_actor import ledger_actor
from actors.process import tune_process
from actors.ray_metrics import RayMeter
from deployments.breaker_client.actor_connection import ActorCall
from deployments.breaker_client.client import BreakerClient
from deployments.config.application import INGRESS, parse
from deployments.config.resolved import resolve
from deployments.doors.messages.door import MESSAGES
from deployments.doors.responses.door import RESPONSES
from deployments.errors import ErrorAnswer
from deployments.idempotency.answers_client import AnswersClient
from deployments.ingress.by_handle import HttpAnswer, HttpRequest, answer_by_handle, call_by_handle
from deployments.ingress.http import build_api_by_handle, build_server
from deployments.ingress.server import utf8_headers
from deployments.ingress.server.counts import counts_around
from deployments.ingress.server.protocol import Direct, protocol_with
from deployments.ingress.server.unix_socket import ServerWithUnixSocket
from deployments.openai_api.json_types import JsonObject
from deployments.python_api.chats import PythonApi
from deployments.python_api.doors import DoorApi
from deployments.python_api.facade import Facade, errors_as_dicts
from deployments.python_api.guarded_functions import Functions
from deployments.rpc.client import PooledTransport
from deployments.service.answers import FunctionPlan, HealthSummary, Nothing, ProviderHealth, SystemHealth, Thresholds
from deployments.service.arguments import CallOptions
from deployments.service.service import Service
from deployments.telemetry.otlp import tracer_for
from deployments.telemetry.request_log import flush_log, log_request
from deployments.usage.caller import Caller
from deployments.usage.ledger_client import LedgerClient
from deployments.usage.prices import PriceList

NEWEST_SECONDS = 20.0  # from its start a replica is one of the newest version for sure
CONNECT_SECONDS = 3.0  # how long a starting replica waits for the breaker actor; then it serves without it


def _put_around_server() -> None:
    """Have Serve put our middlewares around the server of this replica, which it starts after the constructor.

    What Serve read from the environment of this process is set here, unless an operator has set it.
    """
    of_this_process: Any = http_util
    if not of_this_process.RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH:
        of_this_process.RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH = f"{utf8_headers.__name__}:middlewares"


def _go_past_serve(direct: Direct) -> None:
    """Have the server of this replica, which Serve starts later, answer what is asked most itself."""

    def found(app: ASGIApp) -> None:
        if (counts := counts_around(app)) is not None:
            direct.counts = counts

    utf8_headers.on_server(found)
    protocols: dict[str, Any] = HTTP_PROTOCOLS
    protocols["auto"] = protocol_with(direct)  # what uvicorn takes where nobody names a protocol, as Serve does
    uvicorn.Server = ServerWithUnixSocket  # type: ignore[misc]  # by this name Serve makes it


class Ingress:
    """Serves the HTTP API and the Python API.

    `args` are the application's, as the YAML has them. `handles` are the provider deployments by name.
    """

    def __init__(self, args: JsonObject, handles: Mapping[str, DeploymentHandle[Any]]):
        tune_process()
        _put_around_server()
        resolved = resolve(parse(args))
        self._app = serve.get_replica_context().app_name
        self._starting = True
        self._meter = RayMeter(self._app)
        self._breaker_actor = breaker_actor(self._app)
        self._breaker = BreakerClient(self._connect, resolved.config.policy(), meter=self._meter)
        config = resolved.config
        self._ledger = LedgerClient(
            self._connect_ledger,
            config.ledger.journals(self._app),
            prices=PriceList(
                config.prices,
                {**resolved.embedding_windows(), **resolved.windows()},
                unpriced=config.limits.unpriced,
                ours=resolved.fixed(),
                addresses=resolved.billing_addresses(),
                base_models=resolved.base_models(),
                tiers=resolved.usual_tiers(),
            ),
            limits=config.limits.limits(),
            most=config.ledger.journal_megabytes * 1024 * 1024,
            host=ray.util.get_node_ip_address(),  # type: ignore[no-untyped-call]
        )
        self._ledger_config = config.ledger.for_actor(self._app)
        self._ledger_actor = ledger_actor(self._app, self._ledger_config)
        self._ledger_starting = True
        self._traces = tracer_for(INGRESS)
        transport = PooledTransport(handles, resolved.kinds().keys() - resolved.fixed())
        self._answers_actor = answers_actor(self._app)
        self._started_at = time.monotonic()
        self._service = Service(
            resolved,
            self._breaker,
            transport,
            self._ledger,
            [log_request],
            self._meter,
            self._traces,
            AnswersClient(self._connect_answers),
        )
        self._metering: asyncio.Task[None] | None = None
        self._python = PythonApi(self._service)
        self._responses, self._messages = DoorApi(self._service, RESPONSES), DoorApi(self._service, MESSAGES)
        self._by_handle = build_api_by_handle(self._service)
        self._facade = Facade(self._service)
        self._functions = Functions(self._service)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        app, direct = build_server(self._service)
        _go_past_serve(Direct(direct))
        return app

    async def reconfigure(self, user_config: JsonObject) -> None:
        """Apply `user_config`. Serve calls this once before the first request, and whenever it changes."""
        await self._service.reconfigure(user_config)
        self._ledger.start()
        if self._metering is None:
            self._metering = asyncio.create_task(self._meter.run(self._sample))
        if self._breaker.start():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._breaker.connected.wait()

    async def _connect(self) -> ActorCall:
        actor = await self._breaker_actor.get_or_create(self._service.breaker_config(), newest=self._starting)
        self._starting = False
        return _caller_of(actor)

    async def _connect_ledger(self) -> ActorCall:
        actor = await self._ledger_actor.get_or_create(self._ledger_config, newest=self._ledger_starting)
        self._ledger_starting = False
        return _caller_of(actor)

    async def _connect_answers(self) -> ActorCall:
        newest = time.monotonic() - self._started_at < NEWEST_SECONDS  # later another version may have come
        return _caller_of(await self._answers_actor.get_or_create({}, newest=newest))

    def _sample(self) -> None:
        self._service.sample()
        flush_log()

    async def __del__(self) -> None:
        """Send the last rows and spans. Serve awaits this when it stops the replica."""
        await self._ledger.close()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)

    # The Python API: `PythonApi` documents the answers, and `_options` the arguments behind a request.

    async def chat(self, request: object, *options: Any, **named: Any) -> JsonObject:
        return await self._python.chat(request, _options(*options, **named))

    async def embed(
        self,
        request: object,
        timeout_seconds: float | None = None,
        tenant_id: str | None = None,
        agent_id: str | None = None,
        explain: bool = False,
        trace: object = None,
        scope: object = None,
    ) -> JsonObject:
        caller = _by_handle(tenant_id, agent_id, explain, trace, scope=scope)
        return await self._python.embed(request, CallOptions(timeout_seconds, caller=caller))

    async def get_request(self, request_id: str) -> JsonObject:
        """Return what a request went through: see deployments/telemetry/explain.py."""
        return await errors_as_dicts(self._service.queries.request(request_id))

    async def get_usage_stats(self, tenant_id: str | None = None, agent_id: str | None = None) -> JsonObject:
        return await self._facade.get_usage_stats(tenant_id, agent_id)

    async def stream_chat(self, request: object, *options: Any, **named: Any) -> AsyncGenerator[JsonObject, None]:
        async with contextlib.aclosing(self._python.stream_chat(request, _options(*options, **named))) as chunks:
            async for chunk in chunks:
                yield chunk

    # The other APIs: `DoorApi` documents the answers.

    async def respond(self, request: object, *options: Any, **named: Any) -> JsonObject:
        return await self._responses.ask(request, _options(*options, **named))

    async def stream_respond(self, request: object, *options: Any, **named: Any) -> AsyncGenerator[JsonObject, None]:
        async with contextlib.aclosing(self._responses.stream(request, _options(*options, **named))) as events:
            async for event in events:
                yield event

    async def message(self, request: object, *options: Any, **named: Any) -> JsonObject:
        return await self._messages.ask(request, _options(*options, **named))

    async def stream_message(self, request: object, *options: Any, **named: Any) -> AsyncGenerator[JsonObject, None]:
        async with contextlib.aclosing(self._messages.stream(request, _options(*options, **named))) as events:
            async for event in events:
                yield event

    async def call_http(self, request: HttpRequest) -> AsyncGenerator[HttpAnswer | bytes, None]:
        """Yield the answer of the HTTP API: its head with the first bytes of its body, then the others."""
        async with contextlib.aclosing(call_by_handle(self._by_handle, request)) as answer:
            async for item in answer:
                yield item

    async def call_http_whole(self, request: HttpRequest) -> HttpAnswer:
        """Return the same as one, for what is no stream."""
        return await answer_by_handle(self._by_handle, request)

    # The facade: `Facade` documents the arguments and the answers.

    async def generate_completion(self, *arguments: Any, **named: Any) -> JsonObject:
        return await self._facade.generate_completion(*arguments, **named)

    async def generate_streaming_completion(self, *arguments: Any, **named: Any) -> AsyncGenerator[JsonObject, None]:
        async with contextlib.aclosing(self._facade.generate_streaming_completion(*arguments, **named)) as items:
            async for item in items:
                yield item

    async def get_system_health(self) -> SystemHealth:
        return await self._facade.get_system_health()

    async def get_health_summary(self) -> HealthSummary:
        return await self._facade.get_health_summary()

    async def get_all_provider_health(self) -> dict[str, ProviderHealth]:
        return await self._facade.get_all_provider_health()

    async def get_provider_health(self, name: str) -> ProviderHealth | ErrorAnswer:
        return await self._facade.get_provider_health(name)

    async def force_provider_recovery(self, name: str, admin_key: str | None = None) -> ProviderHealth | ErrorAnswer:
        return await self._facade.force_provider_recovery(name, admin_key)

    async def reset_provider_stats(self, name: str, admin_key: str | None = None) -> ProviderHealth | ErrorAnswer:
        return await self._facade.reset_provider_stats(name, admin_key)

    async def isolate(
        self, name: str, seconds: float | None = None, admin_key: str | None = None
    ) -> ProviderHealth | ErrorAnswer:
        return await self._facade.isolate(name, seconds, admin_key)

    async def restore(self, name: str, admin_key: str | None = None) -> ProviderHealth | ErrorAnswer:
        return await self._facade.restore(name, admin_key)

    async def thresholds(
        self, changes: JsonObject | None = None, admin_key: str | None = None
    ) -> Thresholds | ErrorAnswer:
        return await self._facade.thresholds(changes, admin_key)

    # Functions of other apps under our circuits, for `call_with_failover` in client.py.

    async def begin_call(
        self, names: list[str], primary: str | None = None, model: str | None = None
    ) -> FunctionPlan | ErrorAnswer:
        return await errors_as_dicts(self._functions.begin(names, primary, model))

    async def report_call(self, ended: list[JsonObject]) -> Nothing | ErrorAnswer:
        return await errors_as_dicts(self._functions.report(ended))


def _caller_of(actor: Any) -> ActorCall:
    def call(method: str, *arguments: object) -> Awaitable[Any]:
        answer: Awaitable[Any] = getattr(actor, method).remote(*arguments)
        return answer

    return call


def _options(
    timeout_seconds: float | None = None,
    drop_unsupported: str | None = None,
    tenant_id: str | None = None,
    agent_id: str | None = None,
    explain: bool = False,
    trace: object = None,
    session: str | None = None,
    scope: object = None,
) -> CallOptions:
    """Return what a call says beside its request, by place or by name."""
    caller = _by_handle(tenant_id, agent_id, explain, trace, session, scope)
    return CallOptions(timeout_seconds, drop_unsupported, caller)


def _by_handle(
    tenant_id: str | None,
    agent_id: str | None,
    explain: bool,
    trace: object,
    session: str | None = None,
    scope: object = None,
) -> Caller:
    return Caller("handle", tenant_id, agent_id, explain=explain is True, trace=trace, session=session, scope=scope)
