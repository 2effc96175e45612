"""A provider as it stands in this deployment. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tier:
    """One provider as it stands in this deployment."""

    name: str
    kind: str  # `functions` for an external provider
    left_out: str | None  # why the provider is not called; None if it is
