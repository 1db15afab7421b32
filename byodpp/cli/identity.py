"""`identity`: what an operator does at the identity provider for a tenant that is there.

Comes in: a tenant. Goes out: the realm with today's settings, nobody signed in, or an account of a program.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from byodpp.cli.output import print_step
from byodpp.cli.place import place_of
from byodpp.cli.revoke import revoke_in
from byodpp.exceptions import ApiError, Problem, StartError

if TYPE_CHECKING:
    from byodpp.authentication.tenants import Tenant
    from byodpp.database import Database
    from byodpp.identity import IdentityAdministration
    from byodpp.settings import Settings

__all__ = ["log_out", "renew", "service_account"]

Slug = Annotated[str, typer.Argument(help="Short name of the tenant.", metavar="SLUG")]
_TOLD: Final = (
    "insert into audit_logs (tenant_id, action, resource_type, result, changes)"
    " values ($1, $2, 'Tenants', 'success', jsonb_build_object('name', $3::text))"
)
_SELECT: Final = "select name, domain from tenants where id = $1"

T = TypeVar("T")


def renew(context: typer.Context, slug: Slug) -> None:
    """Give a tenant's realm the settings that a new one gets: passwords, sessions, theme, mail server.

    For when `keycloak_theme`, the mail server, or an address has changed; users, roles, and clients stay.
    """
    _run(_renewed(place_of(context).settings(), slug))
    print_step("renewed", slug)


def log_out(context: typer.Context, slug: Slug) -> None:
    """Log all users of a tenant out: no session is renewed, and no token or key made before now is good."""
    settings = place_of(context).settings()
    _run(_logged_out(settings, slug))
    _run(revoke_in(settings, slug, "tenant", ""))
    print_step("logged out", f"everyone of {slug}")


def service_account(
    context: typer.Context,
    slug: Slug,
    name: Annotated[str, typer.Argument(help="Client id of the program.", metavar="NAME")],
    role: Annotated[list[str] | None, typer.Option(help="Role that it has; may be given again.")] = None,
    renew_secret: Annotated[bool, typer.Option("--renew", help="Give it another secret.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Delete it.")] = False,
) -> None:
    """Make an account of a program, which signs in by client credentials, and print its secret.

    `byodpp identity service-account acme importer --role Manager`

    Called again it gets the roles that are named now, and no others.
    """
    settings = place_of(context).settings()
    secret = _run(_account(settings, slug, name, role or [], renew_secret=renew_secret, remove=remove))
    print_step("removed" if remove else "made", name)
    if secret is not None:
        typer.echo(f"\n  client id      {name}\n  client secret  {secret}")


# --- doing it -----------------------------------------------------------------------------


async def _renewed(settings: Settings, slug: str) -> None:
    from byodpp.identity.administration import RealmPlan

    async with _at_home(settings, slug) as (administration, database, tenant):
        async with database.system() as transaction:
            row = await transaction.fetchrow(_SELECT, tenant.id)
        assert row is not None
        own = () if row["domain"] is None else (f"https://{row['domain']}",)
        plan = RealmPlan(name=tenant.realm, display_name=row["name"], addresses=own)
        await administration.renew_realm(plan)
        await _note(database, tenant, "RENEW_REALM", slug)


async def _logged_out(settings: Settings, slug: str) -> None:
    async with _at_home(settings, slug) as (administration, database, tenant):
        await administration.log_out_everyone(tenant.realm)
        await _note(database, tenant, "LOG_OUT", slug)


async def _account(
    settings: Settings, slug: str, name: str, roles: Sequence[str], *, renew_secret: bool, remove: bool
) -> str | None:
    async with _at_home(settings, slug) as (administration, database, tenant):
        if remove:
            await administration.remove_service_account(tenant.realm, name)
            await _note(database, tenant, "REMOVE_SERVICE_ACCOUNT", name)
            return None
        secret = await administration.put_service_account(tenant.realm, name, roles)
        if renew_secret:
            secret = await administration.renew_secret(tenant.realm, name)
        await _note(database, tenant, "PUT_SERVICE_ACCOUNT", name)
        return secret


async def _note(database: Database, tenant: Tenant, action: str, name: str) -> None:
    async with database.at(tenant.database).system() as transaction:
        await transaction.execute(_TOLD, tenant.id, action, name)


@asynccontextmanager
async def _at_home(
    settings: Settings, slug: str
) -> AsyncIterator[tuple[IdentityAdministration, Database, Tenant]]:
    """Yield the right to administer the identity provider, the database, and the tenant.

    Raises:
        StartError: one of them is missing.
    """
    from byodpp.authentication.tenants import TenantDirectory
    from byodpp.cli.preparation import open_database, running_database
    from byodpp.identity.choice import identity_provider

    async with running_database(settings) as found, open_database(found) as database:
        tenant = await TenantDirectory(database).by_name(slug)
        if tenant is None or tenant.slug != slug:
            raise StartError([Problem("", f"there is no tenant {slug!r}")])
        provider = identity_provider(found)
        try:
            if provider.administration is None:
                reason = "is needed to change anything in Keycloak"
                advice = "Set KEYCLOAK_ADMIN_CLIENT_SECRET."
                raise StartError([Problem("keycloak_admin_secret", reason, advice)])
            await provider.open()
            yield provider.administration, database, tenant
        finally:
            await provider.close()


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run something to its end.

    Raises:
        StartError: also for what is refused, with its details.
    """
    try:
        return asyncio.run(work)
    except ApiError as error:
        details = [Problem(one.field, one.message) for one in error.details]
        raise StartError([Problem("", error.message), *details]) from error
