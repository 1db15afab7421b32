"""`identity`: what an operator does at the identity provider for a tenant that is there.

Comes in: a tenant. Goes out: the realm with today's settings, nobody signed in, or an account of a program.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from byodpp.cli.output import print_step, refusals_told, shown
from byodpp.cli.place import place_of
from byodpp.cli.revoke import revoke_in
from byodpp.exceptions import Problem, StartError

if TYPE_CHECKING:
    from byodpp.authentication.tenants import Tenant
    from byodpp.database import Database
    from byodpp.identity import IdentityAdministration, SignInProvider
    from byodpp.settings import Settings

__all__ = ["log_out", "provider", "renew", "second_factor", "service_account"]

Slug = Annotated[str, typer.Argument(help="Slug or ULID of the tenant.", metavar="TENANT")]
_TOLD: Final = (
    "insert into audit_logs (tenant_id, action, resource_type, result, changes)"
    " values ($1, $2, 'Tenants', 'success', json_build_object('name', $3::text))"
)
_SELECT: Final = "select name, domain from tenants where id = $1"

T = TypeVar("T")


def renew(context: typer.Context, slug: Slug) -> None:
    """Give a tenant's realm the settings that a new one gets: passwords, sessions, theme, mail server.

    For when the tenant's name or domain, `keycloak_theme`, the mail server, or an address has changed; users,
    roles, and programs' clients stay.
    """
    _run(_renewed(place_of(context).settings(), slug))
    print_step("renewed", slug)


def log_out(context: typer.Context, slug: Slug) -> None:
    """Log all users of a tenant out: no session is renewed, and no token or key made before now is good.

    Tokens and keys are revoked first, also when the identity provider is away: call it again then.
    """
    settings = place_of(context).settings()
    # First what is ours to do: it holds whatever the identity provider says.
    _run(revoke_in(settings, slug, "tenant", ""))
    print_step("revoked", f"tokens and keys of {slug}")
    _run(_logged_out(settings, slug))
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

    Called again it gets the roles that are named now, and no others; with `--renew` and none it keeps
    those that it has.
    """
    settings = place_of(context).settings()
    secret = _run(_account(settings, slug, name, role or [], renew_secret=renew_secret, remove=remove))
    print_step("removed" if remove else "made", name)
    if secret is not None:
        typer.echo(f"\n  client id      {shown(name)}\n  client secret  {secret}")


def second_factor(
    context: typer.Context,
    slug: Slug,
    optional: Annotated[
        bool, typer.Option("--optional", help="Ask only those who have an authenticator.")
    ] = False,
) -> None:
    """Ask everybody of a tenant for a code of an authenticator, besides the password.

    Who has none sets one up at the next sign-in. Whom a provider of the tenant's own signs in is asked there.
    """
    _run(_second_factor(place_of(context).settings(), slug, required=not optional))
    print_step("second factor", f"{'optional' if optional else 'required'} for {slug}")


