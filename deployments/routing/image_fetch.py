"""Fetches the images that messages name by URL, for the providers that only take bytes.

A URL comes from the client, and we run inside a network that the client may not reach. So every address of a host must
be public (`public_addresses.py`), the connection goes to the very address that was checked, and a redirect is checked
like any other URL (`image_urls.py`). Bytes and seconds are bounded, and data that is no image is refused. A proxy of
the environment is not used: it would look the name up again. Where nothing leaves without a proxy, images by URL can't
be fetched, and the request says so.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import httpx2

from deployments.aio.gather import gather
from deployments.config.settings import ImageLimits
from deployments.errors import AttemptFailed, failed
from deployments.openai_api.images import HEAD, sniff
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.routing.image_urls import ImageRefused, ImageUrl, parse_image_url
from deployments.routing.name_lookups import NameLookups
from deployments.routing.public_addresses import is_public

REDIRECTS = 3
MOST_IMAGES = 32  # of one request: for each we open a connection to a host that the client chose
_PLACEHOLDER = "data:image/png;base64,"
# Each image has a connection of its own. A connection is kept by its address, and TLS has checked it for one name only.
_CONNECTIONS = httpx2.Limits(max_connections=100, max_keepalive_connections=0)

Resolve: TypeAlias = Callable[[str, int, str | None], Awaitable[Sequence[str]]]  # a host's addresses, for a caller


class RemoteImage(NamedTuple):
    """Where a request has an image by URL: the indexes of the message and of its part."""

    message: int
    part: int
    url: str


@dataclass(slots=True)
class _ByteBudget:
    """The bytes that are left for all images of one request."""

    left: int


class ImageFetcher:
    """Fetches images. All requests share one HTTP client. `transport` is httpx's, by default that of sockets."""

    def __init__(
        self, limits: ImageLimits, resolve: Resolve | None = None, transport: httpx2.AsyncBaseTransport | None = None
    ):
        self._limits = limits
        self._resolve = resolve or NameLookups().addresses
        self._transport = transport
        self._client: httpx2.AsyncClient | None = None

    async def inline(self, body: JsonObject) -> JsonObject:
        """Return the request with each image by URL as a data URL. Raises AttemptFailed that names the message."""
        return await RequestImages(self).inline(body)

    async def fetch(self, images: Sequence[RemoteImage], caller: str | None = None) -> dict[str, str]:
        """Return the data URL of each image by its URL. Raises AttemptFailed that names the message.

        `caller` is who asks, if that is known.
        """
        first = dict[str, RemoteImage]()  # several parts may name the same URL
        for image in images:
            first.setdefault(image.url, image)
        if len(first) > MOST_IMAGES:
            reason = f"a request may have at most {MOST_IMAGES} images by URL"
            raise _fetch_failed(reason, list(first.values())[MOST_IMAGES])
        budget = _ByteBudget(self._limits.max_bytes)
        data = await gather(self._data_url(image, budget, caller) for image in first.values())
        return dict(zip(first, data, strict=True))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _data_url(self, image: RemoteImage, budget: _ByteBudget, caller: str | None) -> str:
        try:
            async with asyncio.timeout(self._limits.seconds):
                data = await self._download(image.url, budget, caller)
            return f"data:{media_type(data)};base64,{base64.b64encode(data).decode()}"
        except TimeoutError:
            reason = f"it took more than {self._limits.seconds:g} s"
        except ImageRefused as error:
            reason = str(error)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            reason = f"the connection or the answer failed ({type(error).__name__})"
        raise _fetch_failed(reason, image)

    async def _download(self, url: str, budget: _ByteBudget, caller: str | None) -> bytes:
        checked = parse_image_url(url)
        for _ in range(REDIRECTS + 1):
            address = await self._public_address(checked, caller)
            async with self._http().stream("GET", **checked.request(address)) as response:
                if not response.has_redirect_location:
                    return await self._read(response, budget)
                checked = checked.redirected(response.headers["location"])
        raise ImageRefused(f"its server redirects more than {REDIRECTS} times")

    def _http(self) -> httpx2.AsyncClient:
        if self._client is None:
            transport = self._transport or httpx2.AsyncHTTPTransport(trust_env=False, limits=_CONNECTIONS)
            self._client = httpx2.AsyncClient(
                transport=transport, trust_env=False, follow_redirects=False, timeout=self._limits.seconds
            )
        return self._client

    async def _read(self, response: httpx2.Response, budget: _ByteBudget) -> bytes:
        if response.status_code != 200:
            raise ImageRefused(f"its server answered {response.status_code}")
        data = bytearray()
        async for part in response.aiter_bytes():
            data += part
            budget.left -= len(part)
            if budget.left < 0:
                subject = "it is" if len(data) > self._limits.max_bytes else "the images of the request together are"
                raise ImageRefused(f"{subject} larger than {self._limits.max_bytes} bytes")
        return bytes(data)

    async def _public_address(self, url: ImageUrl, caller: str | None) -> str:
        """Return the address to connect to. Raises ImageRefused unless every address of the host is public."""
        url.check_port(self._limits.hosts)
        try:
            addresses = await self._resolve(url.host, url.port, caller)
        except TimeoutError:
            raise ImageRefused("the name of its host took too long to look up") from None
        except (OSError, UnicodeError):
            addresses = ()
        if not addresses:
            raise ImageRefused("the name of its host has no address")
        if not url.listed_in(self._limits.hosts) and not all(is_public(address) for address in addresses):
            raise ImageRefused("its host is not public")
        return addresses[0]


