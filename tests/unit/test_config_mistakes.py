"""What newcomers write into serve_config.yaml, and the one true sentence that each mistake gets."""

import hashlib
import json
import pathlib
import textwrap
import traceback
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
import yaml

from deployments.config.application import parse
from deployments.config.base.section import Section
from deployments.config.check import main
from deployments.config.resolved import resolve
from deployments.errors import ConfigError
from tests.unit.test_config import SHIPPED, bare_environment, changed, shipped

__all__ = ["bare_environment"]  # a fixture of each test here

KEY = "sk-proj-abcdef1234567890"
NO_NAME = "looks like a key, not the name of a variable: put it into an environment variable, and its name here"
LOCAL = "models.default.local: "

VALUES: list[tuple[str, Any, str]] = [
    # Those of the first review.
    ("providers/openai/base_url", "localhost:8080/v1", "providers.openai.base_url: needs http:// or https://"),
    ("models/default/local", "llama-3-8b", f"{LOCAL}without model_path smollm2-135m answers, so that is its name"),
    ("models/gpt-4", None, "models.gpt-4: is empty"),
    ("models/gpt-4", {}, "models.gpt-4: is empty"),
    ("providers/openai", None, "providers.openai: is empty"),
    ("auth", None, "auth: is empty"),
    ("providers/openai/api_key_env", KEY, f"providers.openai.api_key_env: {NO_NAME}"),
    ("providers/openai/api_key_env", "OPENAI-API-KEY", "providers.openai.api_key_env: is no name of a variable"),
    ("providers/openai/api_key_env", "", "providers.openai.api_key_env: is empty"),
    ("timeouts/first_token", "10 lightyears", "timeouts.first_token: must be seconds, as 10, 10s, 500ms or 2m"),
    ("timeouts/first_token", "2h", "timeouts.first_token: must be at most 3600"),
    ("timeouts/first_token", "0s", "timeouts.first_token: must be more than 0"),
    ("timeouts/first_token", [10], "timeouts.first_token: must be a number, not a list"),
    # Those of others.
    (
        "providers/openai/api_key_env",
        "${OPENAI_API_KEY}",
        "providers.openai.api_key_env: must be the name of a variable",
    ),
    ("providers/openai/base_url", "${URL}/v1", "providers.openai.base_url: is not filled in from the environment"),
    ("models/gpt-4/openai", "${MODEL}", "models.gpt-4.openai: is not filled in from the environment"),
    ("models/gpt-4/openai", 4.1, "models.gpt-4.openai: must be text, not a number: put it into quotes"),
    ("models/gpt-4/openai", "gpt 4", "models.gpt-4.openai: has a blank, which no model's id has"),
    (
        "models/gpt-4/opnai",
        "x",
        "models.gpt-4.opnai: no such provider (known: aws_bedrock, openai, google_genai, anthropic, local)",
    ),
    ("models/gpt-4", ["openai"], "models.gpt-4: must be an object, not a list"),
    ("rows", {"gtp-4": {}}, "rows.gtp-4: no such row (known: default, gpt-4), did you mean gpt-4?"),
    ("rows", {"*": {"continuation": {"json": "yes"}}}, "rows.*.continuation.json: must be 'hold' or 'off'"),
    ("rows", {"*": {"continuation": {"mode": "json"}}}, "rows.*.continuation.mode: must be 'off', 'text' or 'all'"),
    ("rows", {"*": {"continuation": {"attempts": 9}}}, "rows.*.continuation.attempts: must be at most 5"),
    ("providers/openai/continues", {"*": "flag"}, "providers.openai.continues.*: must be 'prefill', "),
    ("providers/anthropic/continues", {"*": "prefix"}, "providers.anthropic.continues.*: its API has no prefix"),
    ("providers/local/continues", {"*": "instruct"}, "providers.local.continues.*: its API has no instruct"),
    ("providers/openai/concurrency", 0, "providers.openai.concurrency: must be a whole number of calls, 1 to 100000"),
    ("providers/openai/concurrency", True, "providers.openai.concurrency: must be a whole number of calls"),
    ("priorities", {"others": "high"}, "priorities.others: must be 'critical', 'normal' or 'batch'"),
    ("rows", {"*": {"hedging": {"budget": 0.5}}}, "rows.*.hedging.budget: must be at most 0.2"),
    ("rows", {"*": {"continuation": {"text": "all"}}}, "rows.*.continuation.text: unknown key (known: mode, "),
    ("idempotency", {"keep": "2d"}, "idempotency.keep: must be seconds, as 10, 10s, 500ms or 2m"),
    ("idempotency", {"keep": 90_000}, "idempotency.keep: must be at most 86400"),
    ("idempotency", {"unavailable": "no"}, "idempotency.unavailable: must be 'answer' or 'refuse'"),
    ("providers", ["openai"], "providers: must be an object, not a list"),
    ("providers", "openai", "providers: must be an object, not text"),
    (
        "providers/openai/kind",
        "openia",
        "providers.openai.kind: must be one of bedrock, openai, google, anthropic, serve, local, did you",
    ),
    (
        "providers/openai/kind",
        "OpenAI",
        "providers.openai.kind: must be one of bedrock, openai, google, anthropic, serve, local, did you",
    ),
    ("providers/openai/base-url", "http://x", "providers.openai.base-url: unknown key, did you mean base_url?"),
    (
        "providers/openai/key",
        "x",
        "providers.openai.key: unknown key (known: extra_body, extra_headers",
    ),
    ("provider", {}, "provider: unknown key, did you mean providers?"),
    ("mode", "Hybrid", "mode: must be 'hybrid', 'aws_only' or 'local_only', did you mean hybrid?"),
    ("modes", {"hybrid": "openai"}, "modes.hybrid: must be a list, not text"),
    ("modes", {"hybrid": ["opnai"]}, "modes.hybrid.opnai: no such provider (known: aws_bedrock, openai"),
    ("breaker/failure_threshold", "three", "breaker.failure_threshold: must be a whole number"),
    ("breaker/failure_threshold", 2.5, "breaker.failure_threshold: must be a whole number"),
    ("breaker/failure_threshold", True, "breaker.failure_threshold: must be a number, not true or false"),
    ("timeouts/idle", True, "timeouts.idle: must be seconds, as 10, 10s, 500ms or 2m, not true or false"),
    ("providers/openai/traceparent", "maybe", "providers.openai.traceparent: must be true or false"),
    ("providers/openai/api", "assistants", "providers.openai.api: must be 'chat' or 'responses'"),
    ("providers/aws_bedrock/region", "us-east1a", "providers.aws_bedrock.region: is no region, as us-east-1"),
    ("providers/google_genai/api_version", "beta", "providers.google_genai.api_version: is no version, as v1beta"),
    ("providers/anthropic/cache", "always", "providers.anthropic.cache: must be 'auto'"),
    ("providers/google_genai/cache", "auto", "providers.google_genai.cache: unknown key"),
    (
        "providers/anthropic/whole_as_stream",
        "yes",
        "providers.anthropic.whole_as_stream: must be 'auto', 'always' or 'never'",
    ),
    ("providers/anthropic/auth", "basic", "providers.anthropic.auth: must be 'x-api-key' or 'bearer'"),
    ("providers/anthropic/anthropic_version", "v1", "providers.anthropic.anthropic_version: is no version, as 2023-06"),
    (
        "providers/anthropic/anthropic_version",
        date(2023, 6, 1),
        "providers.anthropic.anthropic_version: must be text, not that: put it into quotes",
    ),
    ("providers/anthropic/betas", ["a, b"], "providers.anthropic.betas.0: may have letters, digits, - _ and ."),
    (
        "providers/anthropic/workspace_id",
        "a b",
        "providers.anthropic.workspace_id: may have letters, digits, - _ and .",
    ),
    (
        "providers/anthropic/base_url",
        "https://h/v1/messages",
        "providers.anthropic.base_url: must end before /v1/messages, which is added to it",
    ),
    (
        "embeddings",
        {"e": {"dimensions": 8, "targets": {"anthropic": "claude-haiku-4-5"}}},
        "embeddings.e.targets.anthropic: providers of kind anthropic make no embeddings",
    ),
    ("providers/gpu", {"kind": "serve"}, "providers.gpu.app: required key is missing"),
    ("providers/gpu", {"kind": "serve", "app": "a b"}, "providers.gpu.app: has a blank, which no name of Serve's has"),
    (
        "providers/gpu",
        {"kind": "serve", "app": "gpu", "method": "chat()"},
        "providers.gpu.method: is no name of a method",
    ),
    ("providers/google_genai/base_url", "http://:80", "providers.google_genai.base_url: has no host"),
    ("providers/aws_bedrock/endpoint_url", "http://h:x", "providers.aws_bedrock.endpoint_url: is no URL"),
    ("providers/openai/base_url", "http//h", "providers.openai.base_url: needs http:// or https://"),
    ("providers/openai/base_url", "https://a b/v1", "providers.openai.base_url: has a blank"),
    ("providers/openai/base_url", "https://h/v1?k=1", "providers.openai.base_url: ends with ?... or #..., which would"),
    (
        "providers/openai/base_url",
        "https://h/v1/chat/completions",
        "providers.openai.base_url: must end before /chat/completions, which is added to it",
    ),
    ("ledger", {"folder": "postgresql://db/x"}, "ledger.folder: must be a folder, not a URL"),
    (
        "ledger",
        {"keep": {"requests": "90"}},
        "ledger.keep.requests: must be whole days, at least 2, as 90d, or forever",
    ),
    (
        "ledger",
        {"keep": {"requests": "90d", "rollups": "30d"}},
        "ledger.keep.rollups: requests must not be kept for longer",
    ),
    ("prices", {"gpt-4.1": {"input": "2 dollars", "output": 8}}, "prices.gpt-4.1.input: must be a number"),
    ("prices", {"gpt-4.1": {"input": 2}}, "prices.gpt-4.1.output: required key is missing"),
    ("limits", {"each_key": {"monthly_cost": -5}}, "limits.each_key.monthly_cost: must be more than 0"),
    ("hosts", ["https://gateway.internal"], "hosts.0: must be a name alone, without a scheme and a port, or *"),
    ("cors", {"origins": ["*", "https://a.example"]}, "cors.origins: * stands for all origins"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), VALUES, ids=[f"{p}={v}"[:60] for p, v, _ in VALUES])
