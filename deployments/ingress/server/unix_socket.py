"""A UNIX socket beside the port of an ingress replica, for the HAProxy of its own node. No Ray.

A request and its answer cost the kernel less than half by it of what they cost by TCP. Its name is the port's, in
Linux's abstract namespace, which ends where the port's does: with the network namespace, and with the process. HAProxy
takes it where it is there when HAProxy starts (`deployments/ops/start_haproxy.py`), and else the port.
"""

import asyncio
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence

import uvicorn

from actors.process import SHARING

NAME = "breakwater-ingress-{port}"
_NAME_BYTES = 107  # all that the kernel takes after the first zero; HAProxy fills up the rest with zeros
# As many as the kernel allows (net.core.somaxconn, 4,096 since Linux 5.4). Who finds it full is refused at once, and
# HAProxy takes us for dead; by TCP it would try again.
BACKLOG = 65_535
log = logging.getLogger(f"ray.serve.{__name__}")


def abstract_name(port: int) -> str:
    """Return the name of the socket beside a port, as HAProxy's `abns@` writes it and as bind(2) takes it."""
    return "\0" + NAME.format(port=port).ljust(_NAME_BYTES, "\0")


def pid_behind(transport: asyncio.BaseTransport) -> int | None:
    """Return the process at the other end of a UNIX socket's connection; None of another, or where it isn't visible."""
    end = transport.get_extra_info("socket")
    if end is None or end.family != socket.AF_UNIX or sys.platform != "linux":
        return None
    with socket.socket(fileno=os.dup(end.fileno())) as same:
        credentials = same.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid or None


class ServerWithUnixSocket(uvicorn.Server):
    """uvicorn's server, that listens on the UNIX socket beside each of its ports too, and closes it with them."""

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Listen. Where a name is taken, or the kernel has no such names, the port is all there is."""
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
        near = socket.socket(socket.AF_UNIX)
        try:
            near.bind(abstract_name(port))
            return await asyncio.get_running_loop().create_unix_server(self._protocol, sock=near, backlog=BACKLOG)
        except BaseException:
            near.close()
            raise

    def _protocol(self) -> asyncio.Protocol:
        protocol: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
