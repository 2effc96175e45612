"""A refusal by one tier does not end a request: the next is asked, and hints that a tier refuses are left out."""

from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import NoAnswer
from deployments.openai_api.chat import Request, check_request
from deployments.routing.concessions import Lesson, concede, concede_extra, hints_named, without
from deployments.routing.refusals import KEPT_SECONDS, MOST_LESSONS, MOST_TARGETS, Refusals
from deployments.routing.request_fit import unsupported_in_chat
from tests.unit.tiers import in_tiers, row_of, state
from tests.unit.world import REQUEST, World

ROW = {
    **row_of("a", "b", "c"),
    "models": {"default": {"a": "m1", "b": "m2", "c": "m3"}, "twins": {"a": "m", "b": "m", "c": "m"}},
}
NO_TOP_K = Outcome("rejected", status=400, message="Unknown parameter: 'grammar'.", param="grammar", code="unknown")
WRONG = Outcome("rejected", status=400, message="messages.1: no such call", param="messages.1")


def asks(drop: Any = None, **fields: Any) -> Request:
    return Request(check_request({**REQUEST, **fields}).body, drop)


async def complete(w: World, request: Request) -> Any:
    return await w.service.failover.complete(request, w.service.deadline(None))


async def refused(w: World, request: Request) -> NoAnswer:
    with pytest.raises(NoAnswer) as caught:
        await complete(w, request)
    return caught.value


def refuses(message: str, param: str | None = None, code: str | None = None) -> Outcome:
    return Outcome("rejected", status=400, message=message, param=param, code=code)


def learned(refusal: Outcome, body: dict[str, Any], now: Any = lambda: 0.0) -> Refusals:
    """Return what is known of the target `t` once it has taken the request after this refusal."""
    known, made = Refusals(now), concede(refusal, body)
    known.learn("t", made.lessons if made else ())
    return known


@in_tiers(ROW)
async def test_what_one_tier_refuses_the_next_is_asked_and_no_circuit_moves(w: World) -> None:
    w.provider("a").ends = [NO_TOP_K]
    for _ in range(10):
        answer = await complete(w, asks(grammar="x"))
        assert answer.target == "b/m2"
    await w.settle()
    assert state(w, "a/m1") == "closed"
    entry = answer.record.entries[0]
    assert (entry["outcome"], entry["param"], entry["message"]) == ("rejected", "grammar", NO_TOP_K.message)


@in_tiers(ROW)
async def test_if_all_tiers_refuse_the_client_gets_the_400_of_the_first(w: World) -> None:
    w.provider("a").ends = [NO_TOP_K]
    w.provider("b").ends = [refuses("b won't", "tools")]
    w.provider("c").ends = [refuses("c won't")]
    error = await refused(w, asks())
    assert (error.status, error.param, error.code, str(error)) == (400, "grammar", "unknown", NO_TOP_K.message)
    assert [e.get("param") for e in error.attempts] == ["grammar", "tools", None]


@in_tiers(ROW)
async def test_what_two_vendors_find_wrong_alike_is_not_sent_to_a_third(w: World) -> None:
    w.provider("a").ends = w.provider("b").ends = [WRONG]
    error = await refused(w, asks())
    assert (error.status, error.param) == (400, "messages.1")
    assert w.provider("c").calls == 0


@in_tiers(ROW)
async def test_that_two_models_lack_the_same_says_nothing_of_a_third(w: World) -> None:
    w.provider("a").ends = w.provider("b").ends = [refuses("tools are not supported with this model", "tools")]
    assert (await complete(w, asks())).target == "c/m3"


@in_tiers(ROW)
async def test_one_model_at_two_places_is_one_vendor(w: World) -> None:
    w.provider("a").ends = w.provider("b").ends = [WRONG]
    assert (await complete(w, asks(model="twins"))).target == "c/m"


@in_tiers(ROW)
async def test_a_refusal_after_an_outage_is_no_fault_of_the_client(w: World) -> None:
    w.provider("a").ends = [Outcome("server_error", status=500, message="down")]
    w.provider("b").ends = w.provider("c").ends = [NO_TOP_K]
    error = await refused(w, asks())
    assert (error.status, "down" in str(error)) == (503, True)


@in_tiers(ROW)
async def test_a_hint_that_is_refused_is_left_out_in_the_same_attempt_and_then_from_the_beginning(w: World) -> None:
    w.provider("a").ends = [refuses("'temperature' does not support 0.2 with this model", "temperature"), None]
    answer = await complete(w, asks(temperature=0.2))
    assert (answer.target, answer.dropped, len(answer.record.entries)) == ("a/m1", ("temperature",), 1)
    assert w.provider("a").calls == 2
    answer = await complete(w, asks(temperature=0.2))
    assert (answer.dropped, w.provider("a").calls) == (("temperature",), 3)
    assert (await complete(w, asks())).dropped == ()


