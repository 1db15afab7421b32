"""`revoke`: what was sent to sign in with is worth nothing from now on, whatever the API can still do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from byodpp.cli.output import print_step
from byodpp.cli.place import place_of
from byodpp.exceptions import Problem, StartError, TenantMoving

if TYPE_CHECKING:
    from byodpp.database import Transaction
    from byodpp.settings import Settings

__all__ = ["revoke", "revoke_in"]

_LONGEST = timedelta(days=366)
_LAST_ID = 2**63 - 1
_LONGEST_TOKEN_ID = 255
_INSERT = (
    "insert into revocations (tenant_id, kind, subject, expires_at, reason)"
    " values ($1, $2, $3, $4, 'revoked by an operator')"
)
_TOLD = (
    "insert into audit_logs (tenant_id, action, resource_type, resource_id, result, changes)"
    " values ($1, 'REVOKE', $2, $3, 'success', json_build_object('kind', $4::text))"
)


def revoke(
    context: typer.Context,
    tenant: Annotated[str, typer.Option(help="Slug or ULID of the tenant.")],
    user: Annotated[
        int | None, typer.Option(help="Id of a row of Users: all tokens and keys made before now.")
    ] = None,
    token: Annotated[str | None, typer.Option(help="Id of one token (`jti`).")] = None,
    key: Annotated[str | None, typer.Option(help="Id of one API key.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All tokens and keys of the tenant made before now.")
    ] = False,
) -> None:
    """Revoke tokens and API keys; in force in every server within a second.

    `byodpp revoke --tenant acme --user 7`

    `byodpp revoke --tenant acme --key 01J8Z6V2N3Q4R5S6T7V8W9X0YZ`
    """
    chosen = [
        ("user", None if user is None else str(user)),
        ("token", token),
        ("key", key),
        ("tenant", "" if everything else None),
    ]
    named = [(kind, subject) for kind, subject in chosen if subject is not None]
    if len(named) != 1:
        raise StartError([Problem("revoke", "give one of --user, --token, --key, --all")])
    [(kind, subject)] = named
    if kind == "token" and not 0 < len(subject) <= _LONGEST_TOKEN_ID:
        raise StartError([Problem("--token", f"must have 1 to {_LONGEST_TOKEN_ID} characters")])
    if kind == "token" and subject.startswith("sub:"):  # so users are written down who were deleted
        raise StartError([Problem("--token", "no token's id begins with 'sub:'", "Give the user by --user.")])
    asyncio.run(revoke_in(place_of(context).settings(), tenant, kind, subject))
    print_step("revoked", f"{kind} {subject}".strip())


async def revoke_in(settings: Settings, slug: str, kind: str, subject: str) -> None:
    """Revoke something of a tenant: `token`, `user`, `key`, or with no subject the `tenant`'s everything."""
    from byodpp.authentication.revocations import BUMP, OUTLAST
    from byodpp.authentication.tenants import find_tenant
    from byodpp.cli.preparation import migrated_database, open_database

    async with migrated_database(settings) as found, open_database(found) as database:
        async with database.system() as transaction:
            found_tenant = await find_tenant(transaction, slug)
        if found_tenant is None:
            raise StartError([Problem("--tenant", f"there is no tenant {slug!r}")])
        tenant = found_tenant.id
        async with database.at(found_tenant.database).system() as transaction:
            row_kind = kind
            if kind == "user":
                await _require_user(transaction, tenant, int(subject))
            if kind == "key" and not await _revoke_key(transaction, tenant, subject):
                row_kind = "token"  # the tenant moves: where it can be written for now
            if row_kind != "key":
                ends = datetime.now(UTC) + _LONGEST
                await transaction.execute(_INSERT, tenant, row_kind, subject or None, ends)
            await transaction.execute(_TOLD, tenant, *_about(kind, subject), kind)
            await transaction.execute(BUMP)
            await transaction.execute(OUTLAST)


async def _revoke_key(transaction: Transaction, tenant: int, key: str) -> bool:
    """Revoke a key by its row; False when that takes no writes for the moment."""
    sql = (
        "update api_keys set revoked_at = coalesce(revoked_at, now()), updated_at = now()"
        " where tenant_id = $1 and id = $2 returning id"
    )
    try:
        async with transaction.savepoint():
            found = await transaction.fetchval(sql, tenant, key)
    except TenantMoving:
        return False
    if found is None:
        raise StartError([Problem("--key", f"the tenant has no API key {key!r}")])
    return True


async def _require_user(transaction: Transaction, tenant: int, user: int) -> None:
    sql = "select id from users where tenant_id = $1 and id = $2"
    if user > _LAST_ID or await transaction.fetchval(sql, tenant, user) is None:
        raise StartError([Problem("--user", f"the tenant has no user {user}")])


def _about(kind: str, subject: str) -> tuple[str, str | None]:
    return {"key": ("ApiKeys", subject), "user": ("Users", subject)}.get(
        kind, ("Revocations", subject or None)
    )
