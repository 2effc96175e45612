"""A provider with places: an adapter for each, behind the one port. Pure."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from deployments.errors import failed
from deployments.providers.base import Call, Completed, End, Frames, Provider, credential_of
from deployments.providers.credentials.renewed import Renewed


class Placed:
    """`places` are the adapters by the places' names. Each call says which one it is for."""

    def __init__(self, places: Mapping[str, Provider]):
        self._places = places
        found = {name: credential_of(place) for name, place in places.items()}
        self.credentials: dict[str, Renewed[Any]] = {name: one for name, one in found.items() if one is not None}

    def _at(self, call: Call) -> Provider:
        if (place := self._places.get(call.place)) is None:
            # An ingress of another version knows other places: that says nothing of the provider.
            raise failed("lost", "this replica has no such place")
        return place

    async def complete(self, call: Call) -> Completed:
        return await self._at(call).complete(call)

    def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        return self._at(call).stream(call)

    async def embed(self, call: Call) -> Completed:
        return await self._at(call).embed(call)

    async def close(self) -> None:
        for place in self._places.values():
            await place.close()
