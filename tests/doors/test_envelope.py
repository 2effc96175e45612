"""The envelope in which a provider's own data travels: what a client may put into one is bounded."""

import base64
from typing import Any

import orjson
import pytest

from deployments.doors.envelope import LONGEST, Envelope, absorb, merged, seal, unseal

SIGNED = {"google": {"thought_signature": "c2ln" * 30}}
REASONED = {"bedrock": {"reasoning": [{"text": "a, {b}, [c]" * 999, "signature": "s" * 300}]}}


def sealed(data: Any) -> str:
    return "bw1." + base64.b64encode(orjson.dumps(data)).decode()


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope(),
        Envelope(REASONED),
        Envelope(REASONED, {f"call_{at}": SIGNED for at in range(128)}),
        Envelope({"google": {"text": '\\" {[,' * 100}}),
    ],
)
def test_what_is_sealed_comes_out_as_it_was(envelope: Envelope) -> None:
    assert unseal(seal(envelope)) == envelope


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "EqoBCkgIARAB",
        "bw1.",
        "bw1.!!!!",
        "bw1." + "A" * LONGEST,
        "bw1." + base64.b64encode(b'{"message": {').decode(),
        sealed([]),
        sealed({"message": {}}),
        sealed({"message": {"google": 7}, "calls": {}}),
        sealed({"message": {}, "calls": {"a": 7}}),
    ],
)
def test_what_is_none_of_ours_or_damaged_is_none(text: Any) -> None:
    assert unseal(text) is None


def test_an_envelope_brings_no_more_values_than_its_size_is_worth() -> None:
    assert unseal(sealed({"message": {"k": {"list": [{}] * 1000}}, "calls": {}})) is None
    assert unseal(sealed({"message": {"k": {"list": ["x" * 200] * 1000}}, "calls": {}})) is not None


def test_an_envelope_is_no_deeper_than_a_body_may_be() -> None:
    deep = (
        b'{"message":{"k":{"v":' + b"[" * 200 + b"]" * 200 + b'}},"calls":{"a":{"b":{"text":"' + b"x" * 9000 + b'"}}}}'
    )
    assert unseal("bw1." + base64.b64encode(deep).decode()) is None


def test_extras_are_joined_and_neither_is_changed() -> None:
    first, second = {"a": {"list": [1], "n": 1}}, {"a": {"list": [2], "n": 2}, "b": {"c": 3}}
    assert merged(first, second) == {"a": {"list": [1, 2], "n": 2}, "b": {"c": 3}}
    assert (first, second["a"]) == ({"a": {"list": [1], "n": 1}}, {"list": [2], "n": 2})


def test_what_absorbs_an_extra_keeps_its_own_list() -> None:
    """Thousands of thinking blocks of one message must not be copied for each of them."""
    own: dict[str, Any] = {}
    absorb(own, {"a": {"list": [0]}})
    held = own["a"]["list"]
    absorb(own, {"a": {"list": [1]}})
    assert own["a"]["list"] is held
    assert held == [0, 1]