class RequestImages:
    """The images of one request. They are fetched once for all its targets; a failure is not tried again."""

    def __init__(self, fetcher: ImageFetcher, caller: str | None = None):
        self._fetcher, self._caller = fetcher, caller
        self._data_urls: dict[str, str] = {}
        self._failed: AttemptFailed | None = None

    async def inline(self, body: JsonObject) -> JsonObject:
        """Return the request with each image by URL as a data URL. Raises AttemptFailed that names the message."""
        images = remote_images(body)
        if not images:
            return body
        if self._failed is not None:
            raise AttemptFailed(self._failed.outcome)
        if any(image.url not in self._data_urls for image in images):
            try:
                self._data_urls = await self._fetcher.fetch(images, self._caller)
            except AttemptFailed as error:
                self._failed = error
                raise
        return _replace_urls(body, images, self._data_urls)


def remote_images(body: JsonObject) -> list[RemoteImage]:
    """Return each image that is not in the request itself."""
    found = []
    for m, message in enumerate(body["messages"]):
        content = message.get("content")
        for p, part in enumerate(content if isinstance(content, list) else ()):
            url = (part.get("image_url") or {}).get("url") if isinstance(part.get("image_url"), dict) else None
            if isinstance(url, str) and url[:5].lower() != "data:":
                found.append(RemoteImage(m, p, url))
    return found


def with_placeholder_images(body: JsonObject) -> JsonObject:
    """Return the request as if its images were fetched, so that its fields can be judged before that."""
    images = remote_images(body)
    return _replace_urls(body, images, dict.fromkeys((i.url for i in images), _PLACEHOLDER)) if images else body


def _replace_urls(body: JsonObject, images: Sequence[RemoteImage], data_urls: Mapping[str, str]) -> JsonDict:
    messages = [dict(m) for m in body["messages"]]
    for m, p, url in images:
        content = list(messages[m]["content"])
        content[p] = {**content[p], "image_url": {**content[p]["image_url"], "url": data_urls[url]}}
        messages[m]["content"] = content
    return {**body, "messages": messages}


def media_type(data: bytes) -> str:
    """Return the media type by the bytes themselves, because a server's content-type is often wrong.

    Raises ImageRefused for data of another type.
    """
    if (subtype := sniff(data[:HEAD])) in _READ:
        return f"image/{subtype}"
    raise ImageRefused("it is not a PNG, JPEG, GIF or WebP image")


_READ = frozenset({"png", "jpeg", "gif", "webp"})


def _fetch_failed(reason: str, image: RemoteImage) -> AttemptFailed:
    param = f"messages.{image.message}.content.{image.part}.image_url"
    return failed(
        "unsupported", f"The image of '{param}' can't be fetched: {reason}.", param=param, code="invalid_image_url"
    )
