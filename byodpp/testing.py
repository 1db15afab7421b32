"""The testing kit: an application on a fresh database, signed in as anybody, in milliseconds.

A pytest plugin and the classes behind it. In `conftest.py`::

    pytest_plugins = ["byodpp.testing"]

and in a test::

    async def test_a_viewer_does_not_write(application):
        viewer = application.client(role="Viewer", tenant="acme")
        assert (await viewer.post("/api/v1/projects", json={"name": "x"})).status_code == 403

Everything is real: PostgreSQL, row-level security, tokens, the whole chain of stages. A `Bench`
keeps one embedded server and one template database per manifest (below `.byodpp/testing` of the
application); each test gets a copy of the template. Override the fixture `byodpp_app_dir` to
test an application in another folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from ulid import ULID

from byodpp import migrations
from byodpp.authentication import Principal
from byodpp.authentication.changes import record_change
from byodpp.authentication.tenants import PLATFORM_REALM, PLATFORM_SLUG, Tenant, ensure_platform, find_tenant
from byodpp.bootstrap import Application, Blueprint, assemble
from byodpp.calls import Origin
from byodpp.definitions import Kind
from byodpp.embedded import SUPERUSER, EmbeddedPostgres, RunningServer
from byodpp.events import Event, EventHandler
from byodpp.identity import LocalIssuer
from byodpp.identity.choice import identity_provider
from byodpp.identity.keys import KeyFolder
from byodpp.repository import Repositories
from byodpp.row_security import mark_leakproof
from byodpp.service.units import Unit
from byodpp.settings import Settings, load_settings
from byodpp.tables.roles import APP, OWNER, SYSTEM, provision_database

__all__ = ["Bench", "EventRecorder", "TestedApplication", "application", "byodpp_app_dir", "byodpp_bench"]

_T = TypeVar("_T")
_BASE_URL: Final = "http://testserver"
_ORIGIN: Final = Origin(request_id="test", correlation_id="test")


class EventRecorder(EventHandler):
    """Hears every event and keeps it."""

    events = ("*",)

    def __init__(self) -> None:
        self.heard: list[Event] = []

    async def handle(self, event: Event) -> None:
        """Keep the event."""
        self.heard.append(event)


# No long representation: asyncio makes one whenever a fixture's task ends, and shows it to nobody.
@dataclass(slots=True, kw_only=True, repr=False)
class TestedApplication:
    """An application on a database of its own."""

    __test__ = False  # a class for tests, not of tests

    blueprint: Blueprint
    settings: Settings
    connected: Application
    asgi: Starlette
    recorder: EventRecorder
    access_lines: list[str] = field(default_factory=list)  # what the access log wrote
    _clients: list[httpx2.AsyncClient] = field(default_factory=list)
    _tenants: dict[str, Tenant] = field(default_factory=dict)

    def client(
        self,
        *,
        role: str | Iterable[str] | None = "Admin",
        tenant: str = "acme",
        user: str = "demo",
        headers: dict[str, str] | None = None,
    ) -> httpx2.AsyncClient:
        """Return a client that is signed in; requests go through the whole chain, without a socket.

        Args:
            role: one or several role names; None: no token is sent.
            tenant: slug; `acme` and `beta` are there, `platform` is the operators' own, others are
                made by `add_tenant`.
            user: name of the user; the same name is the same user.
            headers: sent with every request.
        """
        sent = dict(headers or {})
        if role is not None:
            sent["Authorization"] = f"Bearer {self.token(role=role, tenant=tenant, user=user)}"
        transport = httpx2.ASGITransport(app=self.asgi, raise_app_exceptions=False)
        client = httpx2.AsyncClient(transport=transport, base_url=_BASE_URL, headers=sent)
        self._clients.append(client)
        return client

    def token(
        self, *, role: str | Iterable[str] = "Admin", tenant: str = "acme", user: str = "demo", **claims: Any
    ) -> str:
        """Return a token of the local issuer.

        Args:
            role: one or several role names.
            tenant: slug.
            user: name of the user.
            claims: added to the token, or replacing what it would say; None removes one.
        """
        issuer = self.connected.issuer
        assert isinstance(issuer, LocalIssuer)
        realm = PLATFORM_REALM if tenant == PLATFORM_SLUG else _ulid_of(tenant)
        roles = [role] if isinstance(role, str) else list(role)
        return issuer.issue(realm, user, roles=roles, claims=claims or None)

    async def add_tenant(self, slug: str, *, status: str = "activated") -> Tenant:
        """Register a tenant and return it."""
        async with self.connected.database.system() as transaction:
            id = await transaction.fetchval(
                "insert into tenants (ulid, slug, name, status) values ($1, $2, $3, $4)"
                " on conflict (slug) do update set status = excluded.status returning id",
                _ulid_of(slug),
                slug,
                slug.title(),
                status,
            )
            await record_change(transaction, id)
        self._tenants[slug] = Tenant(id=id, ulid=_ulid_of(slug), slug=slug, status=status)
        return self._tenants[slug]

    async def tenant(self, slug: str) -> Tenant:
        """Return a tenant that is there.

        Raises:
            KeyError: it is not.
        """
        async with self.connected.database.system() as transaction:
            found = await find_tenant(transaction, slug)
        if found is None:
            raise KeyError(slug)
        return found

    @asynccontextmanager
    async def repositories(self, tenant: str = "acme", version: str = "v1") -> AsyncIterator[Repositories]:
        """Yield every resource's repository, acting for a tenant; committed at the end.

        For arranging rows that no route makes, and for looking at what a request left behind.
        """
        found = await self.tenant(tenant)
        principal = Principal(
            tenant_id=found.id,
            session_tenant_id=found.id,
            home_tenant_id=found.id,
            anonymous=False,
            platform=found.slug == PLATFORM_SLUG,
            tenant=found,
        )
        async with self.connected.database.transaction(principal.session) as transaction:
            unit = Unit(self.connected.service.parts, transaction, principal, _ORIGIN)
            yield unit.repositories(version, system=True)
            await unit.finish()

    async def events(self) -> list[Event]:
        """Return the events of all requests so far, once their handlers have ended."""
        await self.connected.service.drain()
        return list(self.recorder.heard)

    async def close(self) -> None:
        """Close the clients."""
        for client in self._clients:
            await client.aclose()


class Bench:
    """One embedded server for the tests of a session, and a template database per manifest."""

    def __init__(self, folder: Path, *, strategy: Literal["wal_log", "file_copy"] = "wal_log") -> None:
        """Args:
        folder: where server and keys lie; kept between sessions, so that the next one starts faster.
        strategy: how PostgreSQL copies a template; `file_copy` is quicker where the folder lies in memory.
        """
        self._folder = folder
        self._strategy = strategy
        self._embedded = EmbeddedPostgres(folder, durable=False)
        self._server: RunningServer | None = None
        self._templates: dict[str, str] = {}
        self._keys: dict[Path, KeyFolder] = {}  # of an application -> the keys of its realms, read once
        self._counter = 0
        self._administration: _Administration | None = None

    async def start(self) -> None:
        """Start the server, or join the one that runs."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._server = await self._embedded.start()
        self._administration = _Administration(self._server.uri(SUPERUSER, "postgres"))

    async def stop(self) -> None:
        """Leave the server; the last one out stops it."""
        if self._administration is not None:
            await self._administration.close()
        await self._embedded.stop()

    @property
    def server(self) -> RunningServer:
        """The running server."""
        assert self._server is not None, "the bench is not started"
        return self._server

    @asynccontextmanager
    async def application(
        self,
        blueprint: Blueprint,
        *,
        origin: str | None = None,
        write_access_line: Callable[[str], object] | None = None,
        **overrides: Any,
    ) -> AsyncIterator[TestedApplication]:
        """Yield an application on a fresh database with the tenants `platform`, `acme` and `beta`.

        Args:
            blueprint: of `bootstrap.assemble`; share it between tests.
            origin: a database of `prepared`, to begin with all that is in it.
            write_access_line: takes the lines of the access log; None keeps them in `access_lines`.
            overrides: settings; `places` get databases too, as fresh as the first.
        """
        async with AsyncExitStack() as databases:
            name = await databases.enter_async_context(self.database(blueprint, origin))
            places = {
                entry.partition("@")[0]: await databases.enter_async_context(self.database(blueprint))
                for entry in overrides.get("places", ())
            }
            given = {**self._addresses(places), **overrides}
            async with self._opened(blueprint, name, given, write_access_line) as tested:
                yield tested

    @asynccontextmanager
    async def _opened(
        self,
        blueprint: Blueprint,
        database: str,
        overrides: dict[str, Any],
        write_access_line: Callable[[str], object] | None = None,
    ) -> AsyncIterator[TestedApplication]:
        """Yield an application on a database."""
        settings = self._settings(blueprint, database, overrides)
        recorder, lines = EventRecorder(), list[str]()
        heard = replace(blueprint, handlers=(*blueprint.handlers, recorder))
        state = settings.app_dir / ".byodpp"
        keys = self._keys.setdefault(state, KeyFolder(state / "keys"))
        connected = Application.connect(settings, heard, identity_provider(settings, keys))
        asgi = connected.asgi(write_access_line=write_access_line or lines.append)
        tested = TestedApplication(
            blueprint=blueprint,
            settings=settings,
            connected=connected,
            asgi=asgi,
            recorder=recorder,
            access_lines=lines,
        )
        async with connected.lifespan():
            connected.lifecycle.ready = True
            try:
                yield tested
            finally:
                await tested.close()

    @asynccontextmanager
    async def prepared(
        self, blueprint: Blueprint, prepare: Callable[[TestedApplication], Awaitable[_T]], **overrides: Any
    ) -> AsyncIterator[tuple[str, _T]]:
        """Yield the name of a database on which something was prepared, and what that returned.

        For what many tests begin with, and would take long for each of them: an `application` with that
        name as its `origin` gets a copy.

        Args:
            blueprint: of `bootstrap.assemble`.
            prepare: called once, with an application on that database.
            overrides: settings, for the time of the preparation.
        """
        async with self.database(blueprint) as name:
            # A database can be copied only while nobody is connected to it: the application is closed first.
            async with self._opened(blueprint, name, overrides) as tested:
                result = await prepare(tested)
                await tested.connected.service.drain()
            yield name, result

    @asynccontextmanager
    async def database(self, blueprint: Blueprint, origin: str | None = None) -> AsyncIterator[str]:
        """Yield the name of a fresh database that fits a blueprint, or of a copy of another that does."""
        template = origin or await self._template(blueprint)
        self._counter += 1
        name = f"test_{os.getpid()}_{self._counter}"
        await self._administrate(
            f'create database "{name}" owner {OWNER} template "{template}" strategy {self._strategy}'
        )
        try:
            yield name
        finally:
            await self._administrate(f'drop database "{name}" with (force)')

    async def _template(self, blueprint: Blueprint) -> str:
        """Return the template of a manifest, made at first use."""
        wanted = _expected(blueprint)
        known = self._templates.get(wanted)
        if known is not None:
            return known
        name = f"template_{wanted[:24]}"
        connection = await asyncpg.connect(self.server.uri(SUPERUSER, "postgres"))
        try:
            # Several sessions may start at once: one makes the template, the others wait for it.
            await connection.execute("select pg_advisory_lock(20318)")
            known = "select datistemplate from pg_database where datname = $1"
            if not await connection.fetchval(known, name):
                await connection.execute(f'drop database if exists "{name}" with (force)')
                await connection.execute(f'create database "{name}" owner {OWNER}')
                await self._fill(name, blueprint)
                await connection.execute(f'alter database "{name}" is_template true')
        finally:
            await connection.close()
        self._templates[wanted] = name
        return name

    async def _fill(self, name: str, blueprint: Blueprint) -> None:
        for user, work in ((SUPERUSER, self._provision), (OWNER, None)):
            connection = await asyncpg.connect(self.server.uri(user, name))
            try:
                if work is not None:
                    await work(connection)
                elif _by_revisions(blueprint):
                    # The manifest does not say how a view is made; the application's revisions do.
                    await migrations.apply(blueprint.app_dir, self.server.uri(user, name))
                else:
                    await migrations.synchronise(blueprint.registry, connection)
            finally:
                await connection.close()
        connection = await asyncpg.connect(self.server.uri(SYSTEM, name))
        try:
            async with connection.transaction():
                await connection.execute("set local byodpp.tenant = '0'")
                await ensure_platform(connection)
                for slug in ("acme", "beta"):
                    await connection.execute(
                        "insert into tenants (ulid, slug, name, status) values ($1, $2, $3, 'activated')",
                        _ulid_of(slug),
                        slug,
                        slug.title(),
                    )
        finally:
            await connection.close()

    async def _provision(self, connection: asyncpg.Connection[Any]) -> None:
        await provision_database(connection)
        await mark_leakproof(connection)

    def _settings(self, blueprint: Blueprint, database: str, overrides: dict[str, Any]) -> Settings:
        addresses = {
            "postgres_db_uri": self.server.uri(APP, database),
            "postgres_admin_uri": self.server.uri(OWNER, database),
            "postgres_system_uri": self.server.uri(SYSTEM, database),
            "pool_max_connections": 5,
        }
        environ = {"BYODPP_ENV": "test"}
        return load_settings(blueprint.app_dir, environ, **{**addresses, **overrides})

    def _addresses(self, places: dict[str, str]) -> dict[str, tuple[str, ...]]:
        """Return the settings that say where places are, from names to databases."""
        roles = {"place_db_uris": APP, "place_admin_uris": OWNER, "place_system_uris": SYSTEM}
        return {
            setting: tuple(f"{place}={self.server.uri(role, name)}" for place, name in places.items())
            for setting, role in roles.items()
            if places
        }

    async def _administrate(self, statement: str) -> None:
        assert self._administration is not None, "the bench is not started"
        await self._administration.execute(statement)


