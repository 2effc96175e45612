"""ImageFetcher that a message names by URL, fetched for the providers that only take bytes.

A URL comes from the client, and we stand inside a network that the client may not see. So every address
that a host has must be a public one, the connection goes to the very address that was looked at, and a
redirect is looked at like any other URL. Bytes and seconds are bounded, and what is no image is refused.
"""

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx2

from deployments.aio.gather import gather
from deployments.config.settings import ImageLimits
from deployments.errors import AttemptFailed, failed

REDIRECTS = 3
MOST = 32  # of one request: each is a connection of ours to wherever a client says
_PICTURE = "data:image/png;base64,"


@dataclass(slots=True)
class _Left:
    """What all images of one request together may still have."""

    bytes: int


class Refused(Exception):
    """The image can't be had; the message says why."""


class ImageFetcher:
    """Fetches images; one client for all."""

    def __init__(self, limits: ImageLimits):
        self._limits = limits
        self._client: httpx2.AsyncClient | None = None

    async def inlined(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The request with each http image as a data URL. Raises AttemptFailed that names the message."""
        return await RequestImages(self).inlined(body)

    async def fetched(self, places: list[tuple[int, int, str]]) -> dict[str, str]:
        """The data URL of each of these. Raises AttemptFailed that names the message."""
        urls = list(dict.fromkeys(url for _, _, url in places))
        if len(urls) > MOST:
            raise _unfetched(
                f"a request has {MOST} images by URL at most", next(p for p in places if p[2] == urls[MOST])
            )
        left = _Left(self._limits.max_bytes)
        data = await gather(self._data_url(url, places, left) for url in urls)
        return dict(zip(urls, data, strict=True))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _data_url(self, url: str, places: list[tuple[int, int, str]], left: "_Left") -> str:
        try:
            async with asyncio.timeout(self._limits.seconds):
                data = await self._fetched(url, left)
            return f"data:{kind_of(data)};base64,{base64.b64encode(data).decode()}"
        except TimeoutError:
            why = f"it took more than {self._limits.seconds:g} s"
        except Refused as error:
            why = str(error)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            why = type(error).__name__
        raise _unfetched(why, next(p for p in places if p[2] == url))

    async def _fetched(self, url: str, left: "_Left") -> bytes:
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
                    raise Refused(f"its server answered {response.status_code}")
                return await self._bounded(response, left)
        raise Refused("it redirects too often")

    async def _bounded(self, response: httpx2.Response, left: "_Left") -> bytes:
        data = bytearray()
        async for part in response.aiter_bytes():
            data += part
            left.bytes -= len(part)
            if left.bytes < 0:
                whose = "it is" if len(data) > self._limits.max_bytes else "all of its request are"
                raise Refused(f"{whose} larger than {self._limits.max_bytes} bytes")
        return bytes(data)

    async def _public_address(self, url: SplitResult) -> str:
        """The address to connect to. Raises Refused unless every address of the host is public."""
        host = url.hostname
        if url.scheme not in ("http", "https") or not host:
            raise Refused("its URL is none")
        port = url.port or (443 if url.scheme == "https" else 80)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Refused("its host has no address") from None
        addresses = [str(entry[4][0]) for entry in found]
        if host not in self._limits.hosts and not all(is_public(a) for a in addresses):
            raise Refused("its host is no public one")
        return addresses[0]


class RequestImages:
    """The images of one request, fetched once for all its tiers; what can't be had is not tried again."""

    def __init__(self, images: ImageFetcher):
        self._images = images
        self._got: dict[str, str] = {}
        self._failed: AttemptFailed | None = None

    async def inlined(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The request with each http image as a data URL. Raises AttemptFailed that names the message."""
        places = remote_images(body)
        if not places:
            return body
        if self._failed is not None:
            raise AttemptFailed(self._failed.outcome)
        if any(url not in self._got for _, _, url in places):
            try:
                self._got = await self._images.fetched(places)
            except AttemptFailed as error:
                self._failed = error
                raise
        return _inlined(body, places, self._got)


def remote_images(body: Mapping[str, Any]) -> list[tuple[int, int, str]]:
    """Message, part and URL of each image that is not in the request itself."""
    found = []
    for m, message in enumerate(body["messages"]):
        content = message.get("content")
        for p, part in enumerate(content if isinstance(content, list) else ()):
            url = (part.get("image_url") or {}).get("url") if isinstance(part.get("image_url"), dict) else None
            if isinstance(url, str) and url[:5].lower() != "data:":
                found.append((m, p, url))
    return found


def pictured(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request as it looks when its images have been fetched, for whoever judges it before that."""
    places = remote_images(body)
    return _inlined(body, places, dict.fromkeys((url for _, _, url in places), _PICTURE)) if places else body


def _inlined(body: Mapping[str, Any], places: list[tuple[int, int, str]], got: Mapping[str, str]) -> dict[str, Any]:
    messages = [dict(m) for m in body["messages"]]
    for m, p, url in places:
        content = list(messages[m]["content"])
        content[p] = {**content[p], "image_url": {**content[p]["image_url"], "url": got[url]}}
        messages[m]["content"] = content
    return {**body, "messages": messages}


def is_public(address: str) -> bool:
    """Is it an address of the internet? One that carries another inside is judged by that too."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner: list[Any] = [ip]
    if isinstance(ip, ipaddress.IPv6Address):
        inner += [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64:
            inner.remove(ip)
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        if ip.ipv4_mapped:
            inner.remove(ip)
    return all(i.is_global and not i.is_multicast and _is_assigned(i) for i in inner if i is not None)


def _is_assigned(ip: Any) -> bool:
    """All of the internet's addresses of version 6 are here; what else looks global is for private use, or for none."""
    return ip.version == 4 or ip in _UNICAST


_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def kind_of(data: bytes) -> str:
    """The media type by the bytes themselves: a server's word for it is often wrong."""
    for start, kind in _MAGIC:
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise Refused("it is no PNG, JPEG, GIF or WebP")


_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def _request(url: SplitResult, address: str) -> dict[str, Any]:
    """A request to the address that was looked at, under the name that was asked for."""
    port = f":{url.port}" if url.port else ""

    def written(host: str) -> str:
        return f"[{host}]{port}" if ":" in host else f"{host}{port}"

    return {
        "url": url._replace(netloc=written(address), fragment="").geturl(),
        "headers": {"host": written(str(url.hostname))},
        "extensions": {"sni_hostname": url.hostname} if url.scheme == "https" else {},
    }


def _unfetched(why: str, place: tuple[int, int, str]) -> AttemptFailed:
    param = f"messages.{place[0]}.content.{place[1]}.image_url"
    return failed(
        "unsupported", f"The image of '{param}' can't be fetched: {why}.", param=param, code="invalid_image_url"
    )
