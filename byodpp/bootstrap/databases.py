"""Building the databases, and what follows each: the one that all tenants share, and those of places."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from byodpp import migrations
from byodpp.audit import Sealer
from byodpp.audit.controlled import ControlledFields
from byodpp.audit.trail import AuditTrail
from byodpp.authentication.changes import DirectoryChanges, Forget
from byodpp.authentication.keys import KeyDirectory
from byodpp.authentication.revocations import Revocations, RevocationWatch
from byodpp.authentication.tenants import TenantDirectory
from byodpp.authorization import Authorizer
from byodpp.authorization.watch import PolicyWatch
from byodpp.database import Database
from byodpp.exceptions import StartError
from byodpp.limits import ClassDirectory, StorageQuota
from byodpp.places.claims import Claims
from byodpp.places.copied import copied_tables
from byodpp.places.copies import Copies
from byodpp.places.databases import claiming
from byodpp.places.keeping import Follower, PlaceKeeper
from byodpp.recurring import Recurring
from byodpp.registry import Registry
from byodpp.row_security import check_views
from byodpp.settings import Settings
from byodpp.settings.places import place_addresses
from byodpp.tables import Tables

__all__ = [
    "Followed",
    "Following",
    "connect_databases",
    "directory_changes",
    "followings",
    "place_keepers",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What follows one database."""

    policies: PolicyWatch
    revocations: RevocationWatch
    trail: AuditTrail
    quota: StorageQuota
    sealer: Sealer

    def running(self, settings: Settings) -> list[Follower]:
        """Return what runs while the database is open, in the order of starting."""
        always: list[Follower] = [self.policies, self.revocations, self.trail, self.quota]
        return [*always, self.sealer] if settings.audit_sealer else always

    def works(self) -> tuple[Recurring, ...]:
        """Return what is done again and again."""
        return self.policies.looks, self.revocations.looks, self.sealer.passes, self.quota.looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What those who follow a database need to know."""

    settings: Settings
    registry: Registry
    tables: Tables
    authorizer: Authorizer
    tenants: TenantDirectory
    classes: ClassDirectory
    keys: KeyDirectory
    revocations: Revocations
    forget: Forget

    def following(
        self,
        database: Database,
        places: Mapping[str, Following],
        changes: DirectoryChanges,
        *,
        of_place: bool = False,
    ) -> Following:
        """Return what follows a database."""
        return Following(
            policies=PolicyWatch(
                database,
                self.authorizer,
                places={name: one.policies for name, one in places.items()},
                of_place=of_place,
            ),
            revocations=RevocationWatch(
                database,
                self.revocations,
                changes,
                self.keys,
                self.forget,
                places={name: one.revocations for name, one in places.items()},
            ),
            trail=AuditTrail(
                database,
                self.tenants,
                ControlledFields(self.registry),
                places={name: one.trail for name, one in places.items()},
            ),
            quota=StorageQuota.of(
                self.settings,
                self.tables,
                database,
                self.classes,
                places={name: one.quota for name, one in places.items()},
            ),
            sealer=Sealer.of(self.settings, self.registry, self.tables, database),
        )


def connect_databases(
    settings: Settings, shares: Mapping[int, int] | None = None, tables: Tables | None = None
) -> Database:
    """Return the database that all tenants share, and those of places in it; nothing is opened.

    Args:
        settings: with the address of a running database.
        shares: tenant to the most connections that it has at a time.
        tables: of the application; None leaves the places out.

    Raises:
        StartError: there is no address.
    """
    if settings.postgres_db_uri is None:
        raise StartError("POSTGRES_DB_URI is not set and no embedded server was started.")
    made = partial(
        Database,
        pool_min_connections=settings.pool_min_connections,
        pool_max_connections=settings.pool_max_connections,
        pool_acquire_timeout_seconds=settings.pool_acquire_timeout_seconds,
        statement_timeout_seconds=settings.statement_timeout_seconds,
        transaction_timeout_seconds=settings.transaction_timeout_seconds,
        shares=shares,
    )
    places: dict[str, Database] = {}
    shared = made(app_uri=settings.postgres_db_uri, system_uri=settings.postgres_system_uri, places=places)
    for one in () if tables is None else place_addresses(settings):
        assert tables is not None
        claims = Claims(claiming(tables), tables, shared)
        places[one.name] = made(
            app_uri=one.app_uri,
            system_uri=one.system_uri,
            start_timeout_seconds=0.0,
            confirm=claims.confirm if claims.any else None,
        )
    return shared


def directory_changes(database: Database) -> tuple[Mapping[str, DirectoryChanges], Callable[[], bool]]:
    """Return the changes of tenants and users by name of the database ('' is the shared one), and whether
    all of them are followed. While one is not, nothing is believed for long, whoever's it is.
    """
    changes = {name: DirectoryChanges() for name in ("", *database.places)}
    if len(changes) == 1:
        return changes, changes[""].followed  # asked for with each request
    looks = tuple(one.followed for one in changes.values())
    return changes, lambda: all(followed() for followed in looks)


def followings(
    followed: Followed, database: Database, changes: Mapping[str, DirectoryChanges]
) -> tuple[Following, Mapping[str, Following]]:
    """Return what follows the database that all tenants share, and each of the others.

    Args:
        followed: what they need to know.
        database: that all tenants share, with the others.
        changes: of tenants and users, by name of the database that knows of them.
    """
    places = {
        name: followed.following(one, {}, changes[name], of_place=True)
        for name, one in database.places.items()
    }
    return followed.following(database, places, changes[""]), places


def place_keepers(
    followed: Followed,
    database: Database,
    following: Mapping[str, Following],
    app_dir: Path,
    fingerprint: str,
) -> tuple[PlaceKeeper, ...]:
    """Return who keeps the databases of places in service."""

    async def lacking(place: Database) -> str:
        async with place.system() as transaction:
            status = await migrations.status_of(app_dir, fingerprint, transaction.connection)
            if not status.serves:
                return status.reason
            problems = await check_views(transaction.connection, followed.registry)
        return "; ".join(str(one) for one in problems)

    copied = copied_tables(followed.tables)
    return tuple(
        PlaceKeeper(
            name,
            one,
            Copies(copied, database, one, name),
            lacking,
            following[name].running(followed.settings),
            refresh_seconds=followed.settings.place_refresh_seconds,
        )
        for name, one in database.places.items()
    )
