"""A server of credentials on a real socket: what it is asked, a gate that holds its answers, and how long they live."""

import contextlib
import datetime
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    method: str
    path: str  # without the query
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.body.decode()))


@dataclass(frozen=True)
class Told:
    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] | None = None


class Refused(Exception):
    """The vendor refuses the request, with this status and reason."""

    def __init__(self, reason: str, status: int = 400):
        super().__init__(reason)
        self.reason, self.status = reason, status


Vendor = Callable[["IdentityServer", Asked], Told]


class IdentityServer:
    """`life` is in seconds, of each credential that it tells from now on. While `gate` is closed it answers nobody."""

    def __init__(self, vendor: Vendor, *, life: float = 3600, tls: ssl.SSLContext | None = None):
        self._vendor, self.life = vendor, life
        self.asked: list[Asked] = []
        self.refused: list[str] = []
        self.told = 0  # credentials
        self.held = threading.Event()  # somebody waits at the gate
        self.gate = threading.Event()
        self.gate.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def next(self, name: str) -> str:
        """Return the name of a credential that nobody has been told yet."""
        self.told += 1
        return f"{name}-{self.told}"

    @property
    def ends_at(self) -> float:
        return time.time() + self.life

    @property
    def ends(self) -> str:
        """Return when a credential that is told now ends, as AWS writes it."""
        return datetime.datetime.fromtimestamp(self.ends_at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, asked: Asked) -> Told:
        self.asked.append(asked)
        if not self.gate.is_set():
            self.held.set()
            self.gate.wait(60)
        try:
            return self._vendor(self, asked)
        except Refused as refusal:
            self.refused.append(refusal.reason)
            return Told(
                f'{{"error": "invalid_request", "error_description": "{refusal.reason}"}}'.encode(), refusal.status
            )

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                parts = urllib.parse.urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, parts.path, dict(urllib.parse.parse_qsl(parts.query)), headers, body)
                told = outer._answer(asked)
                with contextlib.suppress(ConnectionError):
                    self.send_response(told.status)
                    for name, value in {"content-type": told.content_type, **(told.headers or {})}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(told.body)))
                    self.end_headers()
                    self.wfile.write(told.body)

            do_GET = do_POST = do_PUT = _serve

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@contextlib.contextmanager
def identity_server(vendor: Vendor, **options: Any) -> Iterator[IdentityServer]:
    server = IdentityServer(vendor, **options)
    try:
        yield server
    finally:
        server.close()


def wanted(condition: object, reason: str, status: int = 400) -> None:
    """Refuse the request if the condition does not hold."""
    if not condition:
        raise Refused(reason, status)
