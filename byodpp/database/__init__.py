"""The database: the only stage that knows the driver.

`connections` makes connections, `pool` keeps them at hand, `transactions` is what everybody else uses:
it hands out `scopes` of a `transaction`, or of a `lone` statement, for a `context`, perhaps with a
`deadline`. `sessions` lends a connection for long work. `sqlstate` says what an error means to a client.
"""

from __future__ import annotations

from byodpp.database.deadline import Deadline
from byodpp.database.lone import NeedsTransaction
from byodpp.database.sessions import Session, Sessions
from byodpp.database.transactions import (
    NOBODY,
    PLATFORM_TENANT,
    Database,
    Isolation,
    SessionContext,
    Transaction,
    TransactionScope,
    is_retryable,
    translate,
)

__all__ = [
    "NOBODY",
    "PLATFORM_TENANT",
    "Database",
    "Deadline",
    "Isolation",
    "NeedsTransaction",
    "Session",
    "SessionContext",
    "Sessions",
    "Transaction",
    "TransactionScope",
    "is_retryable",
    "translate",
]
