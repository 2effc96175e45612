"""The ledger's tables, and how a store of an earlier version becomes one of this version.

A migration is frozen as it was released: plain SQL that SQLite and PostgreSQL both take, never made
from the tables below, which change. A test holds the two against each other.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    inspect,
    select,
    text,
    update,
)

METADATA = MetaData()

REQUESTS = Table(
    "ledger_requests",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("tenant", Text),
    Column("agent", Text),
    Column("key_name", Text),
    Column("caller_id", Text),
    Column("model_row", Text),
    Column("door", Text),
    Column("stream", Boolean, nullable=False),
    Column("outcome", Text),
    Column("ended_at", BigInteger),
    Column("provider", Text),
    Column("model", Text),
    Column("attempts", BigInteger, nullable=False),
    Column("trail", Text),
)

ATTEMPTS = Table(
    "ledger_attempts",
    METADATA,
    Column("request_id", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("day", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("tenant", Text),
    Column("agent", Text),
    Column("key_name", Text),
    Column("kind", Text),
    Column("content", Boolean, nullable=False),
    Column("tokens_in", BigInteger, nullable=False),
    Column("tokens_out", BigInteger, nullable=False),
    Column("tokens_cached", BigInteger, nullable=False),
    Column("tokens_reasoning", BigInteger, nullable=False),
    Column("counted", Text, nullable=False),
    Column("cost", BigInteger),
    Column("ms", Double),
    Column("first_ms", Double),
    Column("ended_at", BigInteger),
    PrimaryKeyConstraint("request_id", "number"),
)

# What each subject has used in each month: kept with the rows, so that a budget needs no scan of them.
MONTHS = Table(
    "ledger_months",
    METADATA,
    Column("subject", Text, nullable=False),
    Column("month", Text, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("unknown", BigInteger, nullable=False),
    PrimaryKeyConstraint("subject", "month"),
)

VERSION = Table("ledger_schema", METADATA, Column("version", Integer, nullable=False))

_FIRST = """
CREATE TABLE ledger_requests (
    request_id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, began_at BIGINT NOT NULL, version BIGINT NOT NULL,
    state TEXT NOT NULL, tenant TEXT, agent TEXT, caller_id TEXT, model_row TEXT, door TEXT, stream BOOLEAN NOT NULL,
    outcome TEXT, ended_at BIGINT, provider TEXT, model TEXT, attempts BIGINT NOT NULL);
CREATE TABLE ledger_attempts (
    request_id TEXT NOT NULL, number BIGINT NOT NULL, owner TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
    began_at BIGINT NOT NULL, day TEXT NOT NULL, version BIGINT NOT NULL, state TEXT NOT NULL, tenant TEXT, agent TEXT,
    kind TEXT, content BOOLEAN NOT NULL, tokens_in BIGINT NOT NULL, tokens_out BIGINT NOT NULL,
    tokens_cached BIGINT NOT NULL, tokens_reasoning BIGINT NOT NULL, counted TEXT NOT NULL, cost BIGINT,
    ms DOUBLE PRECISION, first_ms DOUBLE PRECISION, ended_at BIGINT, PRIMARY KEY (request_id, number));
CREATE INDEX ledger_requests_began ON ledger_requests (began_at);
CREATE INDEX ledger_requests_open ON ledger_requests (owner) WHERE state = 'open';
CREATE INDEX ledger_attempts_began ON ledger_attempts (began_at);
CREATE INDEX ledger_attempts_open ON ledger_attempts (owner) WHERE state = 'open'
"""

_BUDGETS = """
ALTER TABLE ledger_requests ADD COLUMN key_name TEXT;
ALTER TABLE ledger_attempts ADD COLUMN key_name TEXT;
CREATE INDEX ledger_attempts_ended ON ledger_attempts (ended_at);
CREATE TABLE ledger_months (
    subject TEXT NOT NULL, month TEXT NOT NULL, requests BIGINT NOT NULL, tokens BIGINT NOT NULL, cost BIGINT NOT NULL,
    unknown BIGINT NOT NULL, PRIMARY KEY (subject, month));
INSERT INTO ledger_months (subject, month, requests, tokens, cost, unknown)
    SELECT 'tenant:' || tenant, substr(day, 1, 7), count(DISTINCT request_id), sum(tokens_in + tokens_out),
        sum(coalesce(cost, 0)), sum(CASE WHEN cost IS NULL THEN 1 ELSE 0 END)
    FROM ledger_attempts WHERE tenant IS NOT NULL AND state <> 'open' GROUP BY 1, 2
"""

_TRAILS = """
ALTER TABLE ledger_requests ADD COLUMN trail TEXT;
CREATE INDEX ledger_requests_caller ON ledger_requests (caller_id, began_at)
"""

MIGRATIONS = (_FIRST, _BUDGETS, _TRAILS)


class NewerSchema(Exception):
    """The store was written by a newer version of this program, which knows what we don't."""


def migrate(connection: Connection, upto: int = len(MIGRATIONS)) -> int:
    """Bring the store to version `upto`, inside the caller's transaction; the version it had."""
    if not inspect(connection).has_table(VERSION.name):
        connection.execute(text(f"CREATE TABLE {VERSION.name} (version INTEGER NOT NULL)"))
        connection.execute(VERSION.insert().values(version=0))
    found = connection.execute(select(VERSION.c.version)).scalar_one()
    if found > upto:
        raise NewerSchema(f"the store has schema version {found}, we know {upto}")
    for script in MIGRATIONS[found:upto]:
        for statement in script.split(";"):
            connection.execute(text(statement))
    if found < upto:
        connection.execute(update(VERSION).values(version=upto))
    return int(found)
