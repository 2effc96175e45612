"""Every way to ask with a credential: its configuration, what it needs around it, and who refuses all others.

    uv run python -m tests.credentials

prints them as the table in docs/credentials.md.
"""

import importlib
import json
import pathlib
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.auth.compute_engine import _metadata as metadata_server

from tests.credentials.ways import WAYS
from tests.fakes.identity import aws, entra, google
from tests.fakes.identity.server import Vendor
from tests.fakes.vendors import Rule, doors

REGION = "us-east-1"


@dataclass(frozen=True)
class Around:
    """What a case may use: the servers' URLs, a folder, the authority that both trust, and the environment."""

    identity: str
    api: str
    folder: pathlib.Path
    authority: pathlib.Path
    setenv: Callable[[str, str], None]

    def write(self, name: str, text: str) -> str:
        file = self.folder / name
        file.write_text(text)
        return str(file)


Setting = Callable[[Around], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Case:
    """
    Attributes:
        kind: of the configuration.
        source: where the credential comes from, in the words of the table.
        words: what the check of a configuration says of it.
        ran: what took part, in the words of the table.
        around: puts it there, and returns the provider's settings beside its kind.
        door: who takes this credential, and refuses all others.
        vendor: the server of credentials, if there is one.
        model: that the row has; the fake knows it by another name on Azure.
        tls: of `identity` and `api`, those that speak TLS.
        oracle: the SDK that must send the same, by its name in `oracles.py`; None where it has no such way.
        life: seconds that a credential holds where it is to end, and `ahead` how far our clock is then.
    """

    kind: str
    source: str
    words: str | None
    ran: str
    around: Setting
    door: Rule
    vendor: Vendor | None = None
    model: str = "a-model"
    tls: frozenset[str] = field(default_factory=frozenset)
    oracle: str | None = None
    life: float = 2
    ahead: float = 0

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.source}"


# AWS Bedrock


def _api_key(a: Around) -> Mapping[str, Any]:
    a.setenv("AWS_BEARER_TOKEN_BEDROCK", doors.API_KEY)
    a.setenv("AWS_CA_BUNDLE", str(a.authority))
    return {}


def _keys(a: Around) -> None:
    a.setenv("AWS_ACCESS_KEY_ID", doors.LONG_TERM[0])
    a.setenv("AWS_SECRET_ACCESS_KEY", doors.LONG_TERM[1])


def _access_keys(a: Around) -> Mapping[str, Any]:
    _keys(a)
    return {}


_STATIC = f"aws_access_key_id = {doors.LONG_TERM[0]}\naws_secret_access_key = {doors.LONG_TERM[1]}\n"


def _profile(a: Around) -> Mapping[str, Any]:
    a.setenv("AWS_SHARED_CREDENTIALS_FILE", a.write("credentials", f"[llm]\n{_STATIC}"))
    return {"profile": "llm"}


def _process(a: Around) -> Mapping[str, Any]:
    told = {"Version": 1, "AccessKeyId": doors.LONG_TERM[0], "SecretAccessKey": doors.LONG_TERM[1]}
    script = pathlib.Path(a.write("vault", f"#!{sys.executable}\nprint('''{json.dumps(told)}''')\n"))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    a.setenv("AWS_CONFIG_FILE", a.write("config", f"[profile llm]\ncredential_process = {script}\n"))
    a.setenv("AWS_PROFILE", "llm")
    return {}


def _assumed(a: Around) -> Mapping[str, Any]:
    lines = f"[profile llm]\nrole_arn = {aws.ROLE}\nsource_profile = base\nregion = {REGION}\n[profile base]\n{_STATIC}"
    a.setenv("AWS_CONFIG_FILE", a.write("config", lines))
    a.setenv("AWS_ENDPOINT_URL_STS", a.identity)
    return {"profile": "llm"}


def _role(a: Around) -> Mapping[str, Any]:
    _keys(a)
    a.setenv("AWS_ENDPOINT_URL_STS", a.identity)
    return {"role_arn": aws.ROLE, "external_id": aws.EXTERNAL_ID}


def _web_identity(a: Around) -> Mapping[str, Any]:
    a.setenv("AWS_ROLE_ARN", aws.ROLE)
    a.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", a.write("token", aws.WEB_TOKEN))
    a.setenv("AWS_ENDPOINT_URL_STS", a.identity)
    return {}


