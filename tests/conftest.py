"""What tests of several folders share."""

import pathlib
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.fakes.tls import pem

# What an example takes says nothing on a machine that others use too.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """The cluster's tests stay on one worker, and those of a file, which share what they have made."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "tests/cluster" if file.startswith("tests/cluster/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One for the cluster and one for all else, which waits less; a part of it is run by this process alone."""
    options, option = config.getini("addopts"), config.option
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not option.keyword and option.capture != "no"
    return 2 if whole and option.markexpr == options[options.index("-m") + 1] else 0


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """For SSL_CERT_FILE: one certificate, which has signed nothing.

    To read all of a system's takes each new client some 40 ms, and nobody here is spoken to over the internet.
    """
    file = tmp_path_factory.mktemp("authority") / "authority.pem"
    file.write_bytes(pem("nobody"))
    return file
