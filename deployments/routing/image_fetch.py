"""Fetches the images that messages name by URL, for the providers that only take bytes.

A URL comes from the client, and we run inside a network that the client may not reach. So every address of a host must
be public, the connection goes to the very address that was checked, and a redirect is checked like any other URL. Bytes
and seconds are bounded, and data that is no image is refused.
"""

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx2

from deployments.aio.gather import gather
from deployments.config.settings import ImageLimits
from deployments.errors import AttemptFailed, failed
from deployments.openai_api.images import HEAD, sniff
from deployments.openai_api.json_types import JsonDict, JsonObject

REDIRECTS = 3
MOST_IMAGES = 32  # of one request: for each we open a connection to a host that the client chose
_PLACEHOLDER = "data:image/png;base64,"


class RemoteImage(NamedTuple):
    """Where a request has an image by URL: the indexes of the message and of its part."""

    message: int
    part: int
    url: str


@dataclass(slots=True)
class _ByteBudget:
    """The bytes that are left for all images of one request."""

    left: int


class ImageRefused(Exception):
    """The image can't be fetched. The message completes "The image can't be fetched: ..."."""


class ImageFetcher:
    """Fetches images. All requests share one HTTP client."""

    def __init__(self, limits: ImageLimits):
        self._limits = limits
        self._client: httpx2.AsyncClient | None = None

    async def inline(self, body: JsonObject) -> JsonObject:
        """Return the request with each image by URL as a data URL. Raises AttemptFailed that names the message."""
        return await RequestImages(self).inline(body)

    async def fetch(self, images: Sequence[RemoteImage]) -> dict[str, str]:
        """Return the data URL of each image by its URL. Raises AttemptFailed that names the message."""
        first = dict[str, RemoteImage]()  # several parts may name the same URL
        for image in images:
            first.setdefault(image.url, image)
        if len(first) > MOST_IMAGES:
            reason = f"a request may have at most {MOST_IMAGES} images by URL"
            raise _fetch_failed(reason, list(first.values())[MOST_IMAGES])
        budget = _ByteBudget(self._limits.max_bytes)
        data = await gather(self._data_url(image, budget) for image in first.values())
        return dict(zip(first, data, strict=True))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _data_url(self, image: RemoteImage, budget: _ByteBudget) -> str:
        try:
            async with asyncio.timeout(self._limits.seconds):
                data = await self._download(image.url, budget)
            return f"data:{media_type(data)};base64,{base64.b64encode(data).decode()}"
        except TimeoutError:
            reason = f"it took more than {self._limits.seconds:g} s"
        except ImageRefused as error:
            reason = str(error)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            reason = f"the connection or the answer failed ({type(error).__name__})"
        raise _fetch_failed(reason, image)

    async def _download(self, url: str, budget: _ByteBudget) -> bytes:
        if self._client is None:
            self._client = httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=self._limits.seconds)
        for _ in range(REDIRECTS + 1):
            parts = urlsplit(url)
            address = await self._public_address(parts)
            async with self._client.stream("GET", **_request(parts, address)) as response:
                if response.has_redirect_location:
                    url = urljoin(url, response.headers["location"])
                    continue
                if response.status_code != 200:
                    raise ImageRefused(f"its server answered {response.status_code}")
                return await self._read(response, budget)
        raise ImageRefused(f"its server redirects more than {REDIRECTS} times")

    async def _read(self, response: httpx2.Response, budget: _ByteBudget) -> bytes:
        data = bytearray()
        async for part in response.aiter_bytes():
            data += part
            budget.left -= len(part)
            if budget.left < 0:
                subject = "it is" if len(data) > self._limits.max_bytes else "the images of the request together are"
                raise ImageRefused(f"{subject} larger than {self._limits.max_bytes} bytes")
        return bytes(data)

    async def _public_address(self, url: SplitResult) -> str:
        """Return the address to connect to. Raises ImageRefused unless every address of the host is public."""
        host = url.hostname
        if url.scheme not in ("http", "https") or not host:
            raise ImageRefused("its URL is not a http or https URL")
        port = url.port or (443 if url.scheme == "https" else 80)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise ImageRefused("the name of its host has no address") from None
        addresses = [str(entry[4][0]) for entry in found]
        if host not in self._limits.hosts and not all(is_public(a) for a in addresses):
            raise ImageRefused("its host is not public")
        return addresses[0]


class RequestImages:
    """The images of one request. They are fetched once for all its targets; a failure is not tried again."""

    def __init__(self, fetcher: ImageFetcher):
        self._fetcher = fetcher
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
                self._data_urls = await self._fetcher.fetch(images)
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


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Return whether it is an address of the internet. An address that embeds another is judged by both."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner: list[_Address | None] = [ip]
    if isinstance(ip, ipaddress.IPv6Address):
        inner += [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64:
            inner.remove(ip)
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        if ip.ipv4_mapped:
            inner.remove(ip)
    return all(i.is_global and not i.is_multicast and _is_assigned(i) for i in inner if i is not None)


def _is_assigned(ip: _Address) -> bool:
    # The internet's IPv6 addresses are all in this network. Others that look global are private, or not in use.
    return ip.version == 4 or ip in _UNICAST


_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def media_type(data: bytes) -> str:
    """Return the media type by the bytes themselves, because a server's content-type is often wrong.

    Raises ImageRefused for data of another type.
    """
    if (subtype := sniff(data[:HEAD])) in _READ:
        return f"image/{subtype}"
    raise ImageRefused("it is not a PNG, JPEG, GIF or WebP image")


_READ = frozenset({"png", "jpeg", "gif", "webp"})


class _Get(TypedDict):
    """The arguments of a request of httpx."""

    url: str
    headers: dict[str, str]
    extensions: dict[str, str | None]


def _request(url: SplitResult, address: str) -> _Get:
    """Return a request to the address that was checked, with the host name of the URL."""
    port = f":{url.port}" if url.port else ""

    def with_port(host: str) -> str:
        return f"[{host}]{port}" if ":" in host else f"{host}{port}"

    return {
        "url": url._replace(netloc=with_port(address), fragment="").geturl(),
        "headers": {"host": with_port(str(url.hostname))},
        "extensions": {"sni_hostname": url.hostname} if url.scheme == "https" else {},
    }


def _fetch_failed(reason: str, image: RemoteImage) -> AttemptFailed:
    param = f"messages.{image.message}.content.{image.part}.image_url"
    return failed(
        "unsupported", f"The image of '{param}' can't be fetched: {reason}.", param=param, code="invalid_image_url"
    )
