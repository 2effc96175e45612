"""serve_config.yaml: what it may say, and the one sentence for what it may not."""

import copy
import pathlib
from typing import Any

import botocore.session  # noqa: F401  its first import binds a socket, which no test here may do
import pytest
import yaml

from deployments.config.application import parse
from deployments.config.check import check, main
from deployments.config.resolved import resolve
from deployments.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]
SHIPPED = ROOT / "serve_config.yaml"
VARIABLES = (
    "AWS_REGION",
    "OPENAI_API_KEY",
    "GOOGLE_API_KEY",
    "ANTHROPIC_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_PROFILE",
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


def shipped() -> dict[str, Any]:
    return yaml.safe_load(SHIPPED.read_text())["applications"][0]["args"]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The shipped args with one key set; a value of None removes it."""
    args = copy.deepcopy(shipped())
    *parents, last = path.split("/")
    at = args
    for name in parents:
        at = at.setdefault(name, {})
    if value is None:
        del at[last]
    else:
        at[last] = value
    return args


def test_the_shipped_config_answers_from_the_local_model_without_any_key() -> None:
    layout = resolve(parse(shipped()))
    assert layout.usable == ["local"]
    reasons = {tier.name: tier.left_out for tier in layout.tiers}
    assert reasons == {
        "aws_bedrock": "AWS_REGION is not set",
        "openai": "OPENAI_API_KEY is not set",
        "google_genai": "GOOGLE_API_KEY is not set",
        "anthropic": "ANTHROPIC_API_KEY is not set",
        "local": None,
    }
    assert layout.rows() == {"default": ["local/smollm2-135m"], "gpt-4": ["local/smollm2-135m"]}


def test_with_every_key_all_tiers_stand_in_the_users_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES[:6]:
        monkeypatch.setenv(name, "us-east-1")
    layout = resolve(parse(shipped()))
    assert layout.usable == ["aws_bedrock", "openai", "google_genai", "anthropic", "local"]
    assert [t.split("/")[0] for t in layout.rows()["gpt-4"]] == layout.usable


def test_a_region_without_credentials_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    reason = resolve(parse(shipped())).tiers[0].left_out
    assert reason is not None
    assert "AWS_ACCESS_KEY_ID" in reason


@pytest.mark.parametrize(
    ("mode", "tiers"),
    [
        ("hybrid", ["aws_bedrock", "openai", "google_genai", "anthropic", "local"]),
        ("aws_only", ["aws_bedrock", "openai"]),
        ("local_only", ["local"]),
    ],
)
def test_a_mode_says_which_tiers_exist(monkeypatch: pytest.MonkeyPatch, mode: str, tiers: list[str]) -> None:
    for name in VARIABLES[:6]:
        monkeypatch.setenv(name, "us-east-1")
    layout = resolve(parse(changed("mode", mode)))
    assert layout.usable == tiers
    left = [t.left_out for t in layout.tiers if t.name not in tiers]
    assert set(left) <= {f"not in mode {mode}"}


def test_the_sets_of_the_modes_can_be_changed() -> None:
    config = parse(changed("modes", {"hybrid": ["local", "openai"]}))
    assert config.tier_names() == ["local", "openai"]


def test_a_server_that_is_named_by_its_url_needs_no_key() -> None:
    args = changed("providers/vllm", {"kind": "openai", "base_url": "http://127.0.0.1:8001/v1"})
    assert "vllm" in resolve(parse(args)).usable


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("mod", "hybrid", "mod: unknown key"),
        ("mode", "sometimes", "mode: must be 'hybrid', 'aws_only' or 'local_only'"),
        ("providers/openai/api_key", "sk-secret", "providers.openai.api_key: unknown key"),
        (
            "providers/openai/kind",
            "azure",
            "providers.openai.kind: must be one of bedrock, openai, google, anthropic, serve, local",
        ),
        ("providers/local/slots", 0, "providers.local.slots: must be at least 1"),
        ("providers/a b", {"kind": "local"}, "providers.a b: is no name, which has letters"),
        ("providers/Ingress", {"kind": "local"}, "providers.Ingress: the name is taken by the ingress deployment"),
        ("providers", None, "providers: required key is missing"),
        ("models/default/mistral", "x", "models.default.mistral: no such provider (known: aws_bedrock, openai"),
        ("models", {}, "models: at least one row is needed"),
        ("cors", {}, "cors.origins: required key is missing"),
        ("cors", {"origins": []}, "cors.origins: is empty"),
        ("cors", {"origins": ["*", "https://a.example"]}, "cors.origins: * stands for all origins"),
        ("cors", {"origins": ["chat.example"]}, "cors.origins.0: must be as https://chat.example"),
        ("cors", {"origins": ["https://chat.example/"]}, "cors.origins.0: must be as https://chat.example"),
        ("cors", {"origins": ["https://Chat.example"]}, "cors.origins.0: must be as https://chat.example"),
        ("breaker/failure_treshold", 3, "breaker.failure_treshold: unknown key"),
        ("breaker/failure_threshold", 0, "breaker.failure_threshold: must be at least 1"),
        ("timeouts/idle", -1, "timeouts.idle: must be more than 0"),
        ("modes", {"hybrid": ["nobody"]}, "modes.hybrid.nobody: no such provider (known: aws_bedrock"),
        ("auth/api_key", "k", "auth.api_key: unknown key"),
        ("providers/openai/context_windows", {"gpt-4.2": 9}, "providers.openai.context_windows.gpt-4.2: no row has"),
        ("embeddings", {"e": {"dimensions": 9, "targets": {"nobody": "x"}}}, "embeddings.e.targets.nobody: no such"),
        (
            "embeddings",
            {"e": {"dimensions": 1024, "targets": {"openai": "text-embedding-3-large", "local": "smollm2-135m"}}},
            "embeddings.e.targets.local: the vectors of smollm2-135m have 576 dimensions, not 1024",
        ),
        (
            "embeddings",
            {"e": {"dimensions": 768, "targets": {"aws_bedrock": "us.amazon.titan-embed-text-v2:0"}}},
            "embeddings.e.targets.aws_bedrock: the vectors of us.amazon.titan-embed-text-v2:0 have 256 or 512 or 1024",
        ),
        ("drop_unsupported", "some", "drop_unsupported: must be 'none', 'hints' or 'all'"),
        ("providers/local/context_windows", {"x": 9}, "providers.local.context_windows: unknown key"),
    ],
)
def test_a_wrong_key_is_one_sentence_that_names_it(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(changed(path, value))
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)
    assert "sk-secret" not in str(caught.value), "a secret that was written into the wrong place"


def test_a_mode_that_leaves_no_tier_is_refused() -> None:
    args = changed("mode", "local_only")
    del args["providers"]["local"]
    for row in args["models"].values():
        del row["local"]
    with pytest.raises(
        ConfigError, match=r"^mode: local_only leaves no tier of aws_bedrock, openai, google_genai, anthropic$"
    ):
        parse(args)


def test_a_mode_whose_tiers_all_lack_credentials_says_which() -> None:
    with pytest.raises(
        ConfigError, match=r"^mode: aws_only has no tier .*AWS_REGION is not set.*OPENAI_API_KEY is not set"
    ):
        resolve(parse(changed("mode", "aws_only")))


def test_a_row_that_the_mode_leaves_empty_is_refused() -> None:
    args = changed("mode", "local_only")
    del args["models"]["gpt-4"]["local"]
    with pytest.raises(ConfigError, match=r"^models.gpt-4: mode local_only leaves it no provider$"):
        parse(args)


@pytest.mark.parametrize("args", [None, {}, []])
def test_no_args_at_all_are_one_sentence_too(args: Any) -> None:
    with pytest.raises(ConfigError, match=r"^args: providers and models are missing$"):
        parse(args)


def test_limits_may_differ_by_provider_and_first_token_never_exceeds_the_total() -> None:
    config = parse(changed("providers/local/timeouts", {"timeout_seconds": 5, "idle": 2}))
    assert (config.limits_of("local").total, config.limits_of("local").first_token, config.limits_of("local").idle) == (
        5,
        5,
        2,
    )
    assert config.limits_of("openai").total == 30


def test_a_probes_lease_outlives_every_limit_on_it() -> None:
    assert parse(shipped()).policy().lease == 35
    assert parse(changed("providers/local/timeouts", {"timeout_seconds": 100})).policy().lease == 105


def test_the_check_prints_tiers_rows_and_what_is_missing() -> None:
    report = check(str(SHIPPED))
    assert "1. aws_bedrock (bedrock): left out: AWS_REGION is not set" in report
    assert "5. local (local): ready" in report
    assert "default: local/smollm2-135m" in report


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("applications: [", "not YAML"),
        ("applications: []", "no application with import_path deployments.app:build_app"),
        ("- 1", "must be an object with applications"),
    ],
)
def test_a_file_that_is_no_config_is_one_sentence(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    assert main([str(file)]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_an_override_of_a_deployment_that_does_not_exist_is_named(tmp_path: pathlib.Path) -> None:
    data = yaml.safe_load(SHIPPED.read_text())
    data["applications"][0]["deployments"] = [{"name": "opnai"}]
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"^deployments.opnai: no such deployment"):
        check(str(file))


def test_a_user_config_that_cannot_be_used_is_named(tmp_path: pathlib.Path) -> None:
    data = yaml.safe_load(SHIPPED.read_text())
    data["applications"][0]["deployments"] = [{"name": "Ingress", "user_config": {"timeouts": {"idel": 3}}}]
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"^timeouts.idel: unknown key, did you mean idle\?$"):
        check(str(file))


def test_a_key_that_auth_names_and_nobody_set_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^auth.admin_key_env: NO_SUCH_KEY is not set$"):
        resolve(parse(changed("auth", {"admin_key_env": "NO_SUCH_KEY"})))


@pytest.mark.parametrize("overrides", [{"name": "local"}, ["local"]])
def test_overrides_that_are_no_list_are_one_sentence(tmp_path: pathlib.Path, overrides: Any) -> None:
    data = yaml.safe_load(SHIPPED.read_text())
    data["applications"][0]["deployments"] = overrides
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"^deployments: must be a list"):
        check(str(file))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.com"])
def test_beyond_this_machine_it_is_not_served_without_keys(host: str) -> None:
    why = parse(shipped()).explain_exposure(host)
    assert why is not None
    assert why.startswith(f"auth: {host} can be reached from other machines")
    assert parse(changed("auth", "none")).explain_exposure(host) is None
    assert parse(changed("auth", {"api_keys_env": "KEYS"})).explain_exposure(host) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_this_machine_it_needs_none(host: str) -> None:
    assert parse(shipped()).explain_exposure(host) is None


def test_the_check_reads_the_host_from_the_file(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SHIPPED.read_text().replace("host: 127.0.0.1", "host: 0.0.0.0")
    (tmp_path / "open.yaml").write_text(text)
    assert main([str(tmp_path / "open.yaml")]) == 1
    assert "set auth.api_keys_env or auth.keys_file, or auth: none" in capsys.readouterr().err


def test_a_file_that_does_not_say_where_it_listens_listens_everywhere(tmp_path: pathlib.Path) -> None:
    data = yaml.safe_load(SHIPPED.read_text())
    del data["http_options"]
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"^auth: 0\.0\.0\.0 can be reached from other machines"):
        check(str(file))


def test_a_ledger_without_a_home_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", homeless)
    with pytest.raises(ConfigError, match=r"^ledger\.folder: .* name another folder$"):
        resolve(parse(changed("ledger", {"folder": "~/x"})))


def test_a_ledger_without_a_home_is_named_when_nobody_named_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", homeless)
    with pytest.raises(ConfigError, match=r"^ledger\.folder: .* name another folder$"):
        resolve(parse(shipped()))


def test_an_embedding_row_that_a_mode_leaves_nobody_is_named() -> None:
    targets = {"openai": "text-embedding-3-small"}
    args = {**changed("mode", "local_only"), "embeddings": {"e": {"dimensions": 512, "targets": targets}}}
    with pytest.raises(ConfigError, match=r"^embeddings\.e\.targets: mode local_only leaves it no provider$"):
        parse(args)


def test_an_origin_is_one_as_a_browser_writes_it() -> None:
    origins = ["https://chat.example", "http://localhost:3000", "http://[::1]:8080", "app://obsidian.md"]
    config = parse(changed("cors", {"origins": origins}))
    assert config.cors is not None
    assert config.cors.origins == origins
    assert parse(changed("mode", "hybrid")).cors is None, "no page of another origin by default"


@pytest.mark.parametrize(
    ("path", "value", "waits", "told"),
    [
        ("timeouts/deadline", 85, "90", None),
        ("timeouts/deadline", 86, "90", "timeouts.deadline: 86 s, but HAProxy ends an answer after 90 s of silence"),
        ("timeouts/idle", 300, "90", "timeouts.idle: 300 s"),
        ("providers/openai/timeouts", {"idle": 300}, "90", "providers.openai.timeouts.idle: 300 s"),
        ("timeouts/deadline", 600, "605", None),
        ("timeouts/deadline", 600, "", None),
        ("timeouts/deadline", 600, "0", None),
    ],
)
def test_a_limit_that_haproxy_does_not_wait_for_is_told(path: str, value: Any, waits: str, told: str | None) -> None:
    found = resolve(parse(changed(path, value))).warnings({"RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": waits})
    assert [line.startswith(told or "nothing") for line in found] == ([] if told is None else [True])


def test_what_we_ship_fits_what_haproxy_waits_for() -> None:
    assert "warning" not in check(str(SHIPPED))


def test_the_check_compares_a_deadline_of_the_file_with_the_shipped_environment(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S", raising=False)
    data = yaml.safe_load(SHIPPED.read_text())
    file = tmp_path / "c.yaml"
    for user_config, value in (({}, 120), ({"timeouts": {"deadline": 130}}, 130)):
        data["applications"][0]["args"]["timeouts"]["deadline"] = 120
        data["applications"][0]["deployments"] = [{"name": "Ingress", "user_config": user_config}]
        file.write_text(yaml.safe_dump(data))
        assert f"warning: timeouts.deadline: {value} s, but HAProxy" in check(str(file))


def test_a_cluster_that_others_reach_needs_rays_token_or_a_word_that_it_is_closed() -> None:
    shut = parse(changed("cluster", "trusted"))
    for host, nodes in (("0.0.0.0", 1), ("10.0.0.7", 1), ("127.0.0.1", 2), ("0.0.0.0", 3)):
        assert (parse(shipped()).explain_open_cluster(host, nodes, protected=False) or "").startswith("cluster: ")
        assert parse(shipped()).explain_open_cluster(host, nodes, protected=True) is None
        assert shut.explain_open_cluster(host, nodes, protected=False) is None
    assert parse(shipped()).explain_open_cluster("127.0.0.1", 1, protected=False) is None


@pytest.mark.parametrize(
    ("environment", "args", "told"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, {}, ConfigError),
        ({}, {}, "warning: cluster: whoever reaches"),
        ({"RAY_AUTH_MODE": "token"}, {}, None),
        ({"RAY_AUTH_MODE": "disabled", "RAY_USE_TLS": "1"}, {}, None),
        ({"RAY_AUTH_MODE": "disabled"}, {"cluster": "trusted"}, None),
        ({}, {"cluster": "trusted"}, None),
    ],
)
def test_the_check_tells_what_it_can_of_an_open_cluster(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], args: Any, told: Any
) -> None:
    monkeypatch.setattr("deployments.config.check.ENVIRONMENT", tmp_path / "none.env")  # serve.env has a mode
    for name in ("RAY_AUTH_MODE", "RAY_USE_TLS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    data = yaml.safe_load(SHIPPED.read_text())
    data["http_options"]["host"] = "0.0.0.0"
    data["applications"][0]["args"] |= {"auth": "none", **args}
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(data))
    if told is ConfigError:
        with pytest.raises(ConfigError, match=r"^cluster: whoever reaches a port of Ray's can run code"):
            check(str(file))
    else:
        lines = [line for line in check(str(file)).splitlines() if "cluster:" in line]
        assert [line.startswith(told) for line in lines] == ([] if told is None else [True])


def test_a_deployment_of_the_cluster_serves_where_nothing_may_leave_it_and_embeds_by_a_method_of_its_own() -> None:
    gpu = {"kind": "serve", "app": "gpu"}
    args = {
        "mode": "local_only",
        "providers": {"gpu": gpu, "openai": {"kind": "openai"}, "local": {"kind": "local"}},
        "models": {"default": {"openai": "gpt-5.4-mini", "gpu": "llama", "local": "smollm2-135m"}},
        "embeddings": {"vectors": {"dimensions": 8, "targets": {"gpu": "bge"}}},
    }
    with pytest.raises(ConfigError, match=r"targets.gpu: gpu makes no embeddings without embeddings_method"):
        parse(args)
    gpu["embeddings_method"] = "embeddings"
    resolved = resolve(parse(args))
    assert resolved.rows() == {"default": ["gpu/llama", "local/smollm2-135m"]}
    assert resolved.embedding_rows() == {"vectors": ["gpu/bge"]}
