"""What is known of one chat's shape holds for every chat of it: the same targets take it, in the same form."""

from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from deployments.errors import BreakwaterError
from deployments.openai_api.chat import check_request
from deployments.routing.model_rows import ModelRows
from deployments.routing.request_fit import RequestFit, shape_of
from tests.property.test_histories_of_all_kinds import KINDS, TARGETS

MORE = ("openai/o3", "openai/deepseek-chat", "openai/qwen3", "aws/amazon.nova-lite-v1:0", "google/gemini-2.0-flash")
ROWS = {target: [target] for target in (*TARGETS, *MORE)} | {"all": [*TARGETS, *MORE]}
WORDS = st.sampled_from(["", "Hi", ".", " Hi ", "Say it in JSON.", "data:image/png;base64,AAAA", "{}", "x" * 5000])
VALUES = st.sampled_from([None, True, False, 0, 1, 1.0, 2, 0.5, 100_000, "", "high", "none", "END", "auto"])
FIELDS = (
    *("temperature", "top_p", "n", "max_tokens", "max_completion_tokens", "stop", "seed", "user", "stream", "logprobs"),
    *("reasoning_effort", "service_tier", "store", "parallel_tool_calls", "top_k", "of_tomorrow", "stream_options"),
    *("verbosity", "presence_penalty", "frequency_penalty", "top_logprobs"),
)


@st.composite
def chats(draw: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two chats that differ in their words alone."""
    roles = draw(st.lists(st.sampled_from(["system", "developer", "user", "assistant"]), min_size=1, max_size=5))
    fields = draw(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
    if fields.get("stream_options") is not None:
        fields["stream_options"] = {"include_usage": draw(st.booleans())}
    fields["model"] = draw(st.sampled_from([*ROWS]))

    def chat() -> dict[str, Any]:
        return {"messages": [{"role": role, "content": draw(WORDS)} for role in roles], **fields}

    return chat(), chat()


@settings(max_examples=600, deadline=None)
@given(chats())
def test_chats_of_one_shape_fit_alike(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    rows, known = ModelRows(ROWS, KINDS), ModelRows(ROWS, KINDS)
    try:
        one, other = map(check_request, both)
    except BreakwaterError:
        return  # no request at all
    if None in (shape_of(one), shape_of(other)):
        return  # an empty text says something
    assert shape_of(one) == shape_of(other)
    known.takers(one)  # of it the next answer is made
    takers, fits = known.takers(other), dict(rows.fits(other))
    event("as it is" if takers else "in another form")
    if takers:
        assert fits == dict.fromkeys(takers, RequestFit(other.body))
        assert list(fits) == list(takers)
    else:
        assert any(fit != RequestFit(other.body) for fit in fits.values())


def test_what_is_equal_in_python_and_not_in_json_is_another_shape() -> None:
    chat = {"model": "all", "messages": [{"role": "user", "content": "Hi"}]}
    shapes = {shape_of(check_request({**chat, **more})) for more in ({}, {"x": 1}, {"x": 1.0}, {"x": True})}
    options = {
        shape_of(check_request({**chat, "stream": True, "stream_options": {"include_usage": on}}))
        for on in (True, False)
    }
    assert len(shapes) == 4
    assert len(options) == 2


def test_what_has_more_than_texts_has_no_shape() -> None:
    user = {"role": "user", "content": "Hi"}
    for messages, more in (
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], {}),
        ([{**user, "name": "me"}], {}),
        ([{"role": "user", "content": ""}], {}),
        ([{"role": "user", "content": " "}], {}),
        ([user, {"role": "assistant"}], {}),
        ([user], {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ([user], {"response_format": {"type": "json_object"}}),
        ([user], {"user": "x" * 65}),
    ):
        assert shape_of(check_request({"model": "all", "messages": messages, **more})) is None
