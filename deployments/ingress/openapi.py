"""The OpenAPI description of the HTTP API, as bytes that are made once. It describes; it checks nothing."""

import pathlib

import yaml
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.responses import NOSNIFF
from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonDict
from deployments.service.auth import Identity

PATH = "/openapi.json"
_FILE = pathlib.Path(__file__).with_name("openapi.yaml")


def read_description() -> JsonDict:
    """Return the OpenAPI document."""
    document: JsonDict = yaml.safe_load(_FILE.read_bytes())
    return document


class Description:
    """The handler of its route."""

    def __init__(self) -> None:
        self._body = dump(read_description())

    async def describe(self, _: Request, __: Identity) -> Response:
        return Response(self._body, media_type="application/json", headers=NOSNIFF)
