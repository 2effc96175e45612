"""A UNIX socket beside the port of an ingress replica, for the HAProxy of its own node. No Ray.

A request and its answer cost the kernel less than half by it of what they cost by TCP. Its name is the port's, in
Linux's abstract namespace, which ends where the port's does: with the network namespace, and with the process. HAProxy
takes it where it is there when HAProxy starts (`deployments/ops/start_haproxy.py`), and else the port.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Sequence

import uvicorn

NAME = "breakwater-ingress-{port}"
_NAME_BYTES = 107  # all that the kernel takes after the first zero; HAProxy fills up the rest with zeros
# As many as the kernel allows (net.core.somaxconn, 4,096 since Linux 5.4). Who finds it full is refused at once, and
# HAProxy takes us for dead; by TCP it would try again.
BACKLOG = 65_535
log = logging.getLogger(f"ray.serve.{__name__}")


def abstract_name(port: int) -> str:
    """Return the name of the socket beside a port, as HAProxy's `abns@` writes it and as bind(2) takes it."""
    return "\0" + NAME.format(port=port).ljust(_NAME_BYTES, "\0")


class ServerWithUnixSocket(uvicorn.Server):
    """uvicorn's server, that listens on the UNIX socket beside each of its ports too, and closes it with them."""

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Listen. Where a name is taken, or the kernel has no such names, the port is all there is."""
        await super().startup(list(sockets) if sockets is not None else None)
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
