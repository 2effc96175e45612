"""LangChain's chat models of Anthropic and of OpenAI's Responses. Each line in is a task, each line out its end.

Runs in an environment of its own, with none of our code but the loop of its tasks. Its argument says
which of both it is.
"""

import sys
from typing import Any

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from tasks import do_tasks

QUESTION = "What is the capital of France?"
FINISHES = {"end_turn": "stop", "completed": "stop"}
CALLS: list[dict[str, Any]] = []


class City(BaseModel):
    """A city."""

    city: str
    population: int


@tool
def get_weather(city: str) -> str:
    """Get the current weather in a city"""
    CALLS.append({"city": city})
    return "sunny, 21 degrees"


def model_of(url: str, name: str, limit: int = 200) -> Any:
    if sys.argv[1] == "anthropic":
        options: dict[str, Any] = {"base_url": url.removesuffix("/v1"), "max_tokens": limit}
        return ChatAnthropic(model=name, api_key="none", max_retries=0, **options)
    options = {"base_url": url, "max_tokens": limit}
    return ChatOpenAI(model=name, api_key="none", max_retries=0, use_responses_api=True, **options)


def usage_of(*messages: Any) -> list[int]:
    told = [message.usage_metadata for message in messages]
    return [sum(usage["input_tokens"] for usage in told), sum(usage["output_tokens"] for usage in told)]


def finish_of(message: Any) -> str | None:
    told = message.response_metadata
    return FINISHES.get(told.get("stop_reason") or told.get("status"))


class Tasks:
    def __init__(self, url: str, model: str):
        self._url = url
        self._name = model
        self._model = model_of(url, model)
        CALLS.clear()

    def whole(self) -> dict[str, Any]:
        done = self._model.invoke(QUESTION)
        return {"text": done.text, "finish": finish_of(done), "usage": usage_of(done)}

    def stream(self) -> dict[str, Any]:
        pieces, whole = [], None
        for piece in self._model.stream(QUESTION):
            pieces += [piece.text] if piece.text else []
            whole = piece if whole is None else whole + piece
        assert whole is not None
        return {"text": whole.text, "pieces": len(pieces), "finish": finish_of(whole), "usage": usage_of(whole)}

    def tools(self) -> dict[str, Any]:
        return self._looped(lambda model, messages: model.invoke(messages))

    def tools_streamed(self) -> dict[str, Any]:
        def ask(model: Any, messages: Any) -> Any:
            first, *rest = model.stream(messages)
            return sum(rest, first)

        return self._looped(ask)

    def _looped(self, ask: Any) -> dict[str, Any]:
        model = model_of(self._url, self._name, limit=40).bind_tools([get_weather])
        messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
        first = ask(model, messages)
        messages += [first, *(get_weather.invoke({**call, "type": "tool_call"}) for call in first.tool_calls)]
        second = ask(model, messages)
        return {"text": second.text, "calls": list(CALLS), "usage": usage_of(first, second)}

    def structured(self) -> dict[str, Any]:
        made = self._model.with_structured_output(City, method="json_schema").invoke(QUESTION)
        return {"object": made.model_dump()}

    def cut(self) -> dict[str, Any]:
        seen: list[str] = []
        try:
            seen.extend(piece.text for piece in self._model.stream(QUESTION))
            return {"text": "".join(seen)}
        except Exception as error:
            return {"raised": type(error).__name__, "code": getattr(error, "code", None), "seen": "".join(seen)}

    def unknown(self) -> dict[str, Any]:
        try:
            return {"text": model_of(self._url, "gpt-17").invoke(QUESTION).text}
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            body: Any = error.body
            code = body["error"]["code"] if "error" in body else body["code"]
            return {"raised": type(error).__name__, "status": error.status_code, "code": code}


do_tasks(Tasks)