def test_a_mistake_in_a_value_gets_one_true_sentence(path: str, value: Any, sentence: str) -> None:
    args = changed(path, 0)
    at = args
    *parents, last = path.split("/")
    for name in parents:
        at = at[name]
    at[last] = value
    with pytest.raises(ConfigError) as refused:
        parse(args)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


TEXTS: list[tuple[str, str]] = [
    ("a: 1\nb: {c: 1}\na: 2", "line 3, column 1: a is there twice, first in line 1"),
    ("a: {b: 1, b: 2}", "line 1, column 11: b is there twice, first in line 1"),
    ("a:\n\tb: 1", "line 2, column 1: not YAML: a tab stands there, and YAML takes only blanks to indent"),
    (
        "a:\n  b: 1\n   c: 2",
        "line 3, column 5: not YAML: a colon stands where none may: is the indentation right, or are quotes",
    ),
    ("a:\n    b: 1\n  c: 2", "line 3, column 3: not YAML: the indentation is not that of the lines above"),
    ("a: 1\nb 2\nc: 3", "line 3, column 1: not YAML: a key has no colon behind it"),
    ("a: {b: c: d}", "line 1, column 9: not YAML: a bracket is not closed, or a comma is missing"),
    ("a: [1, 2\nb: 3", "line 2, column 2: not YAML: a bracket is not closed, or a comma is missing"),
    ('a: "b', "line 1, column 6: not YAML: a quote is not closed"),
    ("hosts: [*x]", "line 1, column 9: not YAML: a value that begins with * needs quotes"),
    ("key: !ENV x", "line 1, column 6: not YAML: a value that begins with ! needs quotes"),
    ("kind: {{ kind }}", "line 1, column 8: not YAML: { stands before a key: a text with { needs quotes"),
    ("host: @home", "line 1, column 7: not YAML: a value that begins with @ needs quotes"),
    ("a: *sk-proj-abcdef", "line 1, column 4: not YAML: a value that begins with * needs quotes"),
    ("a: 1\n---\nb: 2", "line 2, column 1: not YAML: the line --- begins another document"),
]


