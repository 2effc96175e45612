"""One blocking boto3 call that another thread can end at once.

boto3 has no cancel: a thread waits in its socket until the read timeout. So the connections of a
client note which call they serve, and ending a call shuts its socket down, which wakes the thread
with an error. Closing the response instead would wait for the reading thread.
"""

import contextlib
import socket
import threading
from typing import Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

from deployments.providers.timing import current

_serving = threading.local()


class Aborted(ConnectionError):
    """The call was ended from outside."""


class AbortableCall:
    """`with call:` around the blocking work, in its thread; `call.abort()` from any other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._timing = current()
        self.aborted = False

    def __enter__(self) -> "AbortableCall":
        _serving.call = self
        return self

    def __exit__(self, *_: object) -> None:
        _serving.call = None
        with self._lock:
            self._sock = None

    def connected(self) -> None:
        if self._timing is not None:
            self._timing.connects()

    def use(self, connection: Any) -> None:
        if self._timing is not None and self._timing.trace is not None:
            self._timing.peer = connection.host, connection.port
        with self._lock:
            if self.aborted:
                raise Aborted("the call was ended")
            # The socket itself: http.client takes it off a connection that is to be closed.
            self._sock = connection.sock or self._sock

    def abort(self) -> None:
        with self._lock:
            self.aborted = True
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)


class _Noting:
    def connect(self) -> None:
        _note(self)
        super().connect()  # type: ignore[misc]
        if (call := _call()) is not None:
            call.connected()
        _note(self)  # it may have been ended while it connected

    def request(self, *args: Any, **kwargs: Any) -> Any:
        _note(self)
        return super().request(*args, **kwargs)  # type: ignore[misc]


def _call() -> AbortableCall | None:
    return getattr(_serving, "call", None)


def _note(connection: Any) -> None:
    if (call := _call()) is not None:
        call.use(connection)


class _HTTPConnection(_Noting, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _HTTPSConnection(_Noting, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _HTTPPool(AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPConnection


class _HTTPSPool(AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPSConnection


def make_abortable(client: Any) -> None:
    """Have all connections of a boto3 client note whom they serve. boto3 has no public door for it."""
    client._endpoint.http_session._pool_classes_by_scheme.update(http=_HTTPPool, https=_HTTPSPool)