@in_tiers(ROW)
async def test_a_stream_is_asked_once_more_too(w: World) -> None:
    w.provider("a").ends = [refuses("Penalty is not enabled for this model"), None]
    request = asks(presence_penalty=0.5, stream=True)
    stream = await w.service.failover.stream(request, w.service.deadline(None))
    assert (stream.target, stream.dropped) == ("a/m1", ("presence_penalty",))
    assert b"[DONE]" in b"".join([frame async for frame in stream.frames()])
    await stream.close()


@in_tiers(ROW)
async def test_who_wants_no_hint_left_out_is_sent_to_the_next_tier(w: World) -> None:
    w.provider("a").ends = [refuses("no", "temperature")]
    assert (await complete(w, asks("none", temperature=0.2))).target == "b/m2"
    assert w.provider("a").calls == 1


@in_tiers(ROW)
async def test_what_a_tier_is_known_to_refuse_makes_it_unfit_for_who_wants_no_hint_left_out(w: World) -> None:
    w.provider("a").ends = [refuses("no", "temperature"), None]
    await complete(w, asks(temperature=0.2))
    calls = w.provider("a").calls
    assert (await complete(w, asks("none", temperature=0.2))).target == "b/m2"
    assert w.provider("a").calls == calls


@in_tiers(ROW)
async def test_a_tier_that_refuses_whatever_is_left_out_is_not_asked_for_ever(w: World) -> None:
    w.provider("a").ends = [refuses("temperature, top_p, seed, top_k and min_p: none of them")]
    request = asks(temperature=0.1, top_p=0.1, seed=1, top_k=1, min_p=0.1, presence_penalty=1, frequency_penalty=1)
    assert (await complete(w, request)).target == "b/m2"
    assert w.provider("a").calls <= 5


BODY = {**REQUEST, "temperature": 0.7, "top_p": 0.9, "seed": 1, "user": "u", "reasoning_effort": "high"}


@pytest.mark.parametrize(
    ("message", "param", "named"),
    [
        ("`temperature` and `top_p` cannot both be specified for this model.", None, ("temperature", "top_p")),
        ("`temperature` and `top_p` cannot both be specified for this model.", "top_p", ("temperature", "top_p")),
        ("Unsupported value: 'temperature' does not support 0.7", "temperature", ("temperature",)),
        ("temperature: unlike top_p it is refused", "temperature", ("temperature",)),
        ("topP is not supported", None, ("top_p",)),
        ("Thinking level is not supported for this model.", None, ("reasoning_effort",)),
        ("roles must alternate between user and assistant", None, ()),
        ("unknown field `user`", None, ("user",)),
        ("presence_penalty is refused", None, ()),
        ("no", None, ()),
    ],
)
def test_the_hints_of_the_request_that_a_refusal_names(message: str, param: str | None, named: tuple[str, ...]) -> None:
    assert hints_named(refuses(message, param), BODY) == named


def test_of_two_that_exclude_each_other_only_the_second_is_left_out_and_only_beside_the_first() -> None:
    known = learned(refuses("`temperature` and `top_p` cannot both be specified for this model."), BODY)
    assert known.adapt("t", BODY).dropped == ("top_p",)
    assert known.adapt("t", {"top_p": 0.9}).dropped == ()
    assert known.adapt("t", {"temperature": None, "top_p": 0.9}).dropped == ()


def test_what_was_refused_is_forgotten_after_an_hour_and_after_many_targets() -> None:
    now = [0.0]
    known = Refusals(lambda: now[0])
    for index in range(MOST_TARGETS + 1):
        known.learn(f"t{index}", [Lesson("seed")])
    assert (known.adapt("t0", BODY).dropped, known.adapt("t1", BODY).dropped) == ((), ("seed",))
    now[0] = KEPT_SECONDS
    assert known.adapt("t1", BODY).dropped == ()


def test_of_one_target_a_bounded_number_of_values_is_remembered() -> None:
    known = Refusals(lambda: 0.0)
    for seed in range(MOST_LESSONS + 1):
        known.learn("t", [Lesson("seed", value=str(seed))])
    assert known.adapt("t", {"seed": 0}).dropped == ()
    assert known.adapt("t", {"seed": MOST_LESSONS}).dropped == ("seed",)


