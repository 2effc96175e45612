"""Calls of a ledger writer in another process, over a unix socket: what Ray's actor calls are in the product."""

import asyncio
import pathlib
import pickle
import struct
from collections.abc import Awaitable, Callable
from typing import Any

_LENGTH = struct.Struct("!I")


async def serve_calls(path: pathlib.Path, call: Callable[..., Awaitable[Any]]) -> asyncio.Server:
    """Answer calls at this socket, which takes the place of one before it, as many at a time as come."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                method, arguments = await _read(reader)
                await _write(writer, await call(method, *arguments))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return await asyncio.start_unix_server(connected, path)


async def connect_calls(path: pathlib.Path) -> Callable[..., Awaitable[Any]]:
    """Return a function that calls. It raises ConnectionError once the other process is gone."""
    reader, writer = await asyncio.open_unix_connection(path)
    turn = asyncio.Lock()

    async def call(method: str, *arguments: Any) -> Any:
        async with turn:
            try:
                await _write(writer, (method, arguments))
                return await _read(reader)
            except BaseException as error:
                writer.close()  # the next answer would be that of another call
                if isinstance(error, asyncio.IncompleteReadError):
                    raise ConnectionError("the ledger's process is gone") from error
                raise

    return call


async def _read(reader: asyncio.StreamReader) -> Any:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))


async def _write(writer: asyncio.StreamWriter, data: Any) -> None:
    made = pickle.dumps(data)
    writer.write(_LENGTH.pack(len(made)) + made)
    await writer.drain()
