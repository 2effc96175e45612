"""Where a server of OpenAI's API is, how a call of it is addressed, and with which headers.

The openai SDK knows the addresses, the keys' headers and the errors. What it takes from the environment for OpenAI
alone goes to nobody else: the organization and the project of `OPENAI_ORG_ID` and `OPENAI_PROJECT_ID`, and the headers
of `OPENAI_CUSTOM_HEADERS`, where the configuration names another server.
"""

import os
from collections.abc import Mapping
from urllib.parse import quote

import httpx2
import openai
from yarl import URL

from deployments.providers.credentials.addresses import Azure
from deployments.providers.credentials.renewed import Renewed

MOST_KEPT = 1000  # a client may name any model
OWN_HOST = "api.openai.com"  # and its regions, as eu.api.openai.com
_OF_OPENAI = frozenset({"openai-organization", "openai-project"})
_REPLACED = "replaced by each call"  # the SDK wants a key


class Server:
    """`token` is sent as a Bearer token in place of a key; it is asked for with each call. `more` are headers."""

    def __init__(
        self,
        http_client: httpx2.AsyncClient,
        *,
        api_key: str,
        base_url: str | None = None,
        azure: Azure | None = None,
        token: Renewed[str] | None = None,
        more: Mapping[str, str] | None = None,
    ):
        self.token, self._azure = token, azure
        key = api_key if token is None else _REPLACED
        self.sdk: openai.AsyncOpenAI = (
            openai.AsyncOpenAI(api_key=key, base_url=_base(base_url, azure), http_client=http_client)
            if azure is None or azure.api_version is None
            else openai.AsyncAzureOpenAI(
                azure_endpoint=azure.endpoint,
                api_version=azure.api_version,
                api_key=key if token is None else None,
                azure_ad_token=None if token is None else key,
                http_client=http_client,
            )
        )
        base = URL(str(self.sdk.base_url), encoded=True)
        self._base = base
        self._with_model: dict[tuple[str, str], URL] = {}
        self._headers = {**_headers_of(self.sdk, ambient=base_url is None and azure is None), **(more or {})}
        if base.user is not None:
            self._headers.pop("Authorization", None)  # the URL holds the credentials
        self._token: str | None = None  # of the headers

    @property
    def host(self) -> str:
        """Return the host by which the server's habits are known: a gateway before Azure has those of Azure."""
        host = self.sdk.base_url.host
        return host if self._azure is None or host.endswith(".azure.com") else f"{host}.openai.azure.com"

    @property
    def follows(self) -> bool:
        """Return whether redirects are followed. A key in a header of Azure's own would be sent on to any host."""
        return self._azure is None

    def url(self, operation: str, model: str) -> URL:
        """Return the URL of an operation, as `chat/completions`. `model` is the name that is sent."""
        if self._azure is None or self._azure.api_version is None:
            model = ""
        if (known := self._with_model.get((operation, model))) is not None:
            return known
        if len(self._with_model) >= MOST_KEPT:
            self._with_model.clear()
        return self._with_model.setdefault((operation, model), self._find_url(operation, model))

    def _find_url(self, operation: str, model: str) -> URL:
        if not model or self._azure is None or self._azure.api_version is None:
            return self._base.joinpath(operation, encoded=True)
        # Only some operations have the deployment in their path: Responses has not.
        path = f"deployments/{quote(model, safe='')}/{operation}" if operation in _BY_DEPLOYMENT else operation
        url = self._base.joinpath(path, encoded=True)
        return URL(f"{url}?api-version={quote(self._azure.api_version)}", encoded=True)

    def name_of(self, model: str) -> str:
        """Return the name by which this server knows a model."""
        return model if self._azure is None else self._azure.deployments.get(model, model)

    async def headers(self) -> Mapping[str, str]:
        """Return the headers of a call. Raises AttemptFailed `connect` if there is no token."""
        if self.token is None:
            return self._headers
        token = self.token.usable() or await self.token.get()
        if token is not self._token:
            self._headers, self._token = {**self._headers, "Authorization": f"Bearer {token}"}, token
        return self._headers


_BY_DEPLOYMENT = frozenset({"chat/completions", "embeddings"})


def _base(base_url: str | None, azure: Azure | None) -> str | None:
    return base_url if azure is None else f"{azure.endpoint.rstrip('/')}/openai/v1/"


def _headers_of(sdk: openai.AsyncOpenAI, *, ambient: bool) -> dict[str, str]:
    """Return the headers of the SDK's calls. `ambient`: those that the environment adds to each belong to this server.

    The SDK would send all that the environment says to any server.
    """
    own = sdk.base_url.host == OWN_HOST or sdk.base_url.host.endswith(f".{OWN_HOST}")
    kept = {k: v for k, v in sdk.default_headers.items() if isinstance(v, str)}
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    added = (
        set() if ambient else {name.strip().lower() for name, colon, _ in (x.partition(":") for x in lines) if colon}
    )
    others = added if own else added | _OF_OPENAI
    # What the environment has put in place of a header of the SDK's own is gone too.
    return {**sdk.auth_headers, **{k: v for k, v in kept.items() if k.lower() not in others}}
