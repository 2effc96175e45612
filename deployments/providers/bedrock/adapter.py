"""The adapter of AWS Bedrock through boto3: Converse, ConverseStream and InvokeModel.

boto3 provides endpoints, credentials, signatures and errors. Its client blocks, checks what was checked before, and
parses what is only translated. So bodies are the API's own JSON (request.py, codec.py), over connections of ours.
"""

import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import botocore.exceptions as aws
from msgspec import structs

from deployments.errors import AttemptFailed, failed
from deployments.newest import Newest
from deployments.openai_api.chat import Head
from deployments.openai_api.json_types import JsonDict
from deployments.providers.base import Call, Completed, End, Frames, end_of
from deployments.providers.bedrock.classify import classify
from deployments.providers.bedrock.codec import StreamCodec, from_converse, to_converse
from deployments.providers.bedrock.embed import embed, parsed
from deployments.providers.bedrock.endpoint import MOST_KEPT, NOBODY, SignedRequests
from deployments.providers.bedrock.event_stream import EventStream, Message
from deployments.providers.bedrock.options import (
    LATENCY,
    NO_OPTIONS,
    TIER,
    ConverseOptions,
    NamedModel,
    add_options,
    refused_option,
    without_accounts,
)
from deployments.providers.claude.thoughts import refuses_thoughts, without_signed
from deployments.providers.credentials.identities import BEDROCK_KEY, AwsIdentity
from deployments.providers.extras import Extras, merged
from deployments.providers.http.request_body import RequestBody, body_with_bytes, dump_with_bytes
from deployments.providers.http.timing import note_again
from deployments.providers.http.transport import Transport, UpstreamResponse
from deployments.providers.kinds import CONVERSE_TIERS
from deployments.providers.translated import translated, translating
from deployments.providers.translation.offer import call_limit

log = logging.getLogger(f"ray.serve.{__name__}")

REFUSED_SECONDS = 3600.0  # how long a model goes without a tier or a latency that it has refused


