"""`tenants`: list, onboard, invite, suspend, reactivate, migrate, export, and delete them.

Everything here may be called again: what was cut off is taken up where it stopped. A tenant is named by its
slug, which may change and be given to another, or by its ULID, which does neither.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, cast

import typer

from byodpp.cli.output import print_step, print_table, refusals_told
from byodpp.cli.place import place_of
from byodpp.exceptions import Problem, StartError

if TYPE_CHECKING:
    from byodpp.places.placement import Tier
    from byodpp.settings import Settings
    from byodpp.tenant_life import TenantLife
    from byodpp.tenant_life.listing import TenantLine

__all__ = [
    "delete", "export", "invite", "list_places", "list_tenants", "move", "onboard", "reactivate", "suspend",
]  # fmt: skip

T = TypeVar("T")


class _Tier(StrEnum):
    """Where a tenant's rows may be."""

    SHARED = "shared"
    SCHEMA = "schema"
    DATABASE = "database"


#: 24 characters of 6 bits, and one of each kind that a stricter realm may ask for.
_PASSWORD_BYTES: Final = 18
_KINDS: Final = "Aa1-"

#: What is said when the identity provider has stopped a procedure.
_GOES_ON: Final = "What was done is kept: the same command goes on where it stopped."
#: Of a suspension that has done our own part.
_LOCKED_OUT: Final = (
    "This application answers none of the tenant's users any more. Still to be done are the realm, where "
    "nobody shall sign in, and its sessions: the same command goes on there."
)

Slug = Annotated[str, typer.Argument(help="Short name of the tenant.", metavar="SLUG")]
Name = Annotated[str, typer.Argument(help="Slug or ULID of the tenant.", metavar="TENANT")]
To = Annotated[Path | None, typer.Option(help="Folder for the file.", show_default=".byodpp/exports")]


def list_tenants(context: typer.Context) -> None:
    """List the tenants, and what is under way with them."""

    async def run(life: TenantLife) -> None:
        lines = await life.list()
        rows = [
            (
                *(line.slug, line.name, line.status, _tier(line)),
                *(line.parent, line.realm),
                _under_way(line.under_way),
            )
            for line in lines
        ]
        head = ("SLUG", "NAME", "STATUS", "TIER", "PARENT", "REALM", "UNDER WAY")
        print_table(head, rows, empty="There are no tenants.")
        if any(line.behind for line in lines):
            typer.echo("\nWho is behind is answered with 503; `byodpp migrate apply` says why.")

    _with_life(context, run)


