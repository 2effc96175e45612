"""What a call costs in its provider's replica: CPU of that process alone, upstream on a real socket.

uv run python -m tests.bench.providers [--quick] [folder of another checkout, to be measured beside this one]

Each provider runs in a process of its own, on the event loop that Ray gives to it, and the upstream in
another. A round asks each of them in turn; what is printed are medians.
"""

import argparse
import asyncio
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

HERE = pathlib.Path(__file__).resolve().parents[2]
KINDS = ("openai", "bedrock", "google")
CASES = {"whole": 600, "burst": 200, "paced": 200}  # how many calls of each make a figure
AT_ONCE, WARM, ROUNDS = 16, 64, 5
WORDS = [f" word{n}" for n in range(50)]
PACE = 0.005

SAID = "A gateway keeps calls answered when providers break. " * 8
BODY = {
    "model": "row",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant. Be brief."},
        {"role": "user", "content": SAID},
        {"role": "assistant", "content": SAID},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "temperature": 0.3,
    "max_tokens": 500,
}


# The upstream: bytes that were made before, at once or at a pace. The model's name says which.


class Upstream(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, answers: dict[str, tuple[bytes, list[bytes]]]):
        self._answers = answers
        self._asked = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._asked += data
        head, _, body = self._asked.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._asked = b""
        path = head.split(b" ")[1]
        kind = "bedrock" if b"converse" in path else "google" if b"enerateContent" in path else "openai"
        streamed = b"tream" in path or b'"stream":true' in body.replace(b" ", b"")
        whole, frames = self._answers[kind]
        if not streamed:
            self.transport.write(whole)
        elif b"paced" in head + body:
            asyncio.get_running_loop().create_task(self._paced(frames))
        else:
            for frame in frames:
                self.transport.write(frame)

    async def _paced(self, frames: list[bytes]) -> None:
        due = time.monotonic()
        for frame in frames:
            self.transport.write(frame)
            due += PACE
            await asyncio.sleep(max(0.0, due - time.monotonic()))


def upstream() -> None:
    """Print the port and answer until stdin ends."""

    async def main() -> None:
        answers = {kind: _answers(kind) for kind in KINDS}
        server = await asyncio.get_running_loop().create_server(lambda: Upstream(answers), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)

    asyncio.run(main())


def _answers(kind: str) -> tuple[bytes, list[bytes]]:
    from tests.fakes.bedrock_wire import BedrockWire
    from tests.fakes.gemini_wire import GeminiWire
    from tests.fakes.openai_wire import OpenAIWire

    wire = {"openai": OpenAIWire, "bedrock": BedrockWire, "google": GeminiWire}[kind]()
    body = wire.whole(WORDS)
    whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    opening = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % wire.stream_type.encode()
    frames = [b"%x\r\n%b\r\n" % (len(frame), frame) for frame in wire.frames(WORDS)]
    return whole, [opening + frames[0], *frames[1:-1], frames[-1] + b"0\r\n\r\n"]


# The provider's process.


def replica(kind: str, port: str) -> None:
    """For each case on stdin, one line of milliseconds of CPU a call."""
    import uvloop

    os.environ.update(
        AWS_ACCESS_KEY_ID="AKIAFAKE",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_EC2_METADATA_DISABLED="true",
        OPENAI_API_KEY="sk-fake",
        GOOGLE_API_KEY="fake",
    )
    url = f"http://127.0.0.1:{port}"
    providers = {
        "openai": {"kind": "openai", "base_url": f"{url}/v1"},
        "bedrock": {"kind": "bedrock", "endpoint_url": url, "region": "us-east-1"},
        "google": {"kind": "google", "base_url": url},
    }
    args = {"providers": {kind: providers[kind]}, "models": {"row": {kind: "burst"}}}

    async def main() -> None:
        from deployments.replica import ProviderReplica

        measured = ProviderReplica(kind, args)
        for case in CASES:
            await _load(measured, case, WARM)
        print("ready", flush=True)
        while asked := (await asyncio.to_thread(sys.stdin.readline)).split():
            case, calls = asked[0], int(asked[1])
            began = time.process_time()
            await _load(measured, case, calls)
            print((time.process_time() - began) / calls * 1000, flush=True)
        await measured._provider.close()

    uvloop.run(main())


async def _load(measured: Any, case: str, calls: int) -> None:
    from deployments.providers.base import call_dict
    from deployments.providers.time_limits import TimeLimits

    limits = TimeLimits(connect=5, first_token=30, idle=30, total=30)
    asked = call_dict(BODY | {"stream": case != "whole"}, "paced" if case == "paced" else "burst", "row", limits)
    left = iter(range(calls))

    async def whole() -> None:
        for _ in left:
            told = await measured.complete(asked)
            assert told["usage"]["total_tokens"] == 12, told

    async def streamed() -> None:
        for _ in left:
            data = b""
            async for item in measured.stream(asked):
                if isinstance(item, dict):
                    assert item["usage"], item
                else:
                    data += item
            assert data.count(b" word") == len(WORDS), data

    work: Callable[[], Awaitable[None]] = whole if case == "whole" else streamed
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


# The rounds.


class Child:
    def __init__(self, checkout: pathlib.Path, *arguments: str):
        env = {**os.environ, "PYTHONPATH": str(checkout)}
        command = [sys.executable, "-P", __file__, *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=checkout
        )
        self.greeting = self._line()

    def ask(self, case: str, calls: int) -> float:
        assert self._process.stdin
        self._process.stdin.write(f"{case} {calls}\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout
        if not (line := self._process.stdout.readline().strip()):
            raise SystemExit(f"a process of the benchmark ended with {self._process.wait()}")
        return line

    def end(self) -> None:
        self._process.communicate()


@contextmanager
def running(checkouts: list[pathlib.Path]) -> Iterator[dict[tuple[str, str], Child]]:
    """The measured processes by checkout and kind, their upstream behind them."""
    behind = Child(HERE, "--upstream")
    children = {(str(c), kind): Child(c, "--replica", kind, behind.greeting) for c in checkouts for kind in KINDS}
    try:
        yield children
    finally:
        for child in [*children.values(), behind]:
            child.end()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.providers", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the calls")
    parser.add_argument("--json", type=pathlib.Path, help="a file for the figures")
    parser.add_argument("other", nargs="*", type=pathlib.Path, help="a folder of another checkout")
    told = parser.parse_args()
    checkouts = [*(folder.resolve() for folder in told.other), HERE]
    found: dict[tuple[str, str, str], list[float]] = {}
    with running(checkouts) as children:
        for _ in range(ROUNDS):
            for case, calls in CASES.items():
                for (checkout, kind), child in children.items():
                    figure = child.ask(case, calls // 5 if told.quick else calls)
                    found.setdefault((kind, case, checkout), []).append(figure)
    print(f"{'ms of CPU a call':18}" + "".join(f"{pathlib.Path(c).name:>16}" for c in map(str, checkouts)))
    for kind in KINDS:
        for case in CASES:
            values = (statistics.median(found[kind, case, str(checkout)]) for checkout in checkouts)
            print(f"{kind:10} {case:7}" + "".join(f"{value:16.3f}" for value in values), flush=True)
    if told.json:
        told.json.write_text(json.dumps([[*key, values] for key, values in found.items()], indent=1))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--upstream"]:
            upstream()
        case ["--replica", kind, port]:
            replica(kind, port)
        case _:
            main()
