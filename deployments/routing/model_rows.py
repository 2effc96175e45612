"""Which targets a request's `model` means, and in which form each of them takes the request. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from actors.breaker.places import NO_PLACES, Places
from actors.breaker.plan import PLACE, model_of, parts_of, provider_of, target_of
from actors.ledger.rows import LONGEST_TEXT
from deployments.config.rows import EVERY_ROW, USUAL, RowSettings
from deployments.continuation.methods import CONFIGURED, Method, configured_word, method_of
from deployments.errors import BadRequest, NoAnswer, UnknownModel
from deployments.json_schema.request import lost_in
from deployments.newest import Newest
from deployments.openai_api.cache_marks import with_kept_marks
from deployments.openai_api.chat import Drop, Native, Request
from deployments.openai_api.json_types import JsonObject
from deployments.providers.kinds import KINDS
from deployments.routing.aliases import Aliases
from deployments.routing.message_forms import with_result_ids, without_foreign
from deployments.routing.model_rules import Adapted, adapt, rules_of
from deployments.routing.refusals import Conceded
from deployments.routing.request_fit import (
    RequestFit,
    Shape,
    fit_native,
    fit_request,
    fit_translated,
    shape_of,
    unsupported_in_chat,
    unsupported_in_embedding,
)
from deployments.validation import nearest

if TYPE_CHECKING:
    from deployments.config.resolved import ResolvedConfig, Tags

SHAPES = 1000  # of requests, for which it is kept who takes them as they are
VACANT_SECONDS = 60.0  # until it may be worth to ask again: a deploy must come first
_PINNABLE = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_TEXT}}}")


class ModelRows:
    """The model rows of chats, or those of embeddings.

    `rows` maps a row's name to its targets in failover order, `kinds` each provider that can be called to its kind.
    `fixed` are providers that have the models of the rows and no other, so nothing else can be pinned there.
    `windows` maps a target to its context window in tokens, where the configuration has it. `chats` says whether
    their requests are chats or embeddings. `drop` is what may be left out unless a request says otherwise. `left_out`
    maps each provider that can't be called to the reason, and `vacant` each row that only such providers have.
    `aliases` maps other names of the rows, and patterns of names, to rows. `base_models` maps targets that have names
    of ours to the vendor's own ids of their models, and `tells` providers to what their vendors are told of a caller.
    `with_extras` are rows with their targets to whose requests the configuration adds something, and `tags` what says
    which targets serve requests that keep to a scope.
    `places` are those of the providers. `settings` are the rows' own, and of `*` those of all others. `continues` has
    for each provider what decides how its models are asked to go on with a text.
    """

    def __init__(
        self,
        rows: Mapping[str, list[str]],
        kinds: Mapping[str, str],
        *,
        fixed: frozenset[str] = frozenset(),
        windows: Mapping[str, int] | None = None,
        chats: bool = True,
        drop: Drop = "hints",
        left_out: Mapping[str, str] | None = None,
        vacant: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
        base_models: Mapping[str, str] | None = None,
        tells: Mapping[str, frozenset[str]] | None = None,
        with_extras: frozenset[tuple[str, str]] = frozenset(),
        tags: "Tags | None" = None,
        places: Places = NO_PLACES,
        settings: Mapping[str, RowSettings] | None = None,
        continues: Mapping[str, tuple[str | None, Mapping[str, str]]] | None = None,
    ):
        self._continues = continues or {}
        self.places = places
        self._settings: Mapping[str, RowSettings] = settings or {}
        self._tags = tags
        self._with_extras = with_extras
        self._base_models = base_models or {}
        self.tells: Mapping[str, frozenset[str]] = tells or {}
        self._aliases = Aliases(aliases or {})
        self._left_out, self._vacant = left_out or {}, vacant or {}
        self._rows = rows
        self._kinds = kinds
        self._fixed = fixed
        self._chats = chats
        self._as_they_are = Newest[Shape, tuple[str, ...]](SHAPES)
        self._drop: Drop = drop
        self.windows: Mapping[str, int] = windows or {}

    @property
    def names(self) -> list[str]:
        """Return the rows' own names."""
        return list(self._rows)

    def settings_of(self, model: str) -> RowSettings:
        """Return the settings of the row that is meant; the usual ones for a pinned target."""
        settings = self._settings
        return (settings.get(self.name_of(model)) or settings.get(EVERY_ROW) or USUAL) if settings else USUAL

    @property
    def aliases(self) -> list[str]:
        """Return the other names of rows, without patterns."""
        return self._aliases.names

    @property
    def default(self) -> str:
        """Return the name of the row for a call that names none: `default` if there is one, else the first."""
        return "default" if "default" in self._rows else self.names[0]

    @property
    def targets(self) -> set[str]:
        """Return every target of every row."""
        return {target for row in self._rows.values() for target in row}

    def kind(self, target: str) -> str:
        return self._kinds[provider_of(target)]

    def continuation_of(self, target: str) -> Method | None:
        """Return how a target is asked to go on with a text that another one has begun; None if it is not asked."""
        base_url, configured = self._continues.get(provider_of(target), (None, {}))
        if (word := configured_word(model_of(target), configured)) is not None:
            return CONFIGURED[word]
        kind, model = KINDS[self.kind(target)], self.base_model(target)
        return method_of(model, in_process=kind.in_process, passes_through=kind.passes_through, base_url=base_url)

    def base_model(self, target: str) -> str:
        """Return the vendor's own id of a target's model."""
        model = model_of(target)
        return self._base_models.get(target_of(provider_of(target), model), model) if self._base_models else model

    def window(self, target: str) -> float:
        """Return the context window in tokens.

        A model of unknown context size counts as smaller than any known one: it is tried first, but not after another
        model found the prompt too long.
        """
        return self.windows.get(target, 0.5)

    def name_of(self, model: str) -> str:
        """Return the name of the row that is meant; the same name if none is.

        A row's own name comes first, then another name of a row, then a pinned target, then a pattern.
        """
        if model in self._rows:
            return model
        if (row := self._aliases.named(model)) is not None:
            return row
        provider, slash, _ = model.partition("/")
        if slash and (provider in self._kinds or provider in self._left_out or provider in self.places):
            return model
        return self._aliases.matching(model) or model

    def of(self, model: str) -> list[str]:
        """Return the targets of the row that is meant, or those that `provider/upstream-id` pins.

        These are all places of the provider; `provider#place/upstream-id` pins one of them. Raises UnknownModel, and
        BadRequest for an invalid upstream id.
        """
        row = self._rows.get(self.name_of(model))
        if row is not None:
            return row
        site, slash, upstream = model.partition("/")
        provider = site.partition(PLACE)[0] if site in self.places else site
        if slash and provider in self._kinds:
            pinned = [model] if provider is not site else self.places.targets(provider, upstream)
            known = pinned[0] in self.targets
            if not known:
                self._check_id(provider, upstream)
            if known or provider not in self._fixed:
                return pinned
        raise self.unknown(model)

    def targets_of(self, models: Sequence[str]) -> list[str]:
        """Return the targets of all these models, each once and in order. Raises as `of` does."""
        if len(models) == 1:
            return self.of(models[0])
        return list(dict.fromkeys(target for model in models for target in self.of(model)))

    def _check_id(self, provider: str, upstream: str) -> None:
        """Raise BadRequest for an id that is none of its vendor's: it may become a part of a URL."""
        if not _PINNABLE.fullmatch(upstream):
            message = f"Invalid 'model': an upstream id is printable ASCII without spaces, {LONGEST_TEXT} at most."
            raise BadRequest(message, "model")
        valid = KINDS[self._kinds[provider]].model_ids
        if valid is not None and upstream.startswith("arn:"):
            how = "by the name that its configuration gives it"
            raise BadRequest(f"Invalid 'model': '{provider}' is asked for what has an ARN {how}.", "model")
        if valid is not None and not valid.fullmatch(upstream):
            raise BadRequest(f"Invalid 'model': no model of '{provider}' has an id such as '{upstream}'.", "model")

    def unknown(self, model: str) -> UnknownModel:
        """Return the error for a model that does not exist, or that is of a provider that is left out."""
        provider, slash, _ = model.partition("/")
        if slash and (reason := self._left_out.get(provider)) is not None:
            return UnknownModel(f"The provider '{provider}' is left out: {reason}.")
        if not self._rows:
            return UnknownModel(f"No {'models' if self._chats else 'embeddings'} are configured.")
        if len(model) > LONGEST_TEXT:
            model = f"{model[:LONGEST_TEXT]}…"
        near = nearest(model, self._rows)
        hint = "" if near is None else f" Did you mean '{near}'?"
        return UnknownModel(f"The model '{model}' does not exist. Known models: {', '.join(self._rows)}.{hint}")

    @property
    def tags(self) -> list[str]:
        """Return all tags that targets have."""
        return [] if self._tags is None else self._tags.names

    def fits(self, request: Request, scope: frozenset[str] = frozenset()) -> Iterator[tuple[str, RequestFit]]:
        """Yield each target with the request in the form in which it takes it, unfit targets included.

        A target that has not all tags of the `scope` in any row of the request's is outside.
        Raises UnknownModel, BadRequest, and NoAnswer for a row whose providers are all left out.
        """
        drop = request.drop or self._drop
        targets = self.targets_of(request.models)
        if not targets and (why := self._vacant.get(self.name_of(request.model))) is not None:
            message = f"No provider of '{request.model}' can be called: {why}."
            raise NoAnswer(message, retry_after=VACANT_SECONDS)
        body = with_result_ids(request.body) if self._chats else request.body
        rows = self._rows_of(request.models, scope) if self._with_extras or scope else {}
        for target in targets:
            if scope and target not in rows:
                yield target, RequestFit(body, outside=True)
                continue
            try:
                fit = self._fit(target, body, drop, request.native)
            except Exception as error:
                fit = RequestFit(body, bug=error)
            row = rows.get(target) if self._with_extras else None
            added = row is not None and (row, target_of(*parts_of(target))) in self._with_extras
            yield target, structs.replace(fit, row=row) if added else fit

    def takers(self, request: Request) -> tuple[str, ...]:
        """Return the request's targets, if it is known that all of them take it as it is; else nothing."""
        shape = shape_of(request) if self._chats else None
        if shape is None:
            return ()
        if (known := self._as_they_are.get(shape)) is None:
            fits = [*self.fits(request)]
            alike = all(fit.body is request.body and fit == RequestFit(fit.body) for _, fit in fits)
            known = self._as_they_are[shape] = tuple(target for target, _ in fits) if alike else ()
        return known

    def _rows_of(self, models: Sequence[str], scope: frozenset[str]) -> dict[str, str]:
        """Return the row by which each target is asked, by the target: the first that has it within the scope."""
        found: dict[str, str] = {}
        for model in reversed(models):
            row = self.name_of(model)
            found |= {target: row for target in self.of(model) if self._is_within(scope, row, target)}
        return found

    def _is_within(self, scope: frozenset[str], row: str, target: str) -> bool:
        return not scope or (self._tags is not None and scope <= self._tags.of(row, target))

    def may_drop_hints(self, request: Request) -> bool:
        """Return whether a hint that its target refuses may be left out."""
        return (request.drop or self._drop) != "none" and self._chats

    def without_hints(self, request: Request, fit: RequestFit, conceded: Conceded) -> RequestFit:
        """Return the request as its target is known to take it; unfit if a hint is gone that may not be left out."""
        if conceded.dropped and not self.may_drop_hints(request):
            return structs.replace(fit, missing=fit.missing + conceded.dropped)
        return structs.replace(fit, body=conceded.body, dropped=fit.dropped + conceded.dropped)

    def without_extras(self, request: Request, fit: RequestFit, conceded: Conceded) -> RequestFit:
        """Return the same for what the target gets beside the chat."""
        if not self.may_drop_hints(request):
            return structs.replace(fit, demands=fit.demands + conceded.dropped)
        return structs.replace(fit, extras=conceded.body, dropped=fit.dropped + conceded.dropped)

    def fit_as_chat(self, target: str, request: Request) -> RequestFit:
        """Return a request that came in its client's own words in the form in which other targets take it."""
        assert request.native is not None
        drop, kind, model = request.drop or self._drop, self.kind(target), self.base_model(target)
        adapted = _adapted(kind, model, with_result_ids(request.body))
        return fit_translated(request.native, self._fit_chat(kind, model, adapted, drop), drop)

    def _fit(self, target: str, body: JsonObject, drop: Drop, native: Native | None = None) -> RequestFit:
        kind, model = self.kind(target), self.base_model(target)
        if not self._chats:
            return fit_request(unsupported_in_embedding, kind, body, drop, model)
        adapted = _adapted(kind, model, body)
        if native is not None and native.api == KINDS[kind].native_api:
            return fit_native(native, adapted.body, adapted.dropped, drop)
        fit = self._fit_chat(kind, model, adapted, drop)
        return fit if native is None else fit_translated(native, fit, drop)

    def _fit_chat(self, kind: str, model: str, adapted: Adapted, drop: Drop) -> RequestFit:
        fit, foreign = fit_request(unsupported_in_chat, kind, adapted.body, drop, model), tuple[str, ...]()
        if KINDS[kind].passes_through:
            fit, foreign = _own_messages(fit, model)
        dropped = adapted.dropped + foreign + lost_in(fit.body, KINDS[kind].schemas, model)
        if not (dropped or adapted.missing):
            return fit
        if drop == "none":
            return RequestFit(fit.body, adapted.missing + dropped + fit.missing)
        return RequestFit(fit.body, adapted.missing + fit.missing, dropped + fit.dropped)