class _Administration:
    """One connection for making and dropping databases: another one for each would take as long as both."""

    def __init__(self, uri: str) -> None:
        """Args:
        uri: of the superuser; connected at first use.
        """
        self._uri = uri
        self._loop = asyncio.get_running_loop()  # a connection belongs to one
        self._turn = asyncio.Lock()
        self._kept: asyncpg.Connection[Any] | None = None

    async def execute(self, statement: str) -> None:
        """Execute a statement outside of any transaction."""
        if asyncio.get_running_loop() is not self._loop:
            connection = await asyncpg.connect(self._uri)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()
            return
        async with self._turn:
            if self._kept is None or self._kept.is_closed():
                self._kept = await asyncpg.connect(self._uri)
            await self._kept.execute(statement)

    async def close(self) -> None:
        """Let go of the connection, from whichever loop."""
        kept, self._kept = self._kept, None
        if kept is not None and not kept.is_closed():
            await kept.close() if asyncio.get_running_loop() is self._loop else kept.terminate()


def _by_revisions(blueprint: Blueprint) -> tuple[Path, ...]:
    """Return the revisions that make the database; none when the manifest says everything."""
    if all(resource.kind is not Kind.VIEW for resource in blueprint.registry):
        return ()
    return tuple(one.path for one in migrations.read_revisions(blueprint.app_dir))


