"""Any address, beside IANA's registries of special addresses as they are published."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from deployments.routing.public_addresses import is_public

# iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry, all rows of the tables as of
# 2025 (RFC 9780 is the newest entry): what "Globally Reachable" says. N/A and an empty cell are no "True".
REGISTRY = {
    **dict.fromkeys(("0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"), False),
    **dict.fromkeys(("172.16.0.0/12", "192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32"), False),
    **dict.fromkeys(("192.0.0.9/32", "192.0.0.10/32"), True),
    **dict.fromkeys(("192.0.0.170/32", "192.0.0.171/32", "192.0.2.0/24"), False),
    **dict.fromkeys(("192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24"), True),
    **dict.fromkeys(("192.88.99.0/24", "192.88.99.2/32", "192.168.0.0/16", "198.18.0.0/15"), False),
    **dict.fromkeys(("198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "255.255.255.255/32"), False),
    **dict.fromkeys(("::1/128", "::/128", "::ffff:0:0/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64"), False),
    **dict.fromkeys(("64:ff9b::/96", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32"), True),
    **dict.fromkeys(("2001::/23", "2001::/32", "2001:2::/48", "2001:10::/28", "2001:db8::/32", "2002::/16"), False),
    **dict.fromkeys(("2001:4:112::/48", "2001:20::/28", "2001:30::/28", "2620:4f:8000::/48"), True),
    **dict.fromkeys(("3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10"), False),
}
ROWS = [(ipaddress.ip_network(text), reachable) for text, reachable in REGISTRY.items()]
MULTICAST = [ipaddress.ip_network(text) for text in ("224.0.0.0/4", "ff00::/8")]
# Where we are stricter than the registry; public_addresses.py says why.
STRICTER = [ipaddress.ip_network(text) for text in ("192.0.0.0/24", "2001::/23")]
UNICAST = ipaddress.ip_network("2000::/3")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@st.composite
def addresses(draw: st.DrawFn) -> Address:
    """Any address, or one inside of a row, or at one of its borders, or just outside."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.ip_addresses())
    network = draw(st.sampled_from([row for row, _ in ROWS] + MULTICAST + [UNICAST]))
    first, last = int(network.network_address), int(network.broadcast_address)
    number = draw(st.sampled_from([first - 1, first, last, last + 1]) | st.integers(first, last))
    return type(network.network_address)(min(max(number, 0), 2**network.max_prefixlen - 1))


def reachable(ip: Address) -> bool:
    """By the registry's most specific row, as the registry says."""
    if any(ip in network for network in MULTICAST):
        return False
    rows = [(network.prefixlen, said) for network, said in ROWS if ip in network]
    return max(rows)[1] if rows else ip.version == 4 or ip in UNICAST


def inner(ip: Address) -> ipaddress.IPv4Address | None:
    if ip.version == 4:
        return None
    isatap = (int(ip) >> 32) & 0xFDFFFFFF == 0x5EFE
    if ip in ipaddress.ip_network("64:ff9b::/96") or ip in ipaddress.ip_network("::ffff:0:0/96") or isatap:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return None


@given(addresses())
def test_what_iana_does_not_call_global_is_never_public_and_all_else_is(ip: Address) -> None:
    within = inner(ip)
    if within is not None and ip.ipv4_mapped is not None:  # type: ignore[union-attr]
        expected = is_public(str(within))  # a socket connects to the IPv4 address
    else:
        expected = reachable(ip) and not any(ip in network for network in STRICTER)
        expected = expected and (within is None or is_public(str(within)))
    assert is_public(str(ip)) is expected
