"""What client.py says where this process can't join the cluster. What Ray itself says is in tests/cluster."""

import asyncio
from collections.abc import Callable

import pytest

from deployments import client as c
from deployments.client import Client, Unavailable, explain_place, explain_versions

OURS = "Ray 2.60.0, Python 3.11.7"


@pytest.mark.parametrize(
    "theirs", ["Ray 2.54.0, Python 3.11.7", "Ray 2.60.0, Python 3.12.1", "Ray 2.60.0, Python 3.11.2"]
)
def test_another_version_is_one_sentence_with_both(theirs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", raising=False)
    said = explain_versions("10.0.0.1:6379", theirs, OURS)
    assert said is not None
    for word in ("10.0.0.1:6379", theirs, OURS):
        assert word in said


def test_the_same_versions_are_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", raising=False)
    assert explain_versions("10.0.0.1:6379", OURS, OURS) is None


@pytest.mark.parametrize(
    ("theirs", "fits"),
    [("Ray 2.60.0, Python 3.11.2", True), ("Ray 2.60.0, Python 3.12.7", False), ("Ray 2.60.1, Python 3.11.7", False)],
)
def test_ray_may_be_told_to_compare_two_numbers_of_python_alone(
    theirs: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "minor")
    assert (explain_versions("10.0.0.1:6379", theirs, OURS) is None) is fits


@pytest.mark.parametrize(
    ("here", "mine", "word"), [(False, False, "no node of the cluster"), (True, False, "runs as another user")]
)
def test_where_ray_would_abort_the_http_api_is_named(here: bool, mine: bool, word: str) -> None:
    said = explain_place("10.0.0.1:6379", here, mine)
    assert said is not None
    for part in (word, "10.0.0.1:6379", "HTTP API"):
        assert part in said
    assert explain_place("10.0.0.1:6379", here=True, mine=True) is None


class NeverThere(Client):
    """Ray does not come back to whoever joins."""

    async def _handle(self) -> object:
        return await asyncio.Event().wait()


def failure_of(client: Client, call: Callable[[Client], object]) -> BaseException:
    async def main() -> BaseException:
        try:
            await call(client)  # type: ignore[misc]
        except Exception as error:
            return error
        raise AssertionError("it answered")

    return asyncio.run(main())


async def whole(client: Client) -> None:
    await client.chat({"messages": []}, timeout=0.01)


async def stream(client: Client) -> None:
    async for _ in client.stream_chat({"messages": []}, timeout=0.01):
        pass


@pytest.mark.parametrize("call", [whole, stream])
def test_a_deadline_that_passes_before_there_is_a_connection_is_no_deadline_exceeded(
    call: Callable[[Client], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing_known(look: object) -> None:
        return None

    monkeypatch.setattr(c, "MARGIN", 0.0)
    monkeypatch.setattr(c, "_looked", nothing_known)
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.1:10001")
    error = failure_of(NeverThere(), call)
    assert isinstance(error, Unavailable)
    assert "within 0.01 s" in str(error)


def test_a_name_for_another_ray_is_refused_before_ray_starts_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    said = c._why_not_joined()
    assert said is not None
    assert "unset it" in said


def test_rays_messages_are_one_line() -> None:
    assert c._in_one_line(ConnectionError("\nThe node\n    has died.\n")) == "ConnectionError: The node has died."
