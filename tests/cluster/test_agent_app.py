"""Another Serve application on the same cluster, with a `deployments` package of its own, that calls ours by handle."""

import asyncio
import copy
import pathlib
import shutil
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from ray import serve

from tests.cluster.conftest import CLOUDS, ROOT, SOON, Cluster, eventually
from tests.cluster.scripts import printed_by
from tests.fakes.server import Behaviour, status

SOURCE = pathlib.Path(__file__).parent / "agent_app"


@pytest.fixture(scope="module")
def agents(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The agents' application, started from its own folder as its team would."""
    folder = tmp_path_factory.mktemp("agents") / "app"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "deployments" / "client.py", folder / "deployments" / "breakwater.py")
    printed_by(folder, "start.py")
    yield "agents"
    serve.delete("agents")


def on_loop(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


def handle() -> Any:
    """One for each event loop: the router of a handle lives on the loop that used it first."""
    return copy.copy(serve.get_app_handle("agents"))


async def ask(method: str, *arguments: Any) -> Any:
    return await getattr(handle(), method).remote(*arguments)


def test_the_agents_have_code_of_their_own(llm: Cluster, agents: str) -> None:
    package, client = on_loop(ask("whose_code"))
    assert not package.startswith(str(ROOT))
    assert client == "deployments.breakwater"


def test_an_agent_chats(llm: Cluster, agents: str) -> None:
    answer = on_loop(ask("answer", "What is the capital of France?"))
    assert answer["response"] == "Paris is the capital."
    assert (answer["provider_used"], answer["attempts"]) == ("aws_bedrock", 1)
    assert answer["usage"]["total_tokens"] == 12


def test_an_agent_streams(llm: Cluster, agents: str) -> None:
    async def main() -> list[str]:
        return [text async for text in handle().options(stream=True).tell.remote("Hi")]

    assert on_loop(main()) == ["Paris", " is", " the", " capital", "."]


def test_an_agents_model_calls_its_tools(llm: Cluster, agents: str) -> None:
    done = on_loop(ask("use_tools", "What is the weather in Paris?"))
    assert done == {"answer": "Paris is the capital.", "turns": 4}


def test_an_agent_gets_typed_errors(llm: Cluster, agents: str) -> None:
    hi = [{"role": "user", "content": "Hi"}]
    assert on_loop(ask("go_wrong", {"model": "gpt-17", "messages": hi}))["class"] == "NotFound"
    refused = on_loop(ask("go_wrong", {"model": "default", "messages": []}))
    assert (refused["class"], refused["status"], refused["param"]) == ("BadRequest", 400, "messages")
    llm.fakes["openai"].behave = status(500)
    failed = on_loop(ask("go_wrong", {"model": "openai/gpt-4.1", "messages": hi}))
    assert (failed["class"], failed["status"]) == ("NoAnswer", 503)
    for name in CLOUDS:
        llm.fakes[name].behave = Behaviour("hang")
    late = on_loop(ask("go_wrong", {"model": "default", "messages": hi}, 0.3))
    assert (late["class"], late["status"]) == ("DeadlineExceeded", 504)


def test_when_an_agent_leaves_a_stream_the_call_upstream_is_closed(llm: Cluster, agents: str) -> None:
    llm.fakes["aws_bedrock"].behave = Behaviour("stall", after=3)
    assert on_loop(ask("first_word", "Hi")) == "Paris"
    [request] = llm.fakes["aws_bedrock"].received
    assert request.gone.wait(SOON), "the upstream call went on without its reader"


def test_when_an_agents_own_caller_leaves_the_call_upstream_is_closed(llm: Cluster, agents: str) -> None:
    llm.fakes["aws_bedrock"].behave = Behaviour("stall", after=3)

    async def main() -> None:
        response: Any = handle().options(stream=True).tell.remote("Hi")
        assert await anext(response) == "Paris"
        response.cancel()

    on_loop(main())
    [request] = llm.fakes["aws_bedrock"].received
    assert request.gone.wait(SOON)
    eventually(lambda: on_loop(ask("what_became_of_it")) == "cancelled")
    assert llm.state("aws_bedrock") == "closed"
