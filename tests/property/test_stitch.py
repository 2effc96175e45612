"""Where a text goes on that another model has begun: any text, cut anywhere, in the dialects of servers.

The client must get the text as it is, or an error. For servers that go on as they should, it must get the text.
"""

import re
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from deployments.continuation.stitch import Stitch, Unverified, anchor_of, cut_for, is_proof

WORDS = [
    "the",
    "ha",
    "a",
    "Paris",
    "is",
    "not",
    "snake_case",
    "x9",
    "über",
    "naïve",
    "日本語です",
    "ไทย",
    "👩‍👩‍👧",
    "é",
]
JOINTS = [" ", " ", " ", "\n", "\n\n", ", ", ". ", "-", "…", " - ", "\n- ", "\n```\n", "\n```py\n", "  "]
TEXTS = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(JOINTS)), min_size=2, max_size=60).map(
    lambda parts: "".join(word + joint for word, joint in parts)
)


def says(stitch: Stitch, text: str, sizes: list[int]) -> str:
    """What the client gets of a text that comes in pieces of these sizes."""
    at, got = 0, None
    for number in range(len(text) + 1):
        size = sizes[number % len(sizes)]
        piece, at = text[at : at + size], at + size
        got = stitch.add(piece, last=at >= len(text))
        if got is not None:
            return got + text[at:]
    raise AssertionError("it never knows")


@st.composite
def cuts(draw: st.DrawFn) -> tuple[str, str, list[int]]:
    text = draw(TEXTS)
    at = draw(st.integers(1, len(text) - 1))
    assume(text[:at].strip() and text[at:].strip())
    return text, text[:at], draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))


@given(cuts())
@example(("ha " * 60, "ha " * 30, [1]))
@example(("He came, saw and conquered.", "He came, saw and conq", [3]))
@example(("the\n\nha the ", "the\n", [1]))
def test_a_model_that_is_known_to_go_on_gives_the_text_as_it_is(drawn: tuple[str, str, list[int]]) -> None:
    text, delivered, sizes = drawn
    cut = cut_for(delivered, trusted=True)
    stitch = Stitch(delivered, cut, trusted=True, repeats=False)
    assert text.startswith(cut.begun)
    assert cut.begun == cut.begun.rstrip()
    assert delivered + says(stitch, text[len(cut.begun) :], sizes) == text


@given(cuts())
@example(("ha " * 60, "ha " * 30, [1]))
def test_a_server_that_repeats_what_it_was_given_gives_it_too(drawn: tuple[str, str, list[int]]) -> None:
    text, delivered, sizes = drawn
    stitch = Stitch(delivered, cut_for(delivered, trusted=True), trusted=True, repeats=True)
    assert delivered + says(stitch, text, sizes) == text


