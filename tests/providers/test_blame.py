"""What a client sends never blames a provider: any JSON in any place moves no circuit, and counts for nobody."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from yarl import URL

from actors.breaker.outcomes import ENDINGS, Guilt, Verdict
from deployments.ingress.http import build_http_api
from deployments.providers.base import call_dict
from deployments.providers.time_limits import TimeLimits
from tests.fakes.server import FakeServer
from tests.providers.any_request import requests
from tests.providers.conftest import WIRES
from tests.providers.test_any_request import places
from tests.providers.whole_app import LOCAL_MODEL, args_for, whole_app
from tests.unit.world import World

MANY = settings(
    max_examples=60,
    phases=[Phase.generate],  # an example is whole as it is, and to shrink it would take minutes
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
FEW = settings(MANY, max_examples=12)

ODD_TEXTS = st.sampled_from(
    ["", " ", "\x00", "\x1b[0m", "\ue000\U0010ffff", "\u202e", "<|im_end|>", "a" * 5000, "../../x?y#z", "'\"`", "{{x}}"]
)
ODD_NUMBERS = st.sampled_from([0, -1, True, 2**31, 2**53 + 1, -(2**63), 2**63 - 1, 2**64, 10**30, 0.5, -0.0])
EDGES = st.sampled_from([5e-324, 1e308, -1e308, 1e-7])
ODD = st.recursive(
    st.none() | ODD_TEXTS | ODD_NUMBERS | EDGES | st.sampled_from([[], {}, [[]], [{}], {"type": "x"}, {"a": None}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_TEXTS, inner, max_size=3),
    max_leaves=4,
)
ODD_MODELS = st.sampled_from(
    ["../../x?y#z", "m" * 505, "a b", "a%2Fb", "a\nb", "é", "\x00", "x:y@z", "arn:aws:bedrock:::x", "arn:", "/", "."]
) | st.text(st.sampled_from("ax.:/#?%&@\\~{"), min_size=1, max_size=6)


NAMES = st.sampled_from(
    ["", "x", "name", "id", "type", "role", "input", "stream", "user", "\ud83d\ude00", "__class__", "a.b"]
)


def at(body: Any, path: Sequence[Any]) -> Any:
    for key in path:
        body = body[key]
    return body


def objects_in(body: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Every place where an object is, the body itself first."""
    return [(), *(path for path in places(body) if isinstance(at(body, path), dict))]


@st.composite
def made_odd(draw: Any, valid: Any) -> dict[str, Any]:
    """A valid request with nonsense in some of its places and fields that nobody knows, or with none."""
    body: dict[str, Any] = json.loads(json.dumps(draw(valid)))
    for _ in range(draw(st.integers(0, 3))):
        *above, last = draw(st.sampled_from(places(body)))
        at(body, above)[last] = json.loads(json.dumps(draw(ODD)))  # what is sampled must not be changed
    for _ in range(draw(st.integers(0, 2))):
        found = at(body, draw(st.sampled_from(objects_in(body))))
        found[draw(NAMES)] = json.loads(json.dumps(draw(ODD)))
    return body


odd_requests = made_odd(requests)
TEXTS = ODD_TEXTS | st.text(max_size=20)
TOKENS = st.lists(st.integers(-1, 200_000), max_size=5)
odd_embeddings = made_odd(
    st.fixed_dictionaries(
        {"input": TEXTS | st.lists(TEXTS, max_size=12) | TOKENS | st.lists(TOKENS, max_size=3)},
        optional={
            "encoding_format": st.sampled_from(["float", "base64", "hex"]),
            "dimensions": st.sampled_from([1, 256, 1024]),
            "user": TEXTS,
        },
    )
)


