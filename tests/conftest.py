"""What tests of several folders share."""

import pathlib

import pytest
from hypothesis import HealthCheck, settings

from tests.fakes.tls import pem

# What an example takes says nothing on a machine that others use too.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """For SSL_CERT_FILE: one certificate, which has signed nothing.

    To read all of a system's takes each new client some 40 ms, and nobody here is spoken to over the internet.
    """
    file = tmp_path_factory.mktemp("authority") / "authority.pem"
    file.write_bytes(pem("nobody"))
    return file