@pytest.mark.parametrize(("text", "sentence"), TEXTS)
def test_a_mistake_in_yaml_is_told_with_its_line_and_column(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    assert main([str(file)]) == 1
    assert capsys.readouterr().err.startswith(f"{file}, {sentence}")


def test_a_name_is_found_twice_wherever_it_stands_and_merged_keys_are_no_repetition(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "c.yaml"
    for twice in (
        SHIPPED.read_text().replace("          local: smollm2-135m\n", "          local: smollm2-135m\n" * 2, 1),
        SHIPPED.read_text().replace("idle: 15,", "idle: 15, idle: 20,"),
        SHIPPED.read_text().replace("http_options:", "applications: []\nhttp_options:"),
    ):
        file.write_text(twice)
        assert main([str(file)]) == 1
    text = SHIPPED.read_text().replace("timeouts: {", "timeouts: {<<: {idle: 20}, ")
    file.write_text(text)
    assert main([str(file)]) == 0


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", ": the file is empty"),
        ("applications: ä".encode("latin-1"), ": not YAML: the file is not in UTF-8"),
        ("applications: x".encode("utf-16"), ": not YAML: the file is not in UTF-8"),
        (b"applications: \x00", ": not YAML: it has a character that no text file has"),
        (b"applications: 2024-99-99", ": not YAML: a value in it can't be read: does a date or a number need quotes?"),
        (b"applications: !!int ''", ": not YAML: a value in it can't be read: does a date or a number need quotes?"),
        (b"applications: {name: llm}", ": applications: must be a list: each one begins with a dash, as - name: llm"),
        (
            b"applications: [{import_path: 'deployments.app:build_ap'}]",
            ": no application with import_path deployments.",
        ),
    ],
)
def test_a_file_that_says_nothing_of_ours_is_told_in_one_sentence(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], data: bytes, sentence: str
) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(data)
    assert main([str(file)]) == 1
    assert capsys.readouterr().err.startswith(f"{file}{sentence}")


