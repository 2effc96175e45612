"""The keys of serve_config.yaml for the ledger: where its rows go, prices, and limits.

Secrets are named by environment variable: a PostgreSQL URL holds a password.
"""

import os
import pathlib
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from actors.ledger.budget import Limit, Limits
from actors.ledger.messages import Keep, LedgerConfig
from actors.ledger.rows import NANOS
from deployments.config.settings import Strict

Count = Annotated[int, Field(ge=1, le=10**12)]
Dollars = Annotated[Decimal, Field(gt=0, le=10**9, allow_inf_nan=False)]
PerMillion = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Price(Strict):
    """US dollars for a million tokens."""

    input: PerMillion
    output: PerMillion
    cached: PerMillion | None = None  # input tokens from the provider's cache; by default as `input`


Unpriced = Literal["refuse", "free"] | Price


Days = Annotated[str, Field(pattern=r"^([2-9]|[1-9][0-9]{1,4})d$|^forever$")]


class KeepSettings(Strict):
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


class LedgerSettings(Strict):
    """`folder` holds the journals of this machine's replicas and, without `url_env`, the SQLite file.

    It must outlive the process, and a container if that may be killed. `url_env` names the variable with
    a PostgreSQL URL; a cluster of several machines needs it.
    """

    folder: str = "~/.local/state/breakwater"
    url_env: str | None = None
    journal_megabytes: Annotated[int, Field(ge=4, le=4096)] = 64
    keep: KeepSettings = KeepSettings()

    def missing(self) -> str | None:
        """Return why the ledger can't be used, as `key: reason`; None if it can."""
        try:
            pathlib.Path(self.folder).expanduser()
        except RuntimeError:
            return f"folder: {self.folder} can't be found, because the user has no home directory: name another folder"
        return f"url_env: {self.url_env} is not set" if self.url_env and not os.environ.get(self.url_env) else None

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


class LimitSettings(Strict):
    """The limits of one tenant or key. `monthly_cost` is in US dollars. None: no limit."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    monthly_cost: Dollars | None = None

    def limit(self) -> Limit:
        """Return the limit with its cost in nano-dollars."""
        cost = None if self.monthly_cost is None else int(self.monthly_cost * NANOS)
        return Limit(self.requests_per_minute, self.tokens_per_minute, cost)


class LimitsSettings(Strict):
    """`each_*` holds for every tenant or key that is not named.

    `without_ledger`: whether limited callers are served while the ledger is away. `unpriced`: how a target without a
    price counts against a `monthly_cost`; `refuse`: it does not serve who has one. `output_tokens` are held for a
    request that sets no `max_tokens`.
    """

    tenants: dict[str, LimitSettings] = Field(default_factory=dict)
    keys: dict[str, LimitSettings] = Field(default_factory=dict)
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


class Accounting(Strict):
    """The keys `ledger`, `prices` and `limits` of the application's args."""

    ledger: LedgerSettings = LedgerSettings()
    prices: dict[Annotated[str, Field(min_length=1)], Price] = Field(default_factory=dict)
    limits: LimitsSettings = LimitsSettings()

    @model_validator(mode="after")
    def _consistent(self) -> "Accounting":
        for name, price in self.prices.items():
            if price.cached is not None and price.cached > price.input:
                raise ValueError(f"prices.{name}.cached: more than input")
        return self
