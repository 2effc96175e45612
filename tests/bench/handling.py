"""What whole answers cost a process without its sockets, in the ingress and in a provider's replica. CPU time.

    uv run python -m tests.bench.handling [folder of another checkout, in turns]

64 requests are under way at once. The ingress has uvicorn's protocol, the whole service with its ledger's journal and
its log, and a replica that answers at once. The replica has the calls of an ingress, and an upstream whose stream is in
memory. Nothing here waits, so what is measured is the work alone, with all that it needs in the core's caches.
"""

import asyncio
import json
import logging
import os
import pathlib
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from logging.handlers import MemoryHandler, RotatingFileHandler
from typing import Any
from unittest.mock import patch

import uvicorn
import uvloop
from uvicorn.server import ServerState

from actors.process import tune_process
from deployments.config.ledger import Price
from deployments.ingress.http import build_server
from deployments.ingress.server.protocol import Direct, protocol_with
from deployments.providers.base import call_dict
from deployments.providers.http.transport import Transport as HttpTransport
from deployments.providers.time_limits import TimeLimits
from deployments.replica import ProviderReplica
from deployments.rpc.server import ServerConnection
from deployments.telemetry.request_log import flush_log, log_request
from deployments.usage.ledger_client import LedgerClient
from deployments.usage.prices import PriceList
from tests.checkouts import ROOT
from tests.fakes.openai_wire import OpenAIWire
from tests.unit.world import world

