"""Google's sources of tokens: the token server, the exchange of federation, and the metadata server."""

import json

import google.auth.jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fakes.identity.server import Asked, IdentityServer, Told, wanted

PROJECT = "my-project"
ACCOUNT = f"llm@{PROJECT}.iam.gserviceaccount.com"
SUBJECT_TOKEN = "kubernetes-token"
AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_PEM = _KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()

_PUBLIC = _KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def account_file(token_url: str) -> dict[str, str]:
    """Return the key file of a service account."""
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": _PEM,
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": token_url,
    }


def federation_file(token_url: str, subject_file: str) -> dict[str, object]:
    """Return the configuration of workload identity federation."""
    return {
        "type": "external_account",
        "audience": AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": token_url,
        "credential_source": {"file": subject_file},
    }


def token(server: IdentityServer, asked: Asked) -> Told:
    """The token server: a JWT that the account's key has signed (Google, OAuth 2.0 for service accounts)."""
    form = asked.form
    wanted(form.get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer", "unsupported_grant_type")
    try:
        claims = google.auth.jwt.decode(
            form.get("assertion", ""), certs=_PUBLIC, audience="https://oauth2.googleapis.com/token"
        )
    except ValueError as error:
        wanted(False, f"Invalid JWT: {type(error).__name__}")
    wanted(claims["iss"] == ACCOUNT, "invalid_grant: account not found")
    wanted(SCOPE in claims.get("scope", ""), "invalid_scope")
    return Told(json.dumps(_token(server)).encode())


def exchange(server: IdentityServer, asked: Asked) -> Told:
    """The exchange of another cloud's token (Google Cloud, Security Token Service API, token)."""
    form = asked.form
    wanted(form.get("grant_type") == "urn:ietf:params:oauth:grant-type:token-exchange", "unsupported_grant_type")
    wanted(form.get("audience") == AUDIENCE, "invalid_target")
    wanted(form.get("subject_token") == SUBJECT_TOKEN, "invalid_grant: the subject token is wrong")
    wanted(form.get("scope") == SCOPE, "invalid_scope")
    told = {**_token(server), "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}
    return Told(json.dumps(told).encode())


def metadata(server: IdentityServer, asked: Asked) -> Told:
    """The metadata server: it refuses whoever does not say `Metadata-Flavor: Google`, and says it itself.

    Google Cloud, About VM metadata.
    """
    flavor = {"metadata-flavor": "Google"}
    wanted(asked.headers.get("metadata-flavor") == "Google", "missing Metadata-Flavor: Google", 403)
    root = "/computeMetadata/v1/"
    if asked.path in ("/", root):
        return Told(b"", content_type="text/plain", headers=flavor)
    told: dict[str, object] = {
        f"{root}project/project-id": PROJECT,
        f"{root}universe/universe-domain": "googleapis.com",
        **{
            f"{root}instance/service-accounts/{who}/": {"email": ACCOUNT, "scopes": [SCOPE], "aliases": ["default"]}
            for who in ("default", ACCOUNT)
        },
    }
    if asked.path in (f"{root}instance/service-accounts/{who}/token" for who in ("default", ACCOUNT)):
        return Told(json.dumps(_token(server)).encode(), headers=flavor)
    if (found := told.get(asked.path)) is None:
        return Told(b"", 404, headers=flavor)
    if isinstance(found, str):
        return Told(found.encode(), content_type="text/plain", headers=flavor)
    return Told(json.dumps(found).encode(), headers=flavor)


def _token(server: IdentityServer) -> dict[str, object]:
    return {"access_token": server.next("ya29.token"), "expires_in": int(server.life), "token_type": "Bearer"}
