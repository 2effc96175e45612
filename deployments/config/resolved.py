"""The configuration with what the environment makes of it: which providers can be called, and where each row leads."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from actors.breaker.places import Places
from actors.breaker.plan import PLACE, parts_of, site_of, target_of
from deployments.config.places import Tier
from deployments.config.providers import ProviderSettings, row_of
from deployments.config.settings import Models, explain_unset
from deployments.config.silence import silence_warnings
from deployments.errors import ConfigError
from deployments.keys.ring import KeySources
from deployments.providers.kinds import KINDS
from deployments.secrecy import shown
from deployments.vendor_prices.table import vendor_at, vendor_price

if TYPE_CHECKING:
    from deployments.config.application import Config


@dataclass(frozen=True, slots=True)
class Tags:
    """`of_providers` are by name, and `of_rows` by row and target, where a target has more than its provider.

    `of_places` are by `provider#place`: what a place has beside all that.
    """

    of_providers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    of_rows: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    of_places: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def of(self, row: str, target: str) -> frozenset[str]:
        """Return the tags of a target in a row."""
        provider, model = parts_of(target)
        known = self.of_rows.get((row, target_of(provider, model)))
        tags = self.of_providers.get(provider, frozenset()) if known is None else known
        return tags | self.of_places.get(site_of(target), frozenset())

    @property
    def names(self) -> list[str]:
        """Return all tags that there are, in order."""
        return sorted(frozenset().union(*self.of_providers.values(), *self.of_rows.values(), *self.of_places.values()))


@dataclass(frozen=True)
class ResolvedConfig:
    """A checked config with the state of each provider, which depends on the environment."""

    config: "Config"
    tiers: tuple[Tier, ...]  # all providers, those of the mode first, in order of preference

    @property
    def usable(self) -> list[str]:
        """Return the names of the providers that can be called."""
        return [tier.name for tier in self.tiers if tier.left_out is None]

    @cached_property
    def places(self) -> Places:
        """Return the places that can be called."""
        states = {tier.name: [p.site for p in tier.places if p.left_out is None] for tier in self.tiers}
        spread = [name for name, p in self.config.providers.items() if getattr(p, "places_order", "") == "spread"]
        return Places({name: sites for name, sites in states.items() if name in self.usable}, spread)

    def rows(self) -> dict[str, list[str]]:
        """Return the targets of each row, in the row's own order, of providers that can be called."""
        return self._targets_of(self.config.chat_models())

    def embedding_rows(self) -> dict[str, list[str]]:
        """Return the same as `rows`, for embeddings."""
        return self._targets_of(self.config.embedding_models())

    def left_out(self) -> dict[str, str]:
        """Return why each provider that can't be called is left out, by its name."""
        return {tier.name: tier.left_out for tier in self.tiers if tier.left_out is not None}

    def places_left_out(self) -> dict[str, str]:
        """Return the same for places, by `provider#place`."""
        every = [(f"{tier.name}{PLACE}{place.name}", place.left_out) for tier in self.tiers for place in tier.places]
        return {site: why for site, why in every if why is not None}

    def vacant(self, rows: Models) -> dict[str, str]:
        """Return each row that no provider serves, with the reasons."""
        reasons, empty = self.left_out(), [row for row, targets in self._targets_of(rows).items() if not targets]
        return {row: "; ".join(f"{name} is left out: {reasons.get(name)}" for name in rows[row]) for row in empty}

    def _targets_of(self, rows: Models) -> dict[str, list[str]]:
        usable = set(self.usable)
        return {
            row: [t for name, model in models.items() if name in usable for t in self.places.targets(name, model)]
            for row, models in rows.items()
        }

    def kinds(self) -> dict[str, str]:
        """Return the row in `providers/kinds.py` of each provider that can be called, by its name."""
        return {tier.name: row_of(self.config.providers[tier.name]) for tier in self.tiers if tier.left_out is None}

    def fixed(self) -> frozenset[str]:
        """Return the providers that have one model each."""
        return frozenset(name for name, kind in self.kinds().items() if KINDS[kind].in_process)

    def billing_addresses(self) -> dict[str, str]:
        """Return the URL of the API of each provider that bills by a list, by the provider's name."""
        found = {name: _billed_at(settings) for name, settings in self.config.providers.items()}
        return {name: address for name, address in found.items() if address is not None}

    def base_models(self) -> dict[str, str]:
        """Return the vendor's own id of the model of each target that has another name in the configuration."""
        return {
            target_of(provider, name): model
            for provider, settings in self.config.providers.items()
            for name, model in settings.base_models().items()
        }

    def with_extras(self) -> frozenset[tuple[str, str]]:
        """Return each row with its targets to whose requests something is added there."""
        own = (it for it in self.config.target_settings() if not it[2].adds_nothing)
        return frozenset((row, target_of(provider, target.model)) for row, provider, target in own)

    def tags(self) -> Tags:
        """Return the tags of each provider and place, and of each target in its row with those of its provider."""
        of = {name: frozenset(settings.tags) for name, settings in self.config.providers.items()}
        own = {
            (row, target_of(name, it.model)): of[name] | frozenset(it.tags)
            for row, name, it in self.config.target_settings()
            if it.tags
        }
        places = {
            f"{name}{PLACE}{place}": tags
            for name, settings in self.config.providers.items()
            for place, tags in settings.place_tags().items()
        }
        return Tags({name: tags for name, tags in of.items() if tags}, own, places)

    def usual_tiers(self) -> dict[str, str]:
        """Return the vendor's tier that serves requests which name none, by provider; without those of the usual."""
        found = {name: settings.usual_tier() for name, settings in self.config.providers.items()}
        return {name: tier for name, tier in found.items() if tier is not None}

    def tells_callers(self) -> dict[str, frozenset[str]]:
        """Return what the vendors of providers are told of their callers, by provider; without those told nothing."""
        found = {name: settings.tells_callers() for name, settings in self.config.providers.items()}
        return {name: parts for name, parts in found.items() if parts}

    def concurrency(self) -> dict[str, int | str]:
        """Return by provider how many calls its targets may have at once; without those that may have any number."""
        found = {name: settings.concurrency for name, settings in self.config.providers.items()}
        return {name: number for name, number in found.items() if number is not None}

    def continues(self) -> dict[str, tuple[str | None, Mapping[str, str]]]:
        """Return by provider where its server is, if it is not the vendor's, and how its models are asked to go on."""
        found = self.config.providers.items()
        return {name: (getattr(settings, "base_url", None), settings.continues) for name, settings in found}

    def windows(self) -> dict[str, int]:
        """Return the context window of each target in tokens, where it is known."""
        return self._windows(self.config.chat_models(), lambda settings, model: settings.window(model))

    def embedding_windows(self) -> dict[str, int]:
        """Return the same as `windows`, for embeddings."""
        return self._windows(self.config.embedding_models(), lambda settings, model: settings.embedding_window(model))

    def warnings(self, environment: Mapping[str, str] = os.environ) -> list[str]:
        """Return what is allowed, and most likely not meant, in one sentence each.

        `environment` is the one in which Ray starts.
        """
        unpriced = [
            f"row {row}: no target has a price, so nobody with a monthly_cost can use it: see prices, limits.unpriced"
            for row in self.unpriced_rows()
        ]
        return unpriced + silence_warnings(self.config, environment) + list(self._passwords())

    def _passwords(self) -> Iterator[str]:
        for name, settings in self.config.providers.items():
            url = getattr(settings, "base_url", None) or getattr(settings, "endpoint_url", None) or ""
            if "@" in urlsplit(url).netloc:
                yield f"providers.{shown(name)}: its URL has a user or a password, which Ray's dashboard shows"

    def unpriced_rows(self) -> list[str]:
        """Return the rows that nobody with a `monthly_cost` can use: none of their targets has a price."""
        limits, prices, addresses = self.config.limits, self.config.prices, self.billing_addresses()
        if not limits.of_cost or limits.unpriced != "refuse":
            return []
        rows = {**self.rows(), **self.embedding_rows()}
        priced = {row for row, targets in rows.items() if any(self._is_priced(t, prices, addresses) for t in targets)}
        return [row for row, targets in rows.items() if targets and row not in priced]

    def _is_priced(self, target: str, prices: Collection[str], addresses: Mapping[str, str]) -> bool:
        provider, model = parts_of(target)
        if provider in self.fixed() or f"{provider}/{model}" in prices or model in prices:
            return True
        base = self.config.providers[provider].base_model(model)
        return provider in addresses and vendor_price(addresses[provider], base) is not None

    def _windows(self, rows: Models, window: Callable[[ProviderSettings, str], int | None]) -> dict[str, int]:
        known = {
            target: window(self.config.providers[name], model)
            for models in rows.values()
            for name, model in models.items()
            for target in self.places.targets(name, model)
        }
        return {target: tokens for target, tokens in known.items() if tokens is not None}


