"""Anthropic's own client, as a program uses it. Each line in is a task, each line out is what came of it.

Runs in an environment of its own, with none of our code but the loop of its tasks.
"""

from typing import Any

import anthropic
from pydantic import BaseModel
from tasks import do_tasks

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "Get the current weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
FINISHES = {"end_turn": "stop"}


class City(BaseModel):
    city: str
    population: int


def usage_of(*messages: Any) -> list[int]:
    return [sum(m.usage.input_tokens for m in messages), sum(m.usage.output_tokens for m in messages)]


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


class Tasks:
    def __init__(self, url: str, model: str):
        self._client = anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key="none", max_retries=0)
        self._model = model

    def _asked(self, messages: list[Any], **more: Any) -> dict[str, Any]:
        return {"model": self._model, "messages": messages, "max_tokens": 200, **more}

    def whole(self) -> dict[str, Any]:
        done = self._client.messages.create(**self._asked(QUESTION))
        return {"text": text_of(done), "finish": FINISHES.get(done.stop_reason), "usage": usage_of(done)}

    def stream(self) -> dict[str, Any]:
        with self._client.messages.stream(**self._asked(QUESTION)) as events:
            pieces = list(events.text_stream)
            done = events.get_final_message()
        assert text_of(done) == "".join(pieces)
        finish = FINISHES.get(done.stop_reason)
        return {"text": "".join(pieces), "pieces": len(pieces), "finish": finish, "usage": usage_of(done)}

    def tools(self) -> dict[str, Any]:
        return self._looped(lambda messages: self._client.messages.create(**messages))

    def tools_streamed(self) -> dict[str, Any]:
        def ask(asked: dict[str, Any]) -> Any:
            with self._client.messages.stream(**asked) as events:
                return events.get_final_message()

        return self._looped(ask)

    def _looped(self, ask: Any) -> dict[str, Any]:
        messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
        first = ask(self._asked(messages, tools=[WEATHER], max_tokens=40))
        assert first.stop_reason == "tool_use"
        calls = [block for block in first.content if block.type == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": c.id, "content": "sunny, 21 degrees"} for c in calls]
        messages += [{"role": "assistant", "content": [block.to_dict() for block in first.content]}]
        second = ask(self._asked([*messages, {"role": "user", "content": results}], tools=[WEATHER], max_tokens=40))
        return {"text": text_of(second), "calls": [c.input for c in calls], "usage": usage_of(first, second)}

    def structured(self) -> dict[str, Any]:
        done = self._client.messages.parse(**self._asked(QUESTION), output_format=City)
        assert done.parsed_output is not None
        return {"object": done.parsed_output.model_dump()}

    def cut(self) -> dict[str, Any]:
        seen: list[str] = []
        try:
            with self._client.messages.stream(**self._asked(QUESTION)) as events:
                seen.extend(events.text_stream)
                return {"text": text_of(events.get_final_message())}
        except anthropic.APIError as error:
            body = error.body if isinstance(error.body, dict) else {}
            seen = [text_of(events.current_message_snapshot)]
            return {"raised": type(error).__name__, "code": body["error"]["code"], "seen": "".join(seen)}

    def unknown(self) -> dict[str, Any]:
        try:
            return {"text": text_of(self._client.messages.create(model="gpt-17", messages=QUESTION, max_tokens=9))}
        except anthropic.APIStatusError as error:
            code = error.body["error"]["code"] if isinstance(error.body, dict) else None
            return {"raised": type(error).__name__, "status": error.status_code, "code": code}


do_tasks(Tasks)