def test_a_file_from_windows_with_a_byte_order_mark_is_read(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SHIPPED.read_bytes().replace(b"\n", b"\r\n"))
    assert main([str(file)]) == 0


@pytest.mark.parametrize(("written", "seconds"), [("10s", 10), ("500ms", 0.5), ("2m", 120), ("1.5 min", 90), ("7", 7)])
def test_seconds_may_have_a_unit_wherever_they_are(written: str, seconds: float) -> None:
    config = parse(changed("timeouts", dict.fromkeys(("timeout_seconds", "connect", "first_token", "idle"), written)))
    assert config.timeouts.idle == config.timeouts.connect == config.timeouts.timeout_seconds == seconds
    assert parse(changed("breaker/recovery_timeout", written)).breaker.recovery_timeout == seconds
    assert parse(changed("images", {"seconds": written})).images.seconds == seconds
    over = parse(changed("providers/local/timeouts", {"idle": written}))
    assert over.limits_of("local").idle == seconds


ENVIRONMENTS = [
    ({"AWS_REGION": "us-east-1", "AWS_PROFILE": "nope"}, "AWS_PROFILE names a profile that is not there"),
    ({"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIA"}, "only a part of the AWS credentials is there: set AWS_"),
    ({"AWS_REGION": "us-east1", "AWS_ACCESS_KEY_ID": "x"}, "the value of AWS_REGION is no region, as us-east-1"),
    ({"OPENAI_API_KEY": "'sk-abc'"}, "the key in OPENAI_API_KEY is in quotes, which would be sent"),
    ({"OPENAI_API_KEY": "sk-abc\n"}, "the key in OPENAI_API_KEY has a blank or a line break"),
    ({"OPENAI_API_KEY": "  "}, "OPENAI_API_KEY is not set"),
    ({"OPENAI_API_KEY": "“sk-abc”"}, "the key in OPENAI_API_KEY has a blank or a line break at an end, or a sign"),
]


