"""The demo's configuration is a good one, and each of its parts can be seen."""

import pathlib
from typing import Any

import yaml

from deployments.config.application import parse
from tests.demo.config import FIRST, POOR, ROWS, config_of, environment_of
from tests.demo.script import CLOUDS, LOCAL
from tests.demo.traffic import AGENTS
from tests.starting import ROOT, joined_environment

FOLDER = pathlib.Path("/nowhere")


def made() -> dict[str, Any]:
    shipped = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    return config_of(shipped, {name: f"http://127.0.0.1:{port}" for port, name in enumerate(CLOUDS, 1)}, 4, FOLDER)


def test_it_passes_the_check() -> None:
    [application] = made()["applications"]
    assert set(parse(application["args"]).providers) == {*CLOUDS, LOCAL}


def test_it_serves_this_machine_alone_and_asks_no_provider_but_its_fakes() -> None:
    config = made()
    assert config["http_options"]["host"] == "127.0.0.1"
    providers = config["applications"][0]["args"]["providers"]
    assert {name: providers[name].get("base_url") for name in providers} == {
        "openai": "http://127.0.0.1:1",
        "google_genai": "http://127.0.0.1:2",
        "anthropic": "http://127.0.0.1:3",
        "local": None,
    }


def test_each_cloud_is_the_first_of_a_row_and_the_local_model_the_last_of_each() -> None:
    assert set(FIRST.values()) == set(CLOUDS)
    assert all(providers[-1] == LOCAL and set(providers) == {*CLOUDS, LOCAL} for providers in ROWS.values())


def test_agents_ask_for_every_row_both_whole_and_streamed_and_one_has_a_budget() -> None:
    assert {(agent.row, agent.stream) for agent in AGENTS} == {
        (row, stream) for row in ROWS for stream in (True, False)
    }
    assert POOR in {agent.tenant for agent in AGENTS}
    assert len({agent.tenant for agent in AGENTS}) > 2


def test_nothing_is_left_outside_its_folder_and_no_path_of_a_socket_is_too_long() -> None:
    folder = pathlib.Path("/tmp/bw-demo-12345678")
    env = environment_of(folder)
    paths = {name: value for name, value in env.items() if value.startswith("/")}
    assert all(value.startswith(str(folder)) for value in paths.values())
    assert {"HOME", "RAY_TMPDIR", "RAY_SERVE_HAPROXY_SOCKET_PATH"} <= paths.keys()
    longest = f"{env['RAY_TMPDIR']}/ray/session_2026-11-30_11-12-44_123456_1234567/sockets/plasma_store.12"
    assert len(longest) < 107


def test_its_ports_are_its_own() -> None:
    names = ("RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT")
    env = joined_environment(environment_of(FOLDER))
    assert len({env[name] for name in names} | {"9101", "8404", "8500"}) == 6
