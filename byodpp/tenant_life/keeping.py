"""What a tenant keeps that is there already, though an onboarding says something else of it.

In: what was said, and the tenant's row. Out: what it keeps, by the words of the command. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from byodpp import wire
from byodpp.repository import Repositories
from byodpp.tenant_life.plans import Newcomer

__all__ = ["kept"]


async def kept(repositories: Repositories, newcomer: Newcomer, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tenant has where something else was said; its slug and administrator are no matter.

    Args:
        repositories: that read tenants and their classes.
        newcomer: who was said to come.
        row: of Tenants.
    """
    said: dict[str, Any] = dict(newcomer.values)
    if newcomer.domain is not None:
        said["domain"] = newcomer.domain
    if newcomer.name != Newcomer.named_after(newcomer.slug):
        said["name"] = newcomer.name
    found = {name: _plain(row[name]) for name, value in said.items() if _plain(row[name]) != value}
    if newcomer.tenant_class is not None:
        own = await _name(repositories, "TenantClasses", row["tenantClassId"], "name")
        if own != newcomer.tenant_class:
            found["class"] = own
    if newcomer.parent is not None:
        named = ("slug", "ulid")
        own = [await _name(repositories, "Tenants", row["parentId"], field) for field in named]
        if newcomer.parent not in own:
            found["parent"] = own[0]
    return dict(sorted(found.items()))


async def _name(repositories: Repositories, resource: str, id: int | None, field: str) -> Any:
    return None if id is None else (await repositories[resource].read(id))[field]


def _plain(value: Any) -> Any:
    """Return a value of a row as it was said, in JSON."""
    return wire.loads(wire.dumps(value))
