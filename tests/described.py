"""Answers of the HTTP API, held against the OpenAPI description of it."""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import httpx2
from jsonschema import Draft202012Validator

from deployments.ingress.openapi import read_description

DOCUMENT: Mapping[str, Any] = read_description()
_ROOT = "urn:breakwater"


def resolved(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a part of the document, or what its `$ref` names."""
    while "$ref" in part:
        found: Any = DOCUMENT
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


@functools.cache
def _operations() -> list[tuple[str, re.Pattern[str], Mapping[str, Any]]]:
    """Return method, pattern of the path, and operation; paths without a name come first."""
    return [
        (method.upper(), re.compile(re.sub(r"\{\w+\}", ".+", path)), operation)
        for path, methods in sorted(DOCUMENT["paths"].items(), key=lambda item: "{" in item[0])
        for method, operation in methods.items()
    ]


def operation_of(method: str, path: str) -> Mapping[str, Any] | None:
    """Return the description of a call; None for what is no route. A needless slash does no harm."""
    path = re.sub("/+", "/", path).rstrip("/") or "/"
    return next((found for verb, form, found in _operations() if verb == method and form.fullmatch(path)), None)


def objection(method: str, path: str, status: int, content_type: str, body: bytes) -> str | None:
    """Return how an answer breaks the description; None if it keeps to it."""
    if (operation := operation_of(method, path)) is None:
        return None if status in (404, 405) else f"{method} {path} is not described, and answers {status}"
    responses = operation["responses"]
    if (told := responses.get(str(status)) or responses.get(f"{status // 100}XX")) is None:
        return f"{method} {path} does not tell of {status}"
    media = content_type.partition(";")[0]
    if (form := resolved(told)["content"].get(media)) is None:
        return f"{method} {path} answers {status} as {media!r}"
    if media != "application/json":
        return None
    schema = {**form["schema"], "components": DOCUMENT["components"], "$id": _ROOT}
    wrong = next(Draft202012Validator(schema).iter_errors(json.loads(body)), None)
    return None if wrong is None else f"{method} {path}, {status}: {wrong.message} at {wrong.json_path}"


async def hold_to_description(response: httpx2.Response) -> None:
    """Fail for an answer that breaks the description: a hook of a client."""
    request, media = response.request, response.headers.get("content-type", "")
    if request.method == "OPTIONS":  # a browser's question about origins, which is no call
        return
    body = await response.aread() if media.startswith("application/json") else b""
    assert (wrong := objection(request.method, request.url.path, response.status_code, media, body)) is None, wrong
