"""Logic classes of the part `byodpp:keys`: making, revoking and exchanging API keys, and ending a token.

An application that has a class of its own for one of these keys of the logic map replaces ours.
May reject: Forbidden (roles that the maker lacks, a key that makes keys), ValidationFailed, Conflict,
InvalidHeader, Unauthenticated (of who was revoked just now).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from marshmallow import Schema, fields

from byodpp.authentication.keys import hash_of, new_secret, written
from byodpp.authentication.revocations import GONE, REVOKED_SINCE
from byodpp.exceptions import (
    Conflict,
    Detail,
    Forbidden,
    InvalidHeader,
    TenantMoving,
    Unauthenticated,
    ValidationFailed,
)
from byodpp.logics import Logic

__all__ = ["KEY_LOGICS", "end_token"]

_DEFAULT_LIFE: Final = timedelta(days=90)
_LONGEST_LIFE: Final = timedelta(days=366)
#: Asks for an answer without rows.
_BRIEFLY: Final = "return=minimal"
_AS_ONE: Final = str.maketrans("", "", ' \t"')
#: Live keys of one user, so that nobody fills the directory.
_MOST_KEYS: Final = 50
#: Live revocations of single tokens of one tenant; they are held in the memory of every process.
MOST_TOKENS: Final = 5_000

_KEEP_HASH: Final = (
    "insert into byodpp.api_key_hashes (id, tenant_id, hash) values ($1, $2, $3)"
    " on conflict (id) do update set hash = excluded.hash"
)


class MadeKey(Schema):
    """The stored key, and once the key itself."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    userId = fields.Integer(required=True)
    roles = fields.List(fields.String(), required=True)
    makerRoles = fields.List(fields.String(), required=True, allow_none=True)
    makerName = fields.String(required=True, allow_none=True)
    makerUserName = fields.String(required=True, allow_none=True)
    makerEmail = fields.String(required=True, allow_none=True)
    operations = fields.List(fields.String(), required=True, allow_none=True)
    expiresAt = fields.DateTime(required=True)
    lastUsedAt = fields.DateTime(required=True, allow_none=True)
    revokedAt = fields.DateTime(required=True, allow_none=True)
    ending = fields.String(required=True)
    createdAt = fields.DateTime(required=True)
    updatedAt = fields.DateTime(required=True)
    key = fields.String(
        required=True,
        metadata={"description": "What is sent as `Authorization: Bearer <key>`; told now and never again."},
    )


class _Making(Logic):
    """What making and exchanging a key have in common."""

    def refuse_losses(self) -> None:
        """Refuse what would store the key in plain text with the answer, for retries, or tell it nobody."""
        headers = self.request.headers
        if "idempotency-key" in headers:
            raise InvalidHeader(
                "This route takes no Idempotency-Key: its answer holds a key and is not kept."
            )
        if _BRIEFLY in headers.get("prefer", "").translate(_AS_ONE).lower():
            told = "This route takes no `Prefer: return=minimal`: its answer holds a key, and is told once."
            raise InvalidHeader(told)

    def own_roles(self) -> frozenset[str]:
        """Return the roles that the caller has at this moment: of the token, and given here."""
        user = self.request.user
        return user.roles | self.access.given_roles(user)

    async def told(self, row: Mapping[str, Any], secret: str) -> dict[str, Any]:
        """Keep the hash of a written key's secret, and return the row with the key, which is told only now.

        Raises:
            Unauthenticated: the caller was revoked by another process, of which this one has not heard yet.
        """
        user = self.request.user
        home, ids = user.home_tenant_id, sent_ids(user)
        if await self.transaction.fetchval(REVOKED_SINCE, home, ids, user.made_at, str(user.user_id)):
            raise Unauthenticated("What was sent to sign in with was revoked", error="invalid_token")
        await self.transaction.execute(_KEEP_HASH, str(row["id"]), home, hash_of(secret))
        return {**row, "key": written(str(row["id"]), secret)}


def sent_ids(user: Any) -> list[str]:
    """Return the ids by which what a principal has sent may have been revoked by itself."""
    token = None if user.claims is None else user.claims.token_id
    session = None if user.browser is None else user.browser.id
    return [one for one in (token, session, user.key_id) if one is not None]


