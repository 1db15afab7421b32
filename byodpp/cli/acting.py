"""Commands that act for a tenant: the application, connected, and who acts.

Comes in: settings, a tenant and roles. Goes out: the connected application and a principal. May refuse
with StartError: no such tenant, no such resource, no right.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from byodpp.exceptions import ApiError, Problem, StartError

if TYPE_CHECKING:
    from byodpp.authentication import Principal
    from byodpp.authentication.tenants import Tenant
    from byodpp.bootstrap import Application, Blueprint
    from byodpp.calls import Origin
    from byodpp.definitions import ResourceDefinition
    from byodpp.settings import Settings

__all__ = ["RESOURCE", "ROLE", "TENANT", "VERSION", "Acting", "acting", "in_tenant", "run"]

RESOURCE = typer.Argument(metavar="RESOURCE", help="Name of the resource, e.g. Products.")
TENANT = typer.Option(help="Slug of the tenant.")
ROLE = typer.Option(help="Role to act as; may be given several times.", show_default="Admin")
VERSION = typer.Option("--api-version", help="API version.")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """An application, and who does something with one of its resources."""

    application: Application
    principal: Principal
    resource: ResourceDefinition

    def origin(self) -> Origin:
        """Return what audit entries and events are to remember."""
        from byodpp.calls import Origin

        id = uuid.uuid4().hex
        return Origin(request_id=id, correlation_id=id, user_agent="byodpp")

    def refuse_without_right(self, *operations: str) -> None:
        """Refuse who has no right to one of the operations.

        Raises:
            StartError: naming it.
        """
        for operation in operations:
            decision = self.application.authorizer.decide(self.principal, self.resource, operation)
            if not decision.allowed:
                roles = ", ".join(sorted(self.principal.roles))
                reason = f"{roles} has no right to {operation} its rows"
                raise StartError([Problem(self.resource.name, reason, "Name another one: --role ROLE")])


@asynccontextmanager
async def acting(
    settings: Settings, tenant: str, roles: list[str], resource: str, version: str
) -> AsyncIterator[Acting]:
    """Yield who acts: nobody in particular, with roles in a tenant.

    Args:
        settings: of the application.
        tenant: slug.
        roles: names of roles.
        resource: name of the resource.
        version: API version.

    Raises:
        StartError: there is no such tenant or resource.
    """
    from byodpp import bootstrap
    from byodpp.authentication import Principal
    from byodpp.database import PLATFORM_TENANT

    blueprint = bootstrap.assemble(settings.app_dir)
    definition = _resource(blueprint.registry, resource, version)
    async with in_tenant(settings, tenant, blueprint) as (application, known):
        principal = Principal(
            tenant_id=known.id,
            session_tenant_id=known.id,
            home_tenant_id=known.id,
            roles=frozenset(roles),
            anonymous=False,
            platform=known.id == PLATFORM_TENANT,
            tenant=known,
        )
        yield Acting(application=application, principal=principal, resource=definition)


@asynccontextmanager
async def in_tenant(
    settings: Settings, tenant: str, blueprint: Blueprint | None = None
) -> AsyncIterator[tuple[Application, Tenant]]:
    """Yield a running application, and one of its tenants.

    Args:
        settings: of the application.
        tenant: slug.
        blueprint: the folder's, where it has been assembled already.

    Raises:
        StartError: there is no such tenant.
    """
    from byodpp import bootstrap
    from byodpp.authentication.tenants import TenantDirectory
    from byodpp.cli.preparation import migrated_database

    blueprint = blueprint or bootstrap.assemble(settings.app_dir)
    async with migrated_database(settings) as found:
        application = bootstrap.Application.connect(found, blueprint)
        async with application.lifespan():
            known = await TenantDirectory(application.database).by_name(tenant)
            if known is None:
                raise StartError([Problem(tenant, "there is no such tenant")])
            yield application, known


def _resource(registry: Any, name: str, version: str) -> ResourceDefinition:
    from byodpp.suggestion import nearest

    found: ResourceDefinition | None = registry.find(name, version)
    if found is None:
        names = sorted({one.name for one in registry if one.routed})
        raise StartError([Problem(name, f"there is no such resource in {version}", nearest(name, names))])
    return found


def run(task: Coroutine[Any, Any, T], *, interrupted: str) -> T:
    """Run a command to its end.

    Args:
        task: the command.
        interrupted: what is told when Ctrl-C cuts it short.

    Raises:
        StartError: the application has refused it.
    """
    try:
        return asyncio.run(task)
    except KeyboardInterrupt:
        typer.echo(interrupted, err=True)
        raise typer.Exit(130) from None
    except ApiError as error:
        problems = [Problem(one.field, one.message) for one in error.details]
        raise StartError(problems or [Problem("", error.message)]) from error
