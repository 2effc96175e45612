"""What a client may send to make us ill: each is refused, and no provider is blamed for it."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.config.settings import ImageLimits, ImageSettings
from deployments.errors import AttemptFailed, BadRequest
from deployments.openai_api.chat import check_chat
from deployments.providers.base import Call
from deployments.providers.time_limits import TimeLimits
from deployments.routing.image_urls import parse_image_url
from deployments.strict_json.quick import parse_quickly
from tests.fakes.server import Behaviour, FakeServer
from tests.providers.test_images import PNG, here, host, inlined, message, why

__all__ = ["host"]


def test_a_redirect_to_nowhere_is_a_typed_error(host: FakeServer) -> None:
    host.behave = Behaviour("raw", status=302)
    assert "answered 302" in why(message(f"{host.url}/a.png"), ImageLimits(hosts=here(host)))


def test_so_many_images_are_fetched_and_no_more(host: FakeServer) -> None:
    urls = [f"{host.url}/{n}.png" for n in range(200)]
    with pytest.raises(AttemptFailed) as caught:
        inlined(message(*urls), ImageLimits(hosts=here(host)))
    assert caught.value.outcome.code == "invalid_image_url"
    assert host.connections == 0


def test_all_images_of_a_request_together_keep_to_the_bytes(host: FakeServer) -> None:
    host.behave = Behaviour("raw", raw=PNG + bytes(600))
    urls = [f"{host.url}/{n}.png" for n in range(10)]
    with pytest.raises(AttemptFailed) as caught:
        inlined(message(*urls), ImageLimits(max_bytes=1000, hosts=here(host)))
    assert "larger than" in caught.value.outcome.message


def test_a_long_data_url_is_judged_in_little_memory() -> None:
    code = (
        "import resource\n"
        "from deployments.openai_api.capabilities import find_unsupported\n"
        "from deployments.providers.kinds import BEDROCK\n"
        "url = 'data:image/png' + ';' * 3_000_000\n"
        "part = {'type': 'image_url', 'image_url': {'url': url}}\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "body = {'model': 'm', 'messages': [{'role': 'user', 'content': [part]}]}\n"
        "print(find_unsupported(BEDROCK.capabilities, body).missing)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
    assert said[0] == "('messages.0.content',)"
    assert int(said[1]) < 50, "megabytes"


def test_the_text_of_a_long_answer_is_counted_in_little_memory() -> None:
    code = (
        "import resource\n"
        "from deployments.usage.token_estimate import text_in\n"
        "body = b'{\"content\":\"' + b'a' * 3_000_000 + b'\"}'\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(text_in(body))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
    assert said[0] == "3000000"
    assert int(said[1]) < 50, "megabytes"


def outcome_of(body: dict[str, Any]) -> Outcome:
    from deployments.providers.openai.adapter import OpenAIProvider

    async def main() -> Outcome:
        provider = OpenAIProvider(api_key="k", base_url="https://x.openai.com:1/v1")  # never reached
        try:
            await provider.complete(Call(body, "gpt", "row", TimeLimits()))
        except AttemptFailed as error:
            return error.outcome
        finally:
            await provider.close()
        raise AssertionError

    return asyncio.run(main())


@pytest.mark.parametrize("calls", [5, True, 1.5])
def test_calls_that_are_no_list_are_no_failure_of_openai(calls: Any) -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": calls}]
    try:
        checked = check_chat(parse_quickly(json.dumps({"model": "row", "messages": messages}).encode()))
    except BadRequest:
        return
    assert outcome_of(checked.body).kind != "unclassified"


def test_a_request_that_is_nested_too_deeply_is_refused_before_anybody_is_asked() -> None:
    schema = b'{"a":' * 150 + b"{}" + b"}" * 150
    with pytest.raises(ValueError, match="128 levels"):
        parse_quickly(b'{"model":"row","messages":[{"role":"user","content":"x"}],"response_format":' + schema + b"}")


def test_many_brackets_are_no_depth() -> None:
    body = {"model": "row", "messages": [{"role": "user", "content": [{"type": "text", "text": "[{"}] * 100}] * 3}
    assert check_chat(parse_quickly(json.dumps(body).encode())).body == body


def test_a_host_is_named_as_a_url_names_it() -> None:
    asked = parse_image_url("http://[2606:2800:220:1::1]:8080/a.png").request("2606:2800:220:1::1")
    assert asked["url"] == "http://[2606:2800:220:1::1]:8080/a.png"
    assert asked["headers"]["host"] == "[2606:2800:220:1::1]:8080"


def test_the_hosts_of_the_config_may_be_written_in_any_case() -> None:
    assert ImageSettings(hosts=["Images.Corp"]).limits().hosts == {"images.corp"}
