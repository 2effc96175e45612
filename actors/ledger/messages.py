"""What crosses between an ingress replica and the ledger actor. Pure types.

Keys are wire words: replicas and actors of different versions talk to each other during a rolling deploy. So a key
keeps its name and its meaning; a new one is `NotRequired`.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

UsageRow = dict[str, Any]  # a row of a usage query: its columns are what was asked for, see questions/usage.py


class UnknownQuestion(ValueError):
    """The question is one that the ledger does not answer: the message tells its caller why."""


class QuestionTooLong(RuntimeError):
    """The answer took longer than a question may take. It was stopped."""


class Viewer(TypedDict):
    """Who asks for a request. It may see those of this tenant, or, if that is None, those of this key."""

    tenant: str | None
    key: str | None


class Keep(TypedDict):
    """How many days are kept; None is for ever."""

    requests: int | None
    rollups: int | None


KEEP_ALL: Keep = {"requests": None, "rollups": None}


class LedgerConfig(TypedDict):
    """What an application tells its actor in `hello`. It holds no secret: the actor reads `url_env` itself."""

    url_env: str | None  # the environment variable with SQLAlchemy's URL; without one `url` holds
    url: str
    journals: str | None  # the folder of this machine's journals
    keep: NotRequired[Keep]


class StoreConfig(TypedDict):
    """The store as the actor has found it: without a URL there is none, and `missing` says why."""

    url: str | None
    missing: str
    journals: str | None
    keep: NotRequired[Keep]


class LedgerWhoAmI(TypedDict):
    """The answer to `hello` and `whoami`. `code` is the fingerprint of the source that the actor runs."""

    pid: int
    code: str


class RequestIdentity(TypedDict):
    """The part of a request that is the same in each of its lines; see rows.RequestRow."""

    request_id: str
    owner: str
    began_at: int
    tenant: str | None
    agent: str | None
    key_name: str | None
    caller_id: str | None
    model_row: str | None
    door: str | None
    stream: bool


class RequestTrail(TypedDict):
    """What a request went through, as its last line has it; times are milliseconds, as in a `RequestSummary`."""

    trail: str | None  # its candidates, as JSON
    first_ms: NotRequired[float | None]  # until its first content went to the client
    added_ms: NotRequired[float | None]  # our own part of that
    failed_over: NotRequired[int]  # 1 if another than the first one answered, because that failed or is known to


class RequestEnding(RequestTrail):
    """What the line says in which a request ends."""

    version: int
    state: str
    outcome: str
    ended_at: int
    provider: str | None
    model: str | None
    attempts: int


class Used(TypedDict, total=False):
    """What an attempt has used. Empty for one that had ended before."""

    tokens_in: int
    tokens_out: int
    tokens_cached: int  # of those in
    tokens_reasoning: int  # of those out
    counted: str  # provider | estimated | none
    cost: int | None  # nano-dollars


class AttemptLine(Used, total=False):
    """An attempt as far as it is known; see rows.AttemptRow."""

    number: int
    provider: str
    model: str
    began_at: int
    version: int
    state: str
    kind: str
    content: bool
    ms: float
    first_ms: float | None
    ended_at: int
    hedge: str | None


class SubjectTotals(TypedDict):
    """What one subject has used: requests and tokens by minute, nano-dollars by month."""

    minutes: dict[int, tuple[int, int]]
    months: dict[str, int]


Totals = dict[str, SubjectTotals]


SENT = ""  # the key of a report under which it says how many there were before it: no subject has this name
Period = int | str  # a minute's number, or a month
# What a replica claims of one limit: limit, period, its amount, what the replica uses, its lease, what it wants.
Claim = tuple[str, Period, int, int, int, int]
# By subject, and under SENT how many reports there were before. An older actor takes the keys for its subjects.
Claims = Mapping[str, Any]
Leased = dict[str, list[tuple[str, Period, int, bool]]]  # by subject: limit, period, lease, may there soon be more?


class WriteAnswer(TypedDict):
    """The answer to `write`: whether the batch is committed (`up`), and the totals of the subjects asked for."""

    number: int
    store: str  # up | down
    totals: Totals
    rejected: NotRequired[int]  # lines of the batch that are damaged or no rows
    leases: NotRequired[Leased]  # only where claims were sent
    recalled: NotRequired[list[str]]  # subjects whose lease others need
    missing: NotRequired[int]  # journals of replicas that are gone without a word
    takes_more: NotRequired[bool]  # whether a batch may come in several arguments; an earlier version takes one


class FoundRequest(TypedDict):
    """The rows of one request, by column."""

    request: Mapping[str, Any]
    attempts: list[Mapping[str, Any]]


class WriterHealth(TypedDict):
    """The answer to `health`."""

    store: str  # up | down
    trouble: str | None
    dialect: str | None
    replicas: int
    waiting_batches: int
    rejected_lines: int
    refused_rows: int  # rows that the store refuses, and rows of days that were deleted: they are in no sum
    lost_rows: int
    adopted_journals: int
    missing_journals: list[tuple[str, str | None, float]]  # replica, host, seconds of silence


class ClientHealth(TypedDict):
    """The ledger as one ingress replica sees it: a part of `/v1/providers`."""

    store: str  # up | down
    journal: str  # disk | memory
    lag_rows: int
    lag_seconds: float
    dropped: int  # lines that will never be counted: the journal was full, or they were damaged
    adopted: int
    refused: int
    missing: int  # journals of replicas that are gone without a word, as the ledger actor said last
