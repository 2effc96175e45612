"""Embeddings on each wire: real SDKs, real sockets, the real local model."""

import base64
import json
import struct
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed
from deployments.providers.base import Call, Completed, run_within_total
from deployments.providers.kinds import KINDS
from tests.fakes.server import Behaviour, status
from tests.fakes.vectors import vector
from tests.providers.conftest import CLOUDS, Bench, cloud

TEXTS = ["one", "two", "three"]
MODELS = {"openai": "text-embedding-3-large", "bedrock": "amazon.titan-embed-text-v2:0"}
MODELS |= {"google": "gemini-embedding-001", "local": "smollm2"}
EMBEDDERS = [kind for kind in CLOUDS if KINDS[kind].embeds]
ON_EACH_CLOUD = pytest.mark.parametrize("cloud_bench", EMBEDDERS, indirect=True)
ON_EACH_KIND = pytest.mark.parametrize("bench", [*EMBEDDERS, "local"], indirect=True)
COHERE = "cohere.embed-multilingual-v3"


def embed(bench: Bench, given: Any = TEXTS, *, model: str | None = None, **body: Any) -> dict[str, Any]:
    dimensions = 576 if bench.kind == "local" else 512 if model is None else 1024
    asked = {"model": "row", "input": given, "dimensions": dimensions, **body}
    call = Call(asked, model or MODELS[bench.kind], "row", bench.limits)
    done: Completed = bench.run(lambda provider: run_within_total(provider.embed, call))
    answer = json.loads(done.body)
    known = None if answer["usage"].get("estimated") else answer["usage"]
    assert known == done.usage, "the ledger estimates for itself"
    assert (answer["object"], answer["model"]) == ("list", "row")
    return dict(answer)


def failure(bench: Bench, given: Any = TEXTS, **body: Any) -> Outcome:
    with pytest.raises(AttemptFailed) as caught:
        embed(bench, given, **body)
    return caught.value.outcome


@ON_EACH_KIND
def test_each_text_has_its_vector_in_its_place_and_of_length_one(bench: Bench) -> None:
    data = embed(bench)["data"]
    assert [(d["object"], d["index"]) for d in data] == [("embedding", 0), ("embedding", 1), ("embedding", 2)]
    for entry, text in zip(data, TEXTS, strict=True):
        made = entry["embedding"]
        assert sum(x * x for x in made) == pytest.approx(1.0, abs=1e-3)
        if bench.kind != "local":
            assert made == pytest.approx(vector(text, 512), abs=1e-5)
    assert embed(bench, "two")["data"][0]["embedding"] == pytest.approx(data[1]["embedding"], abs=1e-3)


@ON_EACH_KIND
def test_base64_holds_the_same_floats(bench: Bench) -> None:
    plain = embed(bench, "one")["data"][0]["embedding"]
    packed = base64.b64decode(embed(bench, "one", encoding_format="base64")["data"][0]["embedding"])
    assert struct.unpack(f"<{len(packed) // 4}f", packed) == pytest.approx(plain, abs=1e-3)


@ON_EACH_KIND
def test_tokens_are_counted_where_the_provider_tells_them(bench: Bench) -> None:
    usage = embed(bench)["usage"]
    assert usage.get("estimated", False) is (bench.kind == "google")
    assert usage["prompt_tokens"] >= 3
    assert usage["total_tokens"] == usage["prompt_tokens"]


USAGES: list[tuple[Any, dict[str, Any]]] = [
    ({}, {"prompt_tokens": 3, "total_tokens": 3, "estimated": True}),
    ({"usage": None}, {"prompt_tokens": 3, "total_tokens": 3, "estimated": True}),
    ({"usage": {}}, {"prompt_tokens": 3, "total_tokens": 3, "estimated": True}),
    ({"usage": {"prompt_tokens": 0, "total_tokens": 0}}, {"prompt_tokens": 3, "total_tokens": 3, "estimated": True}),
    ({"usage": {"total_tokens": 7}}, {"prompt_tokens": 7, "total_tokens": 7}),
    ({"usage": {"prompt_tokens": 7.0}}, {"prompt_tokens": 7, "total_tokens": 7}),
    ({"usage": {"prompt_tokens": 7, "total_tokens": 7, "x": 1}}, {"prompt_tokens": 7, "total_tokens": 7, "x": 1}),
]


@pytest.mark.parametrize("cloud_bench", ["openai"], indirect=True)
@pytest.mark.parametrize(("told", "usage"), USAGES)
def test_a_usage_of_embeddings_is_always_of_integers_and_says_if_it_is_an_estimate(
    cloud_bench: Bench, told: Any, usage: dict[str, Any]
) -> None:
    assert cloud_bench.fake is not None
    data = [{"object": "embedding", "index": 0, "embedding": [0.5] * 512}]
    cloud_bench.fake.behave = Behaviour("raw", raw=json.dumps({"object": "list", "data": data, **told}).encode())
    assert embed(cloud_bench, "twelve chars")["usage"] == usage