def of_unknown(dialect: str, text: str, begun: str) -> str:
    rest = text[len(begun) :]
    match dialect:
        case "goes on":
            return rest
        case "goes on without the blank":
            return rest.lstrip()
        case "repeats" | "begins anew":
            return text
        case "begins anew in other words":
            return f"Well, {text}"
        case "asks":
            return f"Sure, here is the rest:\n{rest}"
        case "opens a fence":
            return f"```\n{rest}"
        case "repeats some words":
            return "".join(re.findall(r"\S+\s*", begun)[-4:]) + rest
        case "repeats the begin":
            return begun[: len(begun) // 2] + rest
        case "nothing":
            return ""
        case "a blank":
            return " \n"
    raise AssertionError(dialect)


DIALECTS = (
    *("goes on", "goes on without the blank", "repeats", "begins anew in other words", "asks", "opens a fence"),
    *("repeats some words", "repeats the begin", "nothing", "a blank"),
)


@given(cuts(), st.sampled_from(DIALECTS))
@example(("ha " * 60, "ha " * 30, [1]), "goes on")
def test_of_a_server_that_is_not_known_nothing_wrong_is_taken(drawn: tuple[str, str, list[int]], dialect: str) -> None:
    text, delivered, sizes = drawn
    cut = cut_for(delivered, trusted=False)
    stitch = Stitch(delivered, cut)
    answer = of_unknown(dialect, text, cut.begun)
    try:
        got = delivered + says(stitch, answer, sizes)
    except Unverified:
        return
    if dialect in ("goes on", "repeats"):
        assert got == text
    else:  # what a model says behind the last word is its own affair; but no word of the text comes twice or is lost
        assert got in (text, delivered + answer.lstrip().removeprefix(cut.must.lstrip())) or "```" in text


@given(cuts(), st.sampled_from(["obeys", "obeys after words", "begins anew", "does not obey", "quotes"]))
@example(("ha " * 60, "ha " * 30, [1]), "obeys")
def test_a_model_that_was_asked_to_repeat_the_last_words_is_known_by_them(
    drawn: tuple[str, str, list[int]], dialect: str
) -> None:
    text, delivered, sizes = drawn
    anchor = anchor_of(delivered)
    assume(anchor)
    assert delivered.rstrip().endswith(anchor)
    start = len(delivered.rstrip()) - len(anchor)
    answer = {
        "obeys": text[start:],
        "obeys after words": f"Sure, here it goes:\n{text[start:]}",
        "begins anew": text,
        "does not obey": f"And so on. {text[len(delivered) :]}",
        "quotes": f"I go on behind '{anchor}':\n{text[start:]}",
    }[dialect]
    stitch = Stitch(delivered, cut_for(delivered, trusted=False), anchor=anchor)
    try:
        got = delivered + says(stitch, answer, sizes)
    except Unverified:
        return
    assert got == text


SEA = "The sea is wide. He came there, saw and conq"


@pytest.mark.parametrize(
    "answer",
    [
        "I'll continue from:\n\n{a}\n\n{a}uered the land.",
        "{a}\n\n{a}uered the land.",
        "{a}…\n{a}uered the land.",
        "Your text ended with:\n{a}\nHere is the rest:\n{a}uered the land.",
        "The sea is wide. He came here, saw and conquered the land, as many have done.",
        "uered the land.",
        "",
        "{a}",
    ],
)
@pytest.mark.parametrize("sizes", [[1], [5], [500]])
def test_words_that_are_only_quoted_prove_nothing(answer: str, sizes: list[int]) -> None:
    anchor = anchor_of(SEA)
    stitch = Stitch(SEA, cut_for(SEA, trusted=False), anchor=anchor)
    with pytest.raises(Unverified):
        says(stitch, answer.replace("{a}", anchor), sizes)


def test_words_that_are_said_more_than_once_prove_nothing() -> None:
    delivered = "The sea is wide. He came there, saw,"
    anchor = anchor_of(delivered)
    with pytest.raises(Unverified):
        says(
            Stitch(delivered, cut_for(delivered, trusted=False), anchor=anchor), f"{anchor}\n\n{anchor} and left.", [5]
        )


@pytest.mark.parametrize(
    ("delivered", "answer"),
    [
        ("The sea is wide. The", "The ocean is a large body of salt water."),
        ("Yes, I", "I'm sorry, I can't see what was said before."),
        ("Choose plan A", "As an AI, I can't choose for you."),
        ("海は広いので", "では、続きを書きます。そして"),
    ],
)
def test_a_server_that_ignores_what_it_was_given_is_found_out(delivered: str, answer: str) -> None:
    stitch = Stitch(delivered, cut_for(delivered, trusted=False))
    with pytest.raises(Unverified):
        says(stitch, answer, [4])


@pytest.mark.parametrize(
    ("delivered", "rest"), [("I use a ", "nother word for it"), ("Do it in ", "to"), ("For some ", "thing else")]
)
@pytest.mark.parametrize("trusted", [True, False])
def test_a_word_that_had_ended_is_not_gone_on_with(delivered: str, rest: str, trusted: bool) -> None:
    cut = cut_for(f"He says so: {delivered}", trusted=trusted)
    stitch = Stitch(f"He says so: {delivered}", cut, trusted=trusted, repeats=False)
    with pytest.raises(Unverified):
        says(stitch, f"{cut.must}{rest}", [3])


def test_a_long_text_that_is_said_again_costs_no_more_than_its_length() -> None:
    text = "It is said that nobody knows it. " * 6000
    stitch, began = Stitch(text, cut_for(text, trusted=True), trusted=True, repeats=True), time.process_time()
    for at in range(0, len(text), 40):
        assert stitch.add(text[at : at + 40]) is None
    assert stitch.add("But some do.") == "But some do."
    assert time.process_time() - began < 20  # a second on a slow machine; a quarter of an hour where it is squared


@pytest.mark.parametrize(
    ("delivered", "begun", "must", "space"),
    [
        ("that holds ", "that holds", "", " "),
        ("to retrieve inf", "to retrieve", " inf", ""),
        ("It is done.", "It is", " done.", ""),
        ("a well-kno", "a", " well-kno", ""),
        ("मैं हिन्", "मैं", " हिन्", ""),
        ("Le re\u0301", "Le", " re\u0301", ""),
        ("I don'", "I", " don'", ""),
        ("Paris", "", "Paris", ""),
        ("a\n\n", "a", "", "\n\n"),
        ("海と言います。" * 5, ("海と言います。" * 5)[:-8], "。海と言います。", ""),
    ],
)
def test_a_text_is_cut_where_a_model_can_go_on(delivered: str, begun: str, must: str, space: str) -> None:
    cut = cut_for(delivered, trusted=True)
    assert (cut.begun, cut.must, cut.space) == (begun, must, space)


@pytest.mark.parametrize("delivered", ["It is done.", "It is done. ", "x = (", "- a\n"])
def test_a_model_that_is_not_known_always_has_to_repeat_enough(delivered: str) -> None:
    cut = cut_for(f"Nobody could say so: {delivered}", trusted=False)
    assert is_proof(cut.must)
    assert cut_for(delivered, trusted=False).begun == "", "of a few words nothing can be proven but all of them"


def test_an_open_block_of_code_is_not_opened_again() -> None:
    delivered = "So:\n```py\nx = (1, 22, 333, 4444,\n"
    cut = cut_for(delivered, trusted=False)
    for line in ("```python\n", "```py\n"):
        stitch = Stitch(delivered, cut)
        assert says(stitch, f"{line}{cut.must.lstrip()}\n     2)\n```\nDone.", [4]) == "     2)\n```\nDone."
    for line in ("```\n", "``` \n", "```\r\n"):
        with pytest.raises(Unverified):  # it closes the block, and then says what is not known to follow
            says(Stitch(delivered, cut), f"{line}{cut.must.lstrip()}", [4])


def test_a_call_of_a_tool_may_follow_a_text_that_is_whole_as_far_as_it_goes() -> None:
    for delivered, said, may in (
        ("I look it up.", " up.", True),
        ("I look it up. ", "", True),
        ("I look it u", "", False),
    ):
        stitch = Stitch(delivered, cut_for(delivered, trusted=True), trusted=True, repeats=False)
        stitch.add(said)
        assert stitch.may_call_now() is may
