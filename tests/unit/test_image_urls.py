"""Which URLs of images are fetched, by their text and by the addresses of their hosts."""

import pytest

from deployments.routing.image_urls import ImageRefused, parse_image_url
from deployments.routing.public_addresses import is_public

NONE: frozenset[str] = frozenset()


def why(url: str) -> str:
    with pytest.raises(ImageRefused) as caught:
        parse_image_url(url)
    return str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.1.1", "1.2.3.4.5", "09"),
        *("127%2e0.0.1", "%31%32%37.0.0.1", "a%00b", "[fe80::1%25eth0]", "-a.example", "a..example", "a" * 64, "a b"),
        *("[::ffff:127.0.0.1%25lo]", "a.example..", "a" * 63 + ".a" * 100),
    ],
)
def test_a_host_in_an_odd_form_is_refused_before_any_name_is_looked_up(host: str) -> None:
    assert why(f"http://{host}/") in (
        "its host is neither a name nor an address in its usual form",
        "its URL can't be read",
    )


def test_a_dot_at_the_end_of_a_host_changes_nothing() -> None:
    assert parse_image_url("http://127.0.0.1./").host == "127.0.0.1"
    assert parse_image_url("http://a.example./").host == "a.example"


def test_a_name_of_other_letters_is_asked_for_as_the_dns_has_it() -> None:
    asked = parse_image_url("https://Bücher.Example./a.png").request("93.184.216.34")
    assert asked["headers"] == {"host": "xn--bcher-kva.example"}
    assert asked["extensions"] == {"sni_hostname": "xn--bcher-kva.example"}
    assert asked["url"] == "https://93.184.216.34/a.png"


@pytest.mark.parametrize("url", ["http://me:secret@example.com/", "http://me@example.com/", "http://a\\@example.com/"])
def test_a_url_with_a_user_is_refused_and_its_password_is_not_told(url: str) -> None:
    assert why(url) == "its URL has a user name or a password"


@pytest.mark.parametrize(("url", "port"), [("http://a.example:22/", 22), ("https://a.example:0/", 0)])
def test_another_port_is_taken_only_where_the_configuration_names_it(url: str, port: int) -> None:
    parsed = parse_image_url(url)
    for hosts in (NONE, frozenset({"a.example"}), frozenset({f"b.example:{port}"})):
        with pytest.raises(ImageRefused, match="port"):
            parsed.check_port(hosts)
    parsed.check_port(frozenset({f"a.example:{port}"}))


def test_the_usual_ports_are_taken_of_any_host() -> None:
    for url in ("http://a.example/", "https://a.example/", "http://a.example:443/", "https://a.example:80/"):
        parse_image_url(url).check_port(NONE)


def test_a_redirect_may_not_give_up_tls_and_may_not_lead_to_what_is_no_url_of_an_image() -> None:
    asked = parse_image_url("https://a.example/x/y.png")
    assert str(asked.redirected("../z.png").url) == "https://a.example/z.png"
    assert asked.redirected("//b.example/").host == "b.example"
    for location, reason in (
        ("http://a.example/", "from https to http"),
        ("file:///etc/passwd", "http or https"),
        ("https://me:secret@b.example/", "user name"),
        ("https://0x7f.1/", "usual form"),
    ):
        with pytest.raises(ImageRefused, match=reason):
            asked.redirected(location)
    assert parse_image_url("http://a.example/").redirected("https://a.example/").url.scheme == "https"


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "::ffff:93.184.216.34", "2a00::5efe:808:808"],
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "192.0.0.192"),
        *("fe80::1%eth0", "2606:2800:220:1::1%1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1"),
        *("2002:5db8:d822::1", "2001::1", "fec0::1", "::7f00:1", "64:ff9b:1::7f00:1", "5f00::1", "3fff::1", "ff02::1"),
        *("2606:2800:220:1:0:5efe:a00:1", "2606:2800:220:1:200:5efe:7f00:1", "::ffff:0:7f00:1", "100::1", "::", "::1"),
    ],
)
def test_an_address_that_leads_anywhere_else_is_not(address: str) -> None:
    assert not is_public(address)
