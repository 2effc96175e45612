"""OpenAI's own client with its Responses API, as a program uses it. Each line in is a task, each line out its end.

Runs in an environment of its own, with none of our code but the loop of its tasks.
"""

import json
from typing import Any

import openai
from pydantic import BaseModel
from tasks import do_tasks

QUESTION = "What is the capital of France?"
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class City(BaseModel):
    city: str
    population: int


def usage_of(*responses: Any) -> list[int]:
    return [sum(r.usage.input_tokens for r in responses), sum(r.usage.output_tokens for r in responses)]


def finish_of(response: Any) -> str:
    return "stop" if response.status == "completed" else str(response.incomplete_details.reason)


class Tasks:
    def __init__(self, url: str, model: str):
        self._client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        self._model = model

    def whole(self) -> dict[str, Any]:
        done = self._client.responses.create(model=self._model, input=QUESTION, store=False)
        return {"text": done.output_text, "finish": finish_of(done), "usage": usage_of(done)}

    def stream(self) -> dict[str, Any]:
        seen: list[str] = []
        for event in self._client.responses.create(model=self._model, input=QUESTION, stream=True):
            if event.type == "response.output_text.delta":
                seen.append(event.delta)
            if event.type == "response.completed":
                done = event.response
        assert done.output_text == "".join(seen)
        return {"text": "".join(seen), "pieces": len(seen), "finish": finish_of(done), "usage": usage_of(done)}

    def _asked(self, items: list[Any]) -> dict[str, Any]:
        return {"model": self._model, "input": items, "tools": [WEATHER], "max_output_tokens": 40}

    def tools(self) -> dict[str, Any]:
        return self._looped(lambda items: self._client.responses.create(**self._asked(items)))

    def tools_streamed(self) -> dict[str, Any]:
        def ask(items: list[Any]) -> Any:
            with self._client.responses.stream(**self._asked(items)) as events:
                return events.get_final_response()

        return self._looped(ask)

    def _looped(self, ask: Any) -> dict[str, Any]:
        """The items of an answer go back as they came, as OpenAI's guide has it."""
        items: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
        first = ask(items)
        calls = [item for item in first.output if item.type == "function_call"]
        items += [item.to_dict() for item in first.output]
        said = "sunny, 21 degrees"
        items += [{"type": "function_call_output", "call_id": call.call_id, "output": said} for call in calls]
        second = ask(items)
        arguments = [json.loads(call.arguments) for call in calls]
        return {"text": second.output_text, "calls": arguments, "usage": usage_of(first, second)}

    def structured(self) -> dict[str, Any]:
        done = self._client.responses.parse(model=self._model, input=QUESTION, text_format=City)
        assert done.output_parsed is not None
        return {"object": done.output_parsed.model_dump()}

    def cut(self) -> dict[str, Any]:
        """The helper raises where the stream ends without a whole response; the events say why."""
        seen: list[str] = []
        failed: dict[str, Any] = {}
        try:
            with self._client.responses.stream(model=self._model, input=QUESTION) as events:
                for event in events:
                    if event.type == "response.output_text.delta":
                        seen.append(event.delta)
                    if event.type == "response.failed":
                        failed = event.response.to_dict()
                return {"text": events.get_final_response().output_text}
        except RuntimeError as error:
            assert failed["status"] == "failed"
            return {"raised": type(error).__name__, "code": failed["error"]["code"], "seen": "".join(seen)}

    def unknown(self) -> dict[str, Any]:
        try:
            return {"text": self._client.responses.create(model="gpt-17", input=QUESTION).output_text}
        except openai.APIStatusError as error:
            return {"raised": type(error).__name__, "status": error.status_code, "code": error.code}


do_tasks(Tasks)