def onboard(
    context: typer.Context,
    slug: Slug,
    email: Annotated[str, typer.Option(help="Address of the first administrator.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the organisation.", show_default="from the slug")
    ] = None,
    first_name: Annotated[str, typer.Option(help="First name of the administrator.")] = "",
    last_name: Annotated[str, typer.Option(help="Last name of the administrator.")] = "",
    phone: Annotated[str | None, typer.Option(help="Telephone of the administrator.")] = None,
    tenant_class: Annotated[str | None, typer.Option("--class", help="Name of its TenantClass.")] = None,
    parent: Annotated[
        str | None,
        typer.Option(help="Slug or ULID of the tenant above it, whose class it gets where none is named."),
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Host of its own pages.")] = None,
    industry: Annotated[
        str | None,
        typer.Option(help="Folder of seeds/tenants/ with what tenants of its industry begin with, too."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            help="Where a database of its own has to lie.", show_default="what its class says, or anywhere"
        ),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A further field of Tenants; several times."),
    ] = None,
    password: Annotated[
        bool, typer.Option("--password", help="Print a temporary password instead of sending an invitation.")
    ] = False,
) -> None:
    """Make a tenant, its realm, and its first administrator, and invite them by mail.

    `byodpp tenants onboard acme --name "Acme Ltd" --email ada@acme.example`

    The slug `platform` makes the realm of the operators.
    """
    from byodpp.tenant_life import Newcomer

    temporary = _temporary(password)

    async def run(life: TenantLife) -> None:
        newcomer = Newcomer(
            slug=slug,
            name=Newcomer.named_after(slug) if name is None else name,
            email=email,
            first_name=first_name,
            last_name=last_name,
            phone=phone,
            tenant_class=tenant_class,
            parent=parent,
            domain=domain,
            industry=industry,
            region=region,
            values=_values(more or []),
        )

        telling = _Telling(context)
        results = await life.onboard(newcomer, password=temporary, told=telling)
        _tell_kept(slug, results["tenant"])
        telling.password(email, temporary)

    _with_life(context, run, provider_first=True)


def invite(
    context: typer.Context,
    name: Name,
    email: Annotated[str, typer.Option(help="Address of the user.")],
    role: Annotated[list[str], typer.Option(help="Role; may be given several times.")],
    first_name: Annotated[str, typer.Option(help="First name.")] = "",
    last_name: Annotated[str, typer.Option(help="Last name.")] = "",
    phone: Annotated[str | None, typer.Option(help="Telephone.")] = None,
    password: Annotated[
        bool, typer.Option("--password", help="Print a temporary password instead of sending an invitation.")
    ] = False,
) -> None:
    """Give a tenant a user with these roles, or a user other roles, and invite them by mail.

    `byodpp tenants invite acme --email ben@acme.example --role Manager`
    """
    from byodpp.tenant_life import Guest

    temporary = _temporary(password)

    async def run(life: TenantLife) -> None:
        guest = Guest(email=email, roles=tuple(role), first_name=first_name, last_name=last_name, phone=phone)
        telling = _Telling(context)
        await life.invite(name, guest, password=temporary, told=telling)
        telling.password(email, temporary)

    _with_life(context, run, provider_first=True)


def suspend(
    context: typer.Context,
    name: Name,
    reason: Annotated[str, typer.Option(help="payment, policy, admin, or security.")],
) -> None:
    """Lock a tenant's users out: no call, no sign-in, no session. Its administrators are told by mail.

    It waits for no move of the tenant, which goes on afterwards, and begins with this application: where the
    identity provider is away, or refuses us, the same command does the rest later.
    """
    taken = []

    def told(step: str, now: bool) -> None:
        taken.append(step)
        _tell(step, now)

    _with_life(
        context,
        lambda life: life.suspend(name, reason, told=told),
        again=lambda: _LOCKED_OUT if taken else _GOES_ON,
    )


def reactivate(context: typer.Context, name: Name) -> None:
    """Let a suspended tenant's users in again. Its administrators are told by mail."""
    _with_life(context, lambda life: life.reactivate(name, told=_tell))


def move(
    context: typer.Context,
    name: Name,
    to: Annotated[
        _Tier | None, typer.Option(help="Where its rows shall be.", show_default="what its class says")
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(help="With `--to database`: name of the place.", show_default="one that is free"),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            help="With `--to database`: where it has to lie.", show_default="what its class says, or anywhere"
        ),
    ] = None,
    abandon: Annotated[
        bool,
        typer.Option(
            "--abandon", help="Give up a move before its `switch`; again, deletes copies that were left."
        ),
    ] = False,
) -> None:
    """Move a tenant's rows into a schema or a database of its own, or back into the shared tables.

    The tenant is only read meanwhile; what was cut off goes on where it stopped.

    `byodpp tenants migrate acme --to schema`

    `byodpp tenants migrate acme --to database --region eu`
    """
    if abandon and (to or place or region):
        advice = "Leave the others out: the tenant stays where it is."
        raise StartError([Problem("--abandon", "gives up the move that is under way", advice)])
    if (place or region) and to not in (None, _Tier.DATABASE):
        advice = "Leave them out, or say --to database."
        raise StartError([Problem("--place, --region", "name a database", advice)])

    async def run(life: TenantLife) -> None:
        from byodpp.tenant_life import Wanted

        if abandon:
            left = (await life.abandon(name, told=_tell))["abandon"]["left"]
            if left:
                print_step("left", f"what was copied: {left} The same command deletes it, later.")
            return
        wanted = Wanted(place=place, region=region)
        try:
            await life.move(name, cast("Tier | None", to and to.value), wanted=wanted, told=_tell)
        except Exception:
            await _tell_stopped(life, name)
            raise

    _with_life(context, run)


async def _tell_stopped(life: TenantLife, name: str) -> None:
    """Say what a move that has stopped means for the tenant, and how it goes on."""
    from byodpp.exceptions import ApiError

    with suppress(ApiError):  # the database is away, which is what is told then
        lines = [line for line in await life.list() if name in (line.slug, line.realm)]
        begun = lines[0].under_way if lines else None
        if begun is None or begun.kind != "move":
            return
        held = "hold" in begun.done and "open" not in begun.done and "reopen" not in begun.done
        means = "is read, and its writes are refused (503)" if held else "is served"
        ways = (
            "" if "switch" in begun.done else "; --abandon gives the move up, and lets it write where it is"
        )
        typer.echo(f"{name} {means} until the same command has gone on{ways}.", err=True)


def list_places(context: typer.Context) -> None:
    """List the databases that a tenant can have for itself, whether they serve, and whose they are."""

    async def run(life: TenantLife) -> None:
        rows = [(one.name, one.region, one.state, one.tenant) for one in await life.places()]
        print_table(("PLACE", "REGION", "STATE", "TENANT"), rows, empty="`places` names no database.")

    _with_life(context, run)