@pytest.mark.parametrize(("environment", "reason"), ENVIRONMENTS)
def test_a_mistake_in_the_environment_leaves_its_provider_out_for_its_reason(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], reason: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    reasons = [tier.left_out or "" for tier in resolve(parse(shipped())).tiers]
    assert any(found.startswith(reason) for found in reasons), reasons
    assert not any("sk-abc" in found for found in reasons)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgres://me:hunter2@db/x", "DATABASE_URL must hold a URL that begins with postgresql:// (not postgres://)"),
        ("postgresql://me:p@ss:hunter2/x@db/x", "the URL in DATABASE_URL can't be read: signs of its password must be"),
    ],
)
def test_the_url_of_a_store_that_nobody_can_open_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str, sentence: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ConfigError) as refused:
        resolve(parse(changed("ledger", {"url_env": "DATABASE_URL"})))
    assert str(refused.value).startswith(f"ledger.url_env: {sentence}")
    assert "hunter2" not in str(refused.value)


# Names of local models, which answers, the ledger and metrics repeat.


def test_one_local_model_has_one_name_in_all_rows_and_it_is_not_that_of_another() -> None:
    own = changed("providers/local/model_path", "/models/qwen2.5-0.5b.gguf")
    for row in own["models"].values():
        row["local"] = "qwen2.5-0.5b"
    assert parse(own).models["gpt-4"]["local"] == "qwen2.5-0.5b"
    own["models"]["gpt-4"]["local"] = "llama-3-8b"
    with pytest.raises(
        ConfigError, match=r"^models\.gpt-4\.local: another row calls the one model of this provider qwen"
    ):
        parse(own)
    for row in own["models"].values():
        row["local"] = "smollm2-135m"
    with pytest.raises(ConfigError, match=r"^models\.default\.local: with model_path another model than smollm2-135m"):
        parse(own)
    own["providers"]["local"]["model_path"] = "/models/SmolLM2-135M-Instruct.Q8_0.gguf"
    assert parse(own)


def test_the_names_of_local_models_are_true_in_rows_of_embeddings_too() -> None:
    args = changed("embeddings", {"e": {"dimensions": 576, "targets": {"local": "nomic-embed"}}})
    with pytest.raises(ConfigError, match=r"^embeddings\.e\.targets\.local: without model_path smollm2-135m answers"):
        parse(args)


# No secret is repeated, wherever it was written.

