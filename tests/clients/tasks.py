"""The loop of a client's process: each line in is a task, each line out is what came of it.

The scripts beside it import it, and run in environments of their own: so it imports nothing of ours.
"""

import asyncio
import inspect
import json
import sys
import traceback
from typing import Any


def do_tasks(tasks: type[Any]) -> None:
    """Do all tasks: each is a method of `tasks`, made of a URL and a model; in an event loop where it is async."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            said = _said(tasks, **asked)
        except Exception:
            said = {"failed": traceback.format_exc()}
        print(json.dumps(said), flush=True)


def _said(tasks: type[Any], task: str, url: str, model: str) -> Any:
    async def done() -> Any:
        return await getattr(tasks(url, model), task)()

    if inspect.iscoroutinefunction(getattr(tasks, task)):
        return asyncio.run(done())
    return getattr(tasks(url, model), task)()
