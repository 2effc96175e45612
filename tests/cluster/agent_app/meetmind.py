"""An agent of another team, on the same cluster: it calls Breakwater by handle, through its copy of client.py."""

import json
import os
import sys
from collections.abc import AsyncGenerator
from typing import Any

from ray import serve

# The folder that Serve was started in is the first on every replica's path, and it has a `deployments` too.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from deployments.breakwater import BreakwaterError, connect
from deployments.tools import WEATHER, get_weather


class Agent:
    def __init__(self) -> None:
        self.llm = connect("llm")
        self.last: str | None = None  # what became of the last call

    async def answer(self, question: str) -> dict[str, Any]:
        return await self.llm.generate_completion(
            question, agent_id="meetmind.coordinator", tenant_id="tenant_123", model="gpt-4", temperature=0.3
        )

    async def tell(self, question: str) -> AsyncGenerator[str, None]:
        """The answer's text as it comes. When whoever listens goes away, the call upstream ends too."""
        request = {"model": "default", "messages": [{"role": "user", "content": question}]}
        self.last = "telling"
        try:
            async for chunk in self.llm.stream_chat(request):
                for choice in chunk["choices"]:
                    if text := choice["delta"].get("content"):
                        yield text
            self.last = "told"
        finally:
            if self.last == "telling":
                self.last = "cancelled"

    async def use_tools(self, question: str) -> dict[str, Any]:
        """Let the model call a tool, and answer with what it said."""
        messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
        for _ in range(3):
            request = {"model": "default", "messages": messages, "tools": [WEATHER]}
            said = (await self.llm.chat(request))["choices"][0]["message"]
            messages.append(said)
            for call in said.get("tool_calls") or ():
                result = get_weather(**json.loads(call["function"]["arguments"]))
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
            if not said.get("tool_calls"):
                break
        return {"answer": said["content"], "turns": len(messages)}

    async def go_wrong(self, request: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        try:
            return await self.llm.chat(request, timeout)
        except BreakwaterError as error:
            return {"class": type(error).__name__, "status": error.status, "param": error.param, "text": str(error)}

    async def first_word(self, question: str) -> str:
        """Take the first word and leave."""
        async for text in self.tell(question):
            return text
        return ""

    async def what_became_of_it(self) -> str | None:
        return self.last

    async def whose_code(self) -> list[str]:
        import deployments

        return [str(deployments.__file__), type(self.llm).__module__]


# Not as a decorator: a plain class is imported by a replica, with what is above; a decorated one is pickled without.
app = serve.deployment(ray_actor_options={"num_cpus": 0.1}, graceful_shutdown_wait_loop_s=0.1)(Agent).bind()
