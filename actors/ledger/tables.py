"""The ledger's tables as this version knows them. migrations.py makes them; a test holds the two against each other."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from actors.ledger.rollup import FIGURES_OF_A_DAY
from actors.ledger.slots import FIGURES_OF_A_SLOT

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
    Column("first_ms", Double),
    Column("added_ms", Double),
    Column("failed_over", BigInteger, nullable=False),
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
    Column("asked_at", BigInteger),
    Column("hedge", Text),
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

# What was used in each day, kept with the rows: see rollup.py. `name` is the digest of the six columns behind it,
# because names of 256 characters are together too long for PostgreSQL's index. Without provider and model a row is
# of requests, with them of attempts.
DAYS = Table(
    "ledger_days",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("day", Text, nullable=False),
    Column("tenant", Text),
    Column("agent", Text),
    Column("key_name", Text),
    Column("provider", Text),
    Column("model", Text),
    *(Column(name, BigInteger, nullable=False) for name in FIGURES_OF_A_DAY),
)

# The same figures by fewer names: see rollup.py. `name` is the digest of the seven columns behind it.
TOTALS = Table(
    "ledger_totals",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    *(Column(column.name, Text, nullable=column.nullable) for column in list(DAYS.columns)[1:7]),
    *(Column(name, BigInteger, nullable=False) for name in FIGURES_OF_A_DAY),
)

# What was asked in each minute of the last two days, by its number: see slots.py.
SLOTS = Table(
    "ledger_slots",
    METADATA,
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, BigInteger, nullable=False) for name in FIGURES_OF_A_SLOT),
)

# How many of a minute's requests took so long: `bucket` is a range of milliseconds.
TIMES = Table(
    "ledger_times",
    METADATA,
    Column("slot", BigInteger, nullable=False),
    Column("measure", Text, nullable=False),
    Column("bucket", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    PrimaryKeyConstraint("slot", "measure", "bucket"),
)

# Up to which instant requests and attempts were deleted. The rollup keeps their figures.
PURGED = Table("ledger_purged", METADATA, Column("upto", BigInteger, nullable=False))

# Who writes to this store, and when each was heard last: see heartbeats.py.
WRITERS = Table(
    "ledger_writers",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("host", Text),
    Column("heard_at", BigInteger, nullable=False),
)

VERSION = Table("ledger_schema", METADATA, Column("version", Integer, nullable=False))
