"""An application with everything that talks to the outside: built by `connect`, opened by `lifespan`.

In: settings and a Blueprint. Out: an Application. May reject: StartError.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette

from byodpp import application, migrations
from byodpp.aside import Workroom
from byodpp.audit import Sealer
from byodpp.audit.trail import AuditTrail
from byodpp.authentication import Authenticator
from byodpp.authentication.keys import KeyDirectory
from byodpp.authentication.revocations import Revocations, RevocationWatch
from byodpp.authentication.tenants import TenantDirectory, ensure_platform
from byodpp.authorization import Authorizer
from byodpp.authorization.changes import AccessChanges
from byodpp.authorization.watch import PolicyWatch
from byodpp.bootstrap.blueprint import Blueprint, document
from byodpp.bootstrap.databases import (
    Followed,
    Following,
    connect_databases,
    directory_changes,
    followings,
    place_keepers,
)
from byodpp.bootstrap.parts import authenticator_of, rate_limiter_of, store_of, unit_parts
from byodpp.browser_sessions import BrowserSessions
from byodpp.database import Database, Sessions
from byodpp.definitions import ResourceDefinition
from byodpp.documentation import documentation_routes
from byodpp.documentation.sign_in import SignIn
from byodpp.encryption import EncryptionKeys
from byodpp.events import EventBus
from byodpp.exceptions import ManifestError, MigrationError, Problem, StartError
from byodpp.health import Health, HealthCheck, Lifecycle
from byodpp.identity import IdentityProvider
from byodpp.identity.choice import identity_provider
from byodpp.identity.renaming import RealmNames
from byodpp.index_check import unindexed
from byodpp.limits import CallMeter, ClassDirectory, SlidingWindows, StorageQuota
from byodpp.mails import mailer_of
from byodpp.openapi import openapi_bytes
from byodpp.part_writes import PartWrites
from byodpp.places import PlaceBuilder
from byodpp.places.databases import PlaceDatabases
from byodpp.places.keeping import PlaceKeeper
from byodpp.recurring import require_well
from byodpp.routes import Route
from byodpp.routes.identity import identity_routes
from byodpp.routes.resources import resource_routes
from byodpp.routes.sessions import session_routes
from byodpp.routes.transfers import transfer_routes
from byodpp.row_security import check_views
from byodpp.service import Service
from byodpp.settings import Settings
from byodpp.settings.places import place_addresses
from byodpp.tenant_life import TenantLife
from byodpp.tenant_life.database_moves import DatabaseMoves
from byodpp.tenant_life.locating import require_followed
from byodpp.tenant_life.mails import TenantMails
from byodpp.tenant_life.moves import Moves
from byodpp.transfer.chunks import Chunks
from byodpp.transfer.exports import Exporter
from byodpp.transfer.imports import Importer
from byodpp.transfers import TransferBounds, Transfers

if TYPE_CHECKING:
    from byodpp.limits.shared import SharedWindows

__all__ = ["Application"]

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, repr=False)
class Application:
    """A blueprint with everything that talks to the outside."""

    settings: Settings
    blueprint: Blueprint
    database: Database
    issuer: IdentityProvider
    authorizer: Authorizer
    authenticator: Authenticator
    following: Following  # what follows the database that all tenants share
    of_places: Mapping[str, Following]
    keepers: tuple[PlaceKeeper, ...]
    classes: ClassDirectory
    rate_limiter: SlidingWindows | SharedWindows
    realm_names: RealmNames
    service: Service
    importer: Importer
    exporter: Exporter
    browser_sessions: BrowserSessions | None  # None: no cookie is looked at
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    workroom: Workroom = field(default_factory=Workroom)

    @classmethod
    def connect(
        cls, settings: Settings, blueprint: Blueprint, issuer: IdentityProvider | None = None
    ) -> Application:
        """Build the parts; nothing is opened yet.

        Args:
            settings: with the addresses of a database.
            blueprint: of its folder.
            issuer: the identity provider, where it has been built already.

        Raises:
            StartError: a setting makes no sense, or an index is missing that `strict_indexes` asks for.
        """
        if settings.strict_indexes and (slow := unindexed(blueprint.registry, blueprint.tables)):
            raise ManifestError(slow)
        shares: dict[int, int] = {}
        database = connect_databases(settings, shares, blueprint.tables)
        authorizer = Authorizer(blueprint.registry, base=blueprint.policies)
        issuer = issuer or identity_provider(settings)
        changes, is_followed = directory_changes(database)
        tenants = TenantDirectory(database, followed=is_followed)
        classes = ClassDirectory.of(settings, database, shares)
        rate_limiter = rate_limiter_of(settings)
        keys, revocations = KeyDirectory(database, followed=is_followed), Revocations()
        authenticator = authenticator_of(
            settings, database, issuer, tenants, classes, is_followed, keys=keys, revocations=revocations
        )

        def forget(tenants: Collection[int] | None) -> None:
            authenticator.forget(tenants)
            if tenants is None:
                classes.forget()

        followed = Followed(
            settings=settings,
            registry=blueprint.registry,
            tables=blueprint.tables,
            authorizer=authorizer,
            tenants=tenants,
            classes=classes,
            keys=keys,
            revocations=revocations,
            forget=forget,
        )
        following, of_places = followings(followed, database, changes)
        encryption = EncryptionKeys.of(settings)
        realm_names = RealmNames(issuer.administration, database)
        part_written = PartWrites(
            following.policies,
            AccessChanges(blueprint.registry, authorizer),
            following.revocations,
            forget,
            classes,
            tenants,
            realm_names,
        )
        store = store_of(settings, blueprint, database, encryption, following.quota, tenants, part_written)
        bus = EventBus(blueprint.handlers)
        parts = unit_parts(
            blueprint,
            store,
            bus,
            following.trail,
            tenants,
            database,
            authorizer=authorizer,
            encryption=encryption,
            issuer=issuer,
            calls=CallMeter(rate_limiter, classes, counts=settings.rate_limit_enabled),
        )
        service = Service(parts, database, bus)
        sessions = Sessions(
            database,
            most=settings.transfer_sessions,
            patience_seconds=settings.pool_acquire_timeout_seconds,
        )
        chunks = Chunks(blueprint.app_dir, blueprint.registry, blueprint.schemas)
        return cls(
            settings=settings,
            blueprint=blueprint,
            database=database,
            issuer=issuer,
            authorizer=authorizer,
            authenticator=authenticator,
            following=following,
            of_places=of_places,
            keepers=place_keepers(followed, database, of_places, blueprint.app_dir, blueprint.fingerprint),
            classes=classes,
            rate_limiter=rate_limiter,
            realm_names=realm_names,
            service=service,
            importer=Importer(service, sessions, chunks, authenticator.require_standing),
            exporter=Exporter(
                parts.store,
                following.trail,
                sessions,
                authenticator.require_standing,
                most_seconds=settings.export_seconds,
            ),
            browser_sessions=BrowserSessions.of(settings, encryption),
        )

    @property
    def policy_watch(self) -> PolicyWatch:
        """Keeps the policies in force, of those who share a database."""
        return self.following.policies

    @property
    def revocation_watch(self) -> RevocationWatch:
        """Follows what is revoked, of those who share a database."""
        return self.following.revocations

    @property
    def trail(self) -> AuditTrail:
        """Takes notes for everybody's audit trail."""
        return self.following.trail

    @property
    def sealer(self) -> Sealer:
        """Seals entries of those who share a database."""
        return self.following.sealer

    @property
    def quota(self) -> StorageQuota:
        """Refuses what makes a tenant store too much."""
        return self.following.quota

    def routes(self) -> list[Route]:
        """Return every route, in the order in which listings show them."""
        # Keys that are known outlive the identity provider: without it a process is degraded, and serves.
        checks = [
            HealthCheck(name="database", check=self.database.ping),
            HealthCheck(name="identity", check=self.issuer.health, critical=False),
            HealthCheck(name="background", check=self._recurring_work_is_well, critical=False),
            HealthCheck(name="tenants", check=partial(require_followed, self.database), critical=False),
        ]
        if not isinstance(self.rate_limiter, SlidingWindows):
            # Without it each process counts alone: worse, but it serves.
            checks.append(HealthCheck(name="redis", check=self.rate_limiter.ping, critical=False))
        # One that is away is no matter to the tenants of all others.
        checks += [
            HealthCheck(name=f"place {one.name}", check=one.check, critical=False) for one in self.keepers
        ]
        health = Health(self.lifecycle, checks)
        blueprint = self.blueprint
        found = [
            *resource_routes(self.service),
            *transfer_routes(blueprint.registry, blueprint.logics, self.transfers),
            *identity_routes(self.issuer),
            *health.routes(),
        ]
        if self.browser_sessions is not None:
            found += session_routes(
                self.service, self.browser_sessions, self.issuer, self.authenticator, self.trail
            )
        if self.settings.docs_enabled:
            sign_in = SignIn(self.issuer, TenantDirectory(self.database))
            found += documentation_routes(partial(document, blueprint, self.settings), sign_in)
        return found

    def tenant_life(self) -> TenantLife:
        """Return what an operator does with tenants; `lifespan` must be open while it is used.

        Raises:
            StartError: this process has no right to administer the identity provider.
        """
        if self.issuer.administration is None:
            advice = "Set KEYCLOAK_ADMIN_CLIENT_SECRET."
            reason = "is needed to make realms and users in Keycloak"
            raise StartError([Problem("keycloak_admin_secret", reason, advice)])
        return TenantLife(
            database=self.database,
            service=self.service,
            registry=self.blueprint.registry,
            tables=self.blueprint.tables,
            identity=self.issuer.administration,
            app_dir=self.blueprint.app_dir,
            moves=self._moves(),
            mails=self._mails(),
        )

    def _mails(self) -> TenantMails:
        settings = self.settings
        address = next(iter(settings.frontend_urls), settings.public_url)
        return TenantMails(
            mailer_of(settings), self.database, operators=settings.operators_email, address=address
        )

    def _moves(self) -> Moves:
        settings, tables = self.settings, self.blueprint.tables
        builder = PlaceBuilder(self.blueprint.registry, tables, settings.postgres_admin_uri)
        databases = DatabaseMoves(
            self.database,
            tables,
            builder,
            PlaceDatabases(tables, place_addresses(settings)),
            {one.name: one.copies for one in self.keepers},
            {None: self.sealer, **{name: one.sealer for name, one in self.of_places.items()}},
            settle_seconds=settings.tenant_settle_seconds,
            forget=self.authenticator.forget,
        )
        return Moves(
            builder,
            databases,
            settle_seconds=settings.tenant_settle_seconds,
            forget=self.authenticator.forget,
        )

    def transfers(self, resource: ResourceDefinition) -> Transfers:
        """Return who serves the files of a resource."""
        settings = self.settings
        bounds = TransferBounds(
            file_bytes=settings.import_max_bytes,
            record_bytes=settings.import_record_max_bytes,
            json_depth=settings.max_json_depth,
            body_seconds=settings.import_body_seconds,
        )
        return Transfers(resource, self.service, self.database, self.importer, self.exporter, bounds)

    def document(self) -> bytes:
        """Return the OpenAPI document as JSON."""
        return openapi_bytes(document(self.blueprint, self.settings))

    @asynccontextmanager
    async def lifespan(self, *, provider_first: bool = True) -> AsyncIterator[None]:
        """Open what the routes need; close it at the end.

        Args:
            provider_first: whether it is worth nothing without the right to administer the identity provider.

        Raises:
            StartError: the database is not to be had, or does not fit the manifest; the identity provider
                may not be used.
        """
        await self.database.open()
        async with AsyncExitStack() as ends:  # one that fails keeps no other part from ending
            ends.callback(self.workroom.close)
            for end in reversed(self._ends()):
                ends.push_async_callback(end)
            await self._refuse_other_schema()
            if provider_first:
                await self.issuer.open()
            for follower in self.following.running(self.settings):
                await follower.start()
            for keeper in self.keepers:
                await keeper.start()
            await self.realm_names.start()
            yield
            await self.service.drain()

    def _ends(self) -> list[Callable[[], Awaitable[None]]]:
        """Return what ends the parts, in this order."""
        shared = [] if isinstance(self.rate_limiter, SlidingWindows) else [self.rate_limiter.close]
        return [
            self.realm_names.stop,
            self.policy_watch.stop,
            self.revocation_watch.stop,
            self.trail.stop,
            *(keeper.stop for keeper in self.keepers),
            self.sealer.stop,
            self.quota.stop,
            self.issuer.close,
            *shared,
            self.database.close,
        ]

    async def _recurring_work_is_well(self) -> None:
        serving = [one for name, one in self.of_places.items() if self.database.places[name].refusal is None]
        works = [work for one in (self.following, *serving) for work in one.works()]
        await require_well([*works, *(keeper.looks for keeper in self.keepers)])

    async def _refuse_other_schema(self) -> None:
        async with self.database.system() as transaction:
            status = await migrations.status_of(
                self.blueprint.app_dir, self.blueprint.fingerprint, transaction.connection
            )
            if not status.serves:
                raise MigrationError(status.reason)
            await ensure_platform(transaction)  # its operators sign in before anything else is there
            problems = await check_views(transaction.connection, self.blueprint.registry)
            for name in await migrations.without_order(self.blueprint.registry, transaction.connection):
                _log.warning("%s %s", name, migrations.NO_LOCALE)
        if problems:
            raise StartError(problems)

    def asgi(self, **options: Any) -> Starlette:
        """Return the application behind HTTP.

        Args:
            options: further parts of the chain, for tests.
        """
        return application.create_application(
            application.Parts(
                settings=self.settings,
                routes=self.routes(),
                authenticator=self.authenticator,
                browser_sessions=self.browser_sessions,
                authorizer=self.authorizer,
                trail=self.trail,
                lifespan=self.lifespan,
                lifecycle=self.lifecycle,
                workroom=self.workroom,
                rate_limiter=self.rate_limiter,
                tenant_classes=self.classes,
                **options,
            )
        )
