"""What the models of the shipped rows refuse is known before they are asked."""

import pathlib
from typing import Any

import pytest
import yaml

from deployments.openai_api.chat import Drop, Request, check_request
from deployments.routing.model_rows import ModelRows
from deployments.routing.model_rules import RULES, adapt, model_rules, rules_of
from deployments.routing.request_fit import RequestFit
from tests.unit.world import REQUEST

HAIKU, SONNET = (
    "global.anthropic.claude-haiku-4-5-20251001-v1:0",
    "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
)
OLD = "anthropic.claude-3-5-haiku-20241022-v1:0"
OPUS_47 = "us.anthropic.claude-opus-4-7-v1:0"
KINDS = {"aws": "bedrock", "openai": "openai", "google": "google", "local": "local"}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def fit(target: str, drop: Drop | None = None, **fields: Any) -> RequestFit:
    rows = ModelRows({"row": [target]}, KINDS)
    [(_, found)] = rows.fits(Request(check_request({**REQUEST, "model": "row", **fields}).body, drop))
    return found


def sent(found: RequestFit) -> dict[str, Any]:
    return {k: v for k, v in found.body.items() if k not in ("model", "messages")}


@pytest.mark.parametrize(
    ("target", "given", "kept", "dropped"),
    [
        (f"aws/{HAIKU}", {"temperature": 0.7, "top_p": 0.9}, {"temperature": 0.7}, ("top_p",)),
        (f"aws/{SONNET}", {"top_p": 0.9}, {"top_p": 0.9}, ()),
        (
            "aws/anthropic.claude-3-haiku-20240307-v1:0",
            {"temperature": 0.7, "top_p": 0.9},
            {"temperature": 0.7, "top_p": 0.9},
            (),
        ),
        (f"aws/{OPUS_47}", {"temperature": 0.7, "top_p": 0.9}, {}, ("temperature", "top_p")),
        (f"aws/{HAIKU}", {"max_tokens": 100_000}, {"max_tokens": 64_000}, ("max_tokens",)),
        (f"aws/{OPUS_47}", {"max_tokens": 100_000}, {"max_tokens": 100_000}, ()),
        (f"aws/{HAIKU}", {"stop": ["\n", "END"]}, {"stop": ["END"]}, ("stop",)),
        (f"aws/{HAIKU}", {"stop": " "}, {}, ("stop",)),
        (f"aws/{HAIKU}", {"reasoning_effort": "high"}, {"reasoning_effort": "high"}, ()),
        (f"aws/{OLD}", {"reasoning_effort": "high"}, {}, ("reasoning_effort",)),
        (
            f"aws/{HAIKU}",
            {"reasoning_effort": "high", "temperature": 0.2, "top_p": 0.9},
            {"reasoning_effort": "high"},
            ("temperature", "top_p"),
        ),
        (
            f"aws/{HAIKU}",
            {"reasoning_effort": "none", "temperature": 0.2},
            {"reasoning_effort": "none", "temperature": 0.2},
            ("reasoning_effort",),
        ),
        (
            f"aws/{HAIKU}",
            {"reasoning_effort": "high", "temperature": 0.2, "tools": TOOLS, "tool_choice": "required"},
            {"reasoning_effort": "high", "temperature": 0.2, "tools": TOOLS, "tool_choice": "required"},
            (),
        ),
        ("aws/global.anthropic.claude-sonnet-5", {"temperature": 0.2}, {}, ("temperature",)),
        (f"aws/{OPUS_47}", {"reasoning_effort": "high"}, {"reasoning_effort": "high"}, ()),
        ("openai/gpt-5.4-mini", {"temperature": 0.2}, {}, ("temperature",)),
        ("openai/gpt-5.4-mini", {"temperature": 1}, {"temperature": 1}, ()),
        (
            "openai/gpt-5.4-mini",
            {"temperature": 0.2, "reasoning_effort": "none"},
            {"temperature": 0.2, "reasoning_effort": "none"},
            (),
        ),
        ("openai/gpt-5", {"reasoning_effort": "none"}, {"reasoning_effort": "minimal"}, ()),
        ("openai/o3", {"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}, ()),
        ("openai/o3", {"parallel_tool_calls": False, "tools": TOOLS}, {"tools": TOOLS}, ("parallel_tool_calls",)),
        (
            "openai/gpt-4.1",
            {"reasoning_effort": "low", "temperature": 0.2},
            {"temperature": 0.2},
            ("reasoning_effort",),
        ),
        ("openai/gpt-4.1", {"max_tokens": 100_000}, {"max_tokens": 32_768}, ("max_tokens",)),
        ("openai/llama", {"temperature": 0.2, "top_k": 5}, {"temperature": 0.2, "top_k": 5}, ()),
        (
            "google/gemini-2.5-pro",
            {"presence_penalty": 0.3, "frequency_penalty": 0},
            {"frequency_penalty": 0},
            ("presence_penalty",),
        ),
        ("google/gemini-2.0-flash", {"reasoning_effort": "low"}, {}, ("reasoning_effort",)),
        ("google/gemini-2.5-pro", {"max_tokens": 100_000}, {"max_tokens": 65_536}, ("max_tokens",)),
    ],
)
def test_a_model_gets_what_it_takes_and_the_client_is_told(
    target: str, given: dict[str, Any], kept: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    found = fit(target, **given)
    assert (sent(found), sorted(found.dropped), found.missing) == (kept, sorted(dropped), ())


@pytest.mark.parametrize(
    ("target", "given", "missing"),
    [
        (f"aws/{OPUS_47}", {"messages": [*REQUEST["messages"], {"role": "assistant", "content": "{"}]}, "messages.1"),
        ("aws/anthropic.claude-3-haiku-20240307-v1:0", {"response_format": SCHEMA}, "response_format"),
        ("google/gemini-2.5-pro", {"response_format": SCHEMA, "tools": TOOLS}, "response_format"),
    ],
)
def test_a_demand_that_a_model_can_not_heed_is_missing(target: str, given: dict[str, Any], missing: str) -> None:
    assert fit(target, **given).missing == (missing,)


@pytest.mark.parametrize(
    ("target", "given"),
    [
        (f"aws/{HAIKU}", {"messages": [*REQUEST["messages"], {"role": "assistant", "content": "{"}]}),
        (f"aws/{HAIKU}", {"response_format": SCHEMA}),
        ("google/gemini-3.8-flash", {"response_format": SCHEMA, "tools": TOOLS}),
        ("google/gemini-2.5-pro", {"response_format": SCHEMA, "tools": TOOLS, "tool_choice": "none"}),
    ],
)
def test_a_demand_that_a_model_can_heed_is_not(target: str, given: dict[str, Any]) -> None:
    assert fit(target, **given).missing == ()


def test_the_client_is_told_which_words_of_a_schema_constrain_no_more() -> None:
    number = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": number}}
    lost = "response_format.json_schema.schema.properties.n.minimum"
    assert fit(f"aws/{HAIKU}", response_format=wanted).dropped == (lost,)
    assert fit(f"aws/{HAIKU}", "none", response_format=wanted).missing == (lost,)
    assert fit("openai/gpt-5.4-mini", response_format=wanted).dropped == ()


def test_who_wants_no_field_left_out_is_not_sent_there() -> None:
    assert fit(f"aws/{HAIKU}", "none", temperature=0.7, top_p=0.9).missing == ("top_p",)


def test_a_request_that_no_rule_touches_is_passed_on_as_it_is() -> None:
    request = check_request({**REQUEST, "model": "row", "temperature": 0.2})
    for target in (f"aws/{HAIKU}", "openai/gpt-4.1", "google/gemini-2.5-pro"):
        [(_, found)] = ModelRows({"row": [target]}, KINDS).fits(request)
        assert found.body is request.body


def test_the_clients_own_request_is_never_changed() -> None:
    body = check_request({**REQUEST, "temperature": 0.2, "top_p": 0.1, "stop": [" "], "max_tokens": 10**6}).body
    before = dict(body)
    for rule in RULES:
        adapt(model_rules((rule,)), body)
    assert body == before


def test_each_model_of_the_shipped_rows_has_rules_but_the_local_one() -> None:
    config = yaml.safe_load(pathlib.Path("serve_config.yaml").read_text())["applications"][0]["args"]
    for row in config["models"].values():
        for provider, model in row.items():
            kind = config["providers"][provider]["kind"]
            assert bool(rules_of(kind, model)) == (kind != "local"), model


def test_each_rule_names_its_source() -> None:
    assert all(rule.source for rule in RULES)
