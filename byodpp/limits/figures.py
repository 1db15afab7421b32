"""What the tenants of a class are together: how many, their users on average, and the bytes they store.

In: the databases in which tenants live, each asked by itself with the system role. Out: figures per
class, of the active tenants whose class allows it and who agree. No row of a tenant and
no name of one is told, nor any figure of a class so small that it could be one tenant's. Refuses
nothing: a place that does not answer is named, and its tenants are not counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from byodpp.authentication.users import REFUSED
from byodpp.database import Database
from byodpp.exceptions import ApiError

__all__ = ["FEWEST", "ClassFigures", "PlatformFigures", "figures_by_class"]

_log: Final = logging.getLogger(__name__)

#: Tenants of a class below which its figures are withheld: of four, three who talk know the fourth's.
FEWEST: Final = 5
#: How long a database may take; all are asked at the same time.
_ANSWER_SECONDS: Final = 5.0

_COUNTED: Final = (
    "select t.id, c.name as class, case when p.tier = 'database' then p.place end as place"
    " from tenants t join tenant_classes c on c.id = t.tenant_class_id"
    " left join byodpp.tenant_places p on p.tenant_id = t.id"
    " where t.id > 0 and t.status = 'activated' and t.analytics and c.analytics"
)
_CLASSES: Final = "select name from tenant_classes where analytics order by name"
_USERS: Final = (
    "select tenant_id, count(*) as users from users"
    " where tenant_id = any($1::bigint[]) and status <> all($2::text[]) group by 1"
)
_STORED: Final = (
    "select tenant_id, bytes, measured_at from byodpp.tenant_storage where tenant_id = any($1::bigint[])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """The tenants of one class together; all but the name is None where they are fewer than `FEWEST`."""

    name: str
    tenants: int | None = None
    average_users: float | None = None  # rows of Users that are not refused
    stored_bytes: int | None = None  # of rows in the application's own resources; None: too few measured
    measured_at: datetime | None = None  # the oldest of the measurements that `stored_bytes` sums up


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformFigures:
    """Every class whose tenants may be counted, and the places that could not be asked."""

    classes: tuple[ClassFigures, ...]
    away: tuple[str, ...]


async def figures_by_class(database: Database) -> PlatformFigures:
    """Return what the tenants of each class are together.

    Args:
        database: the shared one, which knows those of the places.

    Raises:
        ApiError: the shared database does not answer.
    """
    async with database.system() as transaction:
        names = [row["name"] for row in await transaction.fetch(_CLASSES)]
        counted = await transaction.fetch(_COUNTED)
    living: dict[str | None, list[int]] = {}
    for row in counted:
        living.setdefault(row["place"], []).append(row["id"])
    users: dict[int, int] = {}
    stored: dict[int, tuple[int, datetime]] = {}
    away = []
    asked = sorted(living.items(), key=lambda one: one[0] or "")
    answers = await asyncio.gather(*(_asked(database, *one) for one in asked), return_exceptions=True)
    for (place, tenants), found in zip(asked, answers, strict=True):
        if isinstance(found, BaseException):
            if place is None or not isinstance(found, ApiError | TimeoutError):
                raise found
            _log.warning("the place %s is away and its tenants are not counted: %s", place, found)
            away.append(place)
            continue
        users |= dict.fromkeys(tenants, 0) | {row["tenant_id"]: row["users"] for row in found[0]}
        stored |= {row["tenant_id"]: (row["bytes"], row["measured_at"]) for row in found[1]}
    members = _members(counted, users)
    classes = (_together(name, members.get(name, ()), users, stored) for name in names)
    return PlatformFigures(classes=tuple(classes), away=tuple(away))


async def _asked(
    database: Database, place: str | None, tenants: Collection[int]
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return users and bytes of the tenants that live in one database."""
    async with asyncio.timeout(_ANSWER_SECONDS), database.at(place).system() as transaction:
        users = await transaction.fetch(_USERS, list(tenants), sorted(REFUSED))
        return users, await transaction.fetch(_STORED, list(tenants))


def _members(counted: Iterable[Any], users: Mapping[int, int]) -> Mapping[str, Sequence[int]]:
    """Return the tenants of each class whose database has answered."""
    members: dict[str, list[int]] = {}
    for row in counted:
        if row["id"] in users:
            members.setdefault(row["class"], []).append(row["id"])
    return members


def _together(
    name: str,
    tenants: Sequence[int],
    users: Mapping[int, int],
    stored: Mapping[int, tuple[int, datetime]],
) -> ClassFigures:
    if len(tenants) < FEWEST:
        return ClassFigures(name=name)
    measured = [stored[one] for one in tenants if one in stored]
    if len(measured) < FEWEST:
        measured = []
    return ClassFigures(
        name=name,
        tenants=len(tenants),
        average_users=round(sum(users[one] for one in tenants) / len(tenants), 2),
        stored_bytes=sum(size for size, _ in measured) if measured else None,
        measured_at=min((at for _, at in measured), default=None),
    )
