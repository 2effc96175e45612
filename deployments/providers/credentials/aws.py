"""Credentials of AWS as boto3 finds them, renewed beside the calls.

botocore renews credentials when a request is signed, on the thread that signs, and for credentials that live for less
than 15 minutes at each request. So its signer gets `HeldCredentials`, which only return what is there.
"""

from collections.abc import Callable
from typing import Any

import botocore.exceptions
import botocore.session
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialResolver,
    Credentials,
    DeferredRefreshableCredentials,
    ReadOnlyCredentials,
    RefreshableCredentials,
)

from deployments.providers.credentials.identities import AwsIdentity
from deployments.providers.credentials.renewed import Renewed, in_thread
from deployments.providers.credentials.schedule import Fresh

SESSION_NAME = "breakwater"  # of a role, as AWS's logs show it


def open_session(identity: AwsIdentity, region: str) -> Any:
    """Return a session of botocore. Its credentials are not asked for yet."""
    session = botocore.session.Session(profile=identity.profile)
    session.set_config_variable("region", region)
    return session


def find_credentials(session: Any, identity: AwsIdentity) -> Any:
    """Return botocore's credentials, None if there are none. Those of a role are fetched later.

    Raises botocore's errors: a profile that is not there, a part of the credentials.
    """
    found = session.get_credentials()
    if identity.role_arn is None or found is None:
        return found
    more = {"RoleSessionName": SESSION_NAME}
    if identity.external_id is not None:
        more["ExternalId"] = identity.external_id
    # A client of another session: this one's gets the credentials of the role.
    region = session.get_config_variable("region")

    def client(service: str, **options: Any) -> Any:
        return open_session(identity, region).create_client(service, region_name=region, **options)

    fetcher = AssumeRoleCredentialFetcher(client, found, identity.role_arn, extra_args=more)
    return DeferredRefreshableCredentials(method="assume-role", refresh_using=fetcher.fetch_credentials)


class HeldCredentials(Credentials):  # type: ignore[misc]
    """Credentials for botocore's signer: `latest` returns what is there, None if there is nothing."""

    def __init__(self, latest: Callable[[], ReadOnlyCredentials | None], method: str):
        super().__init__("", "", None, method=method)
        self._latest = latest

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        if (found := self._latest()) is None:
            raise botocore.exceptions.NoCredentialsError
        return found


def sign_in(identity: AwsIdentity, region: str) -> tuple[Any, Renewed[ReadOnlyCredentials] | None]:
    """Return a session whose clients sign with what is there, and what renews it; None if it never expires.

    Raises botocore's errors. Where credentials come from a network, it waits for them, as boto3 does.
    """
    session = open_session(identity, region)
    found = find_credentials(session, identity)
    if not isinstance(found, RefreshableCredentials):
        return session, None
    renewed = Renewed("AWS credentials", in_thread(lambda: _renew(found)), first=_first(found))
    held = HeldCredentials(renewed.latest, found.method)
    session = open_session(identity, region)  # the first one keeps what it has found
    session.register_component("credential_provider", CredentialResolver([_Holder(held)]))
    return session, renewed


class _Holder:
    """A place where botocore looks for credentials, with those that are held."""

    METHOD = CANONICAL_NAME = "held"

    def __init__(self, held: HeldCredentials):
        self._held = held

    def load(self) -> HeldCredentials:
        return self._held


def _first(found: RefreshableCredentials) -> Fresh[ReadOnlyCredentials] | None:
    if found._expiry_time is None:  # they are fetched when they are used first
        return None
    return Fresh(found._frozen_credentials, found._expiry_time.timestamp())


def _renew(found: RefreshableCredentials) -> Fresh[ReadOnlyCredentials]:
    """Return new credentials. It blocks, and changes nothing that another thread may read.

    botocore's public way asks for them in its own time only.
    """
    told = found._refresh_using()
    if not told or not all(told.get(key) for key in ("access_key", "secret_key", "expiry_time")):
        raise botocore.exceptions.CredentialRetrievalError(provider=found.method, error_msg="a part is missing")
    frozen = ReadOnlyCredentials(told["access_key"], told["secret_key"], told.get("token"), told.get("account_id"))
    return Fresh(frozen, found._expiry_datetime(told["expiry_time"]).timestamp())


_WAYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role"
# botocore's words for where credentials come from, in ours.
_SOURCES = {
    "env": "AWS_ACCESS_KEY_ID",
    "explicit": "AWS_ACCESS_KEY_ID",
    "shared-credentials-file": "the credentials file",
    "config-file": "the config file",
    "custom-process": "credential_process of the profile",
    "iam-role": "the instance's role (IMDS)",
    "container-role": "the container's role",
    "assume-role": "an assumed role",
    "assume-role-with-web-identity": "a role by web identity (IRSA)",
    "sso": "IAM Identity Center",
    "login": "aws login",
}


def describe(identity: AwsIdentity, region: str) -> tuple[str | None, str | None]:
    """Return in words where the credentials come from, and why there are none; one of them is None.

    No word is repeated that may be a secret. Sources that a network may have are asked.
    """
    try:
        session = open_session(identity, region)
        found = session.get_credentials()
    except botocore.exceptions.ProfileNotFound:
        return None, f"{'profile' if identity.profile else 'AWS_PROFILE'} names a profile that is not there"
    except botocore.exceptions.PartialCredentialsError:
        return None, f"only a part of the AWS credentials is there: {_WAYS}"
    except botocore.exceptions.BotoCoreError as error:  # its text may hold what stands in a file of credentials
        return None, f"the AWS credentials can't be read ({type(error).__name__}): {_WAYS}"
    if found is None:
        return None, f"no AWS credentials: {_WAYS}"
    source = _SOURCES.get(found.method, "boto3's chain")
    named = [key for key in ("profile", "role_arn") if getattr(identity, key) is not None]
    return f"{source}{', with ' if named else ''}{' and '.join(named)}", None
