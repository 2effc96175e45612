"""Tokens of Google Cloud, by google-auth: a file that the configuration names, or what its own chain finds."""

import datetime
import functools
import warnings
from dataclasses import dataclass, replace
from typing import Any

import google.auth
import google.auth.exceptions
import google.auth.transport.requests

from deployments.providers.credentials.addresses import Vertex
from deployments.providers.credentials.renewed import Renewed, in_thread
from deployments.providers.credentials.schedule import Fresh

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
REQUEST_SECONDS = 20.0  # for one request of google-auth, which would wait for two minutes


@dataclass(frozen=True, slots=True)
class GoogleIdentity:
    """Who asks: google-auth's credentials, and the project that they belong to, if they say it."""

    credentials: Any
    project: str | None

    @property
    def quota_project(self) -> str | None:
        found: str | None = getattr(self.credentials, "quota_project_id", None)
        return found


def find_identity(file: str | None) -> GoogleIdentity:
    """Return who asks: whom the file says, or whom google-auth finds. Raises google-auth's errors.

    Without a file of credentials anywhere it looks for the metadata server, which takes seconds where there is none.
    """
    if file is None:
        credentials, project = google.auth.default(scopes=[SCOPE])
        return GoogleIdentity(credentials, project)
    with warnings.catch_warnings():
        # google-auth warns of files that strangers have written. This one is the operator's.
        warnings.simplefilter("ignore", DeprecationWarning)
        load: Any = google.auth.load_credentials_from_file
        credentials, project = load(file, scopes=[SCOPE])
    return GoogleIdentity(credentials, project)


def on_vertex(vertex: Vertex, file: str | None) -> tuple[GoogleIdentity, Vertex]:
    """Return who asks, and the address with what the credentials say of it. Raises google-auth's errors."""
    found = find_identity(file)
    project = vertex.project or found.project
    return found, replace(vertex, project=project, quota_project=found.quota_project)


def google_token(identity: GoogleIdentity) -> Renewed[str]:
    """Return the token of an identity. Nothing is sent before it is started or used."""
    credentials = identity.credentials
    request: Any = google.auth.transport.requests.Request()
    request = functools.partial(request, timeout=REQUEST_SECONDS)

    def fetch() -> Fresh[str]:
        credentials.refresh(request)
        expiry = credentials.expiry.replace(tzinfo=datetime.UTC)  # google-auth's instants are UTC, and do not say so
        return Fresh(credentials.token, expiry.timestamp())

    return Renewed("Google Cloud", in_thread(fetch))


_WAYS = "set GOOGLE_APPLICATION_CREDENTIALS, or vertex.credentials_file"
_WORDS = {
    "google.oauth2.service_account": "a service account's key file",
    "google.oauth2.credentials": "a user's credentials of gcloud",
    "google.auth.compute_engine.credentials": "the metadata server",
    "google.auth.identity_pool": "workload identity federation",
    "google.auth.aws": "workload identity federation (AWS)",
    "google.auth.pluggable": "workload identity federation (a program)",
    "google.auth.impersonated_credentials": "an impersonated service account",
    "google.auth.external_account_authorized_user": "workforce identity federation",
}


def describe(file: str | None) -> tuple[GoogleIdentity | None, str]:
    """Return who asks, and in words where that comes from; or None, and why nobody can. No word may be a secret."""
    try:
        found = find_identity(file)
    except (google.auth.exceptions.GoogleAuthError, ValueError, OSError) as error:
        if file is not None:
            return None, f"vertex.credentials_file can't be read as Google's credentials ({type(error).__name__})"
        return None, f"no Google credentials ({type(error).__name__}): {_WAYS}"
    return found, _WORDS.get(type(found.credentials).__module__, "Google credentials")
