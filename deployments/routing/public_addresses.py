"""Which addresses are of the public internet, by a table of our own. Pure.

`ipaddress.is_global` differs between versions of Python (CVE-2024-4032), so it is not asked. The table holds all that
IANA's special-purpose registries do not call globally reachable, and multicast. It is stricter in four places:

- 192.0.0.0/24 and 2001::/23 as a whole. What is reachable in them are anycasts, which mean one's own network (PCP,
  TURN), relays and identifiers. No image is there.
- 6to4 and Teredo, which the registry leaves open: they lead to whatever IPv4 address is written in them.
- IPv6 outside of 2000::/3, which IANA has given to nobody.
- An address that has a private IPv4 address in it (NAT64, ISATAP): a translator would connect to that one. A NAT64
  prefix of one's own can't be known. Who has one keeps private addresses out of its translator.
"""

import ipaddress

IPv4, IPv6 = ipaddress.IPv4Address, ipaddress.IPv6Address

# iana.org/assignments/iana-ipv4-special-registry and multicast-addresses, as of 2025.
_NOT_PUBLIC_IPV4 = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
)
# iana.org/assignments/iana-ipv6-special-registry, as of 2025: what of it is in 2000::/3.
_NOT_PUBLIC_IPV6 = ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")


def _ranges(networks: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    found = [ipaddress.ip_network(network) for network in networks]
    return tuple((int(network.network_address), int(network.broadcast_address)) for network in found)


_RANGES_IPV4, _RANGES_IPV6 = _ranges(_NOT_PUBLIC_IPV4), _ranges(_NOT_PUBLIC_IPV6)
_UNICAST = 0b001  # the first three bits of 2000::/3
_MAPPED = int(IPv6("::ffff:0:0")) >> 32
_NAT64 = int(IPv6("64:ff9b::")) >> 32  # RFC 6052
_ISATAP = (0x00005EFE, 0x02005EFE)  # before the IPv4 address, in the lower half (RFC 5214)


def is_public(address: str) -> bool:
    """Return whether it is an address of the internet. An address that embeds an IPv4 address is judged by it too.

    An address with a zone (`fe80::1%eth0`) is none. Raises ValueError for a text that is no address.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, IPv4):
        return _is_public_ipv4(int(ip))
    return ip.scope_id is None and _is_public_ipv6(int(ip))


def _is_public_ipv4(number: int) -> bool:
    return not _is_in(number, _RANGES_IPV4)


def _is_public_ipv6(number: int) -> bool:
    inner = number & 0xFFFFFFFF
    if number >> 32 in (_MAPPED, _NAT64):
        return _is_public_ipv4(inner)
    if number >> 125 != _UNICAST or _is_in(number, _RANGES_IPV6):
        return False
    return (number >> 32) & 0xFFFFFFFF not in _ISATAP or _is_public_ipv4(inner)


def _is_in(number: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= number <= last for first, last in ranges)
