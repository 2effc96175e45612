"""Requests to Bedrock as boto3 would send them: its endpoint, its headers, its credentials, its signature.

Where a model's calls go is read off what boto3 would send, once for each model. What is left for each
call is the signature.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.session
from botocore.awsrequest import AWSRequest, HeadersDict
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.httpsession import get_cert_path
from botocore.parsers import create_parser
from yarl import URL

MOST_KEPT = 1000  # a client may name any model


@dataclass(frozen=True, slots=True)
class _Place:
    operation: str  # as boto3 names it
    url: str
    headers: Mapping[str, str]
    context: Mapping[str, Any]
    signer: Any


# An operation, and the least that it takes.
_OPERATIONS: Mapping[str, Mapping[str, Any]] = {
    "converse": {"messages": []},
    "converse_stream": {"messages": []},
    "invoke_model": {"body": b"{}"},
}


class Requests:
    def __init__(self, *, region: str, endpoint_url: str | None):
        core = botocore.session.get_session()
        session = boto3.Session(botocore_session=core, region_name=region)
        config = Config(retries={"total_max_attempts": 1, "mode": "standard"})
        self._client: Any = session.client("bedrock-runtime", endpoint_url=endpoint_url, config=config)
        self._client.meta.events.register("before-sign.bedrock-runtime", _before_sign)
        self._credentials: Any = session.get_credentials()
        self._parser = create_parser("rest-json")
        self._known: dict[tuple[str, str], _Place] = {}
        self.tls = ssl.create_default_context(cafile=get_cert_path(core.get_config_variable("ca_bundle") or True))

    async def signed(self, operation: str, model: str, body: bytes) -> tuple[URL, dict[str, str]]:
        """Where a call goes, and its headers. Raises what boto3 raises of credentials."""
        place = self._known.get((operation, model)) or self._place(operation, model)
        fresh = not isinstance(self._credentials, RefreshableCredentials) or not self._credentials.refresh_needed()
        # Whoever asks for new credentials waits for them, and must not have all others wait too.
        headers = _signed(place, body) if fresh else await asyncio.to_thread(_signed, place, body)
        return URL(place.url, encoded=True), headers

    def error(self, operation: str, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
        """What boto3 would have raised."""
        model = self._client.meta.service_model.operation_model(self._name(operation))
        response = {"status_code": status, "headers": HeadersDict(headers), "body": body}
        parsed: Any = self._parser.parse(response, model.output_shape)
        made: Exception = self._client.exceptions.from_code(parsed["Error"]["Code"])(parsed, model.name)
        return made

    def _place(self, operation: str, model: str) -> _Place:
        try:
            getattr(self._client, operation)(modelId=model, **_OPERATIONS[operation])
            raise RuntimeError("boto3 answered without having signed")
        except _Ready as ready:
            request, signer = ready.args
        headers = {**dict(request.headers.items()), "Accept-Encoding": "identity"}
        if len(self._known) >= MOST_KEPT:
            self._known.clear()
        place = _Place(self._name(operation), request.url, headers, {**request.context, _OURS: True}, signer)
        self._known[operation, model] = place
        return place

    def _name(self, operation: str) -> str:
        name: str = self._client.meta.method_to_api_mapping[operation]
        return name

    def close(self) -> None:
        self._client.close()


_OURS = "made of what was read off boto3"


class _Ready(Exception):
    """A request as boto3 would have sent it, unsigned, and who would have signed it."""


def _before_sign(request: AWSRequest, request_signer: Any, **_: Any) -> None:
    if _OURS not in request.context:
        raise _Ready(request, request_signer)


def _signed(place: _Place, body: bytes) -> dict[str, str]:
    request = AWSRequest(method="POST", url=place.url, headers=place.headers, data=body)
    request.context = dict(place.context)
    place.signer.sign(place.operation, request)
    return dict(request.headers.items())