def export(context: typer.Context, name: Name, to: To = None) -> None:
    """Write everything that belongs to a tenant into a zip file."""
    folder = _folder(context, to)
    print_step("written", str(_with_life(context, lambda life: life.export(name, folder))))


def delete(
    context: typer.Context,
    name: Name,
    confirm: Annotated[str, typer.Option(help="TENANT once more: nothing brings it back.")],
    to: To = None,
) -> None:
    """Export a tenant, then delete its realm and its rows; the audit trail stays.

    Needs POSTGRES_ADMIN_URI: every table is made to refuse the tenant first.

    `byodpp tenants delete acme --confirm acme`
    """
    if confirm != name:
        raise StartError([Problem("--confirm", f"is {confirm!r} and not {name!r}: nothing was deleted")])
    folder = _folder(context, to)
    path = _with_life(context, lambda life: life.delete(name, folder, told=_tell))
    print_step("exported", str(path))


def _with_life(
    context: typer.Context,
    run: Callable[[TenantLife], Awaitable[T]],
    *,
    provider_first: bool = False,
    again: Callable[[], str] = lambda: _GOES_ON,
) -> T:
    """Run something with a connected application.

    Args:
        context: of the command.
        run: is given it.
        provider_first: whether to begin nothing where the identity provider refuses us.
        again: returns what is said when the identity provider has stopped it.

    Raises:
        StartError: also for what is refused, with its details.
    """
    with refusals_told(again=again):
        return asyncio.run(_run(place_of(context).settings(), run, provider_first))


async def _run(settings: Settings, run: Callable[[TenantLife], Awaitable[T]], provider_first: bool) -> T:
    from byodpp import bootstrap
    from byodpp.cli.preparation import migrated_database

    async with migrated_database(settings) as found:
        connected = bootstrap.Application.connect(found, bootstrap.assemble(found.app_dir))
        async with connected.lifespan(provider_first=provider_first):
            return await run(connected.tenant_life())


def _folder(context: typer.Context, to: Path | None) -> Path:
    return (to or place_of(context).app_dir / ".byodpp" / "exports").absolute()


def _values(pairs: list[str]) -> dict[str, Any]:
    """Read `FIELD=VALUE`; a value that is JSON is taken as that, another one as text."""
    from byodpp import wire
    from byodpp.exceptions import Malformed

    values: dict[str, Any] = {}
    for pair in pairs:
        field, equals, text = pair.partition("=")
        if not equals or not field:
            raise StartError([Problem("--set", f"{pair!r} is not FIELD=VALUE")])
        try:
            values[field] = wire.loads(text.encode())
        except Malformed:
            values[field] = text
    return values


def _temporary(wanted: bool) -> str | None:
    return f"{secrets.token_urlsafe(_PASSWORD_BYTES)}{_KINDS}" if wanted else None


class _Telling:
    """Prints steps, and remembers whether a password was set just now."""

    def __init__(self, context: typer.Context) -> None:
        self._context = context
        self._set = False

    def __call__(self, step: str, now: bool) -> None:
        self._set = self._set or (step == "invitation" and now)
        _tell(step, now)

    def password(self, email: str, password: str | None) -> None:
        """Print a password that is worth something (one that was set before is another), and where."""
        from byodpp.identity.choice import sign_in_page

        if password is None or not self._set:
            return
        page = sign_in_page(place_of(self._context).settings())
        where = "" if page is None else f"\n  sign in   {page}"
        typer.echo(
            f"\n  user      {email}\n  password  {password}   (to be changed at the first sign-in){where}"
        )


def _tell_kept(slug: str, tenant: Mapping[str, Any]) -> None:
    """Say what was said in vain of a tenant that was there before; older programs did not note it."""
    for word, value in (tenant.get("keeps") or {}).items():
        has = "has no" if value is None else f"keeps the {word} {value!r}, and not the"
        told = f"{slug} was there before: it {has} {word} that was said now; an onboarding changes none"
        typer.echo(f"{told} (its row is /api/v1/tenants/{tenant['id']}).", err=True)


def _tell(step: str, now: bool) -> None:
    print_step("done" if now else "before", step)


def _tier(line: TenantLine) -> str:
    return f"{line.tier} {line.place}".rstrip() + (", behind" if line.behind else "")


def _under_way(procedure: Any) -> str:
    if procedure is None:
        return ""
    stopped = f", stopped at {procedure.failure}" if procedure.failure else ""
    return f"{procedure.kind} since {procedure.begun_at:%Y-%m-%d %H:%M}{stopped}"
