"""What the clouds refuse at their doors, before any model: a wrong address, a wrong key, a token that nobody has told.

Keys are the ones below; tokens and temporary keys are those of `tests/fakes/identity`.
"""

import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fakes.vendors import Asked, Refusal

API_KEY = "a-key-of-the-vendor"
LONG_TERM = ("AKIALONGTERM", "secret-AKIALONGTERM")  # keys of AWS that never expire
DEPLOYMENT = "our/deployment"
ENTRA, GOOGLE = "entra-token-", "ya29.token-"


def _refuse(http: int, message: str, code: str | int | None = None, **more: Any) -> Refusal:
    return Refusal(http, {"error": {"code": http if code is None else code, "message": message, **more}})


def bedrock(asked: Any) -> Refusal | None:
    """Refuse a wrong signature, a temporary key without its token, and a wrong API key.

    AWS, Signing AWS API requests; Amazon Bedrock, API keys.
    """
    authorization = asked.headers.get("authorization", "")
    if authorization.startswith("Bearer "):
        wrong = authorization != f"Bearer {API_KEY}"
        return Refusal(403, {"message": "Authentication failed: invalid API Key"}) if wrong else None
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([a-z0-9-]+)/bedrock/aws4_request, "
        r"SignedHeaders=(\S+), Signature=(\w+)",
        authorization,
    )
    if found is None:
        return Refusal(403, {"message": "Missing Authentication Token"})
    key, region, signed, signature = found.groups()
    token = asked.headers.get("x-amz-security-token")
    if token != (None if key == LONG_TERM[0] else f"token-{key}"):
        return Refusal(403, {"message": "The security token included in the request is invalid."})
    scheme = "https" if getattr(asked, "encrypted", False) else "http"
    request = AWSRequest(
        "POST",
        f"{scheme}://{asked.headers['host']}{asked.path}",
        {name: asked.headers[name] for name in signed.split(";") if name != "host"},
        asked.raw,
    )
    request.context["timestamp"] = asked.headers["x-amz-date"]
    auth = SigV4Auth(Credentials(key, f"secret-{key}", token), "bedrock", region)
    ours = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return (
        None if ours == signature else Refusal(403, {"message": "The request signature we calculated does not match"})
    )


def openai(asked: Asked) -> Refusal | None:
    """Refuse a wrong key (OpenAI, API reference, authentication)."""
    if asked.headers.get("authorization") == f"Bearer {API_KEY}":
        return None
    return _refuse(401, "Incorrect API key provided.", "invalid_api_key", type="invalid_request_error", param=None)


def anthropic(asked: Asked) -> Refusal | None:
    """Refuse another address, a request without a version, and a wrong key (Anthropic, API overview)."""
    error = {"type": "authentication_error", "message": "invalid x-api-key"}
    if urlsplit(asked.path).path != "/v1/messages":
        return Refusal(404, {"type": "error", "error": {"type": "not_found_error", "message": "Not found"}})
    if asked.headers.get("x-api-key") != API_KEY:
        return Refusal(401, {"type": "error", "error": error})
    if "anthropic-version" not in asked.headers:
        error = {"type": "invalid_request_error", "message": "anthropic-version: header is required"}
        return Refusal(400, {"type": "error", "error": error})
    return None


def azure(asked: Asked) -> Refusal | None:
    """Refuse another address than that of a deployment or of v1, and who has neither key nor token.

    The dated API takes a key as `api-key` alone, v1 also as a Bearer token; both take a token of Entra ID.
    Microsoft, Azure OpenAI REST API reference, authentication; Azure OpenAI v1 API.
    """
    parts = urlsplit(asked.path)
    dated = re.fullmatch(r"/openai/deployments/([^/]+)/(?:chat/completions|embeddings)", parts.path)
    dated_without = parts.path == "/openai/responses"
    v1 = re.fullmatch(r"/openai/v1/(?:chat/completions|embeddings|responses)", parts.path)
    if not (v1 or ((dated or dated_without) and "api-version" in parse_qs(parts.query))):
        return _refuse(404, "Resource not found", "404")
    bearer = asked.headers.get("authorization", "").removeprefix("Bearer ")
    keys = [asked.headers.get("api-key"), bearer if v1 else None]
    if API_KEY not in keys and not bearer.startswith(ENTRA):
        message = "Access denied due to invalid subscription key or wrong API endpoint."
        return _refuse(401, message, "401")
    name = unquote(dated[1]) if dated else asked.body.get("model")
    if name != DEPLOYMENT:
        return _refuse(404, "The API deployment for this resource does not exist.", "DeploymentNotFound")
    return None


