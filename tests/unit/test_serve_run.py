"""What the terminal of `serve run` shows."""

import pytest

from deployments.ops.serve_run.ports import ports_of
from deployments.ops.serve_run.site.sitecustomize import is_serve_run
from deployments.ops.serve_run.words import failure, ready, still_starting, url_of, without_noise

STACK = """The deployment failed to start 3 times in a row. See controller logs for details. Error:
ray::ServeReplica:llm:local.initialize_and_get_metadata() (pid=1)
  File "replica.py", line 1928, in initialize
    raise RuntimeError(traceback.format_exc()) from None
deployments.errors.ConfigError: The local model can't be loaded from /models/x.gguf: no such file
"""


@pytest.mark.parametrize(
    ("message", "failed", "said"),
    [
        ("Failed.", {"local": STACK}, "local: The local model can't be loaded from /models/x.gguf: no such file"),
        ("Deploying failed:\nRayServeException: serve_config.yaml: rows: none", {}, "serve_config.yaml: rows: none"),
        ("", {"local": ""}, "The deploy failed, and Ray Serve says nothing of it."),
    ],
)
def test_a_failed_deploy_is_told_in_the_sentence_of_its_cause(message: str, failed: dict[str, str], said: str) -> None:
    assert failure(message, failed) == said


@pytest.mark.parametrize(
    ("options", "application", "url"),
    [
        ({}, {}, "http://127.0.0.1:8000"),
        ({"host": "0.0.0.0", "port": 80}, {"route_prefix": "/"}, "http://127.0.0.1:80"),
        ({"host": "10.1.2.3"}, {"route_prefix": "/llm"}, "http://10.1.2.3:8000/llm"),
        ({"host": "::1"}, {"route_prefix": "/llm/"}, "http://[::1]:8000/llm"),
    ],
)
def test_an_application_is_shown_where_this_machine_reaches_it(
    options: dict[str, object], application: dict[str, object], url: str
) -> None:
    assert url_of(options, application) == url


def test_the_block_at_ready_says_where_everything_is_and_how_to_stop() -> None:
    block = ready(17.4, ["http://127.0.0.1:8000"], "/logs/serve", "http://127.0.0.1:8265", "rows:\n  default: local/x")
    for word in (
        "after 17 s",
        "http://127.0.0.1:8000/v1",
        "/logs/serve",
        "get-auth-token",
        "  default: local/x",
        "Ctrl-C",
    ):
        assert word in block


def test_a_slow_start_names_what_it_waits_for() -> None:
    assert (
        still_starting(30, {"local": "UPDATING", "openai": "HEALTHY"})
        == "Still starting after 30 s: local is UPDATING."
    )
    assert still_starting(60, {"local": "HEALTHY"}) == "Still starting after 60 s: the proxy does not answer yet."


def test_only_words_that_need_no_action_are_left_out() -> None:
    bullets = ["INFO 2026 serve 1 -- Throughput optimized Ray Serve enabled:", "  • gRPC communication enabled", ""]
    warning = "WARNING 2026 serve 1 -- Deployment 'local' has 1 replicas that have taken more than 30s to start"
    assert without_noise({"actor_name": "ServeController", "lines": bullets}) is None
    assert without_noise({"actor_name": "ServeController", "lines": [*bullets, warning]}) == {
        "actor_name": "ServeController",
        "lines": [warning],
    }
    other = {"actor_name": "ServeReplica:agents:Agent", "lines": ["INFO hello", ""]}
    assert without_noise(other) == other
    assert without_noise(
        {"pid": "raylet", "lines": ["a worker died", "Task ServeController.graceful_shutdown failed."]}
    ) == {
        "pid": "raylet",
        "lines": ["a worker died"],
    }


def test_every_fixed_port_is_looked_at_where_its_setting_says() -> None:
    environment = {"RAY_SERVE_HAPROXY_METRICS_PORT": "1", "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": "2"}
    found = ports_of({"host": "127.0.0.1", "port": 3}, environment)
    assert [port.number for port in found] == [3, 1, 8404, 2]
    assert found[0].setting == "http_options.port"


@pytest.mark.parametrize(
    ("words", "is_one"),
    [
        (["/venv/bin/python", "/venv/bin/serve", "run", "serve_config.yaml"], True),
        (["python", "-m", "ray.serve.scripts", "run", "x.yaml"], True),
        (["/venv/bin/python", "/venv/bin/serve", "status"], False),
        (["python", "run.py", "serve"], False),
        (["python", "agent.py"], False),
        (["/venv/bin/python", "default_worker.py", "--serve", "run"], False),
    ],
)
def test_only_serve_run_gets_the_hook(words: list[str], is_one: bool) -> None:
    assert is_serve_run(words) is is_one
