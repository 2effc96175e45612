"""The door of Anthropic's Messages API. Pure."""

from collections.abc import Iterable

from deployments.doors.messages.answer.errors import body_of, status_of
from deployments.doors.messages.request.native import betas_in
from deployments.doors.messages.request.read import MessagesRequest, open_request
from deployments.errors import BreakwaterError, NoAnswer
from deployments.openai_api.json_types import JsonDict


class Messages:
    name = "messages"

    def open(self, body: JsonDict, headers: Iterable[tuple[str, str]] = ()) -> MessagesRequest:
        """Return the request as it was read. Raises BadRequest in the client's words."""
        return open_request(body, betas_in(headers))

    def open_to_count(self, body: JsonDict) -> MessagesRequest:
        """Return the same for a request whose tokens are asked for: it has no limit of an answer."""
        return open_request({"max_tokens": 1, **body})

    def counted(self, tokens: int) -> JsonDict:
        """Return the answer to such a request."""
        return {"input_tokens": tokens}

    def error(self, error: BreakwaterError, request_id: str | None = None) -> JsonDict:
        """Return the body of an error."""
        if isinstance(error, NoAnswer):
            return body_of(error, request_id, tokens=error.tokens, window=error.window)
        return body_of(error, request_id)

    def status_of(self, error: BreakwaterError) -> int:
        """Return the HTTP status, which is another than a chat's where all providers throttle us."""
        return status_of(error)


MESSAGES = Messages()
