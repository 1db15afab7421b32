"""A change of what a tenant has stored about access: judged before it is committed.

Around every write to `Policies`, `Roles` and `UserRoles`, inside its transaction: changes of one
tenant come one after the other, and what is read before and after the write is compared. May
reject: ValidationFailed (a row that names what does not exist, roles that inherit in a circle),
Forbidden (the author would give a right that he lacks), Conflict (he would lose the right to undo it).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import chain
from typing import Final

from byodpp.authentication import Principal
from byodpp.authorization.algebra import decided
from byodpp.authorization.decisions import Authorizer, caller_of
from byodpp.authorization.delegation import Author, Rights, gains, guesses, lacking, unmeant
from byodpp.authorization.in_force import TenantRows, TenantRules
from byodpp.authorization.policies import PUBLIC, PolicyRow, RoleLink
from byodpp.authorization.policy_check import Known, circles, manifest_roles, policy_faults
from byodpp.authorization.rows import StoredRows, read_rows
from byodpp.authorization.watch import begin_change, record_change
from byodpp.database import PLATFORM_TENANT, Transaction
from byodpp.exceptions import ApiError, Conflict, Detail, Forbidden, ValidationFailed
from byodpp.registry import Registry

__all__ = ["AccessChanges"]

_ROLES: Final = "select name from roles where tenant_id in (0, $1)"
_USERS: Final = "select id from users where tenant_id = $1 and id = any($2::bigint[])"
_MOST_FAULTS: Final = 20
#: Rows of Policies of one tenant: every process reads and compiles all of them when one has changed.
_MOST_RULES: Final = 2_000
#: Characters that columns of one tenant's rules have together: what reading and compiling them takes grows
#: with these, a condition's ten times as much as a list's.
_MOST_TEXT: Final = (
    ("conditions and presets", ("condition", "preset"), 262_144),
    ("field lists", ("fields",), 1_048_576),
)
#: How long a change is judged before others get their turn on the event loop.
_TURN_SECONDS: Final = 0.005


class AccessChanges:
    """Judges the changes of one application's rules."""

    def __init__(self, registry: Registry, authorizer: Authorizer) -> None:
        """Args:
        registry: what rules are about.
        authorizer: of the same application.
        """
        self._registry = registry
        self._authorizer = authorizer
        self._roles = manifest_roles(registry)

    @asynccontextmanager
    async def around(self, transaction: Transaction, author: Principal | None) -> AsyncIterator[None]:
        """Judge the write inside the block.

        Args:
            transaction: of the write.
            author: whose rights bound what may be given; None for the application itself.

        Raises:
            ApiError: the change must not be; it is never committed, even if this is caught.
        """
        tenant = transaction.context.tenant_id
        await begin_change(transaction, tenant)
        before = await read_rows(transaction, [tenant])
        yield
        after = await read_rows(transaction, [tenant])
        if before == after:
            return  # a description, or a role that nobody holds
        try:
            if len(after.records) > max(_MOST_RULES, len(before.records)):
                raise Conflict(f"A tenant has at most {_MOST_RULES} rules: say more with each of them.")
            _refuse_length(before, after)
            await self._refuse_faults(transaction, tenant, before, after)
            if author is not None:
                await self._refuse_excess(tenant, before, after, author)
        except ApiError as error:
            raise transaction.refuse_commit(error) from None
        await record_change(transaction, tenant)

    async def _refuse_faults(
        self, transaction: Transaction, tenant: int, before: StoredRows, after: StoredRows
    ) -> None:
        old = {record["id"]: record for record in before.records}
        changed = [record for record in after.records if old.get(record["id"]) != record]
        faults: list[Detail] = []
        if changed:
            known = await self._known(transaction, tenant, after)
            faults = await _first(fault for record in changed for fault in policy_faults(record, known))
        platform = after.platform if tenant == PLATFORM_TENANT else self._authorizer.rules(tenant).platform
        if after.links != before.links or after.platform != before.platform:
            faults += self._circle_faults([*platform, *after.links])
            faults += self._public_faults(before, after)
        if faults:
            raise ValidationFailed(details=faults[:_MOST_FAULTS])

    @staticmethod
    def _circle_faults(links: Sequence[RoleLink]) -> list[Detail]:
        roles = circles(links)
        if not roles:
            return []
        told = f"{', '.join(roles[:5])} would inherit in a circle."
        return [Detail("", "circle", told)]

    @staticmethod
    def _public_faults(before: StoredRows, after: StoredRows) -> list[Detail]:
        """Refuse a role of Roles that is called as everybody is, and has a parent."""
        linked = {*after.links, *after.platform} - {*before.links, *before.platform}
        if not any(link.role == PUBLIC for link in linked):
            return []
        told = "Everybody has the role `public`: what everybody may read, the manifest says."
        return [Detail("parentId", "unsupported", told)]

    async def _known(self, transaction: Transaction, tenant: int, after: StoredRows) -> Known:
        roles = {record["name"] for record in await transaction.fetch(_ROLES, tenant)}
        named: list[PolicyRow | RoleLink] = [*after.rows, *after.links]
        asked = [one.user_id for one in named if one.user_id is not None]
        users = (
            {record["id"] for record in await transaction.fetch(_USERS, tenant, asked)} if asked else set()
        )
        return Known(registry=self._registry, roles=roles | self._roles, users=users)

    async def _refuse_excess(
        self, tenant: int, before: StoredRows, after: StoredRows, principal: Principal
    ) -> None:
        old, new = self._trial(tenant, before), self._trial(tenant, after)
        for rules in (old, new):
            await _first(rules.compiling())
        rights = Rights(self._author(old, principal))
        given = chain(
            lacking(rights, gains(old, new), self._registry), unmeant(rights, old, new, self._registry)
        )
        if faults := await _first(given):
            raise Forbidden("Nobody gives, or gives back, a right that he lacks.", details=faults)
        if faults := await _first(guesses(rights, old, new, self._registry)):
            raise Forbidden("Nobody makes rules about values that he cannot read.", details=faults)
        self._refuse_lockout(old, new, principal)

    def _trial(self, tenant: int, stored: StoredRows) -> TenantRules:
        platform = stored.platform if tenant == PLATFORM_TENANT else None
        return self._authorizer.trial(tenant, stored.by_tenant([tenant])[tenant], platform)

    def _author(self, old: TenantRules, principal: Principal) -> Author:
        """Return by what an author is measured: an operator by the manifest, whatever a tenant denies."""
        rules = old
        if principal.platform and principal.tenant_id != PLATFORM_TENANT:
            rules = self._authorizer.trial(principal.tenant_id, TenantRows())
        # Rows of users are nothing to a visitor, and rules about them still are something that he gives.
        caller = replace(caller_of(rules, principal), at_home=True)
        return Author(caller=caller, rules=rules, operations=principal.operations)

    def _refuse_lockout(self, old: TenantRules, new: TenantRules, principal: Principal) -> None:
        policies = self._registry.get("Policies")

        def may(rules: TenantRules) -> bool:
            return decided(rules, caller_of(rules, principal), policies, "delete").allowed

        if may(old) and not may(new):
            told = "You would lose the right to change policies, this one included: let somebody else do it."
            raise Conflict(told)


def _refuse_length(before: StoredRows, after: StoredRows) -> None:
    """Refuse more text than every process can be asked to read and compile.

    Raises:
        Conflict: there is too much, and more than before.
    """
    for told, columns, most in _MOST_TEXT:
        length = _length(after, columns)
        if length > most and length > _length(before, columns):
            raise Conflict(
                f"The {told} of a tenant's rules have at most {most} characters, and these would have"
                f" {length}: make them shorter."
            )


def _length(stored: StoredRows, columns: Sequence[str]) -> int:
    return sum(len(row[name] or "") for row in stored.records for name in columns)


async def _first(steps: Iterable[Detail | None]) -> list[Detail]:
    """Return the first different faults of many small steps; others get their turn meanwhile."""
    found: dict[Detail, None] = {}
    began = time.perf_counter()
    for fault in steps:
        if fault is not None:
            found[fault] = None
            if len(found) == _MOST_FAULTS:
                break
        if time.perf_counter() - began > _TURN_SECONDS:
            await asyncio.sleep(0)
            began = time.perf_counter()
    return list(found)
