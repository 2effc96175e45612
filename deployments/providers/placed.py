"""A provider with places: an adapter for each, behind the one port. Pure."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from actors.breaker.outcomes import NO_SUCH_PLACE
from deployments.errors import failed
from deployments.providers.base import Call, Completed, End, Frames, Provider, credential_of
from deployments.providers.credentials.renewed import Renewed


class Placed:
    """`places` are the adapters by the places' names. Each call says which one it is for.

    While replicas are replaced, an ingress of another version may know others. One that knows of no places gets the
    first. One that names a place which is not here is asked to go on: another place may be in another country.
    """

    def __init__(self, places: Mapping[str, Provider]):
        self._places = places
        found = {name: credential_of(place) for name, place in places.items()}
        self.credentials: dict[str, Renewed[Any]] = {name: one for name, one in found.items() if one is not None}

    def _at(self, call: Call) -> Provider:
        if not call.place:
            return next(iter(self._places.values()))
        if (place := self._places.get(call.place)) is None:
            raise failed("lost", "this replica has no such place", code=NO_SUCH_PLACE)
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
