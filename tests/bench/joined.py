"""What a replica's CPU costs when a whole answer is asked for as a stream: uv run python -m tests.bench.joined

For answers of so many chunks: the stream read and joined, as `providers/joined` does it, beside the whole answer read.
The fake's bytes are in memory, so no socket counts. Medians, in milliseconds.
"""

import json
import statistics
import time
from collections.abc import Callable

from deployments.openai_api.chat import dump
from deployments.providers.joined.chat import ChatJoin
from deployments.providers.openai.answer import answer_of
from deployments.providers.openai.stream.joining import JoinScan
from tests.fakes.openai_wire import OpenAIWire

WORD = " seven"
READS = 8  # chunks that come with one read


def joined(frames: list[bytes]) -> bytes:
    join = ChatJoin()
    scan = JoinScan("row", join)
    for at in range(0, len(frames), READS):
        scan.feed(b"".join(frames[at : at + READS]))
    return join.body()


def whole(data: bytes) -> bytes:
    return dump({**answer_of(data), "model": "row"})


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    took = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return statistics.median(took) * 1000


def main() -> None:
    print("| chunks | as a stream, ms | whole, ms | more, ms |\n|---|---|---|---|")
    for chunks in (50, 500, 8000):
        wire = OpenAIWire()
        frames, data = wire.frames([WORD] * chunks), wire.whole([WORD] * chunks)
        text = json.loads(joined(frames))["choices"][0]["message"]["content"]
        assert text == json.loads(whole(data))["choices"][0]["message"]["content"]
        rounds = max(20, 20_000 // chunks)
        streamed = milliseconds(lambda frames=frames: joined(frames), rounds)  # type: ignore[misc]
        plain = milliseconds(lambda data=data: whole(data), rounds)  # type: ignore[misc]
        print(f"| {chunks} | {streamed:.3f} | {plain:.3f} | {streamed - plain:+.3f} |")


if __name__ == "__main__":
    main()