class BedrockProvider:
    """`named` are the models whose requests go to an ARN; `options` go beside each chat."""

    def __init__(
        self,
        *,
        region: str,
        endpoint_url: str | None = None,
        identity: AwsIdentity = NOBODY,
        api_key_env: str | None = BEDROCK_KEY,
        named: Mapping[str, NamedModel] | None = None,
        options: ConverseOptions = NO_OPTIONS,
        connect: float = 3.0,
        connections: int = 1024,
    ):
        self._named, self._options = named or {}, options
        self._names = {model.arn: name for name, model in self._named.items()}
        self._refused: Newest[tuple[str, str], float] = Newest(MOST_KEPT)  # model and member: until when
        self._requests = SignedRequests(
            region=region, endpoint_url=endpoint_url, identity=identity, api_key_env=api_key_env
        )
        self.credential = self._requests.credential
        self._transport = Transport(connect=connect, connections=connections, tls=self._requests.tls)

    def streams_whole(self, call: Call) -> bool:
        """Return whether a whole answer may be asked for as a stream: a guardrail lets what it has passed stand there.

        Of a whole answer that it stops nothing is left (Amazon Bedrock, Guardrails, streaming response behaviour).
        """
        return self._options.guardrail is None

    async def complete(self, call: Call) -> Completed:
        try:
            address, call = self._behind(call)
            with contextlib.closing(await self._chat("converse", address, call)) as answer:
                data = await answer.whole()
            with translating():
                return Completed(*from_converse(json.loads(data), call))
        except Exception as error:
            raise self._failure(error, call) from error

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        address, call = self._behind(call)
        codec, events = StreamCodec.of(Head.new(call.name), call.model, call_limit(call.body)), EventStream()
        try:
            with contextlib.closing(await self._chat("converse_stream", address, call)) as answer:
                while data := await answer.read():
                    batch = translated(_frames(codec, events.feed(data)))
                    if batch.data or codec.finished:
                        end = end_of(codec.head, codec.usage, call) if codec.finished else None
                        yield Frames(batch.data, content=batch.content, end=end)
                    if batch.error is not None:
                        raise batch.error
        except Exception as error:
            raise self._failure(error, call) from error
        if not codec.finished:
            raise failed("broken", "the stream ended without a finish reason (messageStop)")
        yield end_of(codec.head, codec.usage, call)

    async def embed(self, call: Call) -> Completed:
        async def invoke(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, str]]:
            data = json.dumps(body).encode()
            with contextlib.closing(await self._request("invoke_model", address, data, call.extras)) as answer:
                return parsed(await answer.whole()), answer.headers

        address, call = self._behind(call)
        try:
            return await embed(call, invoke)
        except Exception as error:
            raise self._failure(error, call) from error

    def _behind(self, call: Call) -> tuple[str, Call]:
        """Return the model's id or ARN on the wire, and the call with the vendor's own id of the model."""
        if (named := self._named.get(call.model)) is None:
            return call.model, call
        return named.arn, structs.replace(call, model=named.model)

    def _failure(self, error: Exception, call: Call) -> AttemptFailed:
        """Return the failure. No number of an account is in its message, which goes to clients and into logs."""
        failure = classify(error, call.body)
        message = without_accounts(failure.outcome.message, self._names)
        return (
            failure if message == failure.outcome.message else AttemptFailed(replace(failure.outcome, message=message))
        )

    async def _chat(self, operation: str, address: str, call: Call) -> UpstreamResponse:
        """Return the response to a chat.

        A tier or a latency that the configuration sets, and the model refuses, is no reason to leave the provider: the
        model is asked once more without it, and goes without it for an hour. Only what has helped is remembered: a
        refusal may quote what a client has written. Thoughts of another model, or of a conversation that its client has
        changed since, are left out too.
        """
        arguments, left = self._arguments(operation, address, call), call.again
        left_out = list[str]()
        while True:
            body = await body_with_bytes(arguments, is_long=call.is_long)
            try:
                answer = await self._request(operation, address, body, call.extras)
            except aws.ClientError as error:
                message = _message_of(error)
                refused = refused_option(message, arguments)
                bare = without_signed(call.body) if refuses_thoughts(message) else call.body
                if left == 0 or (bare is call.body and (refused is None or not self._is_ours(refused, call))):
                    raise
            else:
                for name in left_out:
                    log.warning("%s takes no %s: it is asked without for an hour", call.name, name)
                    self._refused[address, name] = time.monotonic() + REFUSED_SECONDS
                return answer
            if bare is not call.body:
                call = structs.replace(call, body=bare)
                arguments = {
                    name: value
                    for name, value in self._arguments(operation, address, call).items()
                    if name not in left_out
                }
            elif refused is not None:
                del arguments[refused]
                left_out.append(refused)
            left -= 1
            note_again()

    def _arguments(self, operation: str, address: str, call: Call) -> JsonDict:
        arguments = _arguments(call)
        add_options(arguments, self._options, call.body, call.caller, stream=operation == "converse_stream")
        if call.extras is not None:
            arguments = merged(arguments, call.extras.body)
        for name in (TIER, LATENCY) if self._refused else ():
            if self._refused.get((address, name), 0.0) > time.monotonic() and self._is_ours(name, call):
                arguments.pop(name, None)
        return arguments

    def _is_ours(self, name: str, call: Call) -> bool:
        """Return whether the configuration has set a member, and not the request: that is told what is left out."""
        return name != TIER or CONVERSE_TIERS.get(str(call.body.get("service_tier"))) is None

    async def _request(self, operation: str, model: str, body: RequestBody, extras: Extras | None) -> UpstreamResponse:
        """Return the response, whose head has arrived. Raises boto3's own error for any status but 200."""
        url, headers = await self._requests.signed(operation, model, body, extras)
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
    arns: Mapping[str, Any]  # each with `arn` and `model`
    guardrail: Any
    service_tier: Any
    latency: Any

    def resolved_region(self) -> str | None: ...

    def identity(self) -> AwsIdentity: ...

    def key_env(self) -> str | None: ...


def build(settings: BedrockSettings, connect: float) -> BedrockProvider:
    """Return the adapter of a configured provider. `connect` is in seconds."""
    guardrail = None if settings.guardrail is None else settings.guardrail.model_dump(exclude_none=True)
    return BedrockProvider(
        region=settings.resolved_region() or "",
        endpoint_url=settings.endpoint_url,
        identity=settings.identity(),
        api_key_env=settings.key_env(),
        named={name: NamedModel(it.arn, it.model or name) for name, it in settings.arns.items()},
        options=ConverseOptions(guardrail, settings.service_tier, settings.latency),
        connect=connect,
    )


def _message_of(error: aws.ClientError) -> str:
    """Return the message of a request that Bedrock finds wrong; empty for any other error."""
    is_request = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 400
    return str(error.response.get("Error", {}).get("Message", "")) if is_request else ""


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
