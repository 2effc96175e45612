"""OpenAI's Agents SDK, as a program uses it: it speaks Responses. Each line in is a task, each line out its end.

Runs in an environment of its own, with none of our code but the loop of its tasks.
"""

from typing import Any

import agents
import openai
from pydantic import BaseModel
from tasks import do_tasks

QUESTION = "What is the capital of France?"
agents.set_tracing_disabled(True)


class City(BaseModel):
    city: str
    population: int


def usage_of(result: Any) -> list[int]:
    usage = result.context_wrapper.usage
    return [usage.input_tokens, usage.output_tokens]


class Tasks:
    def __init__(self, url: str, model: str):
        self._client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
        self._model = self._named(model)
        self._calls: list[dict[str, Any]] = []

    def _named(self, model: str) -> agents.OpenAIResponsesModel:
        return agents.OpenAIResponsesModel(model=model, openai_client=self._client)

    def _agent(self, **options: Any) -> agents.Agent[Any]:
        return agents.Agent(name="geographer", **{"model": self._model, **options})

    def _with_weather(self) -> agents.Agent[Any]:
        @agents.function_tool
        def get_weather(city: str) -> str:
            """Get the current weather in a city"""
            self._calls.append({"city": city})
            return "sunny, 21 degrees"

        return self._agent(tools=[get_weather], model_settings=agents.ModelSettings(max_tokens=40))

    async def whole(self) -> dict[str, Any]:
        result = await agents.Runner.run(self._agent(), QUESTION)
        return {"text": result.final_output, "finish": "stop", "usage": usage_of(result)}

    async def _streamed(self, agent: agents.Agent[Any], question: str, seen: list[str]) -> Any:
        result = agents.Runner.run_streamed(agent, question)
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                seen.append(event.data.delta)
        return result

    async def stream(self) -> dict[str, Any]:
        seen: list[str] = []
        result = await self._streamed(self._agent(), QUESTION, seen)
        assert result.final_output == "".join(seen)
        return {"text": "".join(seen), "pieces": len(seen), "finish": "stop", "usage": usage_of(result)}

    async def tools(self) -> dict[str, Any]:
        result = await agents.Runner.run(self._with_weather(), "What is the weather in Paris?")
        return {"text": result.final_output, "calls": self._calls, "usage": usage_of(result)}

    async def tools_streamed(self) -> dict[str, Any]:
        result = await self._streamed(self._with_weather(), "What is the weather in Paris?", [])
        return {"text": result.final_output, "calls": self._calls, "usage": usage_of(result)}

    async def structured(self) -> dict[str, Any]:
        result = await agents.Runner.run(self._agent(output_type=City), QUESTION)
        return {"object": result.final_output.model_dump()}

    async def handoff(self) -> dict[str, Any]:
        """One agent gives the conversation to another, which answers."""
        other = agents.Agent(name="historian", model=self._model)
        result = await agents.Runner.run(self._agent(handoffs=[other]), QUESTION)
        return {"text": result.final_output, "by": result.last_agent.name}

    async def cut(self) -> dict[str, Any]:
        seen: list[str] = []
        try:
            result = await self._streamed(self._agent(), QUESTION, seen)
        except (agents.AgentsException, openai.APIError, RuntimeError) as error:
            return {"raised": type(error).__name__, "code": None, "seen": "".join(seen)}
        return {"text": result.final_output}

    async def unknown(self) -> dict[str, Any]:
        try:
            return {"text": (await agents.Runner.run(self._agent(model=self._named("gpt-17")), QUESTION)).final_output}
        except openai.APIStatusError as error:
            return {"raised": type(error).__name__, "status": error.status_code, "code": error.code}


do_tasks(Tasks)