def _adapted(kind: str, model: str, body: JsonObject) -> Adapted:
    """Return a chat with what its model is known to take otherwise."""
    rules = rules_of(kind, model)
    return adapt(rules, body) if rules is not None and rules.touch(body) else Adapted(body)


def _own_messages(fit: RequestFit, model: str) -> tuple[RequestFit, tuple[str, ...]]:
    body, foreign = without_foreign(fit.body, model)
    body, unmarked = with_kept_marks(body, model)
    foreign += unmarked
    return (fit if body is fit.body else RequestFit(body, fit.missing, fit.dropped)), foreign


def chat_rows(resolved: "ResolvedConfig") -> ModelRows:
    return ModelRows(
        resolved.rows(),
        resolved.kinds(),
        fixed=resolved.fixed(),
        windows=resolved.windows(),
        drop=resolved.config.drop_unsupported,
        left_out={**resolved.left_out(), **resolved.places_left_out()},
        places=resolved.places,
        vacant=resolved.vacant(resolved.config.chat_models()),
        aliases=resolved.config.aliases_of(resolved.config.models),
        base_models=resolved.base_models(),
        tells=resolved.tells_callers(),
        with_extras=resolved.with_extras(),
        tags=resolved.tags(),
        settings=resolved.config.rows,
        continues=resolved.continues(),
    )


def embedding_rows(resolved: "ResolvedConfig") -> ModelRows:
    return ModelRows(
        resolved.embedding_rows(),
        resolved.kinds(),
        windows=resolved.embedding_windows(),
        fixed=frozenset(resolved.kinds()),  # the vectors' length belongs to a row, so no other model can be pinned
        chats=False,
        drop=resolved.config.drop_unsupported,
        left_out={**resolved.left_out(), **resolved.places_left_out()},
        places=resolved.places,
        vacant=resolved.vacant(resolved.config.embedding_models()),
        tags=resolved.tags(),
        aliases=resolved.config.aliases_of(resolved.config.embeddings),
    )
