"""How far sealing has come: a snapshot before which everything is sealed, kept in `byodpp.audit_arrivals`.

In: the row of this cluster. Out: a Reach; None where there is none, or one that no sealer has written.
Rejects nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from byodpp.database import Transaction

__all__ = ["CHANGED", "Reach", "is_snapshot", "keep_reach", "stored_reach"]

_log: Final = logging.getLogger(__name__)

#: What is told where SQL has changed how far sealing had come.
CHANGED: Final = "byodpp.audit_arrivals was changed: what is not sealed is found anew (`byodpp audit verify`)"
#: A time that is none of ours, as one that is still to come, is told as not known.
_TIME: Final = "case when {0} between '0001-01-02' and clock_timestamp() then {0} end as {0}"
_STORED: Final = (
    f"select a.sealed, {_TIME.format('sealed_at')}, a.target, {_TIME.format('target_at')}, a.after_arrival,"
    " a.after_tenant, a.after_entry, pg_current_snapshot()::text as now"
    " from byodpp.audit_arrivals a, pg_control_system() c where a.cluster = c.system_identifier::text"
)
_KEEP: Final = (
    "update byodpp.audit_arrivals set sealed = $1, sealed_at = $2, target = $3, target_at = $4,"
    " after_arrival = $5, after_tenant = $6, after_entry = $7"
)
_SNAPSHOT: Final = re.compile(r"\d{1,18}:\d{1,18}:(\d{1,18}(,\d{1,18})*)?", re.ASCII)
_TRANSACTION: Final = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far sealing has come."""

    sealed: str  # snapshot
    sealed_at: datetime | None
    target: str | None = None  # snapshot on the way to which it is, after the entry below
    target_at: datetime | None = None
    after_arrival: str | None = None
    after_tenant: int | None = None
    after_entry: int | None = None


async def stored_reach(transaction: Transaction) -> Reach | None:
    """Return how far sealing has come in this cluster; None: what is not sealed is to be found anew."""
    record = await transaction.fetchrow(_STORED)
    if record is None:
        return None
    if not _is_ours(record):
        _log.error(CHANGED, extra={"sealed": record["sealed"], "target": record["target"]})
        return None
    return Reach(**{field.name: record[field.name] for field in fields(Reach)})


async def keep_reach(transaction: Transaction, reach: Reach) -> None:
    """Store how far sealing has come."""
    await transaction.execute(_KEEP, *(getattr(reach, field.name) for field in fields(Reach)))


def is_snapshot(text: str) -> bool:
    """Whether PostgreSQL reads this as a snapshot: the first and last transaction, and those in between."""
    if _SNAPSHOT.fullmatch(text) is None:
        return False
    first, last, between = text.split(":")
    under_way = [int(one) for one in between.split(",") if one]
    return 0 < int(first) <= int(last) and all(
        int(first) <= one < int(last) and one >= former
        for former, one in zip([0, *under_way], under_way, strict=False)
    )


def _is_ours(record: Mapping[str, Any]) -> bool:
    """Whether a sealer may have written this: snapshots of this cluster, and an entry between two of them."""
    last = _last(record["now"])
    snapshots = [record["sealed"], *([] if record["target"] is None else [record["target"]])]
    if not all(one is not None and is_snapshot(one) and _last(one) <= last for one in snapshots):
        return False
    after = record["after_arrival"]
    if after is None or record["target"] is None:
        return after is None and record["target"] is None
    return _TRANSACTION.fullmatch(after) is not None and int(after) <= last


def _last(snapshot: str) -> int:
    return int(snapshot.split(":")[1])
