"""A UNIX socket beside the port of an ingress replica, for the HAProxy of its own node. No Ray.

To pass a request and its answer on by it costs the kernel less than by TCP. Its name contains the port's number and is
in Linux's abstract namespace: so it exists where the port exists, in one network namespace, and ends with the process.
HAProxy uses it if it is there when HAProxy starts (`deployments/ops/start_haproxy.py`), and else the port.
"""

import asyncio
import logging
import os
import pathlib
import socket
import struct
import sys
from collections.abc import Callable, Sequence

import uvicorn

from actors.process import SHARING

NAME = "breakwater-ingress-{port}"
_NAME_BYTES = 107  # all that the kernel takes after the first zero; HAProxy fills up the rest with zeros
# As many as the kernel allows. A full TCP queue makes a client try again, but a full UNIX queue refuses it, and HAProxy
# takes this replica for dead after three refusals. So where the kernel allows few, the port is the only way.
BACKLOG = 65_535
LEAST_BACKLOG = 1024  # the kernel's own limit has been 4,096 since Linux 5.4, and 128 before
_SOMAXCONN = pathlib.Path("/proc/sys/net/core/somaxconn")
log = logging.getLogger(f"ray.serve.{__name__}")


def abstract_name(port: int) -> str:
    """Return the name of the socket beside a port, as HAProxy's `abns@` writes it and as bind(2) takes it."""
    return "\0" + NAME.format(port=port).ljust(_NAME_BYTES, "\0")


def is_unix(transport: asyncio.BaseTransport) -> bool:
    """Return whether a connection has come by the UNIX socket."""
    end = transport.get_extra_info("socket")
    return end is not None and end.family == socket.AF_UNIX


def pid_behind(transport: asyncio.BaseTransport) -> int | None:
    """Return the pid of the process at the other end of a UNIX socket.

    None if the kernel does not tell it, as of a process in another pid namespace, or if it is another user's.
    """
    if sys.platform != "linux":
        return None
    try:
        same = socket.socket(fileno=transport.get_extra_info("socket").fileno())
        try:
            credentials = same.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        finally:
            same.detach()
    except OSError:
        return None
    pid, user, _ = struct.unpack("3i", credentials)
    return pid if pid and user == os.geteuid() else None


def _bound_beside(port: int) -> socket.socket:
    """Return a socket with the name beside a port. Raises OSError."""
    if (most := int(_SOMAXCONN.read_text())) < LEAST_BACKLOG:
        raise OSError(f"net.core.somaxconn is {most}, and a UNIX socket needs {LEAST_BACKLOG}.")
    near = socket.socket(socket.AF_UNIX)
    try:
        near.bind(abstract_name(port))
    except OSError:
        near.close()
        raise
    return near


class ServerWithUnixSocket(uvicorn.Server):
    """uvicorn's server, which also listens on the UNIX socket beside each of its ports, and closes it with them."""

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Listen. If the UNIX socket can't be opened, the log says why, and the port is the only way."""
        await super().startup(list(sockets) if sockets is not None else None)
        SHARING.note(0, asyncio.get_running_loop().time())  # no request is under way yet
        if self.config.ssl is not None or sys.platform != "linux":
            return
        for port in {port.getsockname()[1] for port in sockets or () if port.family != socket.AF_UNIX}:
            try:
                self.servers.append(await self._listen(port))
            except OSError as error:
                log.warning("HAProxy reaches port %d by TCP, which costs more: %s", port, error)

    async def _listen(self, port: int) -> asyncio.Server:
        near = _bound_beside(port)
        try:
            return await asyncio.get_running_loop().create_unix_server(self._protocol, sock=near, backlog=BACKLOG)
        except BaseException:
            near.close()
            raise

    def _protocol(self) -> asyncio.Protocol:
        protocol: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
