"""What serve_config.yaml may say of places: whose settings hold, what the check says, and what shares a bucket."""

import pathlib
from typing import Any

import pytest
import yaml

from actors.breaker.places import Site
from deployments.config.application import apply_user_config, parse
from deployments.config.check import main
from deployments.config.resolved import ResolvedConfig, resolve
from deployments.errors import ConfigError, UnknownModel
from deployments.routing.model_rows import chat_rows
from tests.unit.test_config import bare_environment

__all__ = ["bare_environment"]  # a fixture of each test here

ROLE = "arn:aws:iam::{}:role/llm"
SECRET = "sk-proj-abcdef1234567890"


def config(places: list[dict[str, Any]], kind: str = "openai", **settings: Any) -> dict[str, Any]:
    local = {"kind": "local"}
    return {
        "providers": {"p": {"kind": kind, **settings, "places": places}, "local": local},
        "models": {"default": {"p": "gpt-4.1", "local": "smollm2-135m"}},
    }


def sites(places: list[dict[str, Any]], kind: str = "openai", **settings: Any) -> dict[str, Site]:
    provider: Any = parse(config(places, kind, **settings)).providers["p"]
    return {site.name: site for site in provider.sites()}


def buckets(places: list[dict[str, Any]], kind: str = "openai", **settings: Any) -> list[set[str]]:
    """Return the places of each bucket."""
    found = sites(places, kind, **settings)
    names = dict.fromkeys(site.bucket for site in found.values())
    return [{name for name, site in found.items() if site.bucket == bucket} for bucket in names]


# Whose settings hold.


def test_a_place_has_the_providers_settings_with_its_own_over_them() -> None:
    args = config(
        [{"name": "us"}, {"name": "eu", "region": "eu-west-1", "role_arn": ROLE.format(123456789012)}],
        "bedrock",
        region="us-east-1",
        profile="llm",
        timeouts={"first_token": 5},
    )
    us, eu = parse(args).providers["p"].at_places().values()
    assert (us.region, us.profile, us.role_arn) == ("us-east-1", "llm", None)
    assert (eu.region, eu.profile, eu.role_arn) == ("eu-west-1", "llm", ROLE.format(123456789012))
    assert eu.timeouts.first_token == 5
    assert us.at_places() == {}


def test_a_section_is_overlaid_key_by_key() -> None:
    vertex = {"project": "ours", "location": "us-central1"}
    args = config([{"name": "eu", "vertex": {"location": "eu"}}], "google", vertex=vertex)
    (eu,) = parse(args).providers["p"].at_places().values()
    assert (eu.vertex.project, eu.vertex.location) == ("ours", "eu")


@pytest.mark.parametrize(
    ("kind", "provider", "place", "gone"),
    [
        ("bedrock", {"region": "us-east-1"}, {"region_env": "OTHER"}, "region"),
        ("bedrock", {"api_key_env": "KEY"}, {"profile": "other"}, "api_key_env"),
        ("bedrock", {"api_key_env": "KEY"}, {"role_arn": ROLE.format(123456789012)}, "api_key_env"),
    ],
)
def test_what_a_place_says_stands_for_what_would_go_before_it(
    kind: str, provider: dict[str, Any], place: dict[str, Any], gone: str
) -> None:
    (there,) = parse(config([{"name": "x", **place}], kind, **provider)).providers["p"].at_places().values()
    assert getattr(there, gone) is None
    for name, value in place.items():
        assert getattr(there, name) == value


def test_thresholds_that_change_while_running_leave_the_places_as_they_are() -> None:
    vertex = {"project": "ours", "location": "eu"}
    before = parse(config([{"name": "x", "vertex": {"location": "global"}}], "google", vertex=vertex))
    after = apply_user_config(before, {"breaker": {"failure_threshold": 7}})
    assert after.breaker.failure_threshold == 7
    assert after.providers["p"].at_places() == before.providers["p"].at_places()


