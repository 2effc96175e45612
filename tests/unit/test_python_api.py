"""The Python door: dicts in, dicts out, errors included."""

import pickle

import pytest

from deployments import errors
from deployments.service.arguments import CallOptions
from tests.unit.test_failover import SERVER_ERROR, in_world
from tests.unit.world import REQUEST, World


@in_world
async def test_chat_is_the_http_answer_with_who_gave_it(w: World) -> None:
    answer = await w.python.chat({**REQUEST, "stream": True})
    assert answer["object"] == "chat.completion"
    by = {"provider": "aws", "model": "haiku", "attempts": 1, "degraded": False, "dropped": []}
    assert answer["breakwater"].pop("request_id")
    assert answer["breakwater"] == by


@in_world
async def test_stream_chat_is_chunks_the_first_with_who_gave_it(w: World) -> None:
    chunks = [chunk async for chunk in w.python.stream_chat(REQUEST)]
    assert [c["choices"][0]["delta"]["content"] for c in chunks] == ["Hel", "lo"]
    assert ["breakwater" in c for c in chunks] == [True, False]


@in_world
async def test_an_error_is_a_dict_with_its_status(w: World) -> None:
    unwritable = [{**REQUEST, "seed": float("nan")}, {**REQUEST, "user": {1, 2}}, {**REQUEST, "user": "\ud800"}]
    for bad, status in [({}, 400), (None, 400), ({**REQUEST, "model": "x"}, 404), *((u, 400) for u in unwritable)]:
        answer = await w.python.chat(bad)
        assert (answer["status"], answer["error"]["type"]) == (status, "invalid_request_error")
        assert [c async for c in w.python.stream_chat(bad)] == [answer]
    for script in w.hop.providers.values():
        script.ends = [SERVER_ERROR]
    answer = await w.python.chat(REQUEST)
    assert (answer["status"], len(answer["error"]["attempts"])) == (503, 3)


@in_world
async def test_a_deadline_is_an_argument(w: World) -> None:
    for script in w.hop.providers.values():
        script.seconds = 10.0
    assert (await w.python.chat(REQUEST, CallOptions(0.5)))["status"] == 504
    assert (await w.python.chat(REQUEST, CallOptions(-1)))["status"] == 400


@in_world
async def test_closing_a_stream_frees_the_provider(w: World) -> None:
    w.provider("aws").pace = 1.0
    chunks = w.python.stream_chat(REQUEST)
    await anext(chunks)
    await chunks.aclose()
    assert w.provider("aws").cancelled == 1


@pytest.mark.parametrize(
    "error",
    [
        errors.BadRequest("no", "messages", "c"),
        errors.UnknownModel("no"),
        errors.WrongRoute("GET", "/x", ("POST",)),
        errors.NoAnswer("no", [{"outcome": "connect"}], None, 2.0),
        errors.DeadlineExceeded("no"),
    ],
)
def test_every_error_survives_pickling(error: errors.BreakwaterError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (again.body(), again.status, again.retry_after) == (error.body(), error.status, error.retry_after)
