"""The adapter of AWS Bedrock through boto3: Converse, ConverseStream and InvokeModel.

boto3 provides endpoints, credentials, signatures and errors. Its client blocks, checks what was checked before, and
parses what is only translated. So bodies are the API's own JSON (request.py, codec.py), over connections of ours.
"""

import contextlib
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, Protocol

import botocore.exceptions as aws

from deployments.errors import failed
from deployments.openai_api.chat import Head
from deployments.openai_api.json_types import JsonDict
from deployments.providers.base import Call, Completed, End, Frames, end_of
from deployments.providers.bedrock.classify import classify
from deployments.providers.bedrock.codec import StreamCodec, from_converse, to_converse
from deployments.providers.bedrock.embed import embed, parsed
from deployments.providers.bedrock.endpoint import NOBODY, SignedRequests
from deployments.providers.bedrock.event_stream import EventStream, Message
from deployments.providers.credentials.identities import BEDROCK_KEY, AwsIdentity
from deployments.providers.request_body import RequestBody, body_with_bytes, dump_with_bytes
from deployments.providers.translated import translated, translating
from deployments.providers.translation.offer import call_limit
from deployments.providers.transport import Transport, UpstreamResponse


class BedrockProvider:
    def __init__(
        self,
        *,
        region: str,
        endpoint_url: str | None = None,
        identity: AwsIdentity = NOBODY,
        api_key_env: str | None = BEDROCK_KEY,
        connect: float = 3.0,
        connections: int = 1024,
    ):
        self._requests = SignedRequests(
            region=region, endpoint_url=endpoint_url, identity=identity, api_key_env=api_key_env
        )
        self.credential = self._requests.credential
        self._transport = Transport(connect=connect, connections=connections, tls=self._requests.tls)

    async def complete(self, call: Call) -> Completed:
        try:
            body = await _written(call)
            with contextlib.closing(await self._request("converse", call.model, body)) as answer:
                data = await answer.whole()
            with translating():
                return Completed(*from_converse(json.loads(data), call))
        except Exception as error:
            raise classify(error, call.body) from error

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        codec, events = StreamCodec.of(Head.new(call.name), call.model, call_limit(call.body)), EventStream()
        try:
            body = await _written(call)
            with contextlib.closing(await self._request("converse_stream", call.model, body)) as answer:
                while data := await answer.read():
                    batch = translated(_frames(codec, events.feed(data)))
                    if batch.data or codec.finished:
                        end = end_of(codec.head, codec.usage, call) if codec.finished else None
                        yield Frames(batch.data, content=batch.content, end=end)
                    if batch.error is not None:
                        raise batch.error
        except Exception as error:
            raise classify(error, call.body) from error
        if not codec.finished:
            raise failed("broken", "the stream ended without a finish reason (messageStop)")
        yield end_of(codec.head, codec.usage, call)

    async def embed(self, call: Call) -> Completed:
        async def invoke(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, str]]:
            data = json.dumps(body).encode()
            with contextlib.closing(await self._request("invoke_model", call.model, data)) as answer:
                return parsed(await answer.whole()), answer.headers

        try:
            return await embed(call, invoke)
        except Exception as error:
            raise classify(error, call.body) from error

    async def _request(self, operation: str, model: str, body: RequestBody) -> UpstreamResponse:
        """Return the response, whose head has arrived. Raises boto3's own error for any status but 200."""
        url, headers = await self._requests.signed(operation, model, body)
        answer = await self._transport.post(url, headers, body)
        if answer.status == 200:
            return answer
        with contextlib.closing(answer):
            raise self._requests.error(operation, answer.status, answer.headers, await answer.beginning())

    async def close(self) -> None:
        await self._requests.close()
        await self._transport.aclose()


class BedrockSettings(Protocol):
    endpoint_url: str | None

    def resolved_region(self) -> str | None: ...

    def identity(self) -> AwsIdentity: ...

    def key_env(self) -> str | None: ...


def build(settings: BedrockSettings, connect: float) -> BedrockProvider:
    """Return the adapter of a configured provider. `connect` is in seconds."""
    return BedrockProvider(
        region=settings.resolved_region() or "",
        endpoint_url=settings.endpoint_url,
        identity=settings.identity(),
        api_key_env=settings.key_env(),
        connect=connect,
    )


async def _written(call: Call) -> RequestBody:
    return await body_with_bytes(_arguments(call), is_long=call.is_long)


def converse_body(call: Call) -> bytes:
    """Return the body of `converse` and `converse_stream`. Raises `unsupported` naming the field."""
    return dump_with_bytes(_arguments(call))


def _arguments(call: Call) -> JsonDict:
    arguments = to_converse(call)
    del arguments["modelId"]  # it is in the path
    return arguments


def _frames(codec: StreamCodec, messages: Iterator[Message]) -> Iterator[tuple[bytes, bool]]:
    for headers, payload in messages:
        if (kind := headers.get(":message-type")) != "event":
            raise _in_band(kind, headers, payload)
        if (name := headers[":event-type"]) in _EVENTS:
            yield codec.frames({name: json.loads(payload)})


_EVENTS = frozenset(
    {
        *("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop"),
        *("messageStop", "metadata"),
    }
)


def _in_band(kind: Any, headers: Mapping[str, Any], payload: bytes) -> aws.EventStreamError:
    """Return the error inside the stream that boto3 would have raised."""
    found: dict[str, Any] = {}
    code, message = headers.get(":error-code"), headers.get(":error-message")
    if kind == "exception":
        error = parsed(payload)
        code, message = headers.get(":exception-type"), error.get("message", error.get("Message"))
        found["originalStatusCode"] = error.get("originalStatusCode")
    found["Error"] = {"Code": code or "", "Message": message or ""}
    return aws.EventStreamError(found, "ConverseStream")