def _expected(blueprint: Blueprint) -> str:
    """Return what tells the database of an application from those of all others."""
    digest = hashlib.sha256(blueprint.fingerprint.encode())
    for path in _by_revisions(blueprint):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _ulid_of(slug: str) -> str:
    """Return the ULID that a slug has in every test, so that its realm's key is made only once."""
    digest = hashlib.sha256(slug.encode()).digest()
    return str(ULID.from_bytes(bytes([digest[0] & 0x7F]) + digest[1:16]))


# --- fixtures -------------------------------------------------------------------------


@pytest.fixture(scope="session")
def byodpp_app_dir(pytestconfig: pytest.Config) -> Path:
    """The application's folder; where pytest was configured, unless overridden."""
    return pytestconfig.rootpath


@pytest.fixture(scope="session")
def byodpp_blueprint(byodpp_app_dir: Path) -> Blueprint:
    """The application as its files describe it."""
    return assemble(byodpp_app_dir)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def byodpp_bench(pytestconfig: pytest.Config) -> AsyncIterator[Bench]:
    """The server that all tests of the session share."""
    bench = Bench(pytestconfig.rootpath / ".byodpp" / "testing")
    await bench.start()
    yield bench
    await bench.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def application(byodpp_bench: Bench, byodpp_blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """The application on a fresh database."""
    async with byodpp_bench.application(byodpp_blueprint) as tested:
        yield tested
