"""Tokens of Microsoft Entra ID, by azure-identity: an extra, imported only where a provider asks for it."""

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deployments.providers.credentials.renewed import Renewed, in_thread
from deployments.providers.credentials.schedule import Fresh

Way = Literal["managed_identity", "workload_identity", "service_principal", "default"]
SCOPE = "https://cognitiveservices.azure.com/.default"  # all models of Azure OpenAI and Foundry take it


@dataclass(frozen=True, slots=True)
class EntraIdentity:
    """Who asks. `tenant_id` and `client_id` are those of the environment where they are None.

    `secret_env` names the variable of a service principal's secret.
    """

    way: Way
    tenant_id: str | None = None
    client_id: str | None = None
    secret_env: str = "AZURE_CLIENT_SECRET"
    scope: str = SCOPE

    @property
    def tenant(self) -> str | None:
        return self.tenant_id or os.environ.get("AZURE_TENANT_ID")

    @property
    def client(self) -> str | None:
        return self.client_id or os.environ.get("AZURE_CLIENT_ID")


_WORDS: Mapping[Way, str] = {
    "managed_identity": "a managed identity",
    "workload_identity": "a workload identity (AZURE_FEDERATED_TOKEN_FILE)",
    "service_principal": "a service principal",
    "default": "what DefaultAzureCredential finds",
}
_CERTIFICATE = "AZURE_CLIENT_CERTIFICATE_PATH"


def describe(identity: EntraIdentity) -> tuple[str | None, str | None]:
    """Return in words who asks, and why nobody can; one of them is None. Nothing is sent."""
    if importlib.util.find_spec("azure") is None or importlib.util.find_spec("azure.identity") is None:
        return None, "azure-identity is not installed: uv sync --extra azure"
    wanted = [] if identity.way in ("managed_identity", "default") else ["tenant", "client"]
    for name in wanted:
        if getattr(identity, name) is None:
            return None, f"AZURE_{name.upper()}_ID is not set, and azure.{name}_id is not either"
    if identity.way == "workload_identity" and not os.environ.get("AZURE_FEDERATED_TOKEN_FILE"):
        return None, "AZURE_FEDERATED_TOKEN_FILE is not set"
    if identity.way == "service_principal" and not (_secret(identity) or os.environ.get(_CERTIFICATE)):
        return None, f"neither the variable of azure.client_secret_env nor {_CERTIFICATE} is set"
    return f"Microsoft Entra ID, {_WORDS[identity.way]}", None


def entra_token(identity: EntraIdentity) -> Renewed[str]:
    """Return the token of an identity. Nothing is sent before it is started or used."""
    found: Any = None

    def fetch() -> Fresh[str]:
        nonlocal found
        if found is None:
            found = _credential(identity)
        told = found.get_token(identity.scope)
        return Fresh(told.token, float(told.expires_on))

    return Renewed("Microsoft Entra ID", in_thread(fetch))


def _credential(identity: EntraIdentity) -> Any:
    import azure.identity as azure  # 32 MB: only where it is used

    match identity.way:
        case "managed_identity":
            return azure.ManagedIdentityCredential(client_id=identity.client_id)
        case "workload_identity":
            return azure.WorkloadIdentityCredential(tenant_id=identity.tenant, client_id=identity.client)
        case "service_principal":
            return _service_principal(azure, identity)
        case "default":
            return azure.DefaultAzureCredential()


def _service_principal(azure: Any, identity: EntraIdentity) -> Any:
    if secret := _secret(identity):
        return azure.ClientSecretCredential(identity.tenant, identity.client, secret)
    return azure.CertificateCredential(identity.tenant, identity.client, os.environ[_CERTIFICATE])


def _secret(identity: EntraIdentity) -> str | None:
    return os.environ.get(identity.secret_env) or None
