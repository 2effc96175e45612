"""Streams made by OpenAI's own types, with hostile texts and fields that nobody knows, against a parser of each frame.

The scan parses few frames. So each promise is compared with what a reader sees who parses all of them.
"""

import copy
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from deployments.providers.openai.stream.events import Batch, EventScan
from deployments.providers.openai.stream.scan import SseScan

Json = dict[str, Any]

HOSTILE = st.sampled_from(
    [
        *("", " ", "hi", "Größe", "\u2028\u0085", "\\", '\\"', '"', "\n\n", "data: [DONE]\n\n", "data: {", "}\n\n"),
        '"},"finish_reason":"stop"}]}\n\ndata: {"error":{"message":"x"}}',
        '","finish_reason":"stop","x":"\\',
        '"error":{"code":1}',
        '"model":"up"',
        '{"delta":{"content":"x"}}',
        '","reasoning_content":"',
        '"usage":{"prompt_tokens":9}',
        "event: error\n",
    ]
)
TEXTS = HOSTILE | st.text(max_size=8) | st.lists(HOSTILE, max_size=3).map("".join)
NAMES = st.sampled_from(
    [
        *("error", "finish_reason", "content", "usage", "model", "id", "delta", "choices", "tool_calls", "index"),
        *("object", "text", "x", "data", "reasoning_content"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 99) | TEXTS | st.just("stop") | st.just("up"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
UNKNOWN = st.dictionaries(
    st.sampled_from(["x", "content_filter_results", "provider_meta", "prompt_filter_results", "p"]),
    VALUES,
    max_size=2,
)

MODELS = st.sampled_from(["up", "up", "up-2", "row", "", None])
IDS = st.sampled_from(["chatcmpl-1", "chatcmpl-1", "chatcmpl-1", "chatcmpl-2", "", None])
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@st.composite
def deltas(draw: st.DrawFn) -> Json:
    """A delta by OpenAI's type, or with the reasoning of other servers."""
    text = draw(TEXTS)
    made: Json = draw(
        st.sampled_from(
            [
                *({}, {"role": "assistant", "content": ""}, {"content": None}, {"tool_calls": []}),
                *[{"content": text}] * 6,
                *({"refusal": text}, {"reasoning_content": text}, {"reasoning": text, "content": ""}),
                {"content": "", "reasoning": text, "reasoning_details": [{"type": "reasoning.text", "text": text}]},
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]},
                {"tool_calls": [{"index": 0, "function": {"arguments": text}}]},
                {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f"}}]},
                {"function_call": {"arguments": text}},
                {"audio": {"id": "a", "data": text, "transcript": ""}},
            ]
        )
    )
    return {**copy.deepcopy(made), **draw(UNKNOWN)}


@st.composite
def chunks(draw: st.DrawFn) -> Json:
    choice = {"index": draw(st.sampled_from([0, 0, 0, 1])), "delta": draw(deltas()), "finish_reason": None}
    choice |= {"logprobs": None} if draw(st.booleans()) else {}
    choice["finish_reason"] = draw(st.sampled_from([None] * 7 + ["stop", "length"]))
    made: Json = {
        "id": draw(IDS),
        "object": "chat.completion.chunk",
        "created": draw(st.sampled_from([1, 1, 2])),
        "model": draw(MODELS),
        "choices": [{**choice, **draw(UNKNOWN)}],
    }
    ChatCompletionChunk.construct(**made)
    if draw(st.sampled_from([False] * 9 + [True])):
        made["choices"] = []
        made["usage"] = draw(st.sampled_from([None, {}, USAGE]))
    if draw(st.sampled_from([False] * 9 + [True])):
        del made["model"]
    made |= draw(UNKNOWN)
    if draw(st.sampled_from([False] * 30 + [True])):
        made["error"] = draw(st.sampled_from([None, {}, "no", {"message": "no"}]))
    return made


@dataclass(frozen=True, slots=True)
class Style:
    """How a server writes its JSON."""

    ascii: bool
    gaps: bool
    sort: bool
    escaped_key: str | None

    def of(self, data: Json) -> bytes:
        gaps = (" , ", " : ") if self.gaps else (",", ":")
        text = json.dumps(data, ensure_ascii=self.ascii, separators=gaps, sort_keys=self.sort)
        if self.escaped_key:
            text = text.replace(f'"{self.escaped_key}"', f'"\\u{ord(self.escaped_key[0]):04x}{self.escaped_key[1:]}"')
        return b"data: " + text.encode(errors="replace") + b"\n\n"


STYLES = st.builds(
    Style,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, None, "model", "finish_reason", "content", "error", "id"]),
)