def provider(
    context: typer.Context,
    slug: Slug,
    alias: Annotated[str, typer.Argument(help="Short name of the provider.", metavar="ALIAS")],
    saml: Annotated[str | None, typer.Option(help="Address of its SAML metadata.", metavar="ADDRESS")] = None,
    oidc: Annotated[
        str | None, typer.Option(help="Address of its OpenID configuration.", metavar="ADDRESS")
    ] = None,
    client_id: Annotated[str | None, typer.Option(help="Our client id at an OpenID provider.")] = None,
    client_secret: Annotated[
        str | None,
        typer.Option(envvar="OIDC_CLIENT_SECRET", help="Its secret; asked for when it is not given."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="What the button says; default: the alias.")] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(help="Role of whoever comes from there for the first time; may be given again."),
    ] = None,
    trust_email: Annotated[
        bool, typer.Option("--trust-email", help="Take its addresses for verified.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Forget it; its users stay.")] = False,
) -> None:
    """Let a tenant's people sign in at an identity provider of its own: single sign-on by SAML or OpenID.

    `byodpp identity provider acme entra --saml https://login.example.com/metadata.xml --role Viewer`

    `byodpp identity provider acme google --oidc https://accounts.example.com/.well-known/openid-configuration
    --client-id byodpp`

    Prints what the provider has to be told of us. Called again it is brought up to date.
    """
    from byodpp.identity import SignInProvider

    settings = place_of(context).settings()
    if remove:
        _run(_without_provider(settings, slug, alias))
        print_step("removed", alias)
        return
    metadata = saml or oidc
    if metadata is None or (saml and oidc):
        raise StartError([Problem("--saml, --oidc", "one of them says where the provider describes itself")])
    if metadata.startswith("http:") and settings.environment in ("stage", "prod"):
        reason = "is not asked without encryption: whoever answers in its place would sign anybody in"
        raise StartError([Problem(metadata, reason, "Give its address with https://.")])
    if oidc and client_secret is None:
        client_secret = typer.prompt("Client secret", hide_input=True)
    found = SignInProvider(
        alias=alias,
        kind="saml" if saml else "oidc",
        metadata=metadata,
        title=title or alias,
        client_id=client_id,
        client_secret=client_secret,
        roles=tuple(role or ()),
        trust_email=trust_email,
    )
    realm = _run(_with_provider(settings, slug, found))
    print_step("made", alias)
    typer.echo(f"\n  {'entity id' if saml else 'issuer of us':14} {realm}")
    typer.echo(f"  {'address':14} {realm}/broker/{alias}/endpoint")
    if saml:
        typer.echo(f"  {'our metadata':14} {realm}/broker/{alias}/endpoint/descriptor")


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
        await _refuse_slips(settings, database, tenant, roles, "The account")
        if roles or not renew_secret:
            secret = await administration.put_service_account(tenant.realm, name, roles)
        if renew_secret:
            secret = await administration.renew_secret(tenant.realm, name)
        await _note(database, tenant, "PUT_SERVICE_ACCOUNT", name)
        return secret


async def _second_factor(settings: Settings, slug: str, *, required: bool) -> None:
    async with _at_home(settings, slug) as (administration, database, tenant):
        await administration.require_second_factor(tenant.realm, required=required)
        await _note(database, tenant, "SECOND_FACTOR", "required" if required else "optional")


async def _with_provider(settings: Settings, slug: str, found: SignInProvider) -> str:
    """Make the provider, and return the address of the tenant's realm."""
    from byodpp.identity.choice import identity_provider

    async with _at_home(settings, slug) as (administration, database, tenant):
        await _refuse_slips(settings, database, tenant, found.roles, "Whoever comes from there")
        await administration.put_sign_in_provider(tenant.realm, found)
        await _note(database, tenant, "PUT_IDENTITY_PROVIDER", found.alias)
        return identity_provider(settings).issuer_url(tenant.realm)


async def _without_provider(settings: Settings, slug: str, alias: str) -> None:
    async with _at_home(settings, slug) as (administration, database, tenant):
        await administration.remove_sign_in_provider(tenant.realm, alias)
        await _note(database, tenant, "REMOVE_IDENTITY_PROVIDER", alias)


async def _refuse_slips(
    settings: Settings, database: Database, tenant: Tenant, roles: Sequence[str], who: str
) -> None:
    from byodpp.manifest import load_manifest
    from byodpp.tenant_life.role_names import refuse_slips

    if roles:
        told = f"{who} cannot have these roles"
        await refuse_slips(database, load_manifest(settings.app_dir), tenant, roles, told=told)


async def _note(database: Database, tenant: Tenant, action: str, name: str) -> None:
    told = name.encode("utf-8", "backslashreplace").decode()  # words of a terminal need not be text
    async with database.at(tenant.database).system() as transaction:
        await transaction.execute(_TOLD, tenant.id, action, told)


@asynccontextmanager
async def _at_home(
    settings: Settings, slug: str
) -> AsyncIterator[tuple[IdentityAdministration, Database, Tenant]]:
    """Yield the right to administer the identity provider, the database, and the tenant.

    Raises:
        StartError: one of them is missing.
    """
    from byodpp.authentication.tenants import TenantDirectory
    from byodpp.cli.preparation import migrated_database, open_database
    from byodpp.identity.choice import identity_provider

    async with migrated_database(settings) as found, open_database(found) as database:
        tenant = await TenantDirectory(database).by_name(slug)
        if tenant is None:
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
    with refusals_told(again=lambda: "The same command may be called again."):
        return asyncio.run(work)
