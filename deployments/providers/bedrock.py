"""AWS Bedrock through boto3: Converse and ConverseStream.

boto3 blocks, so each call has a thread of a bounded pool: a whole call comes back over a future, a
stream's events over an `Inbox`. A call that is cancelled frees its thread and its socket at once.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import boto3
import botocore.exceptions as aws
import urllib3.exceptions
from botocore.config import Config
from botocore.eventstream import ParserError
from botocore.parsers import ResponseParserError

from actors.outcome import Outcome
from deployments.errors import AttemptFailed
from deployments.providers.base import (
    Call,
    Completed,
    End,
    Frames,
    Inbox,
    end_of,
    failed,
    kind_of_status,
    retry_after_of,
)
from deployments.providers.bedrock_call import AbortableCall, make_abortable
from deployments.providers.bedrock_codec import StreamCodec, from_converse, to_converse
from deployments.providers.bedrock_embed import embed, parsed
from deployments.providers.conversation import call_limit
from deployments.wire import Head

T = TypeVar("T")


class BedrockProvider:
    def __init__(
        self,
        *,
        region: str,
        endpoint_url: str | None = None,
        connect: float = 3.0,
        threads: int = 256,
    ):
        self._client: Any = boto3.client(
            "bedrock-runtime",
            region_name=region,
            endpoint_url=endpoint_url,
            config=Config(
                connect_timeout=connect,
                # The limits are kept by whoever calls, who aborts the call; this is a net far below.
                read_timeout=3601,
                retries={"total_max_attempts": 1, "mode": "standard"},
                max_pool_connections=threads,
                tcp_keepalive=True,
            ),
        )
        make_abortable(self._client)
        self._free = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="bedrock")

    async def complete(self, call: Call) -> Completed:
        arguments, running = to_converse(call), AbortableCall()

        def converse() -> Mapping[str, Any]:
            with running:
                response: Mapping[str, Any] = self._client.converse(**arguments)
                return response

        try:
            return Completed(*from_converse(await self._in_thread(converse, running), call))
        except Exception as error:
            raise classified(error) from error

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        codec = StreamCodec(Head.new(call.name), call_limit(call.body))
        arguments, inbox, running = to_converse(call), Inbox(), AbortableCall()
        self._take_thread()
        self._threads.submit(_pump, self._client, arguments, inbox, running)
        try:
            while events := await inbox.drain():
                made = [codec.frames(event) for event in events]
                data = b"".join(frames for frames, _ in made)
                if data or codec.finished:
                    end = end_of(codec.head, codec.usage, call) if codec.finished else None
                    yield Frames(data, content=any(content for _, content in made), end=end)
        except Exception as error:
            raise classified(error) from error
        finally:
            running.abort()
            self._free += 1
        if not codec.finished:
            raise failed("broken", "the stream ended without messageStop")
        yield end_of(codec.head, codec.usage, call)

    async def embed(self, call: Call) -> Completed:
        async def invoke(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, str]]:
            def work() -> tuple[Mapping[str, Any], Mapping[str, str]]:
                with running:
                    response = self._client.invoke_model(modelId=call.model, body=json.dumps(body).encode())
                    return parsed(response["body"].read()), response["ResponseMetadata"]["HTTPHeaders"]

            running = AbortableCall()
            return await self._in_thread(work, running)

        try:
            return await embed(call, invoke)
        except Exception as error:
            raise classified(error) from error

    async def _in_thread(self, work: Callable[[], T], running: AbortableCall) -> T:
        """Blocking work in a thread of ours, which is freed at once when we are cancelled."""
        self._take_thread()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            running.abort()
            self._free += 1

    def _take_thread(self) -> None:
        if self._free <= 0:
            raise failed("busy", "all threads for this provider are in use")
        self._free -= 1

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()


def _pump(client: Any, arguments: Mapping[str, Any], inbox: Inbox, call: AbortableCall) -> None:
    """In a thread: the stream's events to the inbox until it ends or is aborted."""
    try:
        with call, contextlib.closing(client.converse_stream(**arguments)["stream"]) as stream:
            for event in stream:
                inbox.put(event)
    except BaseException as error:
        inbox.end(error)
    else:
        inbox.end()


_KINDS = {
    "ThrottlingException": "throttled",
    "ModelNotReadyException": "throttled",
    "ServiceQuotaExceededException": "quota",
    "AccessDeniedException": "credential",
    "UnrecognizedClientException": "credential",
    "InvalidSignatureException": "credential",
    "ExpiredTokenException": "credential",
    "ResourceNotFoundException": "model_missing",
    "ModelTimeoutException": "server_error",
    "ModelErrorException": "server_error",
    "ModelStreamErrorException": "server_error",
    "InternalServerException": "server_error",
    "ServiceUnavailableException": "overloaded",
    "ValidationException": "bad_request",
}


def classified(error: Exception) -> AttemptFailed:
    """boto3's exceptions by type and code. A code inside a stream begins in lower case."""
    match error:
        case AttemptFailed():
            return error
        case aws.ClientError():
            return _client_error(error)
        case aws.ParamValidationError():
            return failed("bad_request", str(error), status=400)
        case aws.NoCredentialsError() | aws.PartialCredentialsError() | aws.CredentialRetrievalError():
            return failed("credential", str(error))
        case aws.EndpointConnectionError() | aws.ConnectTimeoutError() | aws.ProxyConnectionError() | aws.SSLError():
            return failed("connect", str(error))
        case aws.ReadTimeoutError() | urllib3.exceptions.ReadTimeoutError():
            return failed("timeout", str(error))
        case aws.HTTPClientError() | urllib3.exceptions.HTTPError():
            return failed("broken", str(error))
        case ResponseParserError() | ParserError() | UnicodeDecodeError():
            return failed("malformed", str(error))
        case _:
            return failed("unclassified", f"{type(error).__name__}: {error}")


def _client_error(error: aws.ClientError) -> AttemptFailed:
    code = str(error.response.get("Error", {}).get("Code", ""))
    meta: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    status = meta.get("HTTPStatusCode")
    retry_after = retry_after_of(meta.get("HTTPHeaders", {}))
    kind = _KINDS.get(code[:1].upper() + code[1:]) or kind_of_status(status or 500, code, retry_after)
    message = str(error.response.get("Error", {}).get("Message", "")) or str(error)
    if kind == "bad_request" and _too_long(message):
        kind = "too_long"
    if kind == "overloaded" and retry_after is not None:
        kind = "throttled"
    return AttemptFailed(Outcome(kind, status=status, message=message, code=code, retry_after=retry_after))


def _too_long(message: str) -> bool:
    """Bedrock has no code for it: the one case that must be told by text."""
    return "too long" in message.lower()
