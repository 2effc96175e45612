"""Is the account exact? What the clients saw, held against the rows in PostgreSQL."""

from sqlalchemy import text

from tests.ledger.conftest import raw
from tests.nodes.load import Load
from tests.nodes.site import Site

_SETTLED = """
    SELECT r.caller_id FROM ledger_requests r JOIN ledger_attempts a USING (request_id)
    WHERE r.state = 'settled' AND r.outcome = 'ok' AND a.state = 'settled' AND a.kind = 'ok' AND r.caller_id LIKE :names
"""
_SUMS = """
    SELECT rows.tokens, days.tokens, rows.attempts, days.attempts
    FROM (SELECT sum(tokens_out) AS tokens, count(*) AS attempts FROM ledger_attempts) AS rows,
         (SELECT sum(tokens_out) AS tokens, sum(attempts) AS attempts FROM ledger_days
          WHERE provider IS NOT NULL) AS days
"""


def not_once(site: Site, load: Load) -> list[str]:
    """Return the answered requests that do not have exactly one attempt in the store that answered them."""
    with raw(site.ledger_url) as store:
        counted = [name for (name,) in store.execute(text(_SETTLED), {"names": f"{load.name}-%"})]
    answered = {each.name for each in load.asked if each.status == 200}
    return sorted(name for name in answered if counted.count(name) != 1)


def sums_agree(site: Site) -> bool:
    """Return whether the figures of the days are those of the rows."""
    with raw(site.ledger_url) as store:
        [row] = store.execute(text(_SUMS))
    tokens, tokens_of_days, attempts, attempts_of_days = row
    return bool(tokens == tokens_of_days and attempts == attempts_of_days)
