"""SDKs and frameworks inside Ray, whose requests go by handle. Prints as JSON what each of them was answered.

Runs in an environment of its own, beside copies of client.py and sdk_transport.py.
"""

import json
import sys

import anthropic
import httpx
import httpx2
import openai
import pydantic_ai
import ray
from breakwater import connect
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from sdk_transport import async_http_client, http_client

ADDRESS = {"base_url": "http://breakwater/v1", "api_key": "any"}
HI = [{"role": "user", "content": "What is the capital of France?"}]


def ask_in_a_task(module: object) -> object:
    client = OpenAI(http_client=http_client(connect("llm"), module), **ADDRESS)
    with client.chat.completions.create(model="default", messages=HI, stream=True) as stream:
        return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)


@ray.remote(num_cpus=0)
def sync_httpx2() -> object:
    return ask_in_a_task(httpx2)


@ray.remote(num_cpus=0)
def sync_httpx() -> object:
    return ask_in_a_task(httpx)


@ray.remote(num_cpus=0)
def sync_anthropic() -> object:
    client = anthropic.Anthropic(http_client=http_client(connect("llm")), api_key="any")
    return client.messages.create(model="default", max_tokens=64, messages=HI).content[0].text


@ray.remote(num_cpus=0)
class SyncInAnAsyncActor:
    async def ask(self) -> object:
        return ask_in_a_task(httpx2)


@ray.remote(num_cpus=0)
class Agent:
    def __init__(self) -> None:
        self.llm = connect("llm")

    def chat(self, **more: object) -> ChatOpenAI:
        clients = {"http_async_client": async_http_client(self.llm), "http_client": http_client(self.llm)}
        return ChatOpenAI(model="default", **ADDRESS, **clients, **more)

    async def async_httpx(self) -> object:
        client = AsyncOpenAI(http_client=async_http_client(self.llm, httpx), **ADDRESS)
        return (await client.chat.completions.create(model="default", messages=HI)).choices[0].message.content

    async def async_httpx_refused(self) -> object:
        client = AsyncOpenAI(http_client=async_http_client(connect("nobody"), httpx), max_retries=0, **ADDRESS)
        try:
            await client.models.list()
        except openai.InternalServerError as error:
            return error.code

    async def langchain_streams(self) -> object:
        return "".join([str(piece.content) async for piece in self.chat().astream(HI)])

    async def langchain_by_responses(self) -> object:
        return (await self.chat(use_responses_api=True).ainvoke(HI)).text

    async def pydantic_ai_streams(self) -> object:
        provider = OpenAIProvider(http_client=async_http_client(self.llm), **ADDRESS)
        agent = pydantic_ai.Agent(OpenAIResponsesModel("default", provider=provider))
        async with agent.run_stream(HI[0]["content"]) as result:
            return await result.get_output()

    async def pydantic_ai_by_messages(self) -> object:
        client = async_http_client(self.llm)
        provider = AnthropicProvider(http_client=client, api_key="any", base_url="http://breakwater")
        agent = pydantic_ai.Agent(AnthropicModel("default", provider=provider))
        return (await agent.run(HI[0]["content"])).output


if __name__ == "__main__":
    ray.init(address="auto", runtime_env={"working_dir": ".", "py_executable": sys.executable}, log_to_driver=False)
    tasks = {
        task._function_name.rpartition(".")[2]: task.remote() for task in (sync_httpx2, sync_httpx, sync_anthropic)
    }
    agent = Agent.remote()
    methods = [name for name in dir(agent) if name.startswith(("async_", "langchain_", "pydantic_ai_"))]
    asked = {**tasks, "sync_in_an_async_actor": SyncInAnAsyncActor.remote().ask.remote()}
    asked |= {name: getattr(agent, name).remote() for name in methods}
    print(json.dumps({name: ray.get(answer, timeout=120) for name, answer in asked.items()}))
