"""Who is calling: headers in, principals out, on a real database."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ulid import ULID

from byodpp.authentication import ANONYMOUS, Authenticator
from byodpp.authentication.tenants import (
    PLATFORM_REALM,
    PLATFORM_ULID,
    Tenant,
    TenantDirectory,
    ensure_platform,
    register_tenant,
)
from byodpp.authentication.tokens import TokenVerifier
from byodpp.authentication.users import UserDirectory
from byodpp.authorization import Authorizer
from byodpp.authorization.rows import read_rows
from byodpp.database import NOBODY, PLATFORM_TENANT, Database
from byodpp.embedded import EmbeddedPostgres
from byodpp.exceptions import Forbidden, InvalidHeader, NotFound, StartError, Unauthenticated
from byodpp.identity import LocalIssuer
from byodpp.manifest import load_manifest
from byodpp.migrations import synchronise
from byodpp.registry import Registry
from byodpp.tables.roles import OWNER, SYSTEM
from tests.computing import computing

MANIFEST = {
    "resources": [{"name": "Notes", "fields": {"text": {"type": "string"}}, "access": {"read": ["Viewer"]}}]
}


@dataclass
class World:
    database: Database
    registry: Registry
    issuer: LocalIssuer
    acme: Tenant
    other: Tenant
    tenants: TenantDirectory
    authenticator: Authenticator

    def header(self, realm: str, subject: str = "anna", *roles: str, **options: object) -> str:
        return f"Bearer {self.issuer.issue(realm, subject, roles=roles, **options)}"  # type: ignore[arg-type]

    async def run(self, sql: str, *args: object) -> None:
        async with self.database.system() as transaction:
            await transaction.execute(sql, *args)

    async def value(self, sql: str, *args: object) -> object:
        async with self.database.system() as transaction:
            return await transaction.fetchval(sql, *args)


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("authentication")
    (folder / "resources.json").write_text(json.dumps(MANIFEST))
    registry = load_manifest(folder)
    async with EmbeddedPostgres(folder, durable=False).running() as server:
        await synchronise(registry, server.uri(OWNER))
        database = Database(app_uri=server.uri(), system_uri=server.uri(SYSTEM))
        await database.open()
        async with database.system() as transaction:
            await ensure_platform(transaction)
            await ensure_platform(transaction)
            acme = await register_tenant(transaction, "acme", name="Acme Ltd")
            other = await register_tenant(transaction, "other")
        yield made(database, registry, folder, acme, other)
        await database.close()


def made(database: Database, registry: Registry, folder: Path, acme: Tenant, other: Tenant) -> World:
    issuer = LocalIssuer(
        state_folder=folder / ".byodpp",
        base_url="http://localhost:3000",
        audience="byodpp-api",
        environment="test",
    )
    tenants = TenantDirectory(database)
    verifier = TokenVerifier(issuer, audience="byodpp-api", known_realm=tenants.serves)
    authenticator = Authenticator(verifier, tenants, UserDirectory(database))
    return World(database, registry, issuer, acme, other, tenants, authenticator)


@pytest.fixture(autouse=True)
async def fresh(world: World) -> None:
    await world.run("update tenants set status = 'activated'")
    await world.run("update users set status = 'activated'")
    world.authenticator.forget()


# --- tenants --------------------------------------------------------------------------


async def test_the_platform_is_tenant_zero(world: World) -> None:
    platform = await world.tenants.by_realm(PLATFORM_REALM)
    assert platform is not None
    assert (platform.id, platform.slug, platform.ulid, platform.realm) == (
        0,
        "platform",
        PLATFORM_ULID,
        "platform",
    )
    assert await world.tenants.by_realm(PLATFORM_ULID) is None


async def test_registering_a_slug_again_finds_the_same_tenant(world: World) -> None:
    async with world.database.system() as transaction:
        again = await register_tenant(transaction, "acme", name="Something else")
    assert again == world.acme
    assert world.acme.active
    assert world.acme.name == "Acme Ltd"
    assert str(ULID.from_str(world.acme.ulid)) == world.acme.ulid
    assert world.other.name == "Other"


@pytest.mark.parametrize("slug", ["", "Acme", "a b", "-a", "a-", "x" * 64, "ä", "a\x00"])
async def test_a_slug_that_is_none_is_refused(world: World, slug: str) -> None:
    async with world.database.system() as transaction:
        with pytest.raises(StartError):
            await register_tenant(transaction, slug)


async def test_a_tenant_is_found_by_slug_and_by_ulid_and_by_nothing_else(world: World) -> None:
    assert await world.tenants.by_name("acme") == world.acme
    assert await world.tenants.by_name(world.acme.ulid) == world.acme
    for name in ("ACME", world.acme.ulid.lower(), str(world.acme.id), "a%", "a'; --", "nobody"):
        assert await world.tenants.by_name(name) is None


# --- signed-in callers ----------------------------------------------------------------


async def test_a_token_gives_its_tenants_user_with_its_roles(world: World) -> None:
    principal = await world.authenticator.authenticate(
        world.header(world.acme.ulid, "annabel", "Viewer", "Clerk", email="anna@example.com", name="Anna A")
    )
    assert principal.tenant_id == principal.session_tenant_id == principal.home_tenant_id == world.acme.id
    assert principal.roles == {"Viewer", "Clerk"}
    assert (principal.anonymous, principal.platform) == (False, False)
    assert principal.session.tenant_id == world.acme.id
    assert principal.session.user_id == principal.user_id > 0
    assert principal.variables["user.email"] == "anna@example.com"
    row = await world.value(
        "select array[name, email, user_name, realm, status] from users where id = $1", principal.user_id
    )
    assert row == ["Anna A", "anna@example.com", "annabel", world.acme.ulid, "activated"]


async def test_the_same_subject_is_one_row_however_often_and_however_many_at_once(world: World) -> None:
    headers = [world.header(world.acme.ulid, "bert") for _ in range(20)]
    found = await asyncio.gather(*(world.authenticator.authenticate(header) for header in headers))
    assert len({principal.user_id for principal in found}) == 1
    subject = found[0].subject
    assert await world.value("select count(*) from users where subject = $1", subject) == 1


async def test_the_same_subject_in_two_realms_is_two_users(world: World) -> None:
    one = await world.authenticator.authenticate(world.header(world.acme.ulid, "carl"))
    two = await world.authenticator.authenticate(world.header(world.other.ulid, "carl"))
    assert one.subject == two.subject
    assert (one.user_id, one.tenant_id) != (two.user_id, two.tenant_id)


async def test_an_invited_user_is_let_in_and_found_again(world: World) -> None:
    principal = await world.authenticator.authenticate(world.header(world.acme.ulid, "dora"))
    await world.run("update users set status = 'invited' where id = $1", principal.user_id)
    world.authenticator.forget()
    assert (
        await world.authenticator.authenticate(world.header(world.acme.ulid, "dora"))
    ).user_id == principal.user_id


@pytest.mark.parametrize("status", ["deactivated", "rejected"])
async def test_a_user_who_was_deactivated_is_401(world: World, status: str) -> None:
    header = world.header(world.acme.ulid, "emil")
    principal = await world.authenticator.authenticate(header)
    await world.run("update users set status = $1 where id = $2", status, principal.user_id)
    world.authenticator.forget()
    with pytest.raises(Unauthenticated):
        await world.authenticator.authenticate(header)


@pytest.mark.parametrize("status", ["invited", "accepted", "rejected", "deactivated"])
async def test_a_valid_token_of_a_tenant_that_is_not_active_is_401(world: World, status: str) -> None:
    header = world.header(world.acme.ulid)
    await world.authenticator.authenticate(header)
    await world.run("update tenants set status = $1 where id = $2", status, world.acme.id)
    world.authenticator.forget()
    with pytest.raises(Unauthenticated):
        await world.authenticator.authenticate(header)
    with pytest.raises(Unauthenticated):
        await world.authenticator.authenticate(world.header(world.acme.ulid, "new"))


async def test_a_suspension_is_noticed_within_five_seconds_without_being_told(world: World) -> None:
    now = [0.0]
    tenants = TenantDirectory(world.database, clock=lambda: now[0])
    verifier = TokenVerifier(world.issuer, audience="byodpp-api", known_realm=tenants.serves)
    authenticator = Authenticator(verifier, tenants, UserDirectory(world.database), clock=lambda: now[0])
    header = world.header(world.acme.ulid)
    await authenticator.authenticate(header)
    await world.run("update tenants set status = 'deactivated' where id = $1", world.acme.id)
    now[0] = 5.0
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(header)


async def test_a_valid_token_of_a_realm_without_a_tenant_is_401(world: World) -> None:
    for realm in (str(ULID()), PLATFORM_ULID, "master", "other"):
        with pytest.raises(Unauthenticated):
            await world.authenticator.authenticate(world.header(realm))


# --- B45: the Authorization header ----------------------------------------------------


async def test_b45_without_the_header_the_caller_is_nobody(world: World) -> None:
    principal = await world.authenticator.authenticate(None)
    assert principal is ANONYMOUS
    assert (principal.anonymous, principal.user_id, principal.roles) == (True, 0, frozenset())
    assert principal.tenant_id == principal.session.tenant_id == NOBODY


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Basic YTpi",
        "Token abc",
        "Bearer a b",
        "Bearer a,Bearer b",
        "Bearer a, Bearer b",
        ",Bearer a",
        "Bearer a\n",
        "Bearer a\x00",
        "Bearer\ta",
        "Bearer é",
        'Bearer "a"',
        "Bearer a.b.c",
        "Bearer " + "a" * 100_000,
        "bearer a.b.c.d.e",
    ],
    ids=lambda value: repr(value[:20]),
)
async def test_b45_a_header_that_is_not_one_good_bearer_token_is_401(world: World, value: str) -> None:
    with computing() as taken:
        with pytest.raises(Unauthenticated) as refusal:
            await world.authenticator.authenticate(value)
        assert refusal.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert taken.seconds < 0.5


async def test_b45_two_good_tokens_are_not_better_than_one(world: World) -> None:
    one, two = world.header(world.acme.ulid), world.header(world.other.ulid)
    for value in (f"{one},{two}", f"{one}, {two}", f"{one},{one}"):
        with pytest.raises(Unauthenticated):
            await world.authenticator.authenticate(value)


async def test_b45_the_scheme_is_read_without_regard_to_case(world: World) -> None:
    header = world.header(world.acme.ulid)
    assert await world.authenticator.authenticate(header.replace("Bearer", "bEARER"))


# --- C32: naming another tenant -------------------------------------------------------


async def test_c32_a_tenants_user_may_not_name_another_tenant(world: World) -> None:
    header = world.header(world.acme.ulid, "anna", "Admin")
    messages = set()
    for name in ("other", world.other.ulid, "platform", PLATFORM_ULID, "nobody"):
        with pytest.raises(Forbidden) as refusal:
            await world.authenticator.authenticate(header, name)
        messages.add(refusal.value.message)
    assert len(messages) == 1, "the answer tells which tenants exist"


async def test_c32_a_tenants_user_may_name_the_own_tenant(world: World) -> None:
    header = world.header(world.acme.ulid)
    for name in ("acme", world.acme.ulid):
        assert (await world.authenticator.authenticate(header, name)).tenant_id == world.acme.id


@pytest.mark.parametrize("name", ["", " ", "a,b", "acme,other", "a/b", "../x", "é", "x" * 64, "a\x00"])
async def test_c32_a_tenant_name_that_is_none_is_400(world: World, name: str) -> None:
    for header in (None, world.header(world.acme.ulid), world.header(PLATFORM_REALM)):
        with pytest.raises(InvalidHeader):
            await world.authenticator.authenticate(header, name)


async def test_c32_claims_that_name_another_tenant_change_nothing(world: World) -> None:
    claims = {
        "tenantId": world.other.id,
        "tenant": world.other.slug,
        "tenant_id": world.other.ulid,
        "platform": True,
    }
    principal = await world.authenticator.authenticate(world.header(world.acme.ulid, claims=claims))
    assert (principal.tenant_id, principal.platform) == (world.acme.id, False)


async def test_c32_a_token_signed_by_one_realm_in_the_name_of_another_is_401(world: World) -> None:
    world.issuer.ensure_realm(world.other.ulid)
    for realm in (world.other.ulid, PLATFORM_REALM):
        forged = world.header(world.acme.ulid, claims={"iss": world.issuer.issuer_url(realm)})
        with pytest.raises(Unauthenticated):
            await world.authenticator.authenticate(forged)


# --- operators and anonymous readers --------------------------------------------------


async def test_an_operator_acts_for_the_platform_or_for_the_tenant_that_is_named(world: World) -> None:
    header = world.header(PLATFORM_REALM, "olga", "Admin")
    at_home = await world.authenticator.authenticate(header)
    assert (at_home.tenant_id, at_home.platform, at_home.at_home_on_platform) == (PLATFORM_TENANT, True, True)
    for name in ("acme", world.acme.ulid):
        there = await world.authenticator.authenticate(header, name)
        assert there.tenant_id == there.session_tenant_id == world.acme.id
        assert there.home_tenant_id == PLATFORM_TENANT
        assert (there.platform, there.at_home_on_platform) == (True, False)
        assert there.user_id == at_home.user_id


async def test_an_operator_who_names_no_tenant_that_exists_gets_404(world: World) -> None:
    with pytest.raises(NotFound):
        await world.authenticator.authenticate(world.header(PLATFORM_REALM, "olga"), "nobody")


async def test_an_operator_may_look_at_a_suspended_tenant(world: World) -> None:
    await world.run("update tenants set status = 'deactivated' where id = $1", world.other.id)
    principal = await world.authenticator.authenticate(world.header(PLATFORM_REALM, "olga"), "other")
    assert principal.tenant_id == world.other.id


async def test_an_anonymous_reader_chooses_whose_published_rows_and_gets_no_more_rights(world: World) -> None:
    principal = await world.authenticator.authenticate(None, "acme")
    assert (principal.tenant_id, principal.tenant) == (world.acme.id, world.acme)
    assert principal.session.tenant_id == NOBODY
    assert (principal.anonymous, principal.roles, principal.user_id) == (True, frozenset(), 0)


async def test_an_anonymous_reader_finds_no_tenant_that_is_not_active(world: World) -> None:
    await world.run("update tenants set status = 'deactivated' where id = $1", world.other.id)
    for name in ("other", "nobody"):
        with pytest.raises(NotFound):
            await world.authenticator.authenticate(None, name)


# --- policies, as they are stored -----------------------------------------------------


async def test_stored_policies_are_read_and_put_in_force(world: World) -> None:
    insert = (
        "insert into policies (tenant_id, ptype, subject, object, action, effect) "
        "values ($1, $2, $3, $4, $5, $6)"
    )
    await world.run("delete from policies")
    await world.run(insert, world.acme.id, "p", "Clerk", "Notes", "create", "allow")
    await world.run(insert, world.acme.id, "p", "Viewer", "Notes", "read", "deny")
    await world.run(insert, world.acme.id, "g", "Chief", "Clerk", "*", "allow")
    authorizer = Authorizer(world.registry)
    async with world.database.system() as transaction:
        stored = await read_rows(transaction)
    authorizer.load_policies(stored.rows, stored.links, version=1)
    notes = world.registry.get("Notes")

    async def allowed(tenant: Tenant, operation: str, *roles: str) -> bool:
        principal = await world.authenticator.authenticate(world.header(tenant.ulid, "fred", *roles))
        return authorizer.decide(principal, notes, operation).allowed

    assert await allowed(world.acme, "create", "Clerk")
    assert await allowed(world.acme, "create", "Chief")
    assert not await allowed(world.acme, "read", "Viewer")
    assert not await allowed(world.other, "create", "Clerk")
    assert await allowed(world.other, "read", "Viewer")


async def test_stored_conditions_and_fields_reach_the_decision(world: World) -> None:
    await world.run("delete from policies")
    await world.run(
        "insert into policies (tenant_id, ptype, subject, object, action, effect, condition, fields) "
        "values ($1, 'p', 'user:9', 'Notes', 'read', 'allow', $2, (select fields from policies limit 0))",
        world.acme.id,
        '{"text": "a"}',
    )
    async with world.database.system() as transaction:
        (row,) = (await read_rows(transaction)).rows
    assert (row.role, row.user_id, row.fields) == (None, 9, None)
    assert json.loads(str(row.filter)) == {"text": "a"}


# --- speed ----------------------------------------------------------------------------


async def test_a_known_caller_costs_a_few_lookups(world: World) -> None:
    header = world.header(world.acme.ulid, "anna", "Viewer")
    await world.authenticator.authenticate(header)
    rounds = []
    for _ in range(7):
        start = time.process_time()
        for _ in range(1_000):
            await world.authenticator.authenticate(header)
        rounds.append((time.process_time() - start) / 1_000)
    assert min(rounds) < 30e-6  # about 4 us on a quiet machine
