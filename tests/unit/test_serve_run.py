"""What the terminal of `serve run` shows."""

import os
import pathlib

import pytest

from deployments.errors import ConfigError
from deployments.ops.serve_run.early import TOO_SLOW, _explain_with, check_file, file_in
from deployments.ops.serve_run.ports import ports_of
from deployments.ops.serve_run.site.sitecustomize import command_of
from deployments.ops.serve_run.words import failure, ready, starting, still_starting, url_of, without_noise

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
        ("Deploying failed:\nRayServeException: rows: none", {}, "mine.yaml: rows: none"),
        ("", {"local": ""}, "The deploy failed, and Ray Serve says nothing of it."),
    ],
)
def test_a_failed_deploy_is_told_in_the_sentence_of_its_cause(message: str, failed: dict[str, str], said: str) -> None:
    assert failure("mine.yaml", message, failed) == said


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


CLOUDS = ("AWS_REGION", "AWS_DEFAULT_REGION", "OPENAI_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_API_KEY")


@pytest.fixture
def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CLOUDS:
        monkeypatch.delenv(name, raising=False)


def shown(url: str = "http://127.0.0.1:8000") -> tuple[list[str], list[str]]:
    """What is shown of the shipped config before Ray starts, and once it is ready."""
    checked = check_file("run", str(SHIPPED))
    assert checked is not None
    before = starting(checked.applications, {"llm": url})
    return before.splitlines(), ready(17.4, checked.applications, {"llm": url}, "/logs", "http://r:8265").splitlines()


def test_a_newcomer_reads_where_it_is_who_is_asked_and_what_the_others_lack(without_keys: None) -> None:
    before, after = shown("http://127.0.0.1:9000/llm")
    assert before[0].startswith("Breakwater is starting at http://127.0.0.1:9000/llm/ ")
    for name, variable in (("openai", "OPENAI_API_KEY"), ("aws_bedrock", "AWS_REGION"), ("anthropic", CLOUDS[-1])):
        assert [line.split() for line in before if line.split()[0] == name] == [
            [name, "left", "out:", variable, "is", "not", "set"]
        ]
    assert "  local         is asked" in before
    assert "docs/credentials.md" in before[-2]
    assert len(before) + len(after) <= 20


def test_only_the_block_at_the_end_calls_anything_ready(without_keys: None) -> None:
    before, after = shown()
    assert not [line for line in before[:-1] if "ready" in line]
    assert after[1] == "Breakwater is ready after 17 s."
    assert "  ready           local" in after
    assert "  console         http://127.0.0.1:8000/" in after
    assert "  OpenAI's API    http://127.0.0.1:8000/v1" in after
    assert after[-1] == "Ctrl-C stops it."


def test_a_provider_with_its_key_is_asked_by_it_and_the_key_is_not_shown(
    without_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    before, after = shown()
    assert "  openai        is asked, by the key in OPENAI_API_KEY" in before
    assert "  ready           openai, local" in after
    assert "sk-of-nobody" not in "\n".join([*before, *after])


def test_of_many_models_some_are_named_and_the_others_counted(tmp_path: pathlib.Path, without_keys: None) -> None:
    rows = "\n".join(f"        row-{n}: {{local: smollm2-135m}}" for n in range(9))
    file = tmp_path / "c.yaml"
    file.write_text(SHIPPED.read_text().replace("      models: ", f"      models:\n{rows}\n      # "))
    checked = check_file("run", str(file))
    assert checked is not None
    block = ready(1, checked.applications, {"llm": "http://x"}, "/logs", "http://r")
    assert "  models          row-0, row-1, row-2, row-3, row-4, row-5 and 5 more\n" in block


def test_a_ray_that_does_not_start_in_time_is_told_without_a_stack(capsys: pytest.CaptureFixture[str]) -> None:
    error = Exception("The current node timed out during startup. This could happen because ...")
    _explain_with("c.yaml")(Exception, error, None)
    assert capsys.readouterr().err == f"{TOO_SLOW}\n"


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
    ("words", "command"),
    [
        (["/venv/bin/python", "/venv/bin/serve", "run", "serve_config.yaml"], ("run", ["serve_config.yaml"])),
        (["python", "-m", "ray.serve.scripts", "run", "x.yaml"], ("run", ["x.yaml"])),
        (
            ["/venv/bin/python", "/venv/bin/serve", "deploy", "-a", "http://x", "x.yaml"],
            ("deploy", ["-a", "http://x", "x.yaml"]),
        ),
        (["/venv/bin/python", "/venv/bin/serve", "run"], ("run", [])),
        (["/venv/bin/python", "/venv/bin/serve", "status"], None),
        (["/venv/bin/python", "/venv/bin/serve"], None),
        (["python", "run.py", "serve"], None),
        (["python", "agent.py"], None),
        (["/venv/bin/python", "default_worker.py", "--serve", "run"], None),
    ],
)
def test_only_serve_run_and_serve_deploy_are_changed(words: list[str], command: tuple[str, list[str]] | None) -> None:
    assert command_of(words) == command


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["serve_config.yaml"], "serve_config.yaml"),
        (["not_there.yml"], "not_there.yml"),
        (["--address", "http://x:8265", "x.yaml"], "x.yaml"),
        (["-d", "apps", "--non-blocking", "x.yaml"], "x.yaml"),
        (["--address=http://x:8265", "x.yaml"], "x.yaml"),
        (["configs/live"], "configs/live"),
        (["agents:app"], None),
        (["agents.app", "path=a/b.yaml"], None),
        (["--help"], None),
        ([], None),
    ],
)
def test_the_file_of_a_command_line_is_found_and_an_import_path_is_none(words: list[str], file: str | None) -> None:
    assert file_in(words) == file


