"""Tokens of Microsoft Entra ID, by azure-identity: an extra, imported only where a provider asks for it."""

import importlib.util
import os
import re
from collections.abc import Mapping
from typing import Any

from deployments.providers.credentials.identities import EntraIdentity, EntraWay
from deployments.providers.credentials.renewed import Renewed, in_thread
from deployments.providers.credentials.schedule import Fresh

_WORDS: Mapping[EntraWay, str] = {
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

    who: dict[str, Any] = {"tenant_id": identity.tenant, "client_id": identity.client, **_authority()}
    match identity.way:
        case "managed_identity":
            return azure.ManagedIdentityCredential(client_id=identity.client_id)
        case "workload_identity":
            return azure.WorkloadIdentityCredential(**who)
        case "service_principal":
            if (secret := _secret(identity)) is not None:
                return azure.ClientSecretCredential(client_secret=secret, **who)
            return azure.CertificateCredential(certificate_path=os.environ[_CERTIFICATE], **who)
        case "default":
            return azure.DefaultAzureCredential(**_authority())


_PUBLIC = re.compile(
    r"(?:https://)?login\.(?:microsoftonline\.(?:com|us)|partner\.microsoftonline\.cn|chinacloudapi\.cn)/?"
)


def _authority() -> dict[str, bool]:
    """Return what azure-identity must be told of an authority of a private cloud: Microsoft's own does not know it."""
    named = os.environ.get("AZURE_AUTHORITY_HOST")
    return {} if named is None or _PUBLIC.fullmatch(named) else {"disable_instance_discovery": True}


def _secret(identity: EntraIdentity) -> str | None:
    return os.environ.get(identity.secret_env) or None
