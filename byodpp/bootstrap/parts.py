"""Parts of an application that are made of many others, each in one call.

In: settings, a Blueprint, and parts that stand. Out: what `connected` puts together. May reject: StartError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from byodpp.access_guide import AccessGuide
from byodpp.audit.trail import AuditTrail
from byodpp.authentication import Authenticator
from byodpp.authentication.keys import KeyDirectory
from byodpp.authentication.revocations import Revocations
from byodpp.authentication.tenants import Tenant, TenantDirectory
from byodpp.authentication.tokens import TokenVerifier
from byodpp.authentication.users import UserDirectory
from byodpp.authorization import Authorizer
from byodpp.bootstrap.blueprint import Blueprint
from byodpp.database import Database
from byodpp.encryption import EncryptionKeys
from byodpp.events import EventBus
from byodpp.identity import IdentityProvider
from byodpp.ids import Ids
from byodpp.limits import CallMeter, ClassDirectory, SlidingWindows, StorageQuota, figures_by_class
from byodpp.part_writes import PartWrites
from byodpp.query.cursors import Cursors
from byodpp.query.reader import QueryReader
from byodpp.repository.stores import Store
from byodpp.routes.finding import RouteFinder
from byodpp.sealed_fields import SealedFields
from byodpp.service.units import UnitParts
from byodpp.settings import Settings
from byodpp.settings.secret_key import application_secret

if TYPE_CHECKING:
    from byodpp.limits.shared import SharedWindows

__all__ = ["authenticator_of", "rate_limiter_of", "store_of", "unit_parts"]


def store_of(
    settings: Settings,
    blueprint: Blueprint,
    database: Database,
    encryption: EncryptionKeys,
    quota: StorageQuota,
    tenants: TenantDirectory,
    part_written: PartWrites,
) -> Store:
    """Return what reads and writes rows, with queries and encrypted fields as the settings say."""
    return Store(
        registry=blueprint.registry,
        tables=blueprint.tables,
        statements=blueprint.statements,
        writes=blueprint.writes,
        schemas=blueprint.schemas,
        database=database,
        ids=Ids(),
        reader=QueryReader(blueprint.registry, Cursors(application_secret(settings))),
        sealed=SealedFields(blueprint.registry, encryption),
        quota=quota,
        part_written=part_written,
        everywhere=tenants.everywhere,
        dispersed=tenants.dispersed,
        unreached=tenants.unreached,
    )


def unit_parts(
    blueprint: Blueprint,
    store: Store,
    bus: EventBus,
    trail: AuditTrail,
    tenants: TenantDirectory,
    database: Database,
    *,
    authorizer: Authorizer,
    encryption: EncryptionKeys,
    issuer: IdentityProvider,
    calls: CallMeter,
) -> UnitParts:
    """Return what every operation in a transaction may need."""
    routes = RouteFinder(blueprint.registry, blueprint.logics)
    return UnitParts(
        registry=blueprint.registry,
        store=store,
        logics=blueprint.logics,
        schemas=blueprint.schemas,
        authorizer=authorizer,
        ids=store.ids,
        trail=trail,
        encryption=encryption,
        dependents=blueprint.dependents,
        tenants=tenants,
        guide=AccessGuide(blueprint.registry, authorizer, store, routes),
        hears=bus.hears,
        calls=calls,
        figures=lambda: figures_by_class(database),
        identity=issuer.administration,
    )


def rate_limiter_of(settings: Settings) -> SlidingWindows | SharedWindows:
    """Return what counts requests: in this process, or in Redis for all of them."""
    if settings.redis_uri is None:
        return SlidingWindows()
    from byodpp.limits.shared import SharedWindows  # and the client of Redis

    return SharedWindows(settings.redis_uri)


def authenticator_of(
    settings: Settings,
    database: Database,
    issuer: IdentityProvider,
    tenants: TenantDirectory,
    classes: ClassDirectory,
    followed: Callable[[], bool],
    *,
    keys: KeyDirectory,
    revocations: Revocations,
) -> Authenticator:
    """Return what makes principals of tokens and keys."""

    async def most_users(tenant: Tenant) -> int | None:
        return (await classes.limits_of(tenant)).users

    users = UserDirectory(database, most_users, followed=followed)
    verifier = TokenVerifier.of(settings, issuer, tenants.serves)
    return Authenticator(verifier, tenants, users, keys=keys, revocations=revocations, followed=followed)
