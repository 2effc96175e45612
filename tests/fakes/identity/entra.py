"""Microsoft Entra ID: the endpoint of managed identities, and the authority of all others."""

import json

from tests.fakes.identity.server import Asked, IdentityServer, Told, wanted

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-000000000000"
CLIENT_SECRET = "a~client~secret"
FEDERATED_TOKEN = "kubernetes-token"
IDENTITY_HEADER = "header-of-the-app"
RESOURCE = "https://cognitiveservices.azure.com"


def managed(server: IdentityServer, asked: Asked) -> Told:
    """The endpoint of an app (Microsoft, How to use managed identities for App Service: REST endpoint reference)."""
    wanted(asked.method == "GET", "only GET", 405)
    wanted(asked.headers.get("x-identity-header") == IDENTITY_HEADER, "the header is wrong", 401)
    wanted(asked.query.get("api-version") == "2019-08-01", "no such version")
    wanted(asked.query.get("resource") == RESOURCE, "no such resource")
    wanted(asked.query.get("client_id", CLIENT) == CLIENT, "no such identity")
    told = {
        "access_token": server.next("entra-token"),
        "expires_on": str(int(server.ends_at)),
        "resource": RESOURCE,
        "token_type": "Bearer",
    }
    return Told(json.dumps(told).encode())


def authority(server: IdentityServer, asked: Asked) -> Told:
    """The authority: what it is, and tokens for a secret or for another issuer's token.

    Microsoft, OpenID Connect on the identity platform; OAuth 2.0 client credentials flow.
    """
    if asked.path == "/common/discovery/instance":
        host = server.url.removeprefix("https://")
        return Told(
            json.dumps(
                {
                    "tenant_discovery_endpoint": f"{server.url}/{TENANT}/v2.0/.well-known/openid-configuration",
                    "api-version": "1.1",
                    "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
                }
            ).encode()
        )
    if asked.path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
        base = f"{server.url}/{TENANT}"
        return Told(
            json.dumps(
                {
                    "issuer": f"{base}/v2.0",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "jwks_uri": f"{base}/discovery/v2.0/keys",
                }
            ).encode()
        )
    wanted(asked.path == f"/{TENANT}/oauth2/v2.0/token", "AADSTS90002: tenant not found")
    form = asked.form
    wanted(form.get("grant_type") == "client_credentials", "AADSTS70003: unsupported grant")
    wanted(form.get("client_id") == CLIENT, "AADSTS700016: application not found")
    wanted(form.get("scope") == f"{RESOURCE}/.default", "AADSTS70011: the scope is not valid")
    if "client_assertion" in form:
        wanted(form["client_assertion_type"].endswith("client-assertion-type:jwt-bearer"), "AADSTS90023: wrong type")
        wanted(form["client_assertion"] == FEDERATED_TOKEN, "AADSTS700211: no matching federated identity")
    else:
        wanted(form.get("client_secret") == CLIENT_SECRET, "AADSTS7000215: Invalid client secret provided", 401)
    told = {"token_type": "Bearer", "expires_in": int(server.life), "access_token": server.next("entra-token")}
    return Told(json.dumps(told).encode())
