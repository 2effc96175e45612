"""What follows a seam is one answer with what went before it: any stream under any head."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.failover.streams.kept import Kept
from deployments.failover.streams.seam import SecondHead, added, with_sum
from deployments.openai_api.chat import frame, frames_to_chunks
from deployments.providers.joined.chat import ChatJoin
from tests.property.test_joined import TEXT, streams


def body_of(frames: bytes) -> Any:
    join = ChatJoin()
    join.add(frames)
    [made] = frames_to_chunks(b"data: " + join.body() + b"\n\n")
    return made


@given(streams(), st.text('ab"\\{}:,id', min_size=1, max_size=12), st.integers(0, 2**40), st.integers(1, 9))
def test_behind_a_seam_all_has_the_first_head_and_says_the_same(
    drawn: tuple[Any, list[bytes]], known: str, created: int, first: int
) -> None:
    answer, frames = drawn
    head = SecondHead((known, created))
    made = head.first(b"".join(frames[:first])) + b"".join(map(head.rest, frames[first:]))
    chunks = frames_to_chunks(made)
    assert {(chunk["id"], chunk["created"]) for chunk in chunks} == {(known, created)}
    told = body_of(made)
    assert {**told, "id": answer["id"], "created": answer["created"]} == answer
    roles = [choice["delta"] for chunk in frames_to_chunks(head.first(frames[0])) for choice in chunk["choices"]]
    assert not any("role" in delta for delta in roles)


@given(streams(), st.booleans())
def test_only_thoughts_are_taken_for_thoughts(drawn: tuple[Any, list[bytes]], together: bool) -> None:
    _, frames = drawn
    for end in range(len(frames)):
        kept = Kept()
        for one in [b"".join(frames[:end])] if together else frames[:end]:
            if kept.open:
                kept.add(one)
        if not kept.thoughts_alone():
            continue
        for chunk in frames_to_chunks(b"".join(frames[:end])):
            for choice in chunk["choices"]:
                read = {k for k, v in choice["delta"].items() if v and k != "role"}
                assert not read & {"content", "refusal", "tool_calls"}
                assert not choice["finish_reason"]


FLAT = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))


@given(FLAT, FLAT, FLAT)
def test_usages_add_up_count_by_count(one: dict[str, int], other: dict[str, int], details: dict[str, int]) -> None:
    made = added({**one, "details": details}, {**other, "details": one, "more": other})
    every = {"a", "b", "c"}
    assert {k: made.get(k, 0) for k in every} == {k: one.get(k, 0) + other.get(k, 0) for k in every}
    assert {k: made["details"].get(k, 0) for k in every} == {k: one.get(k, 0) + details.get(k, 0) for k in every}
    assert made["more"] == other


@given(TEXT)
def test_a_tail_without_a_usage_stays_as_it_is(text: str) -> None:
    tail = frame({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]})
    assert with_sum(tail, [{"prompt_tokens": 1}], []) == tail
