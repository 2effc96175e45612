"""The endpoint and the signer of Bedrock: URL, headers, credentials and signature as boto3 would send them.

The URL of a model's calls is taken from the request that boto3 would send, once for each model. So each call costs only
its signature.
"""

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import boto3
from botocore.awsrequest import AWSRequest, HeadersDict
from botocore.config import Config
from botocore.httpsession import get_cert_path
from botocore.parsers import create_parser
from yarl import URL

from deployments.newest import Newest
from deployments.providers.credentials.aws import sign_in
from deployments.providers.credentials.identities import BEDROCK_KEY, AwsIdentity
from deployments.providers.extras import Extras
from deployments.providers.http.request_body import Pieces, RequestBody

MOST_KEPT = 1000  # a client may name any model
NOBODY = AwsIdentity()  # in particular: whom boto3 finds


@dataclass(frozen=True, slots=True)
class _Endpoint:
    operation: str  # as boto3 names it
    url: str
    headers: Mapping[str, str]
    context: Mapping[str, Any]
    signer: Any


# Each operation, and its minimal arguments.
_OPERATIONS: Mapping[str, Mapping[str, Any]] = {
    "converse": {"messages": []},
    "converse_stream": {"messages": []},
    "invoke_model": {"body": b"{}"},
}


class SignedRequests:
    """`api_key_env` names the variable of an API key of Bedrock, which comes before all other credentials."""

    def __init__(
        self,
        *,
        region: str,
        endpoint_url: str | None,
        identity: AwsIdentity = NOBODY,
        api_key_env: str | None = BEDROCK_KEY,
    ):
        self._api_key_env = api_key_env
        core, self.credential = sign_in(identity, region)
        session = boto3.Session(botocore_session=core, region_name=region)
        # boto3 reads an API key once, when a client is made, so that is left to us.
        config = Config(retries={"total_max_attempts": 1, "mode": "standard"}, signature_version="v4")
        self._client: Any = session.client("bedrock-runtime", endpoint_url=endpoint_url, config=config)
        self._client.meta.events.register("before-sign.bedrock-runtime", _before_sign)
        self._parser = create_parser("rest-json")
        self._known = Newest[tuple[str, str], _Endpoint](MOST_KEPT)
        self.tls = ssl.create_default_context(cafile=get_cert_path(core.get_config_variable("ca_bundle") or True))

    async def signed(
        self, operation: str, model: str, body: RequestBody, extras: Extras | None = None
    ) -> tuple[URL, dict[str, str]]:
        """Return the URL and the signed headers of a call. What is added to both is signed too.

        Raises boto3's errors of credentials, and AttemptFailed `connect` if none could be fetched.
        """
        endpoint = self._known.get((operation, model)) or self._find_endpoint(operation, model)
        if extras is not None:
            url = str(extras.add_query(URL(endpoint.url, encoded=True)))
            endpoint = replace(endpoint, url=url, headers=extras.add_headers(endpoint.headers))
        if self._api_key_env is not None and (key := os.environ.get(self._api_key_env)):
            headers = {**endpoint.headers, "Authorization": f"Bearer {key}"}
            return URL(endpoint.url, encoded=True), headers
        if self.credential is not None and self.credential.usable() is None:
            await self.credential.get()
        # The hash of a long body blocks: in a thread it delays this call only.
        at_once = isinstance(body, bytes)
        headers = _signed(endpoint, body) if at_once else await asyncio.to_thread(_signed, endpoint, body)
        return URL(endpoint.url, encoded=True), headers

    def error(self, operation: str, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
        """Return the error that boto3 would have raised for a response."""
        model = self._client.meta.service_model.operation_model(self._name(operation))
        response = {"status_code": status, "headers": HeadersDict(headers), "body": body}
        parsed: Any = self._parser.parse(response, model.output_shape)
        parsed["originalStatusCode"] = _original_status(body)
        error: Exception = self._client.exceptions.from_code(parsed["Error"]["Code"])(parsed, model.name)
        return error

    def _find_endpoint(self, operation: str, model: str) -> _Endpoint:
        try:
            getattr(self._client, operation)(modelId=model, **_OPERATIONS[operation])
            raise RuntimeError("boto3 returned without signing a request")
        except _Ready as ready:
            request, signer = ready.args
        headers = {**dict(request.headers.items()), "Accept-Encoding": "identity"}
        endpoint = _Endpoint(self._name(operation), request.url, headers, {**request.context, _OURS: True}, signer)
        self._known[operation, model] = endpoint
        return endpoint

    def _name(self, operation: str) -> str:
        name: str = self._client.meta.method_to_api_mapping[operation]
        return name

    async def close(self) -> None:
        if self.credential is not None:
            await self.credential.close()
        self._client.close()


_OURS = "built by breakwater from boto3's request"


class _Ready(Exception):
    """The unsigned request that boto3 would have sent, and its signer."""


def _before_sign(request: AWSRequest, request_signer: Any, **_: Any) -> None:
    if _OURS not in request.context:
        raise _Ready(request, request_signer)


def _signed(endpoint: _Endpoint, body: RequestBody) -> dict[str, str]:
    data = body if isinstance(body, bytes) else _Reader(body)
    request = AWSRequest(method="POST", url=endpoint.url, headers=endpoint.headers, data=data)
    request.context = dict(endpoint.context)
    endpoint.signer.sign(endpoint.operation, request)
    return dict(request.headers.items())


class _Reader:
    """A long body as botocore's signer reads it (`SigV4Auth.payload`): from its beginning to its end, and back."""

    def __init__(self, body: Pieces):
        self._body, self._next = body, 0

    def __len__(self) -> int:
        return len(self._body)

    def read(self, _: int = -1) -> bytes:
        self._next += 1
        return self._body.pieces[self._next - 1] if self._next <= len(self._body.pieces) else b""

    def tell(self) -> int:
        return self._next

    def seek(self, place: int) -> None:
        self._next = place


def _original_status(body: bytes) -> int | None:
    """Return the status that the model's own server gave, which boto3's parser leaves to its client."""
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(body)
        return told.get("originalStatusCode") if isinstance(told, dict) else None
    return None
