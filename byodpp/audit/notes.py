"""What is written into the audit trail beside changes: refusals, failed sign-ins, controlled readings.

In: what a request was about, when it was refused or answered. Out: a Note, small and bounded,
that waits in the trail's queue. Rejects nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol, TypeAlias

from byodpp import wire
from byodpp.authentication.keys import claimed_key
from byodpp.database import NOBODY, PLATFORM_TENANT
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import ApiError, NotFound

__all__ = [
    "SIGN_IN",
    "SIGN_IN_BLOCKED",
    "About",
    "Caller",
    "Note",
    "Origin",
    "Whose",
    "claimed_realm",
    "claimed_user",
    "of_block",
    "of_reading",
    "of_reading_again",
    "of_refusal",
    "of_sign_in",
]

#: Action of a failed sign-in.
SIGN_IN: Final = "SIGN_IN"
#: Action of the entry that tells who failed too often.
SIGN_IN_BLOCKED: Final = "SIGN_IN_BLOCKED"
#: A longer token is refused unread.
_LONGEST_TOKEN: Final = 8_192
_REALM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LONGEST_TEXT: Final = 500
_LONGEST_KEY: Final = 255
#: Rows that an entry names; a page may be longer.
_MOST_ROWS: Final = 1_000


#: A tenant's id, or what leads to it: its realm, or one of its API keys.
Whose: TypeAlias = "int | tuple[str, str]"


class Caller(Protocol):
    """What the trail says of a principal."""

    @property
    def anonymous(self) -> bool: ...
    @property
    def user_id(self) -> int: ...
    @property
    def session_tenant_id(self) -> int: ...
    @property
    def visiting_from(self) -> int | None: ...
    @property
    def key_id(self) -> str | None: ...


class Origin(Protocol):
    """What the trail says of a request."""

    @property
    def request_id(self) -> str: ...
    @property
    def client_ip(self) -> str: ...
    @property
    def user_agent(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What was asked: an operation or action, of a resource, of a row."""

    operation: str
    resource: ResourceDefinition | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One entry that is to be written."""

    tenant_id: int | None  # whose trail; None: of the tenant of `realm`, or of the API key
    realm: str = ""
    action: str
    result: Literal["success", "denied", "failure"]
    reason: str | None = None
    about: About | None = None
    hidden: bool = False  # the row may exist and be hidden by a policy: look before it is written
    user_id: int | None = None
    actor_tenant_id: int | None = None
    key_id: str | None = None
    changes: str | None = None  # JSON
    client_ip: str = ""
    user_agent: str = ""
    request_id: str = ""
    noted_at: float = field(default_factory=time.monotonic)

    @property
    def whose(self) -> Whose:
        """By what the queue tells tenants apart."""
        if self.tenant_id is not None:
            return self.tenant_id
        return ("realm", self.realm) if self.realm else ("key", self.key_id or "")

    def found(self, *, exists: bool) -> Note:
        """Return the note of a row that was not shown, once it is known whether it is there."""
        if exists:
            return replace(self, hidden=False, reason="The row is there, and not for this caller.")
        return replace(self, hidden=False, result="failure", reason="The tenant has no such row.")


def of_refusal(error: ApiError, caller: Caller, origin: Origin, about: About) -> Note | None:
    """Return the note of a refusal; None where there is nobody to whom it happened.

    Args:
        error: Forbidden or NotFound.
        caller: signed in, or nobody.
        origin: of the request.
        about: what was refused.
    """
    if caller.anonymous or caller.session_tenant_id == NOBODY:
        return None
    hidden = isinstance(error, NotFound)
    if hidden and (about.key is None or about.resource is None):
        return None  # an address that leads nowhere, for everybody
    return Note(
        action=about.operation.upper()[:128],
        result="denied",
        reason=error.message[:_LONGEST_TEXT],
        about=about,
        hidden=hidden,
        **_who(caller, origin),
    )


def of_sign_in(error: ApiError, authorization: str, origin: Origin, about: About) -> Note | None:
    """Return the note of credentials that were refused; None where no tenant can be recognised.

    Args:
        error: that refused them.
        authorization: the header.
        origin: of the request.
        about: what was asked.
    """
    realm, key = claimed_realm(authorization), claimed_key(_credentials(authorization))
    if realm is None and key is None:
        return None
    return Note(
        tenant_id=None,
        realm=realm or "",
        key_id=key,
        action=SIGN_IN,
        result="failure",
        reason=error.message[:_LONGEST_TEXT],
        about=replace(about, key=None),
        **_where(origin),
    )


def of_block(reason: str, authorization: str | None, origin: Origin, about: About) -> Note | None:
    """Return the note of somebody who is shut out, in the trail of the tenant whose user was claimed.

    Args:
        reason: how it came to that.
        authorization: the header; None of an address, which is the platform's matter.
        origin: of the request.
        about: what was asked at last.
    """
    realm = None if authorization is None else claimed_realm(authorization)
    key = None if authorization is None else claimed_key(_credentials(authorization))
    if authorization is not None and realm is None and key is None:
        return None
    return Note(
        tenant_id=PLATFORM_TENANT if authorization is None else None,
        realm=realm or "",
        key_id=key,
        action=SIGN_IN_BLOCKED,
        result="denied",
        reason=reason,
        about=about,
        **_where(origin),
    )


def of_reading(
    caller: Caller, origin: Origin, about: About, fields: Sequence[str], rows: Sequence[Any] | None
) -> Note | None:
    """Return the note of controlled fields that were read; None where the reader is nobody.

    Args:
        caller: who read.
        origin: of the request.
        about: what was read.
        fields: that were shown or looked at.
        rows: keys of the rows; None where they are not told, of groups for example.
    """
    told: dict[str, Any] = {"fields": list(fields)}
    if rows is not None:
        told |= {"rows": [str(row) for row in rows[:_MOST_ROWS]], "count": len(rows)}
    return of_reading_again(caller, origin, about, wire.dumps(told).decode())


def of_reading_again(caller: Caller, origin: Origin, about: About, changes: str) -> Note | None:
    """Return the note of what was read before, as another note says, and is told once more."""
    if caller.session_tenant_id == NOBODY:
        return None
    return Note(
        action=about.operation.upper()[:128],
        result="success",
        about=about,
        changes=changes,
        **_who(caller, origin),
    )


def claimed_realm(authorization: str) -> str | None:
    """Return the realm that a bearer token claims to be of; it proves nothing, and any text may come."""
    issuer = _claims(authorization).get("iss")
    realm = issuer.rpartition("/")[2] if isinstance(issuer, str) else ""
    return realm if _REALM.fullmatch(realm) else None


def claimed_user(authorization: str) -> str | None:
    """Return by what the user, or the key, is counted that credentials claim to be; it proves nothing."""
    key, subject = claimed_key(_credentials(authorization)), _claims(authorization).get("sub")
    if key is not None:
        return f"key {key}"
    realm = claimed_realm(authorization)
    named = isinstance(subject, str) and 0 < len(subject) <= _LONGEST_KEY and subject.isprintable()
    return f"user {realm}/{subject}" if realm is not None and named else None


def _claims(authorization: str) -> Mapping[str, Any]:
    """Return what a bearer token claims; nothing of any other text."""
    token = _credentials(authorization)
    parts = token.split(".")
    if len(parts) != 3 or len(token) > _LONGEST_TOKEN:
        return {}
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}


def _credentials(authorization: str) -> str:
    """Return what follows `Bearer`; nothing after any other word."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _who(caller: Caller, origin: Origin) -> Mapping[str, Any]:
    return {
        "tenant_id": caller.session_tenant_id,
        "user_id": caller.user_id or None,
        "actor_tenant_id": caller.visiting_from,
        "key_id": caller.key_id,
        **_where(origin),
    }


def _where(origin: Origin) -> Mapping[str, Any]:
    return {
        "client_ip": origin.client_ip,
        "user_agent": origin.user_agent[:_LONGEST_TEXT],
        "request_id": origin.request_id,
    }


def bounded_key(key: str | None) -> str | None:
    """Return a key as an entry holds it."""
    return None if key is None else key[:_LONGEST_KEY]
