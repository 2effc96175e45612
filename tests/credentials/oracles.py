"""The vendors' own SDKs, which find the same credentials in the same environment: they say what must be sent."""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any

from tests.credentials.cases import REGION, Around
from tests.fakes.identity.google import PROJECT
from tests.fakes.vendors.doors import DEPLOYMENT

Settings = Mapping[str, Any]
SAID: Any = [{"role": "user", "content": "Hi"}]


def boto3(settings: Settings, around: Around, model: str) -> None:
    import boto3

    session = boto3.Session(profile_name=settings.get("profile"), region_name=REGION)
    client = session.client("bedrock-runtime", endpoint_url=around.api)
    client.converse(modelId=model, messages=[{"role": "user", "content": [{"text": "Hi"}]}])
    client.close()


def openai(settings: Settings, around: Around, model: str) -> None:
    from openai import OpenAI

    key = os.environ[settings.get("api_key_env", "OPENAI_API_KEY")]
    with OpenAI(api_key=key, base_url=settings.get("base_url"), max_retries=0) as client:
        client.chat.completions.create(model=model, messages=SAID)


def azure(settings: Settings, around: Around, model: str) -> None:
    """The name of the deployment is the user's to give, where the model of ours has its own."""
    from azure.identity import ClientSecretCredential, DefaultAzureCredential
    from openai import AsyncAzureOpenAI, AsyncOpenAI

    said: Mapping[str, Any] = settings["azure"]
    key = os.environ.get("AZURE_OPENAI_API_KEY")
    token = None
    if key is None:
        credential: Any = DefaultAzureCredential()
        if secret := os.environ.get("OUR_SECRET"):
            who = said["tenant_id"], said["client_id"]
            credential = ClientSecretCredential(*who, secret, disable_instance_discovery=True)
        token = credential.get_token("https://cognitiveservices.azure.com/.default").token

    async def ask() -> None:
        client: AsyncOpenAI
        if "api_version" in said:
            client = AsyncAzureOpenAI(
                azure_endpoint=said["endpoint"], api_version=said["api_version"], api_key=key, azure_ad_token=token
            )
        else:
            client = AsyncOpenAI(api_key=key or token, base_url=f"{around.api}/openai/v1/")
        async with client:
            await client.chat.completions.create(model=DEPLOYMENT, messages=SAID)

    asyncio.run(ask())


def google(settings: Settings, around: Around, model: str) -> None:
    from google import genai
    from google.auth import default
    from google.oauth2 import service_account

    vertex: Mapping[str, Any] | None = settings.get("vertex")
    options = genai.types.HttpOptions(base_url=around.api)
    if vertex is None or vertex.get("express"):
        key = os.environ["GOOGLE_API_KEY"]
        client = genai.Client(vertexai=vertex is not None, api_key=key, http_options=options)
    else:
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        if (file := vertex.get("credentials_file")) is None:
            credentials, _ = default(scopes=scopes)
        else:
            credentials = service_account.Credentials.from_service_account_file(file, scopes=scopes)
        client = genai.Client(
            vertexai=True,
            project=PROJECT,
            location=vertex["location"],
            credentials=credentials,
            http_options=options,
        )
    client.models.generate_content(model=model, contents="Hi")
    client.close()


def compatible(settings: Settings, around: Around, model: str) -> None:
    """Google's documents: the openai SDK, with a token of google-auth in place of a key."""
    import google.auth.transport.requests
    from google.oauth2 import service_account
    from openai import OpenAI

    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    file = settings["vertex"]["credentials_file"]
    credentials = service_account.Credentials.from_service_account_file(file, scopes=scopes)
    credentials.refresh(google.auth.transport.requests.Request())
    with OpenAI(api_key=credentials.token, base_url=settings["base_url"], max_retries=0) as client:
        client.chat.completions.create(model=model, messages=SAID)


def anthropic_vertex(settings: Settings, around: Around, model: str) -> None:
    import google.auth.transport.requests
    from anthropic import AnthropicVertex
    from google.oauth2 import service_account

    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    vertex = settings["vertex"]
    credentials = service_account.Credentials.from_service_account_file(vertex["credentials_file"], scopes=scopes)
    credentials.refresh(google.auth.transport.requests.Request())
    where = {"region": vertex["location"], "project_id": vertex["project"], "base_url": f"{around.api}/v1"}
    with AnthropicVertex(**where, access_token=credentials.token, max_retries=0) as client:
        client.messages.create(model=model, messages=SAID, max_tokens=10)


ORACLES: Mapping[str, Callable[[Settings, Around, str], None]] = {
    "boto3": boto3,
    "openai": openai,
    "azure": azure,
    "google": google,
    "compatible": compatible,
    "anthropic_vertex": anthropic_vertex,
}
