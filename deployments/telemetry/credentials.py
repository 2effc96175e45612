"""How old the credential of a provider is, as metrics of its replica. No Ray."""

from collections.abc import Callable

from actors.metrics import Meter
from deployments.providers.credentials.renewed import CredentialReport


class CredentialMetrics:
    """Call it once a second. `report` says how the credential stands, which may be that of one place."""

    def __init__(self, meter: Meter, provider: str, report: Callable[[], CredentialReport], place: str = ""):
        self._meter, self._labels, self._report = meter, (provider, place), report
        self._counted = 0

    def __call__(self) -> None:
        report = self._report()
        self._meter.add("breakwater_credential_failures_total", self._labels, report.failures - self._counted)
        self._counted = report.failures
        if report.age is not None and report.left is not None:
            self._meter.set("breakwater_credential_age_seconds", self._labels, report.age)
            self._meter.set("breakwater_credential_left_seconds", self._labels, report.left)