def test_refused_values_push_out_no_refused_field() -> None:
    known = Refusals(lambda: 0.0)
    known.learn("t", [Lesson("temperature"), *(Lesson("seed", value=str(seed)) for seed in range(MOST_LESSONS))])
    assert known.adapt("t", {"temperature": 1, "seed": 5}).dropped == ("temperature", "seed")


def test_a_long_value_is_written_once_for_all_lessons_of_its_hint() -> None:
    known, written = Refusals(lambda: 0.0), list[int]()

    class Long:
        def __str__(self) -> str:
            written.append(1)
            return "long"

    known.learn("t", [Lesson("prediction", value=str(value)) for value in range(9)])
    assert known.adapt("t", {"prediction": Long()}).dropped == ()
    assert len(written) == 1


@pytest.mark.parametrize(
    ("message", "param", "given"),
    [
        ("Invalid schema for response_format 'x': In context=('properties', 'temperature'), no 'type'", None, {}),
        ("Invalid schema for 'x': 'temperature' is no valid name", "response_format", {}),
        ("Unknown parameter: 'grammar'. Supported parameters: temperature, top_p, seed", None, {}),
        ('Invalid role in "set the temperature to 5"', None, {}),
        ("[{'type': 'extra_forbidden', 'loc': ('body', 'messages', 1, 'assistant', 'reasoning')}]", None, {}),
        ("messages.1.assistant.reasoning: Extra inputs are not permitted", None, {}),
        ("Unknown tool 'seed'", None, {"tools": [{"type": "function", "function": {"name": "seed"}}]}),
        ("tools.0.function.parameters.temperature: unsupported", None, {}),
    ],
)
def test_a_hints_word_that_is_the_clients_own_or_only_allowed_is_no_refusal_of_the_hint(
    message: str, param: str | None, given: dict[str, Any]
) -> None:
    assert hints_named(refuses(message, param), {**BODY, **given}) == ()


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ("Unsupported value: 'temperature' does not support 0.7 with this model.", "temperature", "unsupported_value"),
        ("temperature must be at most 0.5", None, None),
        ("Invalid type for 'temperature'", "temperature", "invalid_type"),
    ],
)
def test_of_a_refused_value_only_that_value_is_remembered(message: str, param: str | None, code: str | None) -> None:
    known = learned(refuses(message, param, code), BODY)
    assert known.adapt("t", {"temperature": 0.7}).dropped == ("temperature",)
    assert known.adapt("t", {"temperature": 0.2}).dropped == ()


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported parameter: 'temperature' is not supported with this model.",
        "Unrecognized request argument supplied: temperature",
        "temperature: Extra inputs are not permitted",
        "The field temperature does not exist",
    ],
)
def test_a_refused_field_is_remembered_whatever_its_value(message: str) -> None:
    assert learned(refuses(message), BODY).adapt("t", {"temperature": 0.2}).dropped == ("temperature",)


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ("Invalid 'user': 'x is not supported'", "x is not supported"),
        ("Invalid user: unsupported", "unsupported"),
        (f"Invalid 'user': '{'x' * 99} is not supported'", f"{'x' * 99} is not supported"),
    ],
)
def test_a_refused_value_that_says_that_its_field_is_unknown_is_remembered_alone(message: str, value: str) -> None:
    known = learned(refuses(message, "user"), {"user": value})
    assert (known.adapt("t", {"user": value}).dropped, known.adapt("t", {"user": "u"}).dropped) == (("user",), ())


@pytest.mark.parametrize(("sent", "nearest"), [("minimal", "low"), ("none", "low"), ("xhigh", "high"), ("max", "high")])
def test_of_an_effort_that_is_refused_the_nearest_that_the_refusal_lists_is_sent(sent: str, nearest: str) -> None:
    listed = f"Invalid value: '{sent}'. Supported values are: 'low', 'medium', and 'high'."
    made = concede(refuses(listed, "reasoning_effort", "invalid_value"), {"reasoning_effort": sent})
    assert made is not None
    assert (made.body, made.dropped) == ({"reasoning_effort": nearest}, ())
    known = Refusals(lambda: 0.0)
    known.learn("t", made.lessons)
    assert known.adapt("t", {"reasoning_effort": sent}).body == {"reasoning_effort": nearest}
    assert known.adapt("t", {"reasoning_effort": "medium"}).body == {"reasoning_effort": "medium"}


@in_tiers(ROW)
async def test_what_a_tier_refuses_is_not_remembered_unless_it_then_takes_the_request(w: World) -> None:
    w.provider("a").ends = [refuses("unsupported parameter: temperature"), refuses("no")]
    assert (await complete(w, asks(temperature=0.2))).target == "b/m2"
    w.provider("a").ends = [None]
    assert (await complete(w, asks(temperature=0.2))).dropped == ()


