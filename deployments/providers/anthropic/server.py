"""Where Anthropic's API is asked, and by which headers: at Anthropic's own host or one like it, or on Vertex AI.

On Vertex AI a model and whether it streams are in the address, the version is in the body, and a token of Google says
who asks (Anthropic, Claude on Vertex AI; anthropic (PyPI), lib/vertex/_client.py).
"""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import quote

from yarl import URL

from deployments.newest import Newest
from deployments.openai_api.json_types import JsonDict
from deployments.providers.credentials.addresses import Vertex
from deployments.providers.credentials.renewed import Renewed

HOST = "https://api.anthropic.com"
ON_VERTEX = "vertex-2023-10-16"
BETAS = "anthropic-beta"
_MOST_KEPT = 1000  # a client may name any model

Headers = dict[str, str]


class Server(Protocol):
    @property
    def credential(self) -> Renewed[str] | None:
        """Return what must be renewed beside the calls, if anything."""
        ...

    async def endpoint(self, model: str, *, stream: bool) -> tuple[URL, Headers]:
        """Return the URL of a call, and its headers. Raises AttemptFailed `connect` if there is no token."""
        ...

    def body(self, made: JsonDict) -> JsonDict:
        """Return the body of a request as this server takes it."""
        ...


def _headers(betas: Sequence[str]) -> Headers:
    return {"content-type": "application/json", **({BETAS: ",".join(betas)} if betas else {})}


def with_betas(headers: Headers, betas: Sequence[str]) -> Headers:
    """Return the headers with a client's betas beside the provider's own."""
    own = headers.get(BETAS)
    return {**headers, BETAS: ",".join(dict.fromkeys([*(own.split(",") if own else ()), *betas]))}


class OwnServer:
    """Anthropic's own, or one that speaks its API at `base_url`."""

    credential = None

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        bearer: bool = False,
        version: str = "2023-06-01",
        betas: Sequence[str] = (),
        workspace_id: str | None = None,
    ):
        base = URL((base_url or HOST).rstrip("/").removesuffix("/v1"), encoded=True)
        self._url = base.joinpath("v1/messages", encoded=True)
        self._headers = {**_headers(betas), "anthropic-version": version}
        self._headers |= {"authorization": f"Bearer {api_key}"} if bearer else {"x-api-key": api_key}
        if self._url.user is not None:
            self._headers.pop("authorization", None)  # the URL holds the credentials
        if workspace_id is not None:
            self._headers["anthropic-workspace-id"] = workspace_id

    async def endpoint(self, model: str, *, stream: bool) -> tuple[URL, Headers]:
        return self._url, self._headers

    def body(self, made: JsonDict) -> JsonDict:
        return made


class VertexServer:
    """A project of Google Cloud. `base_url` is that of a gateway before it."""

    def __init__(self, vertex: Vertex, token: Renewed[str], *, base_url: str | None = None, betas: Sequence[str] = ()):
        self.credential = token
        base = base_url.rstrip("/").removesuffix("/v1") if base_url else f"https://{vertex.host}"
        place = f"projects/{vertex.project}/locations/{vertex.location}"
        self._models = f"{base}/v1/{place}/publishers/anthropic/models"
        self._headers = _headers(betas)
        if vertex.quota_project is not None:
            self._headers["x-goog-user-project"] = vertex.quota_project
        self._known = Newest[tuple[str, bool], URL](_MOST_KEPT)

    async def endpoint(self, model: str, *, stream: bool) -> tuple[URL, Headers]:
        if (url := self._known.get((model, stream))) is None:
            method = "streamRawPredict" if stream else "rawPredict"
            url = URL(f"{self._models}/{quote(model, safe='@')}:{method}", encoded=True)
            self._known[model, stream] = url
        token = self.credential.usable() or await self.credential.get()
        return url, {**self._headers, "authorization": f"Bearer {token}"}

    def body(self, made: JsonDict) -> JsonDict:
        return {**{name: value for name, value in made.items() if name != "model"}, "anthropic_version": ON_VERTEX}
