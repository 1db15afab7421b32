"""Seeds: demo data from JSON files, through the same service that answers requests.

In: `seeds/*.json`, in the order of their names. A file lists tenants, and steps that each
create rows of one resource for one tenant::

    {
      "tenants": [{"slug": "acme", "name": "Acme"}],
      "steps": [
        {"tenant": "acme", "resource": "Categories", "rows": [{"name": "Lamps"}]},
        {"tenant": "acme", "resource": "Products", "rows": [
          {"name": "Arc", "categoryId": {"$find": {"resource": "Categories", "filter": {"name": "Lamps"}}}}
        ]},
        {"tenant": "acme", "resource": "Products", "action": "publish:post", "where": {"name": "Arc"}}
      ]
    }

Each file is one transaction per tenant and is remembered by name, so that a second start loads
nothing. May reject: StartError, naming file, step and row.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from byodpp import wire
from byodpp.authentication import Principal
from byodpp.authentication.tenants import PLATFORM_SLUG, Tenant, ensure_platform, register_tenant
from byodpp.calls import Origin
from byodpp.database import PLATFORM_TENANT, Database
from byodpp.exceptions import ApiError, Problem, StartError
from byodpp.service import Service
from byodpp.service.units import Unit

__all__ = ["STEP_KEYS", "Seeder", "loading_alone", "waiting_seeds"]

_LOCK: Final = "select pg_try_advisory_xact_lock(hashtextextended('byodpp seeds', 0))"
#: How long another process may load before this one gives up, and how long this one may itself.
_PATIENCE_SECONDS, _LONGEST_SECONDS = 120.0, 3_600.0
_ORIGIN: Final = Origin(request_id="seed", correlation_id="seed", user_agent="byodpp seed")
#: Of a step.
STEP_KEYS: Final = frozenset({"tenant", "resource", "rows", "action", "where", "body", "version"})


async def waiting_seeds(app_dir: Path, database: Database, *, again: bool = False) -> list[Path]:
    """Return the files to load, in their order, and see to the platform's own tenant.

    Args:
        app_dir: the application's folder.
        database: migrated and open.
        again: also those that were loaded before.
    """
    async with database.system() as transaction:
        await ensure_platform(transaction)
        loaded = {row["name"] for row in await transaction.fetch("select name from byodpp.seeds")}
    return [path for path in sorted((app_dir / "seeds").glob("*.json")) if again or path.name not in loaded]


@asynccontextmanager
async def loading_alone(
    database: Database, *, patience_seconds: float = _PATIENCE_SECONDS
) -> AsyncIterator[None]:
    """Keep other processes from loading seeds into a database; who waited finds them loaded.

    Args:
        database: migrated and open.
        patience_seconds: how long to wait for another process.

    Raises:
        StartError: another one is at it for longer.
    """
    deadline = asyncio.get_running_loop().time() + patience_seconds
    async with database.system() as transaction:
        await transaction.be_patient(_LONGEST_SECONDS)
        while not await transaction.fetchval(_LOCK):
            if asyncio.get_running_loop().time() > deadline:
                told = "another process is loading them into this database"
                raise StartError([Problem("seeds", told, "Start again when it has ended.")])
            await asyncio.sleep(0.2)
        yield


class Seeder:
    """Loads the seeds of one application."""

    def __init__(self, service: Service, database: Database) -> None:
        self._service = service
        self._database = database

    async def load(self, files: Sequence[Path]) -> int:
        """Load files, as `waiting_seeds` returns them, and return how many rows were written."""
        return sum([await self._load_file(path) for path in files])

    async def load_into(self, unit: Unit, path: Path, given: Mapping[str, Any]) -> int:
        """Make the rows of one file in a transaction that is open, for its tenant.

        Args:
            unit: of the tenant.
            path: a file whose steps name no tenant.
            given: what `{"$given": "name"}` in it stands for.

        Returns:
            Rows written.

        Raises:
            StartError: naming file, step, and row.
        """
        place, written = f"seeds/{path.parent.name}/{path.name}", 0
        for index, step in enumerate(_read(path).get("steps", ())):
            at = f"{place}: $.steps[{index}]"
            if "tenant" in step:
                raise StartError([Problem(at, "names a tenant, in a file that is for every one")])
            written += await self._step(unit, at, _filled_in(step, given, at))
        return written

    async def _load_file(self, path: Path) -> int:
        document = _read(path)
        tenants = await self._tenants(document.get("tenants", ()))
        written = 0
        steps = list(enumerate(document.get("steps", ())))
        for slug, group in groupby(steps, key=lambda step: step[1].get("tenant", "")):
            tenant = tenants.get(slug) or await self._find(slug, path)
            written += await self._run(path, tenant, list(group))
        async with self._database.system() as transaction:
            await transaction.execute(
                "insert into byodpp.seeds (name) values ($1)"
                " on conflict (name) do update set loaded_at = now()",
                path.name,
            )
        return written

    async def _tenants(self, wanted: Sequence[Mapping[str, Any]]) -> dict[str, Tenant]:
        found = {}
        for one in wanted:
            async with self._database.system() as transaction:
                found[one["slug"]] = await register_tenant(transaction, one["slug"], name=one.get("name"))
        return found

    async def _find(self, slug: str, path: Path) -> Tenant:
        if slug != PLATFORM_SLUG:
            raise StartError([Problem(f"seeds/{path.name}", f"tenant {slug!r} is not listed in `tenants`")])
        return Tenant(id=PLATFORM_TENANT, ulid="", slug=slug, status="activated")

    async def _run(self, path: Path, tenant: Tenant, steps: Sequence[tuple[int, Mapping[str, Any]]]) -> int:
        principal = Principal(
            tenant_id=tenant.id,
            session_tenant_id=tenant.id,
            home_tenant_id=tenant.id,
            roles=frozenset({"Admin"}),
            anonymous=False,
            platform=tenant.id == PLATFORM_TENANT,
            tenant=tenant,
        )

        async def work(unit: Unit) -> int:
            written = 0
            for index, step in steps:
                written += await self._step(unit, f"seeds/{path.name}: $.steps[{index}]", step)
            return written

        return await self._service.together(principal, _ORIGIN, work, bounded=False)

    async def _step(self, unit: Unit, place: str, step: Mapping[str, Any]) -> int:
        if unknown := sorted(set(step) - STEP_KEYS):
            raise StartError([Problem(place, f"unknown keys: {', '.join(unknown)}")])
        name, version = str(step.get("resource", "")), str(step.get("version", "v1"))
        resource = self._service.parts.registry.find(name, version)
        if resource is None:
            raise StartError([Problem(place, f"there is no resource {name!r}")])
        system = unit.repositories(resource.version, system=True)
        rows = step.get("rows", ())
        for number, row in enumerate(rows):
            try:
                values = await _resolved(row, system)
                if "create" in resource.operations and resource.routed:
                    await unit.ask(resource, "create", values)
                else:
                    await system[resource.name].create(values)
            except ApiError as error:
                raise StartError([Problem(f"{place}.rows[{number}]", _told(error))]) from error
        if "action" in step:
            try:
                where = await _resolved(step.get("where"), system)
                rows_there = await system[resource.name].list(where, limit=resource.bounds.max_limit)
                for found in rows_there:
                    body = await _resolved(step.get("body"), system)
                    await unit.ask(resource, step["action"], body, {"id": str(found["id"])})
            except ApiError as error:
                raise StartError([Problem(place, _told(error))]) from error
        return len(rows)


async def _resolved(value: Any, repositories: Any) -> Any:
    """Replace each `$find` by the key of the row it describes."""
    if isinstance(value, list):
        return [await _resolved(one, repositories) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$find"}:
        wanted = value["$find"]
        if not isinstance(wanted, dict) or wanted.keys() != {"resource", "filter"}:
            raise ApiError(f"$find must be an object with `resource` and `filter`: {json.dumps(wanted)}")
        if wanted["resource"] not in list(repositories):
            raise ApiError(f"$find looks in {wanted['resource']!r}, and there is no such resource")
        row = await repositories[wanted["resource"]].find(
            await _resolved(wanted["filter"], repositories)  # which may hold others
        )
        if row is None:
            raise ApiError(f"$find finds nothing: {json.dumps(wanted)}")
        return wire.loads(row.json)["id"]
    return {name: await _resolved(one, repositories) for name, one in value.items()}


def _filled_in(value: Any, given: Mapping[str, Any], place: str) -> Any:
    """Replace each `$given` by what it stands for."""
    if isinstance(value, list):
        return [_filled_in(one, given, place) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$given"}:
        if value["$given"] not in given:
            known = ", ".join(sorted(given))
            raise StartError([Problem(place, f"$given has no {value['$given']!r}", f"It has {known}.")])
        return given[value["$given"]]
    return {name: _filled_in(one, given, place) for name, one in value.items()}


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = wire.loads(path.read_bytes())
    except ApiError as error:
        raise StartError([Problem(f"seeds/{path.name}", error.message)]) from error
    if not isinstance(document, dict):
        raise StartError([Problem(f"seeds/{path.name}", "must be an object with `tenants` and `steps`")])
    return document


def _told(error: ApiError) -> str:
    details = "; ".join(f"{detail.field}: {detail.message}" for detail in error.details)
    return f"{error.message} {details}".strip()
