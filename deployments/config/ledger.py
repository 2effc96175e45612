"""The keys of serve_config.yaml for the ledger: where its rows go, prices, and limits.

Secrets are named by environment variable: a PostgreSQL URL holds a password.
"""

import os
import pathlib
from decimal import Decimal
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from actors.ledger.budget import Limit, Limits
from actors.ledger.messages import Keep, LedgerConfig
from actors.ledger.rows import NANOS
from deployments.config.base.section import Section
from deployments.config.base.values import Days, Filled, NoSwitch, Title, Variable
from deployments.config.settings import explain_unset
from deployments.validation import wrong

Count = Annotated[int, NoSwitch, Field(ge=1, le=10**12)]
Dollars = Annotated[Decimal, NoSwitch, Field(gt=0, le=10**9, allow_inf_nan=False)]
PerMillion = Annotated[Decimal, NoSwitch, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Rate(Section):
    """US dollars for a million tokens. What is not said costs as the input or the output of which it is a part."""

    input: PerMillion
    output: PerMillion
    cached: PerMillion | None = None  # input from the provider's cache
    cache_write: PerMillion | None = None  # input that it writes there
    cache_write_1h: PerMillion | None = None  # for an hour; by default as cache_write
    reasoning: PerMillion | None = None
    audio_input: PerMillion | None = None
    audio_output: PerMillion | None = None

    @model_validator(mode="after")
    def _a_cache_saves(self) -> Self:
        if self.cached is not None and self.cached > self.input:
            raise ValueError("cached: more than input")
        return self


class TierPrice(Rate):
    """`above`: what all tokens cost if the prompt has more tokens than the key says."""

    above: dict[Count, Rate] = Field(default_factory=dict)


class Price(TierPrice):
    """`service_tiers`: the prices of a tier by the name that an answer's `service_tier` has."""

    service_tiers: dict[Title, TierPrice] = Field(default_factory=dict)


Unpriced = Literal["refuse", "free"] | Price


def _check_folder(folder: str) -> str:
    if "://" in folder:
        raise wrong("must be a folder, not a URL: a URL belongs into a variable that ledger.url_env names")
    return folder


class KeepSettings(Section):
    """How long rows are kept, as `90d` or `forever`: requests with their attempts, and the figures of each day.

    Two days are the least, because a row may come late.
    """

    requests: Days = "forever"
    rollups: Days = "forever"

    def days(self) -> Keep:
        return {"requests": _days(self.requests), "rollups": _days(self.rollups)}

    @model_validator(mode="after")
    def _figures_outlive_rows(self) -> "KeepSettings":
        requests, rollups = _days(self.requests), _days(self.rollups)
        if rollups is not None and (requests is None or requests > rollups):
            raise ValueError("rollups: requests must not be kept for longer")
        return self


def _days(kept: str) -> int | None:
    return None if kept == "forever" else int(kept[:-1])


_STORES = ("postgresql://", "postgresql+", "sqlite:")


class LedgerSettings(Section):
    """`folder` holds the journals of this machine's replicas and, without `url_env`, the SQLite file.

    It must outlive the process, and a container if that may be killed. `url_env` names the variable with
    a PostgreSQL URL; a cluster of several machines needs it.
    """

    folder: Annotated[Filled, AfterValidator(_check_folder)] = "~/.local/state/breakwater"
    url_env: Variable | None = None
    journal_megabytes: Annotated[int, NoSwitch, Field(ge=4, le=4096)] = 64
    keep: KeepSettings = KeepSettings()

    def missing(self) -> str | None:
        """Return why the ledger can't be used, as `key: reason`; None if it can."""
        try:
            pathlib.Path(self.folder).expanduser()
        except RuntimeError:
            return "folder: it begins with ~, and the user has no home directory: name another folder"
        if (why := explain_unset(self.url_env, "it") or self._objection_to_url()) is not None:
            return f"url_env: {why}"
        return None

    def _objection_to_url(self) -> str | None:
        """Return why the variable's text is no URL of a store, without repeating it, for it holds a password."""
        if self.url_env is None:
            return None
        url = os.environ[self.url_env]
        try:
            _ = urlsplit(url).port
        except ValueError:
            return f"the URL in {self.url_env} can't be read: signs of its password must be written as %40"
        if url.startswith(_STORES):
            return None
        return f"{self.url_env} must hold a URL that begins with postgresql:// (not postgres://)"

    def journals(self, app: str) -> pathlib.Path:
        """Return the folder of an application's journals."""
        return self._home(app) / "journal"

    def _home(self, app: str) -> pathlib.Path:
        return pathlib.Path(self.folder).expanduser().absolute() / app

    def for_actor(self, app: str) -> LedgerConfig:
        """Return the ledger actor's configuration. The actor reads the variable itself, so no secret is sent."""
        return {
            "url_env": self.url_env,
            "url": f"sqlite:///{self._home(app) / 'usage.sqlite3'}",
            "journals": str(self.journals(app)),
            "keep": self.keep.days(),
        }


class LimitSettings(Section):
    """The limits of one tenant or key. `monthly_cost` is in US dollars. None: no limit."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    monthly_cost: Dollars | None = None

    def limit(self) -> Limit:
        """Return the limit with its cost in nano-dollars."""
        cost = None if self.monthly_cost is None else int(self.monthly_cost * NANOS)
        return Limit(self.requests_per_minute, self.tokens_per_minute, cost)


class LimitsSettings(Section):
    """`each_*` holds for every tenant or key that is not named.

    `without_ledger`: whether limited callers are served while the ledger is away. `unpriced`: how a target without a
    price counts against a `monthly_cost`; `refuse`: it does not serve who has one. `output_tokens` are held for a
    request that sets no `max_tokens`.
    """

    tenants: dict[Title, LimitSettings] = Field(default_factory=dict)
    keys: dict[Title, LimitSettings] = Field(default_factory=dict)
    each_tenant: LimitSettings | None = None
    each_key: LimitSettings | None = None
    without_ledger: Literal["allow", "refuse"] = "allow"
    unpriced: Unpriced = "refuse"
    output_tokens: Count = 4096

    def limits(self) -> Limits:
        """Return all limits, those of names as `tenant:name` and `key:name`."""
        named = {f"tenant:{name}": x.limit() for name, x in self.tenants.items()}
        named |= {f"key:{name}": x.limit() for name, x in self.keys.items()}
        each = {"tenant": self.each_tenant, "key": self.each_key}
        return Limits(
            named, {subject: x.limit() for subject, x in each.items() if x is not None}, self.without_ledger == "refuse"
        )

    @property
    def of_cost(self) -> bool:
        """Return whether anybody has a `monthly_cost`."""
        every = [*self.tenants.values(), *self.keys.values(), self.each_tenant, self.each_key]
        return any(one is not None and one.monthly_cost is not None for one in every)


class Accounting(Section):
    """The keys `ledger`, `prices` and `limits` of the application's args."""

    ledger: LedgerSettings = LedgerSettings()
    prices: dict[Title, Price] = Field(default_factory=dict)
    limits: LimitsSettings = LimitsSettings()