def _billed_at(settings: ProviderSettings) -> str | None:
    """Return where a provider's list prices are from. Places of different vendors have none in common."""
    if not (places := settings.at_places()):
        return settings.billing_address()
    every = [there.billing_address() for there in places.values()]
    vendors = {None if address is None else vendor_at(address) for address in every}
    return every[0] if len(vendors) == 1 else None


def _tier(name: str, settings: ProviderSettings, unset: str | None) -> Tier:
    """Return a provider as it stands. `unset` is why it can't be called wherever it is, if so."""
    places = settings.place_states()
    if not places or unset is not None:
        credential, why = settings.found()
        return Tier(name, settings.kind, why or unset, credential=credential)
    out = "; ".join(f"{p.name}: {p.left_out}" for p in places)
    return Tier(name, settings.kind, out if all(p.left_out is not None for p in places) else None, places)


def resolve(config: "Config") -> ResolvedConfig:
    """Return the config with the state of each provider: one without credentials is left out.

    Raises ConfigError if a variable for keys or the ledger is not set, keys are wrong, or no provider can be called.
    """
    chosen = config.tier_names()
    others = [name for name in config.providers if name not in chosen]
    tiers = [_tier(n, config.providers[n], config.unset_extra(n)) for n in chosen]
    tiers += [Tier(n, config.providers[n].kind, f"not in mode {config.mode}") for n in others]
    resolved = ResolvedConfig(config, tuple(tiers))
    for key, variable in config.auth.model_dump(include={"api_keys_env", "admin_key_env"}, exclude_none=True).items():
        if (why := explain_unset(variable, "it")) is not None:
            raise ConfigError(f"auth.{key}: {why}")
    KeySources(config.auth.api_keys_env, config.auth.admin_key_env, config.auth.keys_file).read(os.environ)
    if (missing := config.ledger.missing()) is not None:
        raise ConfigError(f"ledger.{missing}")
    if not resolved.usable:
        reasons = "; ".join(f"{t.name}: {t.left_out}" for t in tiers)
        raise ConfigError(f"mode: {config.mode} has no tier that can be called ({reasons})")
    return resolved
