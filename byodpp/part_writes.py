"""What a write to the framework's own parts sets in motion, beyond the row.

Called by `stores` after each write to a part's resource, inside its transaction. Policies are
counted, so that every process reads them anew; this process forgets at once what it believes
of tenants and users. May reject: QuotaExceeded, for users beyond what the tenant's class allows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from byodpp.authentication.revocations import BUMP as REVOKE
from byodpp.authentication.revocations import RevocationWatch
from byodpp.authentication.tenants import TenantDirectory
from byodpp.authentication.users import refuse_too_many_users
from byodpp.authorization.watch import BUMP, PolicyWatch
from byodpp.database import Transaction
from byodpp.definitions import ResourceDefinition
from byodpp.limits import ClassDirectory

__all__ = ["PartWrites", "PartWritten"]

_POLICIES: Final = frozenset({("access", "Policies")})
_USERS: Final = ("access", "Users")
_CLASSES: Final = ("tenancy", "TenantClasses")
_KEYS: Final = frozenset({("keys", "ApiKeys"), ("keys", "Revocations")})
_DIRECTORY: Final = frozenset({("tenancy", "Tenants"), _USERS})


class PartWritten(Protocol):
    """What `stores` calls."""

    async def __call__(self, transaction: Transaction, resource: ResourceDefinition) -> None:
        """Do what follows from a write.

        Args:
            transaction: of the write.
            resource: of a part.
        """
        ...


class PartWrites:
    """Fulfils `PartWritten` for one application."""

    def __init__(
        self,
        watch: PolicyWatch,
        revocations: RevocationWatch,
        forget: Callable[[], object],
        classes: ClassDirectory,
        tenants: TenantDirectory,
    ) -> None:
        """Args:
        watch: puts changed policies in force before the answer goes out.
        revocations: does the same for what is revoked.
        forget: drops what is remembered of tenants and users.
        classes: tells how many users a tenant may have.
        tenants: tells the class of a tenant.
        """
        self._watch = watch
        self._revocations = revocations
        self._forget = forget
        self._classes = classes
        self._tenants = tenants

    async def __call__(self, transaction: Transaction, resource: ResourceDefinition) -> None:
        """Do what follows from a write.

        Raises:
            QuotaExceeded: the tenant's class does not allow as many users.
        """
        kind = (resource.part or "", resource.name)
        if kind in _POLICIES:
            await transaction.execute(BUMP)
            transaction.after_commit(self._watch.refresh)
        elif kind in _KEYS:
            await transaction.execute(REVOKE)
            transaction.after_commit(self._revocations.refresh)
        elif kind in _DIRECTORY:
            transaction.after_commit(self._forgotten)
            if kind == _USERS:
                await self._check_users(transaction)
        elif kind == _CLASSES:
            transaction.after_commit(self._classes_changed)

    async def _check_users(self, transaction: Transaction) -> None:
        tenant = await self._tenants.by_id(transaction.context.tenant_id)
        most = None if tenant is None else (await self._classes.limits_of(tenant)).users
        if tenant is not None and most is not None:
            await refuse_too_many_users(transaction, tenant.id, most, more=0)

    async def _classes_changed(self) -> None:
        self._classes.forget()

    async def _forgotten(self) -> None:
        self._forget()
