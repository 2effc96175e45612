"""An environment without any credential, so that each test has its own alone."""

import os
import pathlib

import pytest

PREFIXES = (
    "AWS_",
    "AZURE_",
    "GOOGLE_",
    "GCE_",
    "OPENAI_",
    "IDENTITY_",
    "MSI_",
    "IMDS_",
    "CLOUDSDK_",
    "GEMINI_",
    "ANTHROPIC_",
)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, authority: pathlib.Path) -> None:
    for name in os.environ:
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # files of credentials
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