def with_text(made: Json, text: str) -> Json:
    """Return the chunk with another text wherever it has one."""
    made = copy.deepcopy(made)
    for choice in made["choices"]:
        for key in ("content", "reasoning", "reasoning_content"):
            if isinstance(choice["delta"].get(key), str):
                choice["delta"][key] = text
    return made


@st.composite
def relatives(draw: st.DrawFn, made: Json) -> Json:
    """A chunk that is nearly like another: its bytes begin and end alike."""
    made = copy.deepcopy(made)
    if not made["choices"]:
        return made
    choice = made["choices"][0]
    how = draw(st.sampled_from(["text", "more", "end", "two", "failed", "deeper"]))
    if how == "more":
        choice["delta"] = {**choice["delta"], "x": draw(TEXTS), **draw(st.sampled_from([{}, {"refusal": "no"}]))}
    elif how == "end":
        choice["finish_reason"] = "stop"
    elif how == "two":
        made["choices"].insert(0, {**copy.deepcopy(choice), "index": 1, "finish_reason": "stop"})
    elif how == "failed":
        made["choices"].insert(0, {**copy.deepcopy(choice), "error": {"message": "no"}})
    elif how == "deeper":
        made = {"meta": {"model": made.get("model"), "id": "", "content": draw(TEXTS), "error": {"x": 1}}, **made}
    return with_text(made, draw(TEXTS))


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Frames of a few shapes that are much alike, each many times with other texts, as one server writes them."""
    base, style = draw(chunks()), draw(STYLES)
    shapes = [base, *[draw(relatives(base)) for _ in range(draw(st.integers(0, 3)))]]
    if draw(st.booleans()):
        shapes.append(draw(chunks()))
    picks = draw(st.lists(st.tuples(st.sampled_from(shapes), TEXTS), min_size=1, max_size=12))
    return [style.of(with_text(shape, text)) for shape, text in picks]


# The reader that parses everything.


def is_read(delta: Mapping[str, Any]) -> bool:
    texts = [delta.get(key) for key in ("content", "refusal", "reasoning_content", "reasoning", "reasoning_details")]
    audio = delta.get("audio") or {}
    called = delta.get("tool_calls") or (delta.get("function_call") or {}).get("arguments")
    return any(texts) or bool(called) or bool(audio.get("data") or audio.get("transcript"))


@dataclass
class Reader:
    """What a stream says until its first error."""

    error: bool = False
    content: bool = False
    usage: Json | None = None
    said: list[tuple[int, str, Any]] = field(default_factory=list)
    finishes: dict[int, str] = field(default_factory=dict)

    def read(self, event: bytes) -> bool:
        """Return whether this event holds content."""
        data = json.loads(event[6:])
        if self.error or data.get("error") or any(choice.get("error") for choice in data["choices"]):
            self.error = True
            return False
        self.usage = data.get("usage") or self.usage
        here = False
        for choice in data["choices"]:
            delta = choice["delta"]
            for key in ("content", "refusal", "reasoning_content", "reasoning", "function_call", "audio"):
                if delta.get(key):
                    self.said.append((choice["index"], key, delta[key]))
            for call in delta.get("tool_calls") or ():
                self.said.append((choice["index"], "tool_calls", call))
            here = here or is_read(delta)
            if choice["finish_reason"]:
                self.finishes[choice["index"]] = choice["finish_reason"]
        self.content = self.content or here
        return here


def read_by_parser(events: list[bytes]) -> Reader:
    reader = Reader()
    for event in events:
        reader.read(event)
    return reader


def fed(scan: EventScan, data: bytes, cuts: list[int]) -> tuple[list[Json], list[Batch]]:
    """Return the client's chunks, and the batches up to the first error."""
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    batches = []
    for a, b in itertools.pairwise(edges):
        batches.append(scan.feed(data[a:b]))
        if batches[-1].error or batches[-1].malformed:
            break
    else:
        batches.append(scan.end())
    out = b"".join(batch.frames for batch in batches)
    return [json.loads(frame[6:]) for frame in out.split(b"\n\n") if frame], batches


