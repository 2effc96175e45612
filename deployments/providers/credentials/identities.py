"""Who asks, as a configuration says it. Plain data: no SDK is imported, so every process may have it."""

import os
from dataclasses import dataclass
from typing import Literal

BEDROCK_KEY = "AWS_BEARER_TOKEN_BEDROCK"  # the variable of an API key of Bedrock, as boto3 names it
AZURE_SCOPE = "https://cognitiveservices.azure.com/.default"  # all models of Azure OpenAI and Foundry take it
EntraWay = Literal["managed_identity", "workload_identity", "service_principal", "default"]


@dataclass(frozen=True, slots=True)
class AwsIdentity:
    """Who asks: what boto3 finds, or a `profile` of its files; then the role, if any, that is taken by it."""

    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class EntraIdentity:
    """Who asks. `tenant_id` and `client_id` are those of the environment where they are None.

    `secret_env` names the variable of a service principal's secret.
    """

    way: EntraWay
    tenant_id: str | None = None
    client_id: str | None = None
    secret_env: str = "AZURE_CLIENT_SECRET"
    scope: str = AZURE_SCOPE

    @property
    def tenant(self) -> str | None:
        return self.tenant_id or os.environ.get("AZURE_TENANT_ID")

    @property
    def client(self) -> str | None:
        return self.client_id or os.environ.get("AZURE_CLIENT_ID")