def refuse_lacking(roles: Sequence[str], own: frozenset[str]) -> None:
    """Refuse a key with more roles than the caller.

    Raises:
        Forbidden: with each of the roles, by its place.
    """
    lacking = [role for role in roles if role not in own]
    if lacking:
        told = "You do not have this role, so no key of yours has it."
        details = [Detail(f"roles.{roles.index(role)}", "forbidden", told) for role in lacking]
        raise Forbidden("A key has no roles that its maker lacks.", details=details)


class ApiKeysCreate(_Making):
    """Makes a key for the caller."""

    resource, operation = "ApiKeys", "create"
    output, tells_once = MadeKey, True

    async def execute(self) -> Any:
        """Make it."""
        self.refuse_losses()
        user, body = self.request.user, self.request.body
        if user.key_id is not None:
            raise Forbidden("An API key makes no API keys: sign in.")
        if user.visiting_from is not None:
            raise Forbidden("Keys are made at home: leave out X-Tenant.")
        own = self.own_roles()
        roles = sorted(own) if body.get("roles") is None else list(body["roles"])
        refuse_lacking(roles, own)
        if faults := self.access.key_faults(body.get("operations") or ()):
            raise ValidationFailed(details=faults)
        ends = self._end(body.get("expiresAt"))
        live = {"userId": user.user_id, "revokedAt": {"isNull": True}, "expiresAt": {"gt": _now()}}
        if await self.system["ApiKeys"].count(live) >= _MOST_KEYS:
            raise Conflict(f"A user has at most {_MOST_KEYS} keys at a time: revoke some first.")
        secret = new_secret()
        values = {
            "name": body["name"],
            "userId": user.user_id,
            "roles": roles,
            "makerRoles": sorted(user.roles),
            **_maker(user.claims),
            "operations": body.get("operations"),
            "expiresAt": ends,
            "ending": secret[-4:],
        }
        # Whom the key is for was decided above; the caller need not be able to read users.
        return await self.told(await self.system["ApiKeys"].create(values), secret)

    def _end(self, asked: datetime | None) -> datetime:
        now = datetime.now(UTC)
        if asked is None:
            return now + _DEFAULT_LIFE
        if not now < asked <= now + _LONGEST_LIFE:
            told = f"Must lie within the next {_LONGEST_LIFE.days} days."
            raise ValidationFailed(details=[Detail("expiresAt", "out_of_range", told)])
        return asked


class ApiKeysRevoke(Logic):
    """Makes a key worth nothing, in every process within a second."""

    resource, action = "ApiKeys", "revoke:post"

    async def execute(self) -> Any:
        """Revoke it; a second time changes nothing."""
        row = await self.repository.read(self.request.params["id"])
        if row["revokedAt"] is not None:
            return row
        now = datetime.now(UTC)
        try:
            async with self.transaction.savepoint():
                return await self.repository.patch(row["id"], {"revokedAt": now})
        except TenantMoving:
            # Where it can be written for now; the end of the move writes it into the key's row.
            values = {"kind": "token", "subject": row["id"], "expiresAt": row["expiresAt"]}
            await self.system["Revocations"].create({**values, "reason": "revoked while the tenant moved"})
            return {**row, "revokedAt": now}


class ApiKeysRotate(_Making):
    """Gives a key another secret; the one before is worth nothing from now on."""

    resource, action = "ApiKeys", "rotate:post"
    output = MadeKey

    async def execute(self) -> Any:
        """Exchange the secret."""
        self.refuse_losses()
        user = self.request.user
        row = await self.repository.read(self.request.params["id"])
        if row["userId"] != user.user_id or user.visiting_from is not None:
            raise Forbidden("Only the user for whom a key acts may have its secret: revoke it instead.")
        if user.key_id not in (None, row["id"]):
            # The other one may have roles and operations that this one was not given.
            raise Forbidden("An API key has its own secret exchanged, and no other key's: sign in.")
        if user.key_id is None:
            # A token may say less of the user than the one that the key was made with.
            refuse_lacking(sorted({*row["roles"], *(row["makerRoles"] or ())}), self.own_roles())
        if row["revokedAt"] is not None or row["expiresAt"] <= datetime.now(UTC):
            raise Conflict("The key is worth nothing any more: make a new one.")
        secret = new_secret()
        changed = await self.repository.patch(row["id"], {"ending": secret[-4:]})
        return await self.told(changed, secret)