def twice(value: Any, path: Sequence[Any]) -> str:
    """Return the JSON in which the object at this place has each of its names twice."""
    if isinstance(value, dict):
        pairs = [
            f"{json.dumps(key)}: {twice(inner, path[1:]) if path and path[0] == key else json.dumps(inner)}"
            for key, inner in value.items()
        ]
        return f"{{{', '.join(pairs if path else [*pairs, *pairs])}}}"
    if isinstance(value, list) and path:
        return f"[{', '.join(twice(v, path[1:]) if n == path[0] else json.dumps(v) for n, v in enumerate(value))}]"
    return json.dumps(value)


async def ask(w: World, body: Any) -> dict[str, Any]:
    """Return the answer, or the error with its status: the last of a stream's items."""
    if isinstance(body, dict) and body.get("stream") is True:
        return [item async for item in w.python.stream_chat(body)][-1]
    return await w.python.chat(body)


def check(answer: dict[str, Any], asked: int) -> None:
    """What failed is the request's own fault, and what was never asked has not answered."""
    if (error := answer.get("error")) is None:
        assert asked
        return
    assert error["code"] == "stream_interrupted" or 400 <= answer["status"] < 500, answer
    kinds = {a["outcome"] for a in error.get("attempts", ()) if not a["outcome"].startswith("skipped")}
    assert all(ENDINGS[kind].guilt is Guilt.CALLER for kind in kinds), answer


EMBEDDERS = {
    "openai": "text-embedding-3-small",
    "bedrock": "amazon.titan-embed-text-v2:0",
    "google": "gemini-embedding-001",
    "local": LOCAL_MODEL,
}
LENGTH = {"openai": 256, "bedrock": 256, "google": 768, "local": 576}
EMBEDDINGS = st.just(("embeddings", {"input": ["Hi"], "user": "me"}))