AT_ONCE, TURNS, ROUNDS = 64, 50, 9
CLOUD = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}
ARGS = {"providers": {"first": CLOUD, "second": CLOUD}, "models": {"row": {"first": "gpt", "second": "gpt"}}}
BODY = {"model": "row", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
WORDS = [" seven"] * 20
USAGE = {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32}
REPLY = {"body": OpenAIWire().whole(WORDS), "usage": USAGE, "upstream": {"ms": 0.5, "connect_ms": 0.0, "model": "gpt"}}
_HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAccept: */*\r\nUser-Agent: bench\r\n"
_HEAD += "Content-Type: application/json\r\nX-Forwarded-For: 127.0.0.1\r\nContent-Length: {}\r\n\r\n{}"
REQUEST = _HEAD.format(len(json.dumps(BODY)), json.dumps(BODY)).encode()
_CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Socket(asyncio.Transport):
    """Takes what is written, and has nothing of its own."""

    def __init__(self, written: Callable[[], None] = lambda: None):
        super().__init__()
        self._written = written

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 5000), "sockname": ("127.0.0.1", 8000)}.get(name, default)

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self._written()

    def get_write_buffer_size(self) -> int:
        return 0


class Counts:
    """What stands for Serve's own counts."""

    prefix = "/"

    def __init__(self) -> None:
        self.left, self.done = 0, asyncio.get_running_loop().create_future()

    def has_room(self) -> bool:
        return True

    def new_request_id(self) -> str:
        return "5f0c7e0e-7d3c-4e0b-9d5b-0a4a6e1f2c3d"

    async def begin(self, request_id: str) -> None:
        pass

    def end(self, status: int, ms: float) -> None:
        assert status == 200, status
        self.left -= 1
        if self.left == 0:
            self.done.set_result(None)


async def _answer(provider: str, call: Mapping[str, Any], on_piece: Any = None) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {**REPLY, "usage": dict(USAGE), "upstream": dict(REPLY["upstream"])}


async def _away() -> Any:
    raise ConnectionError


def log_to(folder: str) -> None:
    """As Ray Serve does it: a buffer of a thousand lines before a file."""
    logger = logging.getLogger("ray.serve")
    logger.propagate, logger.handlers = False, [MemoryHandler(1000, target=RotatingFileHandler(f"{folder}/log"))]
    logger.setLevel(logging.INFO)


async def ingress(turns: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        log_to(folder)
        async with world(args=ARGS) as made:
            prices = PriceList({"gpt": Price(input=2, output=8)})
            link = LedgerClient(_away, pathlib.Path(folder) / "j", prices=prices)
            service, counts = made.service, Counts()
            service.ledger, service._observers = link, (*service._observers, log_request)
            with patch.object(made.hop, "complete", _answer):
                app, direct = build_server(service)
                config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_keep_alive=900)
                config.load()
                protocol: Any = protocol_with(Direct(direct, counts))
                given = {"config": config, "server_state": ServerState(), "app_state": {}}
                connections = [protocol(**given) for _ in range(AT_ONCE)]
                for connection in connections:
                    connection.connection_made(Socket())

                async def turn() -> None:
                    counts.left, counts.done = AT_ONCE, asyncio.get_running_loop().create_future()
                    for connection in connections:
                        connection.data_received(REQUEST)
                    await counts.done
                    flush_log()

                took = await _measured(turn, turns)
            await link.close()
            return took


async def replica(turns: int) -> float:
    loop, frames = asyncio.get_running_loop(), OpenAIWire().frames(WORDS)
    stream = _CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames) + b"0\r\n\r\n"

    async def join(_: HttpTransport, url: object, protocol: Any) -> None:
        protocol.connection_made(Socket(lambda: loop.call_soon(protocol.data_received, stream) and None))

    class Framed:
        """The ingress's end: it takes all that comes."""

        closed = full = False

        def __init__(self) -> None:
            self.left, self.done = 0, loop.create_future()

        def send(self, message: Any) -> None:
            pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
            assert all("body" in item for _, item in message[1]), message
            self.left -= len(message[1])
            if self.left == 0:
                self.done.set_result(None)

    with patch.object(HttpTransport, "_join", join):
        calls, framed = ProviderReplica("first", ARGS)._connections, Framed()
        connection: Any = ServerConnection(calls._run_call, calls.in_flight, calls._interval)
        connection._framed = framed
        message = {**call_dict(BODY, "gpt", "row", TimeLimits(3, 30, 30, 60)), "verb": "chat", "within": 60.0}
        call = pickle.dumps({**message, "again": 5, "hears_pieces": True, "cache_key": None}, pickle.HIGHEST_PROTOCOL)

        async def turn() -> None:
            framed.left, framed.done = AT_ONCE, loop.create_future()
            connection._on_message(([(number, "chat", call) for number in range(AT_ONCE)], [], {}))
            await framed.done

        return await _measured(turn, turns)


async def _measured(turn: Callable[[], Awaitable[None]], turns: int) -> float:
    """Return the CPU time of one request, in microseconds: the median of rounds."""
    took = list[float]()
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(turns):
            await turn()
        took.append((time.process_time() - began) / turns / AT_ONCE * 1e6)
    return statistics.median(took[2:])  # the first ones find nothing in the caches


PARTS: Mapping[str, Callable[[int], Awaitable[float]]] = {"ingress": ingress, "replica": replica}


def command_in(root: pathlib.Path, part: str, turns: int = TURNS) -> list[str]:
    """Return the command that runs a part with the code of a checkout; its folder and `env_in` belong to it."""
    its_own = root / ".venv" / "bin" / "python"
    python = str(its_own) if its_own.exists() else sys.executable
    # `-P`: this folder has files with the names of Python's own modules.
    return [python, "-P", str(pathlib.Path(__file__).resolve()), "--part", part, str(turns)]


def env_in(root: pathlib.Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root)}


def run_in(root: pathlib.Path, part: str) -> float:
    """Return what a part takes with the code of a checkout, in a process of its own."""
    command = command_in(root, part)
    return float(subprocess.run(command, cwd=root, env=env_in(root), capture_output=True, text=True, check=True).stdout)


def main() -> None:
    roots = [ROOT, *(pathlib.Path(folder).resolve() for folder in sys.argv[1:])]
    print(f"| us of a whole answer | {' | '.join(PARTS)} |\n|---|{'--:|' * len(PARTS)}")
    found = {(root, part): list[float]() for root in roots for part in PARTS}
    for _ in range(3):
        for (root, part), took in found.items():
            took.append(run_in(root, part))
    for root in roots:
        print(f"| {root.name} | {' | '.join(f'{statistics.median(found[root, part]):.0f}' for part in PARTS)} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        tune_process()
        print(uvloop.run(PARTS[sys.argv[2]](int(sys.argv[3]))))  # type: ignore[arg-type]
    else:
        main()
