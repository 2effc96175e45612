"""Requests drawn from the types of Anthropic's SDK: each is refused by a name, or a chat that every wire can build."""

import contextlib
import copy
import itertools
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, Required, get_args, get_origin

from anthropic.types import MessageCreateParams
from anthropic.types.message_create_params import MessageCreateParamsBase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import is_typeddict

from deployments.doors.messages.door import MESSAGES
from deployments.errors import AttemptFailed, BadRequest
from deployments.openai_api.chat import Request, check_chat, dump
from deployments.openai_api.found import says_something
from deployments.providers.anthropic.native import native_body
from deployments.providers.anthropic.request import Terms, to_messages
from deployments.providers.base import Call
from deployments.providers.bedrock.request import to_converse
from deployments.providers.google.request import to_generate
from deployments.providers.local.codec import to_engine
from deployments.providers.openai.dialect import Dialect
from deployments.providers.openai.request import chat_body
from deployments.providers.time_limits import TimeLimits
from deployments.routing.message_forms import with_result_ids, without_foreign

SETTINGS = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
LISTS = ("Iterable", "Sequence", "SequenceNotStr", "List", "list")
WORDS = st.one_of(st.sampled_from(["toolu_1", "toolu_2", "look", "", "Hi", "error: x"]), st.text(max_size=5))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def strategy_of(kind: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Return what may be sent for a type of the SDK. Below some depth, optional fields are left out."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Required, NotRequired, typing.Annotated):
        return strategy_of(inner[0], depth)
    if origin in (typing.Union, types.UnionType):
        options = [strategy_of(one, depth) for one in inner if not _is_io(one)]
        return st.one_of(options) if options else st.nothing()
    if origin is typing.Literal:
        return st.sampled_from(inner)
    if is_typeddict(kind):
        return _typed_dict(kind, depth)
    if getattr(origin, "__name__", "") in LISTS or getattr(origin, "_name", "") in LISTS:
        return st.lists(st.deferred(lambda: strategy_of(inner[0], depth + 1)), max_size=3 if depth < 2 else 1)
    if origin is dict or kind is dict:
        return st.dictionaries(st.text(max_size=3), JSON, max_size=2)
    simple: Mapping[Any, st.SearchStrategy[Any]] = {
        str: WORDS,
        int: st.integers(0, 40_000),
        bool: st.booleans(),
        float: st.floats(0, 1),
        type(None): st.none(),
    }
    return simple.get(kind, JSON)


def _is_io(kind: Any) -> bool:
    return "Base64FileInput" in str(kind) or "IO" in str(kind)


def _typed_dict(kind: Any, depth: int) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {name: st.deferred(lambda hint=hint: strategy_of(hint, depth + 1)) for name, hint in hints.items()}
    must = {name: fields[name] for name in _required(kind, hints)}
    may = {} if depth > 5 else {name: field for name, field in fields.items() if name not in must}
    return st.fixed_dictionaries(must, optional=may)


def _required(kind: Any, hints: Mapping[str, Any]) -> set[str]:
    # `__required_keys__` is empty where annotations are texts.
    own = kind.__annotations__ if kind.__total__ else ()
    return {name for name, hint in hints.items() if get_origin(hint) is Required or name in own}


FIELDS = typing.get_type_hints(MessageCreateParamsBase, include_extras=True)
ANY_REQUEST = strategy_of(MessageCreateParams) | strategy_of(MessageCreateParamsBase)


def test_the_strategy_draws_what_the_sdk_takes() -> None:
    assert _required(MessageCreateParamsBase, FIELDS) == {"messages", "model", "max_tokens"}


@SETTINGS
@given(ANY_REQUEST)
def test_any_request_of_the_sdk_is_taken_or_refused_by_a_name(body: dict[str, Any]) -> None:
    check_request(body)


def check_request(body: dict[str, Any]) -> bool:
    """Check one request, and return whether it was taken."""
    before, refused = copy.deepcopy(body), None
    try:
        opened = MESSAGES.open(body)
    except BadRequest as error:
        refused = error
    assert body == before
    if refused is not None:
        assert refused.param is not None
        assert refused.param.split(".")[0] in body.keys() | {"messages"}
        assert f"'{refused.param}'" in str(refused)
        return False
    chat = opened.request.body
    assert check_chat(chat).body is chat
    assert len(opened.paths.messages) == len(chat["messages"])
    assert len(opened.paths.tools) == len(chat.get("tools", ()))
    assert all(_stands_in(path, body) for path in opened.dropped)
    dump(chat)
    for build in (_openai, to_converse, to_generate, to_messages, to_engine):
        for model in ("us.anthropic.claude-sonnet-4-6", "gemini-3-pro"):
            with contextlib.suppress(AttemptFailed, BadRequest):  # a typed refusal of this one target
                build(Call(chat, model, "row-a", TimeLimits()))
    check_native(body, opened.request)
    return True


def check_native(body: dict[str, Any], request: Request) -> None:
    """The same request is one for a target of the same API, whatever the model, and no envelope of ours is in it."""
    native = request.native
    assert native is not None
    assert all(_stands_in(path, body) for path in native.left_out())
    own = native.body(request.body, native.extras())
    for model in ("claude-haiku-4-5", "claude-opus-4-8", "of-others"):
        made, _ = native_body(Call(own, model, "row-a", TimeLimits(), api="messages"), Terms(), stream=False)
        assert not [path for path in _envelopes_in(made["messages"])]
        assert made.keys() - body.keys() <= {"tools", "tool_choice", "thinking", "output_config"}
        dump(made)


def _envelopes_in(messages: Any) -> Iterator[Any]:
    for message in messages:
        content = message["content"]
        for block in content if isinstance(content, list) else ():
            if str(block.get("signature")).startswith("bw1.") or block["type"] == "extra_content":
                yield block


def _openai(call: Call) -> Any:
    body, _ = without_foreign(with_result_ids(dict(call.body)), call.model)
    return chat_body(Call(body, call.model, call.name, call.limits), stream=False, dialect=Dialect())


def _stands_in(path: str, body: Any) -> bool:
    """Return whether the client has written something at a path."""
    for step in path.split("."):
        body = body[int(step)] if isinstance(body, list) else body.get(step)
    return says_something(body)


# Conversations as agents have them: many of those that are drawn above are refused for a block that is not allowed.
TEXTS = st.builds(lambda words: {"type": "text", "text": words}, WORDS)
CALLS = st.builds(
    lambda key, arguments: {"type": "tool_use", "id": key, "name": "look", "input": arguments},
    st.sampled_from(["toolu_1", "toolu_2", "toolu_3"]),
    st.dictionaries(st.text(max_size=3), JSON, max_size=2),
)
IMAGES = st.just({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}})
RESULTS = st.builds(
    lambda key, content, failed: {"type": "tool_result", "tool_use_id": key, "content": content, "is_error": failed},
    st.sampled_from(["toolu_1", "toolu_2", "toolu_3"]),
    WORDS | st.lists(TEXTS | IMAGES, max_size=2),
    st.booleans(),
)
THOUGHTS = st.builds(
    lambda words, signature: {"type": "thinking", "thinking": words, "signature": signature},
    WORDS,
    WORDS | st.sampled_from(["bw1.eyJtZXNzYWdlIjp7fSwiY2FsbHMiOnt9fQ==", "bw1.e30="]),
)
TURNS = st.one_of(
    st.builds(lambda content: {"role": "user", "content": content}, WORDS | st.lists(TEXTS | RESULTS | IMAGES)),
    st.builds(lambda content: {"role": "assistant", "content": content}, WORDS | st.lists(TEXTS | CALLS | THOUGHTS)),
    st.builds(lambda content: {"role": "system", "content": content}, WORDS | st.lists(TEXTS)),
)


