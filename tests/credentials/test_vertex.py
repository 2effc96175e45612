"""Vertex AI beyond one chat: streams, and embeddings by each of its methods, with a token that is renewed."""

import asyncio
import json
import pathlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from deployments.providers.base import Call, Completed, End, Frames, stream_within
from deployments.providers.credentials.addresses import Vertex
from deployments.providers.credentials.google import find_identity, google_token
from deployments.providers.google.adapter import GoogleProvider
from tests.fakes.identity import google
from tests.fakes.identity.server import identity_server
from tests.fakes.server import FakeServer
from tests.fakes.vendors import doors
from tests.fakes.vertex_wire import VertexWire
from tests.providers.conftest import LIMITS

PLACE = f"/v1beta1/projects/{google.PROJECT}/locations/europe-west4/publishers/google/models/"


@pytest.fixture(autouse=True)
def environment(clean: None) -> None:
    pass


def run(work: Callable[[GoogleProvider], Coroutine[Any, Any, Any]], folder: pathlib.Path) -> tuple[Any, list[str]]:
    """What the work returns, and the paths that were asked. The door refuses every other address and token."""
    fake = FakeServer(VertexWire())
    fake.rules = (doors.vertex,)
    try:
        with identity_server(google.token) as identity:
            file = folder / "account.json"
            file.write_text(json.dumps(google.account_file(f"{identity.url}/token")))

            async def main() -> Any:
                token = google_token(find_identity(str(file)))
                vertex = Vertex(google.PROJECT, "europe-west4")
                provider = GoogleProvider(base_url=fake.url, vertex=vertex, token=token)
                try:
                    return await work(provider)
                finally:
                    await provider.close()

            done = asyncio.run(main())
            assert identity.told == 1
    finally:
        fake.stop()
    return done, [received.path for received in fake.received]


def embedding(model: str, texts: list[str], dimensions: int | None = None) -> Call:
    sized = {} if dimensions is None else {"dimensions": dimensions}
    return Call({"model": "row", "input": texts, **sized}, model, "row", LIMITS)


@pytest.mark.parametrize(
    ("model", "texts", "method"),
    [
        ("gemini-embedding-2", ["one"], "embedContent"),
        ("gemini-embedding-2", ["one", "two"], "batchEmbedContents"),
        ("text-embedding-005", ["one", "two"], "predict"),
    ],
)
def test_texts_are_embedded_by_the_method_that_the_model_has(
    tmp_path: pathlib.Path, model: str, texts: list[str], method: str
) -> None:
    async def work(provider: GoogleProvider) -> Completed:
        return await provider.embed(embedding(model, texts, 256))

    done, paths = run(work, tmp_path)
    assert [len(one["embedding"]) for one in json.loads(done.body)["data"]] == [256] * len(texts)
    assert paths == [f"{PLACE}{model}:{method}"]


def test_the_tokens_of_each_text_are_counted_where_vertex_tells_them(tmp_path: pathlib.Path) -> None:
    async def work(provider: GoogleProvider) -> Completed:
        return await provider.embed(embedding("text-embedding-005", ["one", "two"]))

    done, _ = run(work, tmp_path)
    assert done.usage["prompt_tokens"] == 6


def test_a_stream_goes_to_the_project_with_a_token(tmp_path: pathlib.Path) -> None:
    async def work(provider: GoogleProvider) -> list[Frames | End]:
        call = Call({"messages": [{"role": "user", "content": "Hi"}], "stream": True}, "gemini-3-flash", "row", LIMITS)
        return [item async for item in stream_within(provider, call)]

    items, paths = run(work, tmp_path)
    assert isinstance(items[-1], End)
    assert paths == [f"{PLACE}gemini-3-flash:streamGenerateContent?alt=sse"]
