"""pydantic-ai, as a program uses it. Each line in is a task, each line out is what came of it.

Runs in an environment of its own, with none of our code but the loop of its tasks.
"""

from typing import Any

import openai
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.exceptions import AgentRunError, ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from tasks import do_tasks

QUESTION = "What is the capital of France?"


class City(BaseModel):
    city: str
    population: int


def usage_of(result: Any) -> list[int]:
    usage = result.usage() if callable(result.usage) else result.usage
    return [usage.input_tokens, usage.output_tokens]


class Tasks:
    def __init__(self, url: str, model: str):
        self._url = url
        self._model = self._named(model)
        self._calls: list[dict[str, Any]] = []

    def _named(self, model: str) -> OpenAIChatModel:
        client = openai.AsyncOpenAI(base_url=self._url, api_key="none", max_retries=0)
        return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client))

    def _with_weather(self) -> Agent[None, str]:
        agent = Agent(self._model, retries=0, model_settings={"max_tokens": 40})

        @agent.tool_plain
        def get_weather(city: str) -> str:
            """Get the current weather in a city"""
            self._calls.append({"city": city})
            return "sunny, 21 degrees"

        return agent

    async def whole(self) -> dict[str, Any]:
        result = await Agent(self._model).run(QUESTION)
        return {"text": result.output, "finish": result.response.finish_reason, "usage": usage_of(result)}

    async def stream(self) -> dict[str, Any]:
        async with Agent(self._model).run_stream(QUESTION) as result:
            pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
            return {
                "text": "".join(pieces),
                "pieces": len(pieces),
                "finish": result.response.finish_reason,
                "usage": usage_of(result),
            }

    async def tools(self) -> dict[str, Any]:
        result = await self._with_weather().run("What is the weather in Paris?")
        return {"text": result.output, "calls": self._calls, "usage": usage_of(result)}

    async def tools_streamed(self) -> dict[str, Any]:
        async with self._with_weather().run_stream("What is the weather in Paris?") as result:
            text = await result.get_output()
            return {"text": text, "calls": self._calls, "usage": usage_of(result)}

    async def structured(self) -> dict[str, Any]:
        result = await Agent(self._model, output_type=NativeOutput(City), retries=0).run(QUESTION)
        return {"object": result.output.model_dump()}

    async def cut(self) -> dict[str, Any]:
        seen: list[str] = []
        try:
            async with Agent(self._model).run_stream(QUESTION) as result:
                async for piece in result.stream_text(delta=True, debounce_by=None):
                    seen.append(piece)
                return {"text": "".join(seen)}
        except (AgentRunError, openai.APIError) as error:
            code = getattr(error, "code", None) or getattr(error.__cause__, "code", None)
            return {"raised": type(error).__name__, "code": code, "seen": "".join(seen)}

    async def unknown(self) -> dict[str, Any]:
        try:
            return {"text": (await Agent(self._named("gpt-17")).run(QUESTION)).output}
        except ModelHTTPError as error:
            body = error.body if isinstance(error.body, dict) else {}
            return {"raised": type(error).__name__, "status": error.status_code, "code": body.get("code")}


do_tasks(Tasks)