def gemini(asked: Asked) -> Refusal | None:
    """Refuse a wrong address and a wrong key (Google, Gemini API reference)."""
    if not re.fullmatch(r"/v1(?:beta)?/models/[^/:]+:\w+", urlsplit(asked.path).path):
        return _refuse(404, "Not found", status="NOT_FOUND")
    if asked.headers.get("x-goog-api-key") != API_KEY:
        return _refuse(400, "API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT")
    return None


_MODEL = r"publishers/google/models/[^/:]+:\w+"


def vertex(asked: Asked) -> Refusal | None:
    """Refuse another address than that of a project's model, and who has no token.

    Google Cloud, Vertex AI API reference, generateContent; OpenAI compatibility, whose models have a publisher.
    """
    path = urlsplit(asked.path).path
    place = r"/v1(?:beta1)?/projects/my-project/locations/[a-z0-9-]+/"
    compatible = re.fullmatch(place + "endpoints/openapi/chat/completions", path)
    if not (compatible or re.fullmatch(place + _MODEL, path)):
        return _refuse(404, "Not found", status="NOT_FOUND")
    if not asked.headers.get("authorization", "").startswith(f"Bearer {GOOGLE}"):
        return _refuse(401, "Request had invalid authentication credentials.", status="UNAUTHENTICATED")
    if compatible and "/" not in asked.body.get("model", ""):
        return _refuse(400, "Malformed publisher model.", status="INVALID_ARGUMENT")
    return None


def vertex_claude(asked: Asked) -> Refusal | None:
    """Refuse another address than that of a Claude and its way of answering, another body, and who has no token.

    Google Cloud, Claude on Vertex AI: rawPredict, streamRawPredict. Anthropic, Claude on Vertex AI: the version is in
    the body and is vertex-2023-10-16; anthropic (PyPI) 2.14 sends the date of its API there.
    """
    place = r"/v1/projects/my-project/locations/[a-z0-9-]+/publishers/anthropic/models/"
    found = re.fullmatch(place + r"[^/:]+:(rawPredict|streamRawPredict)", urlsplit(asked.path).path)
    if found is None:
        return _refuse(404, "Not found", status="NOT_FOUND")
    if not asked.headers.get("authorization", "").startswith(f"Bearer {GOOGLE}"):
        return _refuse(401, "Request had invalid authentication credentials.", status="UNAUTHENTICATED")
    if (found[1] == "streamRawPredict") != bool(asked.body.get("stream")):
        return _refuse(400, "The method does not match the field stream.", status="INVALID_ARGUMENT")
    message = None
    if not re.fullmatch(r"vertex-2023-10-16|20\d\d-\d\d-\d\d", asked.body.get("anthropic_version", "")):
        message = "anthropic_version: Field required"
    if "model" in asked.body:
        message = "model: Extra inputs are not permitted"
    if message is None:
        return None
    return Refusal(400, {"type": "error", "error": {"type": "invalid_request_error", "message": message}})


def vertex_express(asked: Asked) -> Refusal | None:
    """Refuse an address with a project, and a wrong key (Google Cloud, Vertex AI in express mode)."""
    if not re.fullmatch(r"/v1(?:beta1)?/" + _MODEL, urlsplit(asked.path).path):
        return _refuse(404, "Not found", status="NOT_FOUND")
    if asked.headers.get("x-goog-api-key") != API_KEY:
        return _refuse(401, "API key not valid.", status="UNAUTHENTICATED")
    return None
