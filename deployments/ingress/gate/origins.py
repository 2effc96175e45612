"""From where a request comes, for a server that asks for no key. Pure.

Such a server trusts whoever reaches it, and a web page in a browser on this machine reaches it too: by a plain form
(cross-site request forgery), or under a name of its own that it lets point to 127.0.0.1 (DNS rebinding). A browser
says in `Host`, `Origin` and `Sec-Fetch-Site` what it does, and no page can change what it says. Other clients send no
`Origin` and no `Sec-Fetch-Site`, and pass.
"""

import functools
import ipaddress
from collections.abc import Collection, Mapping

from deployments.errors import Forbidden

ALL = "*"
_LONGEST_QUOTE = 100


class Origins:
    """`hosts` are the server's own names; `allowed` are the origins of other pages that may call it. `*`: all."""

    def __init__(self, hosts: Collection[str], allowed: Collection[str]):
        self._hosts = frozenset(host.lower().removesuffix(".") for host in hosts)
        self._allowed = frozenset(origin.encode() for origin in allowed)
        self._any_origin = ALL in allowed
        self._is_ours = functools.lru_cache(maxsize=256)(self._judge_host)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise Forbidden if a page that may not call this server has sent the request."""
        host = headers.get(b"host")
        if host is not None and not self._is_ours(host):
            raise Forbidden(f"This server is not known as {_quote(host)}. Name it in 'hosts' of the config if it is.")
        origin = headers.get(b"origin")
        if origin is None:
            # A page that only loads or posts something names no origin in some cases, and its site in all.
            if headers.get(b"sec-fetch-site") == b"cross-site" and not self._any_origin:
                raise Forbidden("Pages of other sites may not call this server: see 'cors.origins' of the config.")
        elif not (self._any_origin or origin in self._allowed or origin.partition(b"://")[2] == host):
            raise Forbidden(
                f"Pages of {_quote(origin)} may not call this server. Name the origin in 'cors.origins' of the config."
            )

    def _judge_host(self, value: bytes) -> bool:
        """Return whether a `Host` can mean this server alone. An address can't be rebound: only a name is looked up."""
        name = _without_port(value.decode("latin-1")).lower().removesuffix(".")
        return (
            ALL in self._hosts
            or name in self._hosts
            or name == "localhost"
            or name.endswith(".localhost")  # resolves to this machine alone (RFC 6761, 6.3)
            or _is_address(name)
        )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _quote(value: bytes) -> str:
    return repr(value[:_LONGEST_QUOTE].decode("latin-1"))
