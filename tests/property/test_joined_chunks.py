"""A stream that is joined by its chunks is the answer that a client would have put together of its frames."""

import json
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from deployments.errors import AttemptFailed
from deployments.providers.joined.chat import ChatJoin
from deployments.providers.openai.stream import joining
from deployments.providers.openai.stream.events import Batch
from deployments.providers.openai.stream.joining import JoinScan
from deployments.providers.openai.stream.scan import SseScan
from tests.property.test_frames import Style, chunks, fed, relatives, streams, with_text

CUTS = st.lists(st.integers(0, 5000), max_size=8)
GIVEN = ("c", "chatcmpl-1", "chatcmpl-2")
Told = tuple[bool, int, bool, str | None, bool]


def told(batch: Batch) -> Told:
    error = None if batch.error is None else repr(batch.error.outcome)
    return batch.content, batch.finished, batch.done, error, batch.malformed


def body_of(join: ChatJoin) -> Any:
    try:
        body = json.loads(join.body())
    except AttemptFailed as error:
        return error.outcome.kind
    return comparable(body)


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    """The answer without the names that we have invented for calls, each time others, and without unknown fields.

    Of those the last one counts, and a frame with a finish reason is the last one for a client, wherever it came.
    """
    for choice in body["choices"]:
        for call in choice["message"].get("tool_calls") or ():
            call.pop("id", None)
        choice["message"] = {name: value for name, value in choice["message"].items() if name not in UNKNOWN_NAMES}
    choices = [{name: choice[name] for name in OF_CHOICES} for choice in body["choices"]]
    return {"choices": choices, **{name: body.get(name) for name in ("id", "object", "model", "usage")}}


UNKNOWN_NAMES = ("x", "content_filter_results", "provider_meta", "prompt_filter_results", "p")
OF_CHOICES = ("index", "message", "finish_reason", "logprobs")


def ends_once(events: list[bytes]) -> bool:
    """Whether no choice ends twice: a client gets only the last of such frames."""
    ends = [(c["index"]) for event in events for c in json.loads(event[6:])["choices"] if c["finish_reason"]]
    return len(ends) == len(set(ends))


def both(data: bytes, cuts: list[int]) -> tuple[Any, Any]:
    scan, by_frames = SseScan("row", keep_usage=True), ChatJoin()
    passed = fed(scan, data, cuts)[1]
    for batch in passed:
        by_frames.add(batch.frames)
    by_chunks = ChatJoin()
    joined = JoinScan("row", by_chunks)
    taken = fed(joined, data, cuts)[1]
    assert list(map(told, taken)) == list(map(told, passed))
    assert (joined.ended, joined.usage) == (scan.ended, scan.usage)
    assert scan.model in (joined.model, None)  # a frame that waits for an id has told no model yet
    if passed[-1].error or passed[-1].malformed:
        return None, None
    ours, theirs = body_of(by_chunks), body_of(by_frames)
    if isinstance(theirs, dict) and theirs["id"] not in GIVEN:  # the stream had begun before it told one
        ours["id"] = theirs["id"]
    return ours, theirs


@given(streams(), CUTS)
def test_it_is_what_its_frames_join_to(events: list[bytes], cuts: list[int]) -> None:
    assume(ends_once(events))
    by_chunks, by_frames = both(b"".join(events), cuts)
    assert by_chunks == by_frames


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """A stream of one choice that comes to its end, nearly all of it text."""
    style = Style(draw(st.booleans()), draw(st.booleans()), False, None)
    texts = st.text(max_size=6) | st.sampled_from(['"', "\\", "\\n", "\n", "{", "}\n\n", "\ud83d", "\ude00", "😀", ""])
    padding = draw(st.booleans())

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        more = {"obfuscation": draw(st.text("abc", max_size=5))} if padding else {}
        return style.of({"id": "chatcmpl-1", "created": 1, "model": "up", "choices": [choice], **more})

    said = [event({"content": text}) for text in draw(st.lists(texts, max_size=20))]
    return [event({"role": "assistant", "content": ""}), *said, event({}, "stop"), b"data: [DONE]\n\n"]


@given(answers(), CUTS)
@example([b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a\\\\"}}]}\n\n'] * 3, [])
def test_a_long_text_is_what_its_frames_join_to(events: list[bytes], cuts: list[int]) -> None:
    by_chunks, by_frames = both(b"".join(events), cuts)
    assert by_chunks == by_frames


@given(chunks(), st.data())
def test_a_chunk_that_is_nearly_like_the_one_before_it_is_read_by_itself(made: dict[str, Any], data: Any) -> None:
    style = Style(False, False, False, None)
    others = [data.draw(relatives(made)) for _ in range(3)]
    events = [style.of(with_text(one, text)) for one, text in zip([made, made, *others], "abcde", strict=True)]
    assume(ends_once(events))
    by_chunks, by_frames = both(b"".join(events), [])
    assert by_chunks == by_frames


def test_a_server_that_gives_no_id_gets_one() -> None:
    join = ChatJoin()
    JoinScan("row", join).feed(b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n')
    body = json.loads(join.body())
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == "row"


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("per", [1, 3, 50])
def test_most_chunks_of_an_ordinary_stream_are_not_parsed(
    per: int, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed, reads = [], joining.JoinReader.read
    monkeypatch.setattr(
        joining.JoinReader, "read", lambda self, *a, **named: parsed.append(a) or reads(self, *a, **named)
    )
    words = [f'w{n}\n"' for n in range(50)]
    events = [
        Style(False, False, False, None).of(
            {"id": "c", "choices": [{"index": 0, "delta": {"content": word}}]}
            | ({"obfuscation": "x" * (number % 5)} if padded else {})
        )
        for number, word in enumerate(words)
    ]
    join = ChatJoin()
    scan = JoinScan("row", join)
    for at in range(0, len(events), per):
        assert scan.feed(b"".join(events[at : at + per])).content
    scan.feed(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
    assert len(parsed) <= 3
    assert json.loads(join.body())["choices"][0]["message"]["content"] == "".join(words)
