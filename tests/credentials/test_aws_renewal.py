"""What botocore's sources may tell when a key is fetched again, and what becomes of it."""

import asyncio
import datetime
from typing import Any

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError

from deployments.providers.credentials.aws import _renew, sign_in
from deployments.providers.credentials.identities import AwsIdentity
from tests.fakes.identity import aws
from tests.fakes.identity.server import identity_server

LATER = "2099-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def environment(clean: None) -> None:
    pass


def source(told: Any) -> RefreshableCredentials:
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    return RefreshableCredentials("OLD", "secret", "token", until, lambda: told, "iam-role")


def test_what_is_told_is_taken_whole_and_changes_nothing_that_another_thread_reads() -> None:
    found = source({"access_key": "NEW", "secret_key": "s", "token": "t", "expiry_time": LATER})
    fresh = _renew(found)
    assert fresh.value.access_key == "NEW"
    assert fresh.expires_at == datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC).timestamp()
    assert found.get_frozen_credentials().access_key == "OLD"


@pytest.mark.parametrize(
    "told", [{}, None, {"access_key": "NEW", "secret_key": "", "token": "t", "expiry_time": LATER}]
)
def test_an_instance_that_tells_nothing_has_failed(told: Any) -> None:
    """botocore's fetcher of an instance's role returns {} for each of its failures."""
    with pytest.raises(CredentialRetrievalError):
        _renew(source(told))


def test_keys_that_never_expire_are_renewed_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFAKE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert sign_in(AwsIdentity(), "us-east-1")[1] is None


def test_what_was_found_at_the_start_is_used_before_anything_else_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    with identity_server(aws.container) as identity:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{identity.url}/credentials")
        session, renewed = sign_in(AwsIdentity(), "us-east-1")
        assert renewed is not None
        assert identity.told == 1

        async def main() -> Any:
            found = renewed.usable()
            await renewed.close()
            return found

        found = asyncio.run(main())
        assert found.access_key == "KEY-1"
        assert session.get_credentials().get_frozen_credentials() == found
        assert identity.told == 1