def _ecs(a: Around) -> Mapping[str, Any]:
    a.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{a.identity}/credentials")
    return {}


def _pod(a: Around) -> Mapping[str, Any]:
    a.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{a.identity}/v1/credentials")
    a.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", a.write("token", aws.CONTAINER_TOKEN))
    return {}


def _instance(a: Around) -> Mapping[str, Any]:
    a.setenv("AWS_EC2_METADATA_DISABLED", "false")
    a.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{a.identity}/")
    return {}


def _bedrock(source: str, words: str, ran: str, around: Setting, vendor: Vendor | None = None, **more: Any) -> Case:
    return Case("bedrock", source, words, ran, around, doors.bedrock, vendor, **{"oracle": "boto3", **more})


_BEDROCK = (
    _bedrock(
        "API key, `AWS_BEARER_TOKEN_BEDROCK`",
        "the key in AWS_BEARER_TOKEN_BEDROCK",
        "over TLS; boto3 sends the same",
        _api_key,
        tls=frozenset({"api"}),
    ),
    _bedrock("access keys of the environment", "AWS_ACCESS_KEY_ID", "boto3 sends the same", _access_keys),
    _bedrock(
        "`profile` of the credentials file", "the credentials file, with profile", "boto3 sends the same", _profile
    ),
    _bedrock(
        "`credential_process`",
        "credential_process of the profile",
        "a program; boto3 sends the same",
        _process,
    ),
    _bedrock(
        "`profile` with a role",
        "an assumed role, with profile",
        "a fake of STS; boto3 sends the same",
        _assumed,
        aws.sts,
    ),
    _bedrock(
        "`role_arn` and `external_id`",
        "AWS_ACCESS_KEY_ID, with role_arn",
        "a fake of STS; boto3 has no such setting",
        _role,
        aws.sts,
        oracle=None,
    ),
    _bedrock(
        "IRSA: a role by web identity",
        "a role by web identity (IRSA)",
        "a fake of STS; boto3 sends the same",
        _web_identity,
        aws.sts,
    ),
    _bedrock("ECS task role", "the container's role", "a fake of its agent; boto3 sends the same", _ecs, aws.container),
    _bedrock(
        "EKS Pod Identity",
        "the container's role",
        "a fake of its agent; boto3 sends the same",
        _pod,
        aws.container,
    ),
    _bedrock(
        "EC2 instance role, IMDSv2",
        "the instance's role (IMDS)",
        "a fake of IMDSv2; boto3 sends the same",
        _instance,
        aws.imds,
        # botocore uses a key of the instance for a quarter of an hour more at least: it may be IMDS that is late.
        life=3600,
        ahead=3000,
    ),
)

# OpenAI, and servers that speak its API


def _openai_key(a: Around) -> Mapping[str, Any]:
    a.setenv("OPENAI_API_KEY", doors.API_KEY)
    a.setenv("OPENAI_BASE_URL", f"{a.api}/v1")
    return {}


def _named_key(a: Around) -> Mapping[str, Any]:
    a.setenv("OUR_KEY", doors.API_KEY)
    return {"api_key_env": "OUR_KEY", "base_url": f"{a.api}/v1"}


def _azure(version: str | None, auth: str = "key", **more: Any) -> Callable[[Around], dict[str, Any]]:
    def settings(a: Around) -> dict[str, Any]:
        dated = {} if version is None else {"api_version": version}
        names = {"gpt-5.4-mini": doors.DEPLOYMENT}
        return {"azure": {"endpoint": f"{a.api}/", **dated, "auth": auth, "deployments": names, **more}}

    return settings


def _azure_key(version: str | None) -> Setting:
    def around(a: Around) -> Mapping[str, Any]:
        a.setenv("AZURE_OPENAI_API_KEY", doors.API_KEY)
        return _azure(version)(a)

    return around


def _managed(version: str | None, auth: str = "managed_identity") -> Setting:
    def around(a: Around) -> Mapping[str, Any]:
        a.setenv("IDENTITY_ENDPOINT", f"{a.identity}/msi/token")
        a.setenv("IDENTITY_HEADER", entra.IDENTITY_HEADER)
        return _azure(version, auth)(a)

    return around


def _authority(a: Around) -> None:
    a.setenv("AZURE_AUTHORITY_HOST", a.identity)
    a.setenv("REQUESTS_CA_BUNDLE", str(a.authority))


