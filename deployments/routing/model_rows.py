"""Which targets a request's `model` means, and what becomes of the request at each of them. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from actors.breaker.plan import provider_of
from deployments.errors import BadRequest, UnknownModel
from deployments.openai_api.chat import Drop, Request
from deployments.routing.request_fit import Fitting, RequestFit, chat_fit, embedding_fit, fit_request

if TYPE_CHECKING:
    from deployments.config.resolved import ResolvedConfig

_PINNABLE = re.compile(r"[\x21-\x7e]+")


class ModelRows:
    """`rows` is row name to targets, `kinds` the kind of each provider that can be called.

    `fixed` are providers that have the models of the rows and no other: nothing else can be pinned there.
    `windows` is target to context window in tokens, where the config tells it.
    """

    def __init__(
        self,
        rows: Mapping[str, list[str]],
        kinds: Mapping[str, str],
        *,
        fixed: frozenset[str] = frozenset(),
        windows: Mapping[str, int] | None = None,
        fitting: Fitting = chat_fit,
        drop: Drop = "hints",
    ):
        self._rows = rows
        self._kinds = kinds
        self._fixed = fixed
        self._fitting = fitting
        self._drop: Drop = drop
        self.windows: Mapping[str, int] = windows or {}

    @property
    def names(self) -> list[str]:
        return list(self._rows)

    @property
    def default(self) -> str:
        """The row of a call that names none: the one of this name, or the first."""
        return "default" if "default" in self._rows else self.names[0]

    @property
    def targets(self) -> set[str]:
        """Every target of every row."""
        return {target for row in self._rows.values() for target in row}

    def kind(self, target: str) -> str:
        return self._kinds[provider_of(target)]

    def window(self, target: str) -> float:
        """One that nobody has told holds a prompt that no other has refused, and none that one has."""
        return self.windows.get(target, 0.5)

    def of(self, model: str) -> list[str]:
        """The targets of a row's name, or the one target that `provider/upstream-id` pins."""
        row = self._rows.get(model)
        if row is not None:
            return row
        provider, slash, upstream = model.partition("/")
        if slash and provider in self._kinds:
            if not _PINNABLE.fullmatch(upstream):
                raise BadRequest("Invalid 'model': an upstream id is printable ASCII.", "model", "invalid_value")
            if provider not in self._fixed or model in self.targets:
                return [model]
        raise self.unknown(model)

    def unknown(self, model: str) -> UnknownModel:
        return UnknownModel(f"The model '{model}' does not exist. Known models: {', '.join(self._rows)}.")

    def fits(self, request: Request) -> Iterator[tuple[str, RequestFit]]:
        """Yield each target with the request as it can take it, those included that lack a field of it.

        Raises UnknownModel and BadRequest.
        """
        drop = request.drop or self._drop
        for target in self.of(request.model):
            yield target, fit_request(self._fitting, self.kind(target), request.body, drop)


def chat_rows(layout: "ResolvedConfig") -> ModelRows:
    return ModelRows(
        layout.rows(),
        layout.kinds(),
        fixed=layout.fixed(),
        windows=layout.windows(),
        drop=layout.config.drop_unsupported,
    )


def embedding_rows(layout: "ResolvedConfig") -> ModelRows:
    return ModelRows(
        layout.embedding_rows(),
        layout.kinds(),
        windows=layout.embedding_windows(),
        fixed=frozenset(layout.kinds()),  # a length belongs to a row, so nothing else can be pinned
        fitting=embedding_fit,
        drop=layout.config.drop_unsupported,
    )
