"""What the demo starts, and how its script is played. All that is started is ended here, by its own process id."""

import asyncio
import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpx2
import yaml

from tests.bench.processes import CannotRun, running
from tests.demo import lines
from tests.demo.config import FIRST, config_of, environment_of
from tests.demo.script import TEXT, Phase, behaviours
from tests.demo.seen import Circuit, Seen, Tally, counted, example_of, note
from tests.demo.traffic import Traffic
from tests.fakes.anthropic_wire import AnthropicWire
from tests.fakes.gemini_wire import GeminiWire
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import FakeServer, Vendor
from tests.fakes.vendors import Rule, anthropic, gemini, openai, openai_reasoning
from tests.starting import ROOT, free_port, joined_environment

READY = "Breakwater is ready"  # as `serve run` says
START_SECONDS = 240.0
VENDORS: Mapping[str, tuple[Vendor, Sequence[Rule]]] = {
    "openai": (OpenAIWire(), (*openai_reasoning.RULES, *openai.RULES)),
    "google_genai": (GeminiWire(), gemini.RULES),
    "anthropic": (AnthropicWire(), anthropic.RULES),
}


@contextlib.contextmanager
def clouds() -> Iterator[dict[str, FakeServer]]:
    """The vendors: real sockets, their wires, and what they refuse."""
    fakes: dict[str, FakeServer] = {}
    try:
        for name, (vendor, rules) in VENDORS.items():
            fakes[name] = FakeServer(vendor)
            fakes[name].text, fakes[name].rules = TEXT, rules
        yield fakes
    finally:
        for fake in fakes.values():
            fake.stop()


def set_up(fakes: Mapping[str, FakeServer], phase: Phase) -> None:
    """Let the vendors do what they do in a phase. Requests that are under way end as they began."""
    for name, turns in behaviours(phase).items():
        fakes[name].change(turns[-1], turns)


@contextlib.contextmanager
def breakwater(folder: pathlib.Path, fakes: Mapping[str, FakeServer]) -> Iterator[str]:
    """`serve run`, as a user starts it, on ports that are free. Gives its URL once it is ready."""
    port, file, log = free_port(), folder / "config.yaml", folder / "serve.log"
    urls = {name: fake.url for name, fake in fakes.items()} | {"openai": f"{fakes['openai'].url}/v1"}
    shipped: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    file.write_text(yaml.safe_dump(config_of(shipped, urls, port, folder / "ledger"), sort_keys=False))
    # Our environment first: Serve starts HAProxy by a script that asks for `python`.
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    grpc = {"RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port())}
    env = {**os.environ, **joined_environment({**environment_of(folder), **grpc, "PATH": path})}
    command = [sys.executable, "-m", "ray.serve.scripts", "run", str(file)]
    with running(command, log, env, ROOT) as process:
        deadline = time.monotonic() + START_SECONDS
        while READY not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise CannotRun(f"Breakwater does not start. The end of its log:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"


class Play:
    """One playing of the script. `photograph` is called in the middle of the phase that is pictured."""

    def __init__(
        self,
        url: str,
        fakes: Mapping[str, FakeServer],
        say: Callable[[str], None],
        photograph: Callable[[], None] | None = None,
    ):
        self.total = Tally()
        self._url, self._fakes, self._say, self._photograph = url, fakes, say, photograph
        self._traffic = Traffic(url)
        self._began = 0.0
        self.seconds = 0.0  # for which `total` is counted

    async def run(self, phases: Iterable[Phase]) -> None:
        try:
            await self._traffic.begin()
        except TimeoutError:
            raise CannotRun("Breakwater has started, but does not answer every agent") from None
        traffic = asyncio.create_task(self._traffic.run())
        self._began = time.monotonic()
        try:
            for number, phase in enumerate(phases):
                await self._play(number, phase)
        finally:
            traffic.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await traffic

    async def _play(self, number: int, phase: Phase) -> None:
        """Play a phase, and say what its clients saw once the last of them has its answer."""
        set_up(self._fakes, phase)
        self._traffic.phase = number
        self._say(lines.heading(time.monotonic() - self._began, phase))
        circuits = await self._watched(phase)
        set_up(self._fakes, Phase("between two phases", 0))
        self._traffic.phase = number + 1
        self._tell(phase, await self._traffic.of(number), circuits)

    def _tell(self, phase: Phase, requests: list[Seen], circuits: Mapping[str, Circuit]) -> None:
        tally = counted(requests, FIRST)
        self.total += tally
        self.seconds = time.monotonic() - self._began
        self._say(lines.result(tally) + "\n")
        shown = example_of(requests, FIRST) if phase.broken else None
        for line in (*lines.circuits(circuits), *lines.example(self._url, shown)):
            self._say(line + "\n")

    async def _watched(self, phase: Phase) -> dict[str, Circuit]:
        """Return what the status page has said of the circuits that a phase is about."""
        circuits = {name: Circuit() for name in phase.watched}
        ends, half = time.monotonic() + phase.seconds, time.monotonic() + phase.seconds / 2
        photograph = self._photograph if phase.pictured else None
        taken = None
        async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
            while (now := time.monotonic()) < ends:
                with contextlib.suppress(httpx2.HTTPError):
                    note(circuits, (await client.get(f"{self._url}/v1/status")).json())
                if photograph is not None and now > half:
                    taken, photograph = asyncio.create_task(asyncio.to_thread(photograph)), None
                await asyncio.sleep(min(0.25, max(0.0, ends - time.monotonic())))
        if taken is not None:
            await taken
        return circuits
