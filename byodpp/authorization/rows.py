"""The rows of `Policies` as they are stored, read into what `authorization` takes.

Read with the system role, all tenants' at once. A row that cannot be understood is judged by
`policies`, which lets it grant nothing; nothing is refused here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from byodpp.authorization.policies import PolicyRow, RoleLink
from byodpp.database import Transaction

__all__ = ["StoredPolicies", "is_user", "read_policies"]

_USER: Final = re.compile(r"user:([1-9][0-9]{0,17})")

_ROWS: Final = (
    "select id, tenant_id, ptype, subject, object, action, effect, condition, fields "
    "from policies order by tenant_id, id"
)
_VERSION: Final = "select coalesce(max(version), 0) from byodpp.policy_version"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPolicies:
    """All rows of all tenants, and the version they make together."""

    version: int
    rows: tuple[PolicyRow, ...]
    links: tuple[RoleLink, ...]


async def read_policies(transaction: Transaction) -> StoredPolicies:
    """Return the policies of every tenant.

    The version is read first: rows that change meanwhile are read again with the next version.

    Args:
        transaction: of the system role.
    """
    version = await transaction.fetchval(_VERSION)
    records = await transaction.fetch(_ROWS)
    return StoredPolicies(
        version=version,
        rows=tuple(_row(record) for record in records if record["ptype"] == "p"),
        links=tuple(_link(record) for record in records if record["ptype"] == "g"),
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
        filter=None if record["condition"] in ("null", "{}") else record["condition"],
        fields=(json.loads(fields) if isinstance(fields, str) else fields) or None,
    )


def _link(record: Mapping[str, Any]) -> RoleLink:
    role, user_id = _who(record["subject"])
    return RoleLink(tenant_id=record["tenant_id"], role=role, user_id=user_id, inherits=record["object"])


def is_user(subject: str) -> bool:
    """Whether a subject names one user, as `user:7`."""
    return _USER.fullmatch(subject) is not None


def _who(subject: str) -> tuple[str | None, int | None]:
    """Return a role or a user's id."""
    user = _USER.fullmatch(subject)
    return (None, int(user[1])) if user else (subject, None)
