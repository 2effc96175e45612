"""What the adapters need of the environment. The failing cells are printed at the end, by the rule that refused."""

import pathlib

import pytest

from tests.dialects.cells import TABLES


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, authority: pathlib.Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setenv("FAKE_KEY", "sk-fake")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFAKE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for table in TABLES:
        for line in ("", *table):
            terminalreporter.write_line(line)
