"""What a write to the framework's own parts sets in motion, beyond the row.

Put by `stores` around each write to a part's resource, inside its transaction. Rules of access are
judged, and counted, so that every process reads them anew. Changes of tenants, users, grants, and
classes are recorded: this process forgets at once what it believes of them, the others soon. What a user has
who is deleted is revoked. The realm of a tenant that is called otherwise is told so after the commit.
May reject: what `authorization` rejects of a rule, parents that would be a circle, an operator who agrees
for a tenant, and QuotaExceeded, for users beyond what the tenant's class allows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol

from byodpp.authentication import Principal
from byodpp.authentication.changes import Forget, record_change
from byodpp.authentication.families import keep_family
from byodpp.authentication.revocations import BUMP as REVOKE
from byodpp.authentication.revocations import KEEP_GONE, OUTLAST, SUBJECT, RevocationWatch
from byodpp.authentication.tenants import TenantDirectory
from byodpp.authentication.users import refuse_too_many_users, take_turn
from byodpp.authorization.changes import AccessChanges
from byodpp.authorization.watch import PolicyWatch
from byodpp.database import PLATFORM_TENANT, Transaction
from byodpp.definitions import ResourceDefinition
from byodpp.identity.renaming import RealmNames
from byodpp.limits import ClassDirectory, keep_consent

__all__ = ["PartWrites", "PartWritten"]

_ACCESS: Final = frozenset({("access", "Policies"), ("access", "Roles"), ("access", "UserRoles")})
_USERS: Final = ("access", "Users")
_TENANTS: Final = ("tenancy", "Tenants")
_CLASSES: Final = ("tenancy", "TenantClasses")
_REVOCATIONS: Final = ("keys", "Revocations")
_KEYS: Final = frozenset({("keys", "ApiKeys"), _REVOCATIONS})
_DIRECTORY: Final = frozenset({_TENANTS, _CLASSES, _USERS, ("grants", "Grants")})


class PartWritten(Protocol):
    """What `stores` puts around a write."""

    def __call__(
        self,
        transaction: Transaction,
        resource: ResourceDefinition,
        author: Principal | None,
        rows: Sequence[Any] | None = None,
    ) -> AbstractAsyncContextManager[None]:
        """Do what belongs to a write.

        Args:
            transaction: of the write.
            resource: of a part.
            author: whose rules hold; None when the application writes for the tenant.
            rows: ids of all rows that it may change; None: any.
        """
        ...


class PartWrites:
    """Fulfils `PartWritten` for one application."""

    def __init__(
        self,
        watch: PolicyWatch,
        changes: AccessChanges,
        revocations: RevocationWatch,
        forget: Forget,
        classes: ClassDirectory,
        tenants: TenantDirectory,
        realms: RealmNames,
    ) -> None:
        """Args:
        watch: puts changed policies in force before the answer goes out.
        changes: judges them.
        revocations: puts in force what is revoked.
        forget: drops what is remembered of tenants and users.
        classes: tells how many users a tenant may have.
        tenants: tells the class of a tenant.
        realms: tells realms what their tenants are called.
        """
        self._watch = watch
        self._changes = changes
        self._revocations = revocations
        self._forget = forget
        self._classes = classes
        self._tenants = tenants
        self._realms = realms

    @asynccontextmanager
    async def __call__(
        self,
        transaction: Transaction,
        resource: ResourceDefinition,
        author: Principal | None,
        rows: Sequence[Any] | None = None,
    ) -> AsyncIterator[None]:
        """Do what belongs to a write."""
        kind = (resource.part or "", resource.name)
        if kind in _ACCESS:
            async with self._changes.around(transaction, author):
                yield
            transaction.after_commit(partial(self._watch.announce, transaction.context.database))
            return
        if kind == _TENANTS:
            async with (
                keep_family(transaction),
                keep_consent(transaction, author),
                self._realms.around(transaction, rows),
            ):
                yield
        elif kind == _USERS and rows:
            async with self._outlived(transaction, rows[0]):
                yield
        else:
            yield
        if kind in _KEYS:
            await self._revoke(transaction)
            if kind == _REVOCATIONS:
                await transaction.execute(OUTLAST)
        elif kind in _DIRECTORY:
            tenant = transaction.context.tenant_id
            await record_change(transaction, tenant)
            transaction.after_commit(partial(self._forgotten, tenant))
            if kind == _USERS:
                await self._check_users(transaction)

    @asynccontextmanager
    async def _outlived(self, transaction: Transaction, user: Any) -> AsyncIterator[None]:
        """Revoke what a user has who is deleted: only rows that are named one by one are."""
        tenant = transaction.context.tenant_id
        subject = await transaction.fetchval(SUBJECT, tenant, user)
        yield
        if subject is not None and await transaction.fetchval(KEEP_GONE, tenant, user, subject):
            await self._revoke(transaction)

    async def _revoke(self, transaction: Transaction) -> None:
        await transaction.execute(REVOKE)
        transaction.after_commit(partial(self._revocations.refresh, transaction.context.database))

    async def _check_users(self, transaction: Transaction) -> None:
        tenant = await self._tenants.by_id(transaction.context.tenant_id)
        most = None if tenant is None else (await self._classes.limits_of(tenant)).users
        if tenant is not None and most is not None:
            await take_turn(transaction, tenant.id)
            await refuse_too_many_users(transaction, tenant.id, most, more=0)

    async def _forgotten(self, tenant: int) -> None:
        # What the platform changes may be anybody's.
        self._forget(None if tenant == PLATFORM_TENANT else {tenant})
