"""AWS's sources of credentials: a container's agent, IMDSv2 and STS."""

import json
from xml.sax.saxutils import escape

from tests.fakes.identity.server import Asked, IdentityServer, Told, wanted

CONTAINER_TOKEN = "pod-token"
ROLE = "arn:aws:iam::123456789012:role/llm"
EXTERNAL_ID = "breakwater-42"
WEB_TOKEN = "kubernetes-token"
INSTANCE_ROLE = "instance-role"


def container(server: IdentityServer, asked: Asked) -> Told:
    """The agent of ECS, and of EKS Pod Identity, which wants the token of the pod.

    AWS, Container credential provider; Amazon EKS, How EKS Pod Identity works.
    """
    wanted(asked.method == "GET", "only GET", 405)
    if asked.path == "/v1/credentials":  # EKS
        wanted(asked.headers.get("authorization") == CONTAINER_TOKEN, "the token of the pod is wrong", 401)
    return Told(json.dumps(_keys(server)).encode())


def imds(server: IdentityServer, asked: Asked) -> Told:
    """The instance's metadata, version 2 alone: each GET needs a session's token (Amazon EC2, Use IMDSv2)."""
    if asked.path == "/latest/api/token":
        wanted(asked.method == "PUT", "only PUT", 405)
        wanted("x-aws-ec2-metadata-token-ttl-seconds" in asked.headers, "without its time to live", 400)
        return Told(b"session", content_type="text/plain")
    wanted(asked.headers.get("x-aws-ec2-metadata-token") == "session", "no token of a session", 401)
    # The first is the newer path, with the account in its answer.
    for folder in (
        "/latest/meta-data/iam/security-credentials-extended/",
        "/latest/meta-data/iam/security-credentials/",
    ):
        if asked.path == folder:
            return Told(INSTANCE_ROLE.encode(), content_type="text/plain")
        if asked.path == folder + INSTANCE_ROLE:
            return Told(json.dumps({"Code": "Success", "Type": "AWS-HMAC", **_keys(server)}).encode())
    return Told(b"", 404)


def sts(server: IdentityServer, asked: Asked) -> Told:
    """AssumeRole, which is signed, and AssumeRoleWithWebIdentity, which is not (AWS STS, API reference)."""
    form = asked.form
    wanted(form.get("Version") == "2011-06-15", "no version")
    wanted(form.get("RoleArn") == ROLE, "not authorized to assume this role", 403)
    wanted(form.get("RoleSessionName"), "no name of a session")
    action = form.get("Action")
    if action == "AssumeRoleWithWebIdentity":
        wanted(form.get("WebIdentityToken") == WEB_TOKEN, "the token can't be verified")
    else:
        wanted(action == "AssumeRole", "no such action")
        wanted(asked.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "), "not signed", 403)
        wanted(form.get("ExternalId", EXTERNAL_ID) == EXTERNAL_ID, "not authorized with this external id", 403)
    keys = _keys(server)
    inner = (
        f"<AccessKeyId>{keys['AccessKeyId']}</AccessKeyId><SecretAccessKey>{keys['SecretAccessKey']}</SecretAccessKey>"
        f"<SessionToken>{escape(keys['Token'])}</SessionToken><Expiration>{keys['Expiration']}</Expiration>"
    )
    user = f"<AssumedRoleUser><Arn>{ROLE}/s</Arn><AssumedRoleId>AROA:s</AssumedRoleId></AssumedRoleUser>"
    body = (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>'
        f"<Credentials>{inner}</Credentials>{user}</{action}Result></{action}Response>"
    )
    return Told(body.encode(), content_type="text/xml")


def _keys(server: IdentityServer) -> dict[str, str]:
    name = server.next("KEY")
    return {
        "AccessKeyId": name,
        "SecretAccessKey": f"secret-{name}",
        "Token": f"token-{name}",
        "Expiration": server.ends,
    }