@in_tiers(ROW)
async def test_a_server_that_names_one_unknown_hint_at_a_time_answers_after_four_calls(w: World) -> None:
    names = ("store", "user", "temperature")
    w.provider("a").ends = [*(refuses(f"Unrecognized request argument supplied: {n}", n) for n in names), None]
    hints = {"store": True, "user": "u", "seed": 1, "metadata": {"a": "b"}, "service_tier": "flex", "temperature": 0.1}
    answer = await complete(w, asks(**hints))
    assert (answer.target, w.provider("a").calls, set(answer.dropped)) == ("a/m1", 4, set(hints))
    w.provider("a").ends = [None]
    assert set((await complete(w, asks(**hints))).dropped) == set(names)


NAMED = {"role": "user", "name": "ann", "content": "Hi"}
MARK = {"type": "ephemeral"}
MARKED = {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": MARK}]}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("message", "given", "kept", "name"),
    [
        (
            "'messages.0' : the following must be satisfied[('messages.0' : property 'name' is unsupported)]",
            {"messages": [NAMED]},
            {"messages": [{"role": "user", "content": "Hi"}]},
            "messages.name",
        ),
        (
            "messages.0.user.name: Extra inputs are not permitted",
            {"messages": [NAMED]},
            {"messages": [{"role": "user", "content": "Hi"}]},
            "messages.name",
        ),
        (
            "You can't use cachePoint with this model.",
            {"messages": [MARKED], "tools": [{**TOOL, "cache_control": MARK}]},
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "tools": [TOOL]},
            "cache_control",
        ),
    ],
)
def test_a_hint_inside_a_message_is_left_out_too(
    message: str, given: dict[str, Any], kept: dict[str, Any], name: str
) -> None:
    body = {"model": "m", **given}
    known = learned(refuses(message), body)
    assert known.adapt("t", body).dropped == (name,)
    assert without(body, (name,)) == {"model": "m", **kept}
    assert known.adapt("t", {"messages": [{"role": "user", "content": "Hi"}]}).dropped == ()


def test_the_wish_for_no_padding_of_a_stream_is_a_hint() -> None:
    body = {"stream_options": {"include_usage": True, "include_obfuscation": False}}
    made = concede(refuses("stream_options.include_obfuscation: Extra inputs are not permitted"), body)
    assert made is not None
    assert (made.body, made.dropped) == (
        {"stream_options": {"include_usage": True}},
        ("stream_options.include_obfuscation",),
    )


@pytest.mark.parametrize("name", ["thinking", "enable_thinking", "chat_template_kwargs", "provider", "route", "models"])
def test_other_apis_knobs_are_hints(name: str) -> None:
    made = concede(refuses(f"Unrecognized request argument supplied: '{name}'"), {"messages": [], name: {"a": 1}})
    assert made is not None
    assert (made.body, made.dropped) == ({"messages": []}, (name,))
    assert unsupported_in_chat("google", {"messages": [NAMED], name: {"a": 1}}).dropped[0] == name


def test_a_request_without_such_a_hint_is_not_asked_again() -> None:
    plain = {"messages": [{"role": "user", "content": "Hi"}]}
    assert hints_named(refuses("property 'name' is unsupported"), plain) == ()


@pytest.mark.parametrize("quote", ["'", '"', "`"])
def test_a_quote_that_is_cut_off_names_no_field(quote: str) -> None:
    cut = f"Invalid schema: {quote}drop the temperature, which is unsupported in th"
    assert hints_named(refuses(cut), {**BODY, "temperature": 0.2}) == ()


@pytest.mark.parametrize(
    ("refusal", "gone"),
    [
        # QuantumNous/new-api#2975
        ({"message": "Unexpected value(s) `a-1`, `b-2` for the `x` header."}, ("a-1", "b-2")),
        ({"message": 'Unexpected header "b-2" of `a-1`'}, ("b-2",)),
        ({"message": "no", "param": "thinking.adaptive.display"}, ("thinking.display",)),
        ({"message": "no", "param": "metadata.user_id"}, ("metadata",)),
        ({"message": "not with `a-1`", "param": "messages"}, ()),
        ({"message": "a-1 is odd"}, ()),
    ],
)
def test_what_a_target_gets_beside_a_chat_is_given_up_by_its_name(refusal: Any, gone: tuple[str, ...]) -> None:
    extras = {"a-1": True, "b-2": True, "thinking.display": "omitted", "metadata": {"user_id": "u"}}
    made = concede_extra(Outcome("rejected", status=400, **refusal), extras)
    assert (() if made is None else made.dropped) == gone
    assert made is None or made.body == {name: value for name, value in extras.items() if name not in gone}