@SETTINGS
@given(st.lists(TURNS, max_size=8), st.booleans())
def test_every_legal_history_can_be_converted(turns: list[Any], marks: bool) -> None:  # 31, 43
    first = {"role": "user", "content": "Hi"}
    body: dict[str, Any] = {"model": "row-a", "max_tokens": 9, "messages": [first, *turns]}
    if marks:
        body["cache_control"] = {"type": "ephemeral"}
    assert check_request(body)
    roles = [message["role"] for message in MESSAGES.open(body).request.body["messages"]]
    behind = [before for before, role in itertools.pairwise(roles) if role == "tool"]
    assert set(behind) <= {"assistant", "tool"}  # 30


ODD = st.sampled_from([None, True, 0, -1, 2**70, 1.5, "", "x", [], {}, [[]], [{}], {"type": 7}, {"type": "text"}])


def _with_all(turns: list[Any]) -> dict[str, Any]:
    """Return a request with a value in each field."""
    tools = [{"name": "look", "input_schema": {}, "cache_control": {}, "allowed_callers": ["direct"]}]
    return {
        **{"model": "row-a", "max_tokens": 9, "messages": copy.deepcopy(turns), "tools": tools, "metadata": {}},
        **{"system": [{"type": "text", "text": "S"}], "tool_choice": {"type": "auto"}, "stop_sequences": ["a"]},
        **{"thinking": {"type": "enabled", "budget_tokens": 9}, "output_config": {"effort": "low", "format": None}},
        **{"output_format": {"type": "json_schema", "schema": {}}, "stream": False, "cache_control": None, "top_k": 1},
    }


@SETTINGS
@given(st.lists(TURNS, min_size=1, max_size=4), ODD, st.data())
def test_a_request_with_an_odd_value_anywhere_is_taken_or_refused_by_a_name(
    turns: list[Any], odd: Any, data: st.DataObject
) -> None:
    body = _with_all(turns)
    holder, key = data.draw(st.sampled_from(list(_places(body))))
    holder[key] = odd
    check_request(body)


def test_a_request_of_one_empty_turn_of_the_assistant_is_no_bug_of_ours() -> None:
    """Hypothesis found it: nothing is left of its messages, and the model is to think."""
    body = _with_all([{"role": "assistant", "content": [{"type": "text", "text": ""}]}])
    body["tools"][0]["cache_control"] = None
    check_request(body)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each place inside a value, as what holds it and the key there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in inner:
        yield value, key
        yield from _places(held)
