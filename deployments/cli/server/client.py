"""Asks the HTTP API: one connection, no retries, an end for each wait, and one sentence for each way to fail."""

import ipaddress
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deployments.cli.server.errors import Refused, ServerError, Unreachable
from deployments.cli.terminal.text import clean

if TYPE_CHECKING:
    import httpx2

MOST_BYTES = 64 * 1024 * 1024  # of one answer
LONGEST_SENTENCE = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` are the server's own bytes, and `data` is what they mean."""

    body: bytes
    data: Any


@dataclass(frozen=True, slots=True)
class Secret:
    """A key, and where it is from, which may be told."""

    value: str
    source: str

    def __repr__(self) -> str:
        return f"Secret({self.source})"


class Server:
    """`url` has no slash at its end, and may have a path. `seconds` are for one answer. To be closed."""

    def __init__(self, url: str, key: Secret | None, seconds: float, operator: str = ""):
        self.url, self.key, self.seconds, self.operator = url, key, seconds, operator
        self._client: httpx2.Client | None = None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        return _answer(self, *self._ask("GET", path, params or {}))

    def text(self, path: str, params: Mapping[str, str]) -> bytes:
        """Return an answer that is no JSON, as it is."""
        status, headers, body = self._ask("GET", path, params, more={"accept": "text/csv"})
        if status != 200:
            _answer(self, status, headers, body)
        if not headers.get("content-type", "").startswith("text/csv"):
            raise ServerError(f"{self.url}{path} did not answer with CSV: is it Breakwater?")
        return body

    def change(self, method: str, path: str, params: Mapping[str, str], body: object = None) -> Answer:
        """Change something, and tell the server who does."""
        return _answer(self, *self._ask(method, path, params, body, {"x-breakwater-operator": self.operator}))

    def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: object = None,
        more: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        import httpx2

        headers = {"accept": "application/json", "user-agent": "breakwater-cli", **(more or {})}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key.value}"
        content = None
        if body is not None:
            content, headers["content-type"] = json.dumps(body).encode(), "application/json"
        sent = {name.encode(): value.encode() for name, value in headers.items()}
        try:
            client = self._connected()
            with client.stream(method, self.url + path, params=params, headers=sent, content=content) as response:
                return response.status_code, response.headers, self._read(response.iter_bytes())
        except httpx2.TimeoutException:
            raise Unreachable(self._late()) from None
        except (httpx2.RequestError, httpx2.InvalidURL, OSError) as error:
            raise Unreachable(f"{self.url} can't be reached: {_words(error)}.") from None
        except ValueError:  # its words would repeat the proxy's password
            raise Unreachable(
                "The proxy that the environment names can't be used: see HTTPS_PROXY and NO_PROXY."
            ) from None

    def _connected(self) -> "httpx2.Client":
        import httpx2  # takes as long as all else together, and `--help` does not need it

        if self._client is None:
            here = is_loopback(self.url)
            # A proxy of the environment does not lead to this machine. Certificates, which take 40 ms to be read, are
            # not looked at where nothing is encrypted.
            encrypted = not here or self.url.startswith("https:")
            self._client = httpx2.Client(trust_env=not here, verify=encrypted, timeout=self.seconds)
        return self._client

    def _read(self, pieces: Any) -> bytes:
        """Return the whole body. A server that sends a little now and then is cut off all the same."""
        until, body = time.monotonic() + self.seconds, bytearray()
        for piece in pieces:
            body += piece
            if len(body) > MOST_BYTES:
                raise ServerError(f"{self.url} sent more than {MOST_BYTES // 1024**2} MB. Ask for less.")
            if time.monotonic() > until:
                raise Unreachable(self._late())
        return bytes(body)

    def _late(self) -> str:
        return f"{self.url} did not answer within {self.seconds:g} s."


def is_loopback(url: str) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _answer(server: Server, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Return the answer. Raises a CliError with one sentence for all that is no success."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if 300 <= status < 400:
        where = clean(headers.get("location", "nowhere"))
        raise ServerError(f"{server.url} answered {status} and leads to {where}: set --url to where it is.")
    if status in (401, 403):
        raise Refused(f"{server.url} refused this ({status}): {_message(data, body)} {_sent(server)}")
    if data is None:
        kind = clean(headers.get("content-type", "no type"))
        raise ServerError(
            f"{server.url} answered {status} with {kind}, not with JSON: is a proxy in between, or is the URL wrong?"
        )
    if status != 200:
        raise ServerError(f"{server.url} answered {status}: {_message(data, body)}")
    return Answer(body, data)


def _sent(server: Server) -> str:
    if server.key is None:
        return "No key was sent: set BREAKWATER_ADMIN_KEY or BREAKWATER_KEY."
    return f"The key was that of {server.key.source}."


def _message(data: Any, body: bytes) -> str:
    """Return the server's own sentence."""
    try:
        told = data["error"]["message"]
    except (LookupError, TypeError):
        told = "it gave no reason." if data is not None or not body else "the answer is not Breakwater's."
    sentence = clean(told)[:LONGEST_SENTENCE]
    return sentence if sentence.endswith(".") else f"{sentence}."


def _words(error: BaseException) -> str:
    return clean(error).rstrip(".") or type(error).__name__