def _workload(a: Around) -> Mapping[str, Any]:
    _authority(a)
    a.setenv("AZURE_FEDERATED_TOKEN_FILE", a.write("token", entra.FEDERATED_TOKEN))
    a.setenv("AZURE_TENANT_ID", entra.TENANT)
    a.setenv("AZURE_CLIENT_ID", entra.CLIENT)
    return _azure(None, "workload_identity")(a)


def _principal(a: Around) -> Mapping[str, Any]:
    _authority(a)
    a.setenv("OUR_SECRET", entra.CLIENT_SECRET)
    who = {"tenant_id": entra.TENANT, "client_id": entra.CLIENT, "client_secret_env": "OUR_SECRET"}
    return _azure("2024-10-21", "service_principal", **who)(a)


def _on_azure(source: str, words: str, ran: str, around: Setting, vendor: Vendor | None = None, **more: Any) -> Case:
    options = {"model": "gpt-5.4-mini", "oracle": "azure", **more}
    return Case("openai", source, words, ran, around, doors.azure, vendor, **options)


_MANAGED = "Microsoft Entra ID, a managed identity"
_OPENAI = (
    Case(
        "openai",
        "API key, `OPENAI_API_KEY`",
        "the key in OPENAI_API_KEY",
        "the SDK sends the same",
        _openai_key,
        doors.openai,
        oracle="openai",
    ),
    Case(
        "openai",
        "API key of another server",
        "the key in OUR_KEY",
        "the SDK sends the same",
        _named_key,
        doors.openai,
        oracle="openai",
    ),
    _on_azure(
        "Azure v1, key",
        "the key in AZURE_OPENAI_API_KEY",
        "the SDK sends the same",
        _azure_key(None),
    ),
    _on_azure(
        "Azure, dated API, key",
        "the key in AZURE_OPENAI_API_KEY",
        "`AsyncAzureOpenAI` sends the same",
        _azure_key("2024-10-21"),
    ),
    _on_azure(
        "Azure v1, managed identity",
        _MANAGED,
        "azure-identity, a fake of its endpoint; the SDK sends the same",
        _managed(None),
        entra.managed,
    ),
    _on_azure(
        "Azure, dated API, managed identity",
        _MANAGED,
        "azure-identity, a fake of its endpoint; `AsyncAzureOpenAI` sends the same",
        _managed("2024-10-21"),
        entra.managed,
    ),
    _on_azure(
        "Azure v1, workload identity",
        "Microsoft Entra ID, a workload identity (AZURE_FEDERATED_TOKEN_FILE)",
        "azure-identity, a fake of Entra ID over TLS; the SDK sends the same",
        _workload,
        entra.authority,
        tls=frozenset({"identity"}),
    ),
    _on_azure(
        "Azure, dated API, service principal",
        "Microsoft Entra ID, a service principal",
        "azure-identity, a fake of Entra ID over TLS; `AsyncAzureOpenAI` sends the same",
        _principal,
        entra.authority,
        tls=frozenset({"identity"}),
    ),
    _on_azure(
        "Azure v1, `DefaultAzureCredential`",
        "Microsoft Entra ID, what DefaultAzureCredential finds",
        "azure-identity, a fake of its endpoint; the SDK sends the same",
        _managed(None, "default"),
        entra.managed,
    ),
)

# Anthropic


def _anthropic_key(a: Around) -> Mapping[str, Any]:
    a.setenv("ANTHROPIC_API_KEY", doors.API_KEY)
    return {"base_url": a.api}


_ANTHROPIC = (
    Case(
        "anthropic",
        "API key, `ANTHROPIC_API_KEY`",
        "the key in ANTHROPIC_API_KEY",
        "the fake's door alone",
        _anthropic_key,
        doors.anthropic,
        model="claude-sonnet-5",
    ),
)

# Google


def _gemini_key(a: Around) -> Mapping[str, Any]:
    a.setenv("GOOGLE_API_KEY", doors.API_KEY)
    return {"base_url": a.api}


def _express(a: Around) -> Mapping[str, Any]:
    return {**_gemini_key(a), "vertex": {"express": True}}


def _vertex(a: Around, **more: Any) -> dict[str, Any]:
    return {"base_url": a.api, "vertex": {"location": "us-central1", **more}}


def _account(a: Around) -> str:
    return a.write("account.json", json.dumps(google.account_file(f"{a.identity}/token")))