class Rig:
    """One provider's app that stays up over many drawn requests."""

    def __init__(self, kind: str) -> None:
        self.fake = FakeServer(WIRES[kind]()) if kind in WIRES else None
        fakes = {} if self.fake is None else {kind: self.fake}
        self.runner = asyncio.Runner()
        rows: dict[str, Any] = {}
        if kind in EMBEDDERS:
            rows["embeddings"] = {kind: {"dimensions": LENGTH[kind], "targets": {kind: EMBEDDERS[kind]}}}
        self.kind, self._app = kind, whole_app(args_for(fakes, local=self.fake is None) | rows)
        self.world: World = self.runner.run(self._app.__aenter__())

    def check(self, body: Any, *, embed: bool = False) -> None:
        if self.fake is not None:
            self.fake.reset()
        answer = self.runner.run(self.world.python.embed(body) if embed else ask(self.world, body))
        check(answer, 1 if self.fake is None else len(self.fake.received))

    def send(self, path: str, data: str) -> httpx2.Response:
        """Return the response of the HTTP API to these bytes."""
        if self.fake is not None:
            self.fake.reset()
        return self.runner.run(self._send(path, data))

    async def _send(self, path: str, data: str) -> httpx2.Response:
        transport = httpx2.ASGITransport(build_http_api(self.world.service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(path, content=data.encode(), headers={"content-type": "application/json"})

    def moved(self) -> dict[str, Any]:
        """Return the targets with a failure or with a circuit that is not closed."""
        return self.runner.run(self._moved())

    async def _moved(self) -> dict[str, Any]:
        await self.world.settle()
        assert not self.world.breaker.under_way.total()
        seen = self.world.targets()
        return {name: health for name, health in seen.items() if health["state"] != "closed" or health["failed"]}

    def close(self) -> None:
        self.runner.run(self._app.__aexit__(None, None, None))
        self.runner.close()
        if self.fake is not None:
            self.fake.stop()


@pytest.fixture(scope="module")
def local_rig() -> Iterator[Rig]:
    made = Rig("local")
    yield made
    made.close()


@pytest.fixture(scope="module", params=["openai", "bedrock", "google", "anthropic"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-fake")
        patch.setenv("GOOGLE_API_KEY", "fake")
        patch.setenv("ANTHROPIC_API_KEY", "sk-ant-fake")
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIAFAKE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        made = Rig(request.param)
        yield made
        made.close()


@MANY
@given(body=odd_requests, stream=st.booleans())
def test_nonsense_in_any_place_moves_no_circuit(rig: Rig, body: dict[str, Any], stream: bool) -> None:
    rig.check({**body, "model": rig.kind, "stream": stream})


@MANY
@given(model=ODD_MODELS, stream=st.booleans())
def test_an_odd_name_of_a_model_moves_no_circuit(rig: Rig, model: str, stream: bool) -> None:
    rig.check({**ASKED, "model": f"{rig.kind}/{model}", "stream": stream})
    verbs = [f":{verb}" for verb in ("generateContent", "streamGenerateContent")]
    ends = {"google": verbs, "bedrock": ["/converse", "/converse-stream"]}
    ends |= {"openai": ["/chat/completions"], "anthropic": ["/v1/messages"]}
    named = "" if rig.kind in ("openai", "anthropic") else f"/{model}"
    for path in (URL(received.path, encoded=True) for received in rig.fake.received):
        assert any(path.path.endswith(f"{named}{end}") for end in ends[rig.kind]), path
        assert path.path == URL(str(path)).path, "a server would make another path of it"


@MANY
@given(body=odd_embeddings)
def test_nonsense_in_a_request_for_embeddings_moves_no_circuit(rig: Rig, body: dict[str, Any]) -> None:
    rig.check({**body, "model": rig.kind}, embed=True)


@settings(MANY, max_examples=15)  # it is refused before a provider is looked for
@given(made=requests.map(lambda body: ("chat/completions", body)) | EMBEDDINGS, data=st.data())
def test_a_name_that_is_twice_in_an_object_is_refused_before_anybody_is_asked(
    rig: Rig, made: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    path, body = made[0], {**made[1], "model": rig.kind}
    places = [place for place in objects_in(body) if at(body, place)]
    answer = rig.send(f"/v1/{path}", twice(body, data.draw(st.sampled_from(places))))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert rig.fake is not None
    assert rig.fake.received == []


def test_after_all_of_it_no_failure_is_counted(rig: Rig) -> None:
    rig.check({**ASKED, "model": rig.kind})
    rig.check({"input": "Hi", "model": rig.kind}, embed=True)
    assert rig.moved() == {}


ASKED = {"messages": [{"role": "user", "content": "Hi"}]}

# The local model really writes its answers.
SHORT = {"max_tokens": 2, "max_completion_tokens": 2, "model": "local"}


@FEW
@given(body=odd_requests, stream=st.booleans())
def test_nonsense_in_any_place_moves_no_circuit_of_the_local_model(
    local_rig: Rig, body: dict[str, Any], stream: bool
) -> None:
    local_rig.check({**body, **SHORT, "stream": stream})


@FEW
@given(body=odd_embeddings)
def test_nonsense_in_a_request_for_embeddings_moves_no_circuit_of_the_local_model(
    local_rig: Rig, body: dict[str, Any]
) -> None:
    local_rig.check({**body, "model": "local"}, embed=True)


TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": "x"}},
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [1]}}},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": "f"}},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"stop": ["\ud800"]},
    ],
)
def test_what_the_local_model_cant_take_is_no_fault_of_its_own(local_rig: Rig, more: dict[str, Any]) -> None:
    """The ingress refuses it, so that it comes here would be our bug; a replica must not depend on that."""
    call = call_dict({**ASKED, **SHORT, **more}, LOCAL_MODEL, "local", TimeLimits())
    reply = local_rig.runner.run(local_rig.world.hop.complete("local", call))
    assert ENDINGS[reply["outcome"]["kind"]].before is Verdict.REFUSED, reply


def test_after_all_of_it_no_failure_of_the_local_model_is_counted(local_rig: Rig) -> None:
    local_rig.check({**ASKED, **SHORT})
    assert local_rig.moved() == {}
