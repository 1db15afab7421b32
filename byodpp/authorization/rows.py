"""What tenants have stored about access, read into what `authorization` takes.

Policies and links between roles (rows of `Policies`), roles with a parent (`Roles`), and which
user holds which role (`UserRoles`). Read with the system role for all tenants at once, or inside
a transaction for one. A row that cannot be understood is judged by `policies`, which lets it
grant nothing; nothing is refused here.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from byodpp.array_text import array_text
from byodpp.authorization.in_force import TenantRows, rows_by_tenant
from byodpp.authorization.policies import PolicyRow, RoleLink
from byodpp.database import PLATFORM_TENANT, Transaction

__all__ = ["StoredRows", "read_rows"]

_log = logging.getLogger(__name__)
_USER: Final = re.compile(r"user:([1-9][0-9]{0,17})")

_POLICIES: Final = (
    "select id, tenant_id, ptype, subject, object, action, effect, condition, fields, preset from policies"
    " where $1::text is null or tenant_id = any($1::text::bigint[]) order by tenant_id, id"
)
_PARENTS: Final = (
    "select r.tenant_id, r.name, p.name as parent from roles r join roles p on p.id = r.parent_id"
    " where $1::text is null or r.tenant_id = any($1::text::bigint[]) order by r.id"
)
_HOLDERS: Final = (
    "select u.tenant_id, u.user_id, r.name from user_roles u join roles r on r.id = u.role_id"
    " where $1::text is null or u.tenant_id = any($1::text::bigint[]) order by u.id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """Rows of some tenants, or of all."""

    records: tuple[Mapping[str, Any], ...]  # of `Policies`, as the database returns them
    rows: tuple[PolicyRow, ...]
    links: tuple[RoleLink, ...]  # each holds in its tenant
    platform: tuple[RoleLink, ...]  # between roles of the platform's library: these hold in every tenant

    def by_tenant(self, tenants: Iterable[int]) -> dict[int, TenantRows]:
        """Return the rows of each tenant, also of those that have none."""
        found = rows_by_tenant(self.rows, self.links)
        return {id: found.get(id, TenantRows()) for id in tenants}


async def read_rows(transaction: Transaction, tenants: Sequence[int] | None = None) -> StoredRows:
    """Return what is stored about access.

    Args:
        transaction: of the system role, or of a tenant that asks for its own rows.
        tenants: whose rows; None is everybody's.
    """
    # As text: the driver would look up what an array of numbers is, once for each connection.
    asked = None if tenants is None else array_text(tenants)
    policies: Sequence[Mapping[str, Any]] = await transaction.fetch(_POLICIES, asked)
    parents = [
        RoleLink(tenant_id=record["tenant_id"], role=record["name"], inherits=record["parent"])
        for record in await transaction.fetch(_PARENTS, asked)
    ]
    holders = [
        RoleLink(tenant_id=record["tenant_id"], user_id=record["user_id"], inherits=record["name"])
        for record in await transaction.fetch(_HOLDERS, asked)
    ]
    written = [_link(record) for record in policies if record["ptype"] == "g" and _only_links(record)]
    return StoredRows(
        records=tuple(dict(record) for record in policies),
        rows=tuple(_row(record) for record in policies if record["ptype"] == "p"),
        links=(*(one for one in parents if one.tenant_id != PLATFORM_TENANT), *holders, *written),
        platform=tuple(one for one in parents if one.tenant_id == PLATFORM_TENANT),
    )


def _row(record: Mapping[str, Any]) -> PolicyRow:
    role, user_id = _who(record["subject"])
    fields = record["fields"]
    return PolicyRow(
        id=record["id"],
        tenant_id=record["tenant_id"],
        role=role,
        user_id=user_id,
        resource=record["object"],
        operation=record["action"],
        # A word that is not one of the two never allows.
        deny=record["effect"] != "allow",
        filter=_text(record["condition"]),
        fields=None if _text(fields) is None else _names(fields),
        presets=_text(record["preset"]),
    )


def _only_links(record: Mapping[str, Any]) -> bool:
    """Whether a link says nothing else; one that denies, or is about some rows, was meant otherwise."""
    more = [name for name in ("condition", "fields", "preset") if _text(record[name]) is not None]
    if not more and record["effect"] == "allow":
        return True
    told = "Policies %s of tenant %s links no roles: it says more than that"
    _log.error(told, record["id"], record["tenant_id"])
    return False


def _link(record: Mapping[str, Any]) -> RoleLink:
    role, user_id = _who(record["subject"])
    return RoleLink(tenant_id=record["tenant_id"], role=role, user_id=user_id, inherits=record["object"])


def _text(value: str | None) -> str | None:
    """Return the text of a JSON value; null, of either kind, is nothing."""
    return None if value in (None, "null") else value


def _names(text: str) -> tuple[str, ...]:
    """Return the fields of a rule; of what is no list of names the text, which is the name of none."""
    try:
        found = json.loads(text)
        if isinstance(found, list):
            return tuple(one if isinstance(one, str) else json.dumps(one) for one in found)
    except (ValueError, RecursionError):  # JSON, and more of it than Python reads
        pass
    return (text,)


def _who(subject: str) -> tuple[str | None, int | None]:
    """Return a role or a user's id."""
    user = _USER.fullmatch(subject)
    return (None, int(user[1])) if user else (subject, None)