class RevocationsCreate(Logic):
    """Revokes a token, a user's tokens and keys, or the tenant's."""

    resource, operation = "Revocations", "create"

    async def execute(self) -> Any:
        """Judge what is named, then write it."""
        body = self.request.body
        kind, subject = body["kind"], body.get("subject")
        if (kind == "tenant") != (subject is None):
            told = "Leave it out." if kind == "tenant" else "Is required."
            raise ValidationFailed(details=[Detail("subject", "required", told)])
        if kind == "token" and subject.startswith(GONE):
            told = f"No token's id begins with {GONE!r}: revoke the user."
            raise ValidationFailed(details=[Detail("subject", "invalid", told)])
        if kind == "user" and not await self._user_exists(subject):
            raise ValidationFailed(details=[Detail("subject", "reference", "There is no such user.")])
        now = datetime.now(UTC)
        latest = now + _LONGEST_LIFE
        ends = body.get("expiresAt") if kind == "token" else None
        if ends is not None and ends <= now:
            told = "Must lie in the future: a token that has ended needs no revocation."
            raise ValidationFailed(details=[Detail("expiresAt", "out_of_range", told)])
        body["expiresAt"] = min(ends or latest, latest)
        if kind == "token":
            live = _live_tokens()
            if await self.system["Revocations"].count(live) >= MOST_TOKENS:
                raise Conflict(
                    f"A tenant has at most {MOST_TOKENS} revoked tokens at a time: revoke the user."
                )
        return await self.default()

    async def _user_exists(self, subject: str) -> bool:
        if not (subject.isascii() and subject.isdigit() and len(subject) < 19):
            return False
        return await self.system["Users"].exists({"id": int(subject)})


class RevocationsOwn(Logic):
    """Ends the token that the request came with: a sign-out that no copy of the token survives."""

    resource, action, status = "Revocations", "own:post", 204

    async def execute(self) -> None:
        """Revoke it, or all that the user has when it has no id by which it could be told.

        Raises:
            Forbidden: by an operator who acts in another tenant, where it would revoke nothing.
        """
        if self.request.user.tenant_id != self.request.user.home_tenant_id:
            raise Forbidden("A token is revoked at home: leave out X-Tenant.")
        await end_token(self.system["Revocations"], self.request.user)


async def end_token(revocations: Any, user: Any) -> None:
    """Revoke the token that a request came with.

    Args:
        revocations: the repository, acting for the user's own tenant.
        user: principal of the request.

    Raises:
        Conflict: it came with an API key.
    """
    if user.key_id is not None:
        raise Conflict("This is an API key: revoke it at /api/v1/api-keys/{id}/revoke.")
    live = _live_tokens()
    token = user.claims.token_id if user.claims is not None else None
    if token is None or token.startswith(GONE) or await revocations.count(live) >= MOST_TOKENS:
        ends = datetime.now(UTC) + _LONGEST_LIFE
        values = {"kind": "user", "subject": str(user.user_id), "expiresAt": ends}
    else:
        # Accepted a little longer than it says, for clocks that differ.
        ends = datetime.fromtimestamp(user.claims.expires_at, UTC) + timedelta(minutes=1)
        values = {"kind": "token", "subject": token, "expiresAt": ends}
    await revocations.create({**values, "reason": "signed out"})


#: In the order in which `byodpp logics` lists them.
KEY_LOGICS: Final[tuple[type[Logic], ...]] = (
    ApiKeysCreate,
    ApiKeysRevoke,
    ApiKeysRotate,
    RevocationsCreate,
    RevocationsOwn,
)


def _maker(claims: Any) -> dict[str, str | None]:
    """Return who a token says that a key's maker is; the row of Users says what others write there."""
    if claims is None:
        return {}
    return {"makerName": claims.name, "makerUserName": claims.user_name, "makerEmail": claims.email}


def _live_tokens() -> dict[str, Any]:
    """Return which revocations are counted: a user who was deleted is none of somebody's wishes."""
    return {"kind": "token", "expiresAt": {"gt": _now()}, "not": {"subject": {"startsWith": GONE}}}


def _now() -> str:
    return datetime.now(UTC).isoformat()
