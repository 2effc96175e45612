"""Which URL of an image may be fetched, and what is sent there. Pure.

One parser reads a URL for the check and for the request, so that the two can't differ. A host is a name of letters,
digits, `-` and `_`, or an address in its usual form. Other forms of addresses (`2130706433`, `0x7f.1`, `0177.0.0.1`,
a zone, percent signs) are refused: resolvers differ in what they make of them.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import TypedDict

import httpx2

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_IS_NUMBER = re.compile(
    r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)"
)  # as browsers judge it, by the last label (url.spec.whatwg.org)


class ImageRefused(Exception):
    """The image can't be fetched. The message completes "The image can't be fetched: ..."."""


class _Get(TypedDict):
    """The arguments of a request of httpx."""

    url: httpx2.URL
    headers: dict[str, str]
    extensions: dict[str, str]


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """A URL that may be fetched if the addresses of its host are public."""

    url: httpx2.URL
    host: str  # in ASCII and lower case, without a dot at its end
    port: int

    def listed_in(self, hosts: frozenset[str]) -> bool:
        """Return whether `images.hosts` has it: by its name for the usual ports, with its port for any other."""
        return f"{_bracketed(self.host)}:{self.port}" in hosts or (self._usual_port and self.host in hosts)

    @property
    def _usual_port(self) -> bool:
        return self.port in _PORTS.values()

    def check_port(self, hosts: frozenset[str]) -> None:
        """Raise ImageRefused for a port that is not for images, unless `images.hosts` names it."""
        if not self._usual_port and not self.listed_in(hosts):
            raise ImageRefused("its port is neither 80 nor 443")

    def request(self, address: str) -> _Get:
        """Return a request to the address that was checked, with the name of the URL for its server."""
        return {
            "url": self.url.copy_with(host=address, fragment=None),
            "headers": {"host": _bracketed(self.host) + (f":{self.url.port}" if self.url.port else "")},
            "extensions": {"sni_hostname": self.host} if self.url.scheme == "https" else {},
        }

    def redirected(self, location: str) -> "ImageUrl":
        """Return the URL that a redirect names. Raises ImageRefused, also where it would give up TLS."""
        found = parse_image_url(_parse(str(self.url.join(_parse(location)))))
        if (self.url.scheme, found.url.scheme) == ("https", "http"):
            raise ImageRefused("its server redirects from https to http")
        return found


def parse_image_url(text: "str | httpx2.URL") -> ImageUrl:
    """Return the URL with its host and port. Raises ImageRefused unless it is one that we fetch."""
    url = _parse(text) if isinstance(text, str) else text
    host = url.raw_host.decode("ascii").lower().removesuffix(".")
    if url.scheme not in _PORTS or not host:
        raise ImageRefused("its URL is not a http or https URL")
    if url.userinfo:
        raise ImageRefused("its URL has a user name or a password")
    if not _is_address(host) and (len(host) > 253 or not _NAME.fullmatch(host) or _IS_NUMBER.fullmatch(host)):
        raise ImageRefused("its host is neither a name nor an address in its usual form")
    return ImageUrl(url, host, _PORTS[url.scheme] if url.port is None else url.port)


def _parse(text: str) -> httpx2.URL:
    try:
        return httpx2.URL(text)
    except httpx2.InvalidURL:
        raise ImageRefused("its URL can't be read") from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
