"""A service with everything behind it but Ray: a real board, a real failover, scripted replicas."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from actors.breaker.circuit import Policy
from actors.breaker.outcomes import Outcome
from actors.breaker.registry import Registry
from deployments.breaker_client.client import BreakerClient
from deployments.config.application import Config, parse
from deployments.config.places import Tier
from deployments.config.resolved import ResolvedConfig
from deployments.idempotency.answers_client import AnswersClient
from deployments.openai_api.chat import Head, chunk, completion, dump, usage_chunk
from deployments.python_api.chats import PythonApi
from deployments.service.service import Service
from deployments.telemetry.tracer import Tracer

ARGS: dict[str, Any] = {
    "providers": {
        "aws": {"kind": "bedrock", "region": "us-east-1"},
        "openai": {"kind": "openai"},
        "local": {"kind": "local", "model_path": "smol.gguf"},
    },
    "models": {"default": {"aws": "haiku", "openai": "gpt", "local": "smol"}, "solo": {"openai": "gpt"}},
}
HEAD = Head("chatcmpl-1", 1, "default")
REQUEST = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}


@dataclass
class Script:
    """What one provider does: `ends` of calls in turn, the last one for good. None is an answer."""

    ends: list[Outcome | None] = field(default_factory=lambda: [None])
    seconds: float = 0.0  # before the answer, or before the first frame
    words: list[str] = field(default_factory=lambda: ["Hel", "lo"])
    deltas: list[dict[str, Any]] | None = None  # in place of the words
    head: Head = HEAD  # of its streams
    usage: dict[str, int] = field(default_factory=lambda: {"total_tokens": 3})  # of its streams
    pace: float = 0.0
    pauses: dict[int, float] = field(default_factory=dict)  # after so many words of a stream, in place of the pace
    after: int | None = None  # a stream ends badly after so many words
    pieces: list[float] = field(default_factory=list)  # the pauses before each piece of a whole answer, and its end
    told: dict[str, int] | None = None  # the usage that it has told by then
    by_body: Callable[[Mapping[str, Any]], list[dict[str, Any]] | Outcome] | None = None  # the deltas of a stream
    bodies: list[Mapping[str, Any]] = field(default_factory=list)  # of the last streams that were asked for
    calls: int = 0
    cancelled: int = 0

    def next_end(self) -> Outcome | None:
        self.calls += 1
        return self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]


@dataclass
class ScriptedHop:
    providers: dict[str, Script]
    last: dict[str, Any] = field(default_factory=dict)  # what was asked for
    traces: list[Any] = field(default_factory=list)  # what each call was told of its trace

    def script_of(self, provider: str, call: Mapping[str, Any]) -> Script:
        return self.providers[f"{provider}#{call['place']}" if "place" in call else provider]

    async def complete(self, provider: str, call: Mapping[str, Any], on_piece: Any = None) -> dict[str, Any]:
        script = self.script_of(provider, call)
        self.traces.append(call.get("trace"))
        self.last = {"verb": call["verb"], "dimensions": call["body"].get("dimensions")}
        end = script.next_end()
        try:
            await asyncio.sleep(script.seconds)
            for pause in script.pieces:
                if on_piece is not None:
                    on_piece()
                await asyncio.sleep(pause)
        except asyncio.CancelledError:
            script.cancelled += 1
            raise
        upstream = {"ms": script.seconds * 1000, "connect_ms": 1.0, **({"streamed": True} if script.pieces else {})}
        if end is not None:
            came = chunk(HEAD, {"content": "Hel"}) if script.pieces else b""
            return {"outcome": asdict(end), "came": came, "told": script.told, "upstream": upstream}
        body = dump(completion(HEAD, f"{provider} says hello", "stop", {"total_tokens": 3}))
        return {"body": body, "usage": None, "upstream": upstream}

    async def stream(self, provider: str, call: Mapping[str, Any]) -> AsyncGenerator[bytes | dict[str, Any], None]:
        script = self.script_of(provider, call)
        self.traces.append(call.get("trace"))
        end = script.next_end()
        script.bodies = [*script.bodies[-3:], call["body"]]
        deltas = [{"content": word} for word in script.words] if script.deltas is None else script.deltas
        if script.by_body is not None:
            said = script.by_body(call["body"])
            deltas, end = ([], said) if isinstance(said, Outcome) else (said, end)
        words = deltas if script.after is None else deltas[: script.after]
        try:
            await asyncio.sleep(script.seconds)
            if end is None or script.after is not None:
                if script.told and call.get("hears_usage"):
                    yield {"told": script.told}
                for number, delta in enumerate(words, 1):
                    yield chunk(script.head, delta)
                    await asyncio.sleep(script.pauses.get(number, script.pace))
        except (asyncio.CancelledError, GeneratorExit):
            script.cancelled += 1
            raise
        last = (
            {"outcome": asdict(end), "told": script.told}
            if end is not None
            else {"usage": script.usage, "tail": _tail(script, call)}
        )
        took = script.seconds * 1000
        yield {**last, "upstream": {"first_ms": took, "ms": took + len(words) * script.pace * 1000}}


def _tail(script: Script, call: Mapping[str, Any]) -> bytes:
    wants = (call["body"].get("stream_options") or {}).get("include_usage")
    return usage_chunk(script.head, script.usage) if wants else b""


class ActorInProcess:
    """The breaker actor's methods over a board on the loop's clock; can be away, slow, or restarted."""

    def __init__(self, config: Mapping[str, Any]):
        self.away = False
        self.slow = 0.0
        self.asks = 0
        self.polls = 0
        self.incarnation = 1
        self.overrides: dict[str, Any] = {}
        self.changes: list[dict[str, Any]] = []
        self.start(config)

    def start(self, config: Mapping[str, Any]) -> None:
        self.configured = dict(config["policy"])
        self.board = Registry(Policy(**{**self.configured, **self.overrides}), incarnation=self.incarnation)
        self.board.expect(config["targets"])
        self.changed = asyncio.Event()

    async def __call__(self, method: str, *arguments: Any) -> Any:
        if self.away:
            raise ConnectionError("killed")
        if self.slow:
            await asyncio.sleep(self.slow)
        result = await getattr(self, method)(*arguments)
        self.changed.set()
        self.changed = asyncio.Event()
        return result

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def hello(self, config: Mapping[str, Any]) -> None:
        self.configured = dict(config["policy"])
        self.board.policy = Policy(**{**self.configured, **self.overrides})

    async def expect(self, targets: list[str]) -> None:
        self.board.expect(targets, self.now)

    async def watch(self, seen: tuple[int, int] | None) -> dict[str, Any]:
        while seen == (self.incarnation, self.board.version):
            await self.changed.wait()
            if self.away:
                raise ConnectionError("killed")
        return {
            "version": (self.incarnation, self.board.version),
            "policy": asdict(self.board.policy),
            "targets": self.board.snapshot(self.now),
        }

    async def ask(self, target: str, name: str, panic: bool = False) -> dict[str, Any] | None:
        self.asks += 1
        permit = self.board.ask(self.now, target, name, panic=panic)
        return permit and {**permit, "incarnation": self.incarnation}

    async def report(self, replica: str, number: int, items: list[dict[str, Any]]) -> int:
        self.board.batch(self.now, replica, number, items)
        return number

    async def command(self, verb: str, provider: str, seconds: float | None = None, by: str = "") -> int:
        self.changes.insert(0, {"at": self.now, "by": by, "what": f"{verb} {provider}", "detail": ""})
        return self.board.command(self.now, verb, provider, seconds)

    async def override(self, changes: Mapping[str, Any], by: str = "") -> dict[str, Any]:
        self.changes.insert(0, {"at": self.now, "by": by, "what": "thresholds", "detail": ""})
        self.overrides = {k: v for k, v in {**self.overrides, **changes}.items() if v is not None}
        self.board.policy = Policy(**{**self.configured, **self.overrides})
        self.board.version += 1
        return asdict(self.board.policy)

    async def health(self) -> dict[str, Any]:
        policy = asdict(self.board.policy)
        set_by = {"configured": self.configured, "overrides": self.overrides, "changes": self.changes}
        return {"incarnation": self.incarnation, "policy": policy, **set_by, "targets": self.board.health(self.now)}

    async def status(self) -> dict[str, Any]:
        self.polls += 1
        return {**await self.health(), "trends": self.board.histories(self.now)}

    def kill(self) -> None:
        self.away = True
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass
class World:
    service: Service
    hop: ScriptedHop
    actor: ActorInProcess
    breaker: BreakerClient

    @property
    def python(self) -> PythonApi:
        return PythonApi(self.service)

    def provider(self, name: str) -> Script:
        return self.hop.providers[name]

    async def settle(self) -> None:
        """Until every report is at the actor and every change is back."""
        await asyncio.sleep(0.6)

    def targets(self) -> dict[str, Any]:
        return self.actor.board.health(self.actor.now)


def layout_of(args: Mapping[str, Any], left_out: Mapping[str, str] | None = None) -> ResolvedConfig:
    config: Config = parse(args)
    reasons = left_out or {}
    return ResolvedConfig(config, tuple(_tier(n, config, reasons) for n in config.tier_names()))


def _tier(name: str, config: Config, reasons: Mapping[str, str]) -> Tier:
    """Return a provider that can be called, whatever the environment has, if no reason says otherwise."""
    settings = config.providers[name]
    places = [replace(p, left_out=reasons.get(f"{name}#{p.name}")) for p in settings.place_states()]
    return Tier(name, settings.kind, reasons.get(name), tuple(places))


@contextlib.asynccontextmanager
async def world(
    args: Mapping[str, Any] = ARGS,
    traces: Tracer | None = None,
    answers: AnswersClient | None = None,
    **scripts: Script,
) -> AsyncIterator[World]:
    layout = layout_of(args)
    sites = [f"{tier.name}#{place.name}" for tier in layout.tiers for place in tier.places]
    hop = ScriptedHop({name: scripts.get(name, Script()) for name in (*layout.config.providers, *sites)})
    made: list[ActorInProcess] = []

    async def connect() -> Callable[..., Awaitable[Any]]:
        if not made:
            made.append(ActorInProcess(service.breaker_config()))
        if made[0].away:
            raise ConnectionError("killed")
        return made[0]

    breaker = BreakerClient(connect, layout.config.policy(), clock=asyncio.get_running_loop().time, draw=lambda: 0.0)
    service = Service(layout, breaker, hop, traces=traces, answers=answers)
    breaker.start()
    await breaker.connected.wait()
    try:
        yield World(service, hop, made[0], breaker)
    finally:
        await breaker.close()