@pytest.mark.parametrize("cloud_bench", ["openai"], indirect=True)
def test_tokens_that_came_as_numbers_are_counted_where_the_provider_tells_none(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    data = [{"object": "embedding", "index": at, "embedding": [0.5] * 512} for at in range(2)]
    cloud_bench.fake.behave = Behaviour("raw", raw=json.dumps({"object": "list", "data": data}).encode())
    usage = embed(cloud_bench, [[1, 2, 3], [4, 5]])["usage"]
    assert usage == {"prompt_tokens": 5, "total_tokens": 5, "estimated": True}


@pytest.mark.parametrize("cloud_bench", ["bedrock"], indirect=True)
def test_cohere_takes_ninety_six_texts_a_call(cloud_bench: Bench) -> None:
    texts = [f"text {n}" for n in range(100)]
    answer = embed(cloud_bench, texts, model=COHERE)
    assert [d["embedding"][0] for d in answer["data"]] == pytest.approx([vector(t, 1024)[0] for t in texts])
    assert answer["usage"]["prompt_tokens"] == 300
    assert cloud_bench.fake is not None
    assert sorted(len(r.body["texts"]) for r in cloud_bench.fake.received) == [4, 96]


@pytest.mark.parametrize("cloud_bench", ["openai"], indirect=True)
def test_a_length_is_asked_only_of_models_that_can_be_asked(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    embed(cloud_bench)
    embed(cloud_bench, model="a-model-of-8", dimensions=8)
    assert [r.body.get("dimensions") for r in cloud_bench.fake.received] == [512, None]


@ON_EACH_CLOUD
def test_vectors_of_another_length_are_no_answer(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    bodies = {
        "openai": {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.5]}]},
        "bedrock": {"embedding": [0.5, 0.5]},
        "google": {"embeddings": [{"values": [0.5, 0.5]}]},
    }
    cloud_bench.fake.behave = Behaviour("raw", raw=json.dumps(bodies[cloud_bench.kind]).encode())
    assert failure(cloud_bench, "one").kind == "malformed"


@ON_EACH_CLOUD
@pytest.mark.parametrize("raw", [b"<html>", b"{}", b"[]", b'{"data": 5, "embedding": "x", "embeddings": [1]}'])
def test_a_200_without_vectors_is_no_answer(cloud_bench: Bench, raw: bytes) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("raw", raw=raw)
    assert failure(cloud_bench, "one").kind == "malformed"


@ON_EACH_CLOUD
@pytest.mark.parametrize(("code", "kind"), [(500, "server_error"), (429, "throttled"), (403, "credential")])
def test_its_failures_are_those_of_any_call(cloud_bench: Bench, code: int, kind: str) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = status(code)
    assert failure(cloud_bench, "one").kind == kind
    cloud_bench.fake.refuse()
    assert failure(cloud_bench, "one").kind == "connect"


def test_a_text_that_is_too_long_for_the_local_model_is_said_to_be(local_bench: Bench) -> None:
    assert failure(local_bench, "word " * 3000).kind == "too_long"


@pytest.mark.parametrize("cloud_bench", ["google"], indirect=True)
def test_gemini_takes_a_hundred_texts_a_call(cloud_bench: Bench) -> None:
    texts = [f"text {n}" for n in range(101)]
    answer = embed(cloud_bench, texts)
    assert [d["embedding"][0] for d in answer["data"]] == pytest.approx([vector(t, 512)[0] for t in texts])
    assert cloud_bench.fake is not None
    assert sorted(len(r.body["requests"]) for r in cloud_bench.fake.received) == [1, 100]


@pytest.mark.parametrize("cloud_bench", ["openai"], indirect=True)
def test_a_vector_too_few_is_no_answer(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    data = [{"object": "embedding", "index": 0, "embedding": [0.5] * 512}]
    cloud_bench.fake.behave = Behaviour("raw", raw=json.dumps({"object": "list", "data": data}).encode())
    assert failure(cloud_bench, TEXTS).kind == "malformed"


@pytest.mark.parametrize("kind", [kind for kind in CLOUDS if kind not in EMBEDDERS])
def test_a_kind_that_makes_none_says_so_and_asks_nobody(kind: str) -> None:
    bench = cloud(kind)
    assert bench.fake is not None
    outcome = failure(bench, model="any")
    bench.fake.stop()
    assert (outcome.kind, outcome.param) == ("unsupported", "model")
    assert bench.fake.received == []