def _account_file(a: Around) -> Mapping[str, Any]:
    return _vertex(a, project=google.PROJECT, credentials_file=_account(a))


def _adc(a: Around) -> Mapping[str, Any]:
    a.setenv("GOOGLE_APPLICATION_CREDENTIALS", _account(a))
    return _vertex(a, location="global")  # the file names the project


def _federated(a: Around) -> Mapping[str, Any]:
    subject = a.write("subject", google.SUBJECT_TOKEN)
    settings = google.federation_file(f"{a.identity}/token", subject)
    a.setenv("GOOGLE_APPLICATION_CREDENTIALS", a.write("federation.json", json.dumps(settings)))
    a.setenv("GOOGLE_CLOUD_PROJECT", google.PROJECT)
    return _vertex(a, location="eu")


def _metadata(a: Around) -> Mapping[str, Any]:
    host = a.identity.removeprefix("http://")
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"):
        a.setenv(name, host)
    a.setenv("NO_GCE_CHECK", "false")
    importlib.reload(metadata_server)  # it reads the environment when it is imported, which may have been before
    return _vertex(a)


def _compatible(a: Around) -> Mapping[str, Any]:
    path = f"/v1/projects/{google.PROJECT}/locations/us-central1/endpoints/openapi"
    return {**_vertex(a, project=google.PROJECT, credentials_file=_account(a)), "base_url": a.api + path}


def _on_vertex(source: str, words: str, ran: str, around: Setting, vendor: Vendor | None = None, **more: Any) -> Case:
    return Case("google", source, words, ran, around, doors.vertex, vendor, **{"oracle": "google", **more})


_GOOGLE = (
    Case(
        "google",
        "API key of Gemini, `GOOGLE_API_KEY`",
        "the key in GOOGLE_API_KEY",
        "the SDK sends the same",
        _gemini_key,
        doors.gemini,
        oracle="google",
    ),
    Case(
        "google",
        "Vertex AI in express mode, API key",
        "the key in GOOGLE_API_KEY",
        "the SDK sends the same",
        _express,
        doors.vertex_express,
        oracle="google",
    ),
    _on_vertex(
        "Vertex AI, a service account's file",
        "Google Cloud, a service account's key file",
        "google-auth, a fake of its token server; the SDK sends the same",
        _account_file,
        google.token,
    ),
    _on_vertex(
        "Vertex AI, ADC, `GOOGLE_APPLICATION_CREDENTIALS`",
        "Google Cloud, a service account's key file",
        "google-auth, a fake of its token server; the SDK sends the same",
        _adc,
        google.token,
    ),
    _on_vertex(
        "Vertex AI, workload identity federation",
        "Google Cloud, workload identity federation",
        "google-auth, a fake of the token exchange; the SDK sends the same",
        _federated,
        google.exchange,
    ),
    _on_vertex(
        "Vertex AI, the metadata server (GCE, GKE, Cloud Run)",
        "Google Cloud, the metadata server",
        "google-auth, a fake of the metadata server; the SDK sends the same",
        _metadata,
        google.metadata,
    ),
    Case(
        "openai",
        "Vertex AI by OpenAI's API, a service account's file",
        "Google Cloud, a service account's key file",
        "google-auth, a fake of its token server; the SDK sends the same",
        _compatible,
        doors.vertex,
        google.token,
        model="google/gemini-3-flash",
        oracle="compatible",
    ),
    Case(
        "anthropic",
        "Claude on Vertex AI, a service account's file",
        "Google Cloud, a service account's key file",
        "google-auth, a fake of its token server; `AnthropicVertex` sends the same",
        _account_file,
        doors.vertex_claude,
        google.token,
        model="claude-sonnet-4-5@20250929",
        oracle="anthropic_vertex",
    ),
)

CASES: tuple[Case, ...] = (*_BEDROCK, *_OPENAI, *_GOOGLE, *_ANTHROPIC)


def table() -> str:
    """Return the table of the page on credentials."""
    lines = [
        "| kind | credential | the check says | asked for | expiry | beside the fake |",
        "|---|---|---|---|---|---|",
    ]
    for case in CASES:
        expiry = "none" if case.vendor is None else "followed by another"
        ways = ", ".join(WAYS)
        lines.append(f"| `{case.kind}` | {case.source} | ready, by {case.words} | {ways} | {expiry} | {case.ran} |")
    return "\n".join(lines)
