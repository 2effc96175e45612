"""Somebody else's OpenAI-compatible server: llama.cpp's own, over HTTP, in a process of its own.

    python -m tests.fakes.foreign

prints its address and serves until its standard input is closed, so it can't outlive who started it.
"""

import contextlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator

KEY = "sk-foreign"
ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def foreign_server() -> Iterator[str]:
    """The base_url of a server that runs until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.foreign"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        # The engine may write lines of its own before ours.
        address = next((line for line in process.stdout if line.startswith("http")), "")
        assert address, "the foreign server did not start"
        yield f"{address.strip()}/v1"
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    from deployments.providers.local.engine import bundled_gguf, load, settings

    params = settings(bundled_gguf(), slots=2, context=512, threads=1)
    params.api_keys = [KEY]
    server = load(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