@given(streams(), st.lists(st.integers(0, 5000), max_size=8), st.booleans())
@example(
    [
        b'data: {"id":"","model":"up","choices":[{"index":0,"delta":{"function_call":{"name":"f"}},'
        b'"finish_reason":null}]}\n\n',
        b'data: {"id":"","model":"up","choices":[{"index":1,"delta":{"content":"x"},"finish_reason":"stop"},'
        b'{"index":0,"delta":{"content":"y"},"finish_reason":null}]}\n\n',
    ],
    [],
    False,
)
def test_the_scan_finds_what_a_parser_of_each_frame_finds(events: list[bytes], cuts: list[int], usage: bool) -> None:
    scan, wanted = SseScan("row", keep_usage=usage), read_by_parser(events)
    got, batches = fed(scan, b"".join(events), cuts)
    assert not any(batch.malformed for batch in batches)
    assert (batches[-1].error is not None) is wanted.error
    assert any(batch.content for batch in batches) is wanted.content
    assert (scan.usage, scan.ended) == (wanted.usage, set(wanted.finishes))
    client = read_by_parser([b"data: " + json.dumps(chunk).encode() for chunk in got])
    if not wanted.error:
        assert client.finishes == wanted.finishes
    if wanted.content or not wanted.error:  # before its content a stream that fails has told the client nothing
        assert without_new_ids(client.said) == without_new_ids(wanted.said)
    assert {chunk["model"] for chunk in got} <= {"row"}
    assert len({chunk["id"] for chunk in got}) <= 1
    assert all(chunk["id"] for chunk in got)


def without_new_ids(said: list[tuple[int, str, Any]]) -> list[tuple[int, str, Any]]:
    """What was said, without what a call gets to be readable."""
    return [(at, key, {k: v for k, v in x.items() if k not in ("id", "type")} if key == "tool_calls" else x)
            for at, key, x in said]  # fmt: skip


@given(streams())
def test_each_frame_is_known_for_content_or_for_none(events: list[bytes]) -> None:
    scan, reader = SseScan("row", keep_usage=False), Reader()
    for event in events:
        holds = reader.read(event)
        assert scan.feed(event).content is holds, event
        if reader.error:
            break


@given(streams(), st.lists(st.integers(0, 5000), max_size=8))
def test_each_choice_has_one_finish_reason_after_all_that_it_says(events: list[bytes], cuts: list[int]) -> None:
    scan = SseScan("row", keep_usage=False)
    got, batches = fed(scan, b"".join(events), cuts)
    if batches[-1].error is not None:
        return
    ends: list[int] = []
    spoke = False
    for chunk in got:
        for choice in chunk["choices"]:
            # A reason that comes before anything else of a stream goes out at once: it may be all that there is.
            if spoke:
                assert choice["index"] not in ends or not is_read(choice["delta"])
            if choice["finish_reason"] and spoke:
                ends.append(choice["index"])
        spoke = True
    assert len(ends) == len(set(ends))


@given(st.lists(TEXTS.filter(bool), min_size=3, max_size=30), STYLES, st.lists(st.integers(0, 9000), max_size=5))
def test_ordinary_frames_pass_through_as_they_are_but_for_the_model(
    texts: list[str], style: Style, cuts: list[int]
) -> None:
    def frame(model: str, text: str) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        return style.of({"id": "chatcmpl-1", "model": model, "choices": [choice], "obfuscation": "x" * (len(text) % 7)})

    got, _ = fed(SseScan("row", keep_usage=False), b"".join(frame("up", text) for text in texts), cuts)
    assert got == [json.loads(frame("row", text)[6:]) for text in texts]


@pytest.mark.parametrize("per", [1, 3, 50])
def test_most_frames_of_an_ordinary_stream_are_not_parsed(per: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.providers.openai.stream import scan as module

    parsed = []
    read = module.FrameReader.read
    monkeypatch.setattr(
        module.FrameReader, "read", lambda self, *a, **named: parsed.append(a) or read(self, *a, **named)
    )
    choice = {"index": 0, "logprobs": None, "finish_reason": None}
    events = [
        Style(False, False, False, None).of(
            {"id": "chatcmpl-1", "model": "up", "choices": [{**choice, "delta": {"content": f"w{n}"}}]}
        )
        for n in range(50)
    ]
    scan = SseScan("row", keep_usage=False)
    for at in range(0, len(events), per):
        assert scan.feed(b"".join(events[at : at + per])).content
    assert len(parsed) == 1
