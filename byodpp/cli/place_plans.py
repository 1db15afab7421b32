"""What a changed manifest would do to each place of tenants, beside the tables that all of them share.

In: settings of a running database. Out: a plan per schema and database of a tenant, or why there is none: one
that is away is told of, and waited for ten seconds at most.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from byodpp.exceptions import DatabaseStartError, MigrationError

if TYPE_CHECKING:
    from byodpp.migrations import Step
    from byodpp.registry import Registry
    from byodpp.settings import Settings

__all__ = ["PlacePlan", "place_plans"]

_SCHEMAS: Final = "select nspname from pg_namespace where nspname ~ '^byodpp_t[0-9]+$' order by nspname"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacePlan:
    """The plan of one place."""

    name: str  # `schema byodpp_t3`, `place north`
    steps: tuple[Step, ...] = ()
    trouble: str = ""  # why nobody knows; empty: the steps are all


async def place_plans(settings: Settings, registry: Registry) -> AsyncIterator[PlacePlan]:
    """Yield the plans of schemas of tenants, then of their databases in the order of the configuration."""
    async for one in _of_schemas(settings, registry):
        yield one
    async for one in _of_databases(settings, registry):
        yield one


async def _of_schemas(settings: Settings, registry: Registry) -> AsyncIterator[PlacePlan]:
    from byodpp.places import PlaceBuilder
    from byodpp.tables import Tables

    builder = PlaceBuilder(registry, Tables.build(registry), settings.postgres_admin_uri)
    async with builder.connected() as owner:
        for schema in [row["nspname"] for row in await owner.fetch(_SCHEMAS)]:
            yield PlacePlan(name=f"schema {schema}", steps=await builder.planned(owner, schema))


async def _of_databases(settings: Settings, registry: Registry) -> AsyncIterator[PlacePlan]:
    from asyncpg import InterfaceError, PostgresError

    from byodpp import migrations
    from byodpp.settings.places import place_addresses

    for place in place_addresses(settings):
        name = f"place {place.name}"
        if place.admin_uri is None:
            yield PlacePlan(name=name, trouble="PLACE_ADMIN_URIS has no address of it")
            continue
        try:
            found = await migrations.plan(registry, place.admin_uri)
        except MigrationError as error:
            yield PlacePlan(name=name, trouble="; ".join(str(one) for one in error.problems))
        except (DatabaseStartError, OSError, PostgresError, InterfaceError) as error:
            yield PlacePlan(name=name, trouble=f"is away: {type(error.__cause__ or error).__name__}")
        else:
            yield PlacePlan(name=name, steps=found.steps)