FULL: dict[str, Any] = yaml.safe_load(
    textwrap.dedent("""
    mode: hybrid
    rows:
      "*":
        continuation: {mode: text, attempts: 1, max_text: 262144, tools: hold, json: hold}
        hedging: {budget: 0.05, min_delay: 0.2, max_delay: 4, max_prompt_tokens: 9}
    modes: {hybrid: [local, aws, gpt], aws_only: [aws], local_only: [local]}
    providers:
      aws:
        kind: bedrock
        region_env: AWS_REGION
        region: us-east-1
        whole_as_stream: always
        continues: {"*claude-opus*": instruct}
        concurrency: auto
        endpoint_url: https://aws.example
        api_key_env: AWS_BEARER_TOKEN_BEDROCK
        profile: llm
        role_arn: "arn:aws:iam::123456789012:role/llm"
        external_id: breakwater-42
        arns:
          haiku:
            arn: "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6"
            model: anthropic.claude-haiku-4-5-20251001-v1:0
        guardrail: {id: gr1abc, version: "1", trace: enabled, stream_processing_mode: async}
        service_tier: flex
        latency: optimized
        request_metadata: [tenant, agent, request_id]
        places_order: spread
        places:
          - {name: east}
          - {name: west, region: us-west-2, endpoint_url: https://west.example, bucket: second, weight: 2, tags: [west]}
      blue:
        kind: openai
        azure:
          endpoint: https://blue.openai.azure.com
          endpoint_env: AZURE_OPENAI_ENDPOINT
          api_version: "2024-10-21"
          deployments: {gpt-4.1: ours}
          auth: service_principal
          tenant_id: 11111111-2222-3333-4444-555555555555
          client_id: 66666666-7777-8888-9999-000000000000
          client_secret_env: AZURE_CLIENT_SECRET
          scope: https://cognitiveservices.azure.com/.default
      cloud:
        kind: google
        vertex:
          project: my-project
          project_env: GOOGLE_CLOUD_PROJECT
          location: us-central1
          credentials_file: /no/account.json
          express: false
      gpt:
        kind: openai
        api_key_env: OPENAI_API_KEY
        base_url: https://gpt.example/v1
        traceparent: false
        api: responses
        context_windows: {gpt-4.1: 1000}
        extra_body: {provider: {data_collection: deny}}
        extra_headers: {x-team: blue, x-gate-token: {env: GATE_TOKEN}}
        extra_query: {tenant: acme}
        tags: [eu]
        timeouts: {timeout_seconds: 30, connect: 3, first_token: 10, idle: 15}
      gem: {kind: google, api_key_env: GOOGLE_API_KEY, base_url: "https://gem.example", api_version: v1beta}
      claude:
        kind: anthropic
        api_key_env: ANTHROPIC_API_KEY
        auth: bearer
        base_url: https://claude.example
        anthropic_version: "2023-06-01"
        betas: [context-1m-2025-08-07]
        workspace_id: wrkspc_1
        cache: auto
      gpu:
        kind: serve
        app: gpu
        deployment: Adapter
        method: chat
        stream_method: chat
        embeddings_method: embeddings
        multiplexed: false
      local: {kind: local, model_path: /no/smol.gguf, slots: 1, context: 1024, threads: 1}
    models:
      default:
        aws: haiku
        gpt: {model: gpt-4.1, extra_body: {top_k: 3}}
        gem: gemini
        claude: haiku
        gpu: llama
        local: smol
    embeddings: {vectors: {dimensions: 512, targets: {gpt: text-embedding-3-small}}}
    aliases: {"gpt-*": default}
    breaker: {failure_threshold: 3, recovery_timeout: 60}
    timeouts: {deadline: 60}
    auth: {api_keys_env: KEYS, admin_key_env: ADMIN, keys_file: /no/keys.jsonl, unguarded: false}
    images: {max_bytes: 1000, seconds: 5, hosts: [store.internal]}
    cors: {origins: ["https://chat.example"]}
    hosts: [gateway.internal]
    drop_unsupported: hints
    tenants: [acme]
    scopes: {tenants: {acme: [eu]}, keys: {alice: [eu]}}
    cluster: trusted
    ledger: {folder: ~/ledger, url_env: DATABASE_URL, journal_megabytes: 64, keep: {requests: 90d, rollups: forever}}
    affinity: {seconds: 300, longest: 3600}
    priorities: {tenants: {acme: critical}, keys: {alice: batch}, others: normal}
    idempotency: {join: true, keep: 600, linger: 30, unavailable: answer}
    prices:
      gpt-4.1:
        {input: 2, output: 8, cached: 1, cache_write: 3, cache_write_1h: 4, reasoning: 8,
         audio_input: 9, audio_output: 9, above: {200000: {input: 4, output: 12}},
         service_tiers: {flex: {input: 1, output: 4}}}
    limits:
      tenants: {acme: {requests_per_minute: 5, tokens_per_minute: 5, monthly_cost: 5}}
      keys: {alice: {requests_per_minute: 5}}
      each_tenant: {requests_per_minute: 5}
      each_key: {requests_per_minute: 5}
      without_ledger: allow
      unpriced: free
      output_tokens: 4096
    """)
)
SECRETS = [KEY, "AIzaSyA1234567890abcdefghijklmnopqrstuv", "postgresql://me:hunter2@db.example/x"]