SHIPPED = pathlib.Path(__file__).parents[2] / "serve_config.yaml"
BAD_FILES: list[tuple[bytes, str]] = [
    (b"", "the file is empty"),
    (b"# nothing\n", "the file is empty"),
    (b"\x7fELF\x02\x01\x01\x00\xff", "not YAML: the file is not in UTF-8"),
    (b"\x00\x01\x02", "not YAML: it has a character that no text file has"),
    (b"- name: llm\n", "must be an object with applications, as serve_config.yaml is"),
    (b"applications", "must be an object with applications, as serve_config.yaml is"),
    (b"http_options: {port: 8000}\n", "applications: required key is missing"),
    (b"applications:\n", "applications: required key is missing"),
    (b"applications: [llm]\n", "applications: must be a list: each one begins with a dash, as - name: llm"),
    (b"applications: [\n", ", line 2, column 1: not YAML"),
]


@pytest.mark.parametrize("verb", ["run", "deploy"])
@pytest.mark.parametrize(("data", "sentence"), BAD_FILES)
def test_a_file_that_serve_could_not_read_is_told_in_one_sentence(
    tmp_path: pathlib.Path, data: bytes, sentence: str, verb: str
) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        check_file(verb, str(file))
    assert str(refused.value).startswith(f"{file}{sentence}" if sentence[0] == "," else f"{file}: {sentence}")


def test_what_is_no_file_is_told_and_never_waited_for(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    expected = {
        "pipe.yaml": "no file that can be read twice",
        "": "a folder, not a file",
        "away.yaml": f"{tmp_path}/away.yaml: No such file or directory",
        "loop.yaml": f"{tmp_path}/loop.yaml: Too many levels of symbolic links",
    }
    for name, sentence in expected.items():
        with pytest.raises(ConfigError) as refused:
            check_file("run", str(tmp_path / name))
        assert str(refused.value) == sentence


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_told(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "c.yaml"
    file.touch(mode=0)
    with pytest.raises(ConfigError, match="Permission denied"):
        check_file("run", str(file))


def test_a_deploy_is_checked_without_the_environment_of_the_cluster_and_a_run_with_it(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        SHIPPED.read_text().replace(
            "# auth: {admin_key_env: BREAKWATER_ADMIN_KEY}", "auth: {admin_key_env: NOT_SET_HERE}"
        )
    )
    assert check_file("deploy", str(file)) is not None
    with pytest.raises(ConfigError, match="NOT_SET_HERE"):
        check_file("run", str(file))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("idle: 15", "idel: 15", "timeouts.idel: unknown key, did you mean idle?"),
        ("host: 127.0.0.1", "host: 0.0.0.0", "auth: 0.0.0.0 can be reached from other machines"),
        ("# deployments: ", "deployments: [{name: opnai}] ", "deployments.opnai: no such deployment"),
    ],
)
def test_what_the_file_alone_decides_is_refused_before_a_deploy(
    tmp_path: pathlib.Path, old: str, new: str, sentence: str
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(SHIPPED.read_text().replace(old, new))
    with pytest.raises(ConfigError) as refused:
        check_file("deploy", str(file))
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("verb", ["run", "deploy"])
def test_a_file_of_other_applications_alone_is_left_to_serve(tmp_path: pathlib.Path, verb: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("applications: [{name: agents, import_path: 'agents:app'}]")
    assert check_file(verb, str(file)) is None