@pytest.mark.parametrize(
    ("places", "sentence"),
    [
        ([{"name": "a"}, {"name": "a"}], "places.1.name: an earlier place has it"),
        ([{"name": "A"}], "places.0.name: may have small letters, digits and -"),
        ([{"name": "a", "region": "us-east-1"}], "places.0.region: providers of this kind have no such setting"),
        ([{"name": "a", "regoin": "x"}], "places.0.regoin: unknown key, did you mean region?"),
        ([{"name": SECRET}], "places.0.name: looks like a key, not a name"),
        ([{"name": "a", "api_key_env": SECRET}], "places.0.api_key_env: looks like a key, not the name of a variable"),
        ([{}], "places.0.name: required key is missing"),
        ([{"name": "a", "weight": 0}], "places.0.weight: must be more than 0"),
        (
            [{"name": "a", "azure": {"endpoint": "https://x.openai.azure.com"}}],
            "places.0.azure: has an address of its own, so base_url and vertex can't stand beside it",
        ),
        ([{"name": "a", "vertex": {"express": True}}], "places.0.vertex.express: is for kind google"),
    ],
)
def test_a_mistake_in_a_place_is_told_with_its_key(places: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(config(places, base_url="https://h.example/v1"))
    assert str(refused.value).startswith(f"providers.p.{sentence}")


# What the check says.


def test_the_check_says_of_each_place_which_credential_it_found_and_shows_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEY_A", SECRET)
    free = {"name": "ours", "base_url": "http://vllm.example/v1"}
    args = config([{"name": "a", "api_key_env": "KEY_A"}, {"name": "b", "api_key_env": "KEY_B"}, free])
    file = tmp_path / "c.yaml"
    application = {"name": "llm", "import_path": "deployments.app:build_app", "args": args}
    file.write_text(
        yaml.safe_dump({"http_options": {"host": "127.0.0.1"}, "applications": [application]}, sort_keys=False)
    )
    assert main([str(file)]) == 0
    said = capsys.readouterr().out
    assert "1. p (openai): ready, 2 of 3 places\n" in said
    assert "       a: ready, by the key in KEY_A\n" in said
    assert "       b: left out: KEY_B is not set\n" in said
    assert "       ours: ready\n" in said
    assert "default: p#a/gpt-4.1 > p#ours/gpt-4.1 > local/smollm2-135m\n" in said
    assert SECRET not in said


def resolved(monkeypatch: pytest.MonkeyPatch, *keys: str) -> ResolvedConfig:
    for variable in keys:
        monkeypatch.setenv(variable, f"{SECRET}-{variable}")
    return resolve(parse(config([{"name": "a", "api_key_env": "KEY_A"}, {"name": "b", "api_key_env": "KEY_B"}])))


def test_a_provider_is_left_out_only_if_all_of_its_places_are(monkeypatch: pytest.MonkeyPatch) -> None:
    without = resolved(monkeypatch)
    assert without.left_out()["p"] == "a: KEY_A is not set; b: KEY_B is not set"
    assert without.rows()["default"] == ["local/smollm2-135m"]
    with_one = resolved(monkeypatch, "KEY_B")
    assert with_one.usable == ["p", "local"]
    assert with_one.rows()["default"] == ["p#b/gpt-4.1", "local/smollm2-135m"]
    assert with_one.windows()["p#b/gpt-4.1"] == 1_047_576
    with pytest.raises(UnknownModel, match=r"'p#a' is left out: KEY_A is not set"):
        chat_rows(with_one).of("p#a/gpt-4.1")
    with_both = resolved(monkeypatch, "KEY_A", "KEY_B")
    assert with_both.rows()["default"] == ["p#a/gpt-4.1", "p#b/gpt-4.1", "local/smollm2-135m"]
    assert SECRET not in repr(with_both)


def test_without_places_a_provider_and_its_targets_have_the_names_that_they_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    found = resolve(parse(config([])))
    assert found.rows() == {"default": ["p/gpt-4.1", "local/smollm2-135m"]}
    assert not found.places
    assert not any(tier.places for tier in found.tiers)


# What the vendor counts together.


def test_two_variables_with_one_key_are_one_bucket_and_other_keys_are_buckets_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, key in (("K1", SECRET), ("K2", SECRET), ("K3", f"{SECRET}x")):
        monkeypatch.setenv(name, key)
    keys = [{"name": name.lower(), "api_key_env": name} for name in ("K1", "K2", "K3")]
    for kind in ("openai", "google", "anthropic"):
        assert buckets(keys, kind) == [{"k1", "k2"}, {"k3"}]
        named = [{**key, "bucket": "project"} for key in keys[1:]]
        assert buckets([keys[0], *named], kind) == [{"k1"}, {"k2", "k3"}]
    assert SECRET not in repr(sites(keys))


def test_bedrock_counts_by_account_and_region() -> None:
    one, other = ROLE.format(123456789012), ROLE.format(210987654321)
    places = [
        {"name": "a", "role_arn": one},
        {"name": "b", "role_arn": f"{one}-2"},
        {"name": "c", "role_arn": other},
        {"name": "d", "role_arn": one, "region": "eu-west-1"},
        {"name": "e"},
        {"name": "f", "profile": "other"},
    ]
    assert buckets(places, "bedrock", region="us-east-1") == [{"a", "b"}, {"c"}, {"d"}, {"e"}, {"f"}]


def test_azure_counts_by_resource_and_vertex_by_project_and_location() -> None:
    azure = [
        {"name": "a", "azure": {"endpoint": "https://one.openai.azure.com"}, "api_key_env": "K1"},
        {"name": "b", "azure": {"endpoint": "https://one.openai.azure.com/openai/v1"}, "api_key_env": "K2"},
        {"name": "c", "azure": {"endpoint": "https://two.openai.azure.com"}},
    ]
    assert buckets(azure) == [{"a", "b"}, {"c"}]
    vertex = [
        {"name": "a", "vertex": {"location": "eu"}},
        {"name": "b", "vertex": {"location": "eu", "project": "theirs"}},
        {"name": "c", "vertex": {"location": "us"}},
        {"name": "d", "vertex": {"location": "eu", "project": "ours"}},
    ]
    assert buckets(vertex, "google", vertex={"project": "ours"}) == [{"a", "d"}, {"b"}, {"c"}]


@pytest.mark.parametrize(
    ("kind", "settings", "server"),
    [
        ("openai", {}, "api.openai.com"),
        ("openai", {"base_url": "http://H.example:8000/v1"}, "h.example:8000"),
        ("openai", {"azure": {"endpoint": "https://one.openai.azure.com"}}, "one.openai.azure.com"),
        ("openai", {"vertex": {"project": "p", "location": "us-east1"}}, "us-east1-aiplatform.googleapis.com"),
        ("google", {}, "generativelanguage.googleapis.com"),
        ("google", {"vertex": {"project": "p", "location": "eu"}}, "aiplatform.eu.rep.googleapis.com"),
        ("anthropic", {}, "api.anthropic.com"),
        ("bedrock", {"region": "eu-west-1"}, "eu-west-1"),
        ("bedrock", {"region": "eu-west-1", "endpoint_url": "https://me:pw@vpce.example"}, "vpce.example"),
    ],
)
def test_places_are_at_one_server_if_they_are_asked_at_one_host_and_port(
    kind: str, settings: dict[str, Any], server: str
) -> None:
    (site,) = sites([{"name": "x"}], kind, **settings).values()
    assert site.server == server


def test_places_of_one_vendor_have_its_list_prices_and_those_of_different_vendors_have_none() -> None:
    one = [{"name": "us"}, {"name": "eu", "base_url": "https://api.openai.com/v1"}]
    assert resolve(parse(config(one))).billing_addresses() == {"p": "https://api.openai.com"}
    two = [{"name": "openai"}, {"name": "groq", "base_url": "https://api.groq.com/openai/v1"}]
    assert resolve(parse(config(two))).billing_addresses() == {}