def keys_in(value: Any) -> set[str]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set(value if isinstance(value, dict) else ()).union(*map(keys_in, inner))


def test_the_full_config_below_names_every_key_there_is() -> None:
    sections = [cls for cls in subclasses(Section) if cls.__module__.startswith("deployments.config")]
    sections = [cls for cls in sections if cls.__name__ not in ("Overrides", "Tunables")]
    ours = {field.alias or name for cls in sections for name, field in cls.model_fields.items()}
    assert ours <= keys_in(FULL)
    assert parse(FULL)


def subclasses(cls: type[Section]) -> Iterator[type[Section]]:
    for found in cls.__subclasses__():
        yield found
        yield from subclasses(found)


def replaced(value: Any, secret: str) -> Iterator[Any]:
    """The value with the secret in place of one thing in it, for each thing: a value, a name, or a part of a list."""
    yield secret
    if isinstance(value, dict):
        for name, inner in value.items():
            yield {**{n: v for n, v in value.items() if n != name}, secret: inner}
            yield from ({**value, name: changed} for changed in replaced(inner, secret))
            yield {**value, secret: secret}
    if isinstance(value, list):
        yield from ([changed] for inner in value for changed in replaced(inner, secret))


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_any_place_of_the_file_is_never_repeated(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("KEYS", "alpha")
    monkeypatch.setenv("ADMIN", "root")
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/x")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("GATE_TOKEN", "open")
    file, application = tmp_path / "c.yaml", {"name": "llm", "import_path": "deployments.app:build_app"}
    keys = tmp_path / "keys.jsonl"
    keys.write_text(json.dumps({"name": "alice", "sha256": hashlib.sha256(b"k").hexdigest()}))
    several, taken = 0, 0
    for args in replaced({**FULL, "auth": {**FULL["auth"], "keys_file": str(keys)}}, secret):
        try:
            told = "".join(f"{tier.name} {tier.left_out}" for tier in resolve(parse(args)).tiers)
            file.write_text(yaml.safe_dump({"applications": [{**application, "args": args}]}))
            main([str(file)])
            told += "".join(capfd.readouterr())
            taken += 1
        except ConfigError:
            told = traceback.format_exc()
        assert secret not in told, args
        assert "hunter2" not in told, args
        several += 1
    assert several > 200
    assert 0 < taken < 30, "some places take any text, and do not show it"


@pytest.mark.parametrize("password", ["hunter2", "correct_horse_battery"])
def test_a_word_that_no_variable_usually_has_is_not_repeated_either(password: str) -> None:
    for path, key in (("auth", "api_keys_env"), ("auth", "admin_key_env"), ("ledger", "url_env")):
        with pytest.raises(ConfigError) as refused:
            resolve(parse(changed(path, {key: password})))
        assert str(refused.value) == f"{path}.{key}: the variable that it names is not set"
    tiers = resolve(parse(changed("providers/openai/api_key_env", password))).tiers
    assert tiers[1].left_out == "the variable that api_key_env names is not set"


def test_a_password_in_a_url_is_warned_of_and_not_repeated() -> None:
    resolved = resolve(parse(changed("providers/openai/base_url", "http://me:hunter2@127.0.0.1:8000/v1")))
    (warning,) = resolved.warnings({})
    assert warning == "providers.openai: its URL has a user or a password, which Ray's dashboard shows"
