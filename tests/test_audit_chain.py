"""The audit trail's chain: what is sealed, when, and that no tampering goes unseen, tried as the owner."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio

from byodpp.audit import Head, Sealer, SealKey, Verdict, heads, verify
from byodpp.audit.arrivals import BY_ARRIVAL, arrived_sql
from byodpp.audit.seals import Seal
from byodpp.bootstrap import Blueprint
from byodpp.settings.secret_key import application_secret
from byodpp.testing import Bench, TestedApplication
from tests.commands import operated
from tests.worlds import build

ITEMS = "/api/v1/items"
MANIFEST = {
    "resources": [
        {
            "name": "Items",
            "audit": True,
            "fields": {"name": {"type": "string", "required": True}},
            "access": {"read": ["Admin"], "write": ["Admin"]},
        }
    ],
    "include": ["byodpp:audit"],
}
INSERT = "insert into audit_logs (tenant_id, action, changes) values ($1, $2, $3)"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("sealed"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def quiet(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """An application that seals only when a test says so."""
    async with byodpp_bench.application(blueprint, audit_sealer=False) as tested:
        yield tested


@asynccontextmanager
async def owner(tested: TestedApplication) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection of the owner, who lifts row-level security from his own tables."""
    connection = await asyncpg.connect(tested.settings.postgres_admin_uri)
    try:
        for table in ("audit_logs", "byodpp.audit_seals", "byodpp.audit_heads", "byodpp.audit_arrivals"):
            await connection.execute(f"alter table {table} disable row level security")
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def system(tested: TestedApplication) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(tested.settings.postgres_system_uri)
    try:
        yield connection
    finally:
        await connection.close()


def key_of(tested: TestedApplication) -> SealKey:
    return SealKey.derived(application_secret(tested.settings))


async def verdict(tested: TestedApplication, tenant: str = "acme", known: Sequence[Head] = ()) -> Verdict:
    table = tested.blueprint.tables[tested.blueprint.registry.get("AuditLogs")]
    id = (await tested.tenant(tenant)).id
    async with system(tested) as connection:
        [found] = await verify(connection, table, [key_of(tested)], tenant_id=id, known=known)
    return found


async def make(tested: TestedApplication, count: int, tenant: str = "acme") -> None:
    client = tested.client(tenant=tenant)
    for number in range(count):
        assert (await client.post(ITEMS, json={"name": f"item {number}"})).status_code == 201


async def sealed_rounds(tested: TestedApplication, *counts: int) -> list[int]:
    """Write and seal several times; return the ids of all entries in the order of sealing."""
    for count in counts:
        await make(tested, count)
        assert await tested.connected.sealer.seal() == count
    async with system(tested) as connection:
        rows = await connection.fetch("select unnest(entries) as id from byodpp.audit_seals order by number")
    return [row["id"] for row in rows]


# --- sealing ----------------------------------------------------------------------------


async def test_an_entry_is_sealed_within_five_seconds_of_its_commit(
    byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(blueprint) as tested:
        await make(tested, 3)
        await make(tested, 2, tenant="beta")
        for _ in range(50):
            await asyncio.sleep(0.1)
            found = await verdict(tested), await verdict(tested, "beta")
            if [one.entries for one in found] == [3, 2]:
                break
        assert [(one.entries, one.unsealed, one.intact) for one in found] == [(3, 0, True), (2, 0, True)]


async def test_what_waits_is_told_apart_from_what_is_sealed(quiet: TestedApplication) -> None:
    await sealed_rounds(quiet, 3, 2)
    await make(quiet, 4)
    found = await verdict(quiet)
    assert (found.entries, found.seals, found.unsealed, found.broken) == (5, 2, 4, None)
    assert found.first_sealed_at is not None and found.last_sealed_at is not None
    assert found.first_sealed_at < found.last_sealed_at
    assert found.unsealed_since is not None


async def test_an_entry_with_a_lower_id_that_is_committed_later_is_sealed_too(
    quiet: TestedApplication,
) -> None:
    acme = (await quiet.tenant("acme")).id
    async with system(quiet) as late, system(quiet) as gone:
        await late.execute("begin")
        await late.execute(INSERT, acme, "LATE", "{}")
        await gone.execute("begin")
        await gone.execute(INSERT, acme, "NEVER", "{}")
        await sealed_rounds(quiet, 3)
        await gone.execute("rollback")
        await late.execute("commit")
        assert await quiet.connected.sealer.seal() == 1
    found = await verdict(quiet)
    assert (found.entries, found.unsealed, found.broken) == (4, 0, None)
    async with system(quiet) as connection:
        first, last = await connection.fetch("select entries from byodpp.audit_seals order by number")
    assert last["entries"][0] < first["entries"][0], "it was sealed by its arrival, not by its id"


async def test_many_writers_and_rollbacks_leave_nothing_unsealed(quiet: TestedApplication) -> None:
    tenants = [(await quiet.tenant(slug)).id for slug in ("acme", "beta")]
    stopping = False

    async def write(number: int) -> int:
        done = 0
        chance = random.Random(number)
        async with system(quiet) as connection:
            for _ in range(40):
                await connection.execute("begin")
                for _ in range(chance.randint(1, 3)):
                    await connection.execute(INSERT, chance.choice(tenants), "X", '{"a": 1}')
                    done += 1
                await asyncio.sleep(chance.random() / 100)
                if chance.random() < 0.3:
                    await connection.execute("savepoint s")
                    await connection.execute(INSERT, tenants[0], "X", "{}")
                    done += 1
                if chance.random() < 0.2:
                    done -= await connection.fetchval(
                        "select count(*) from audit_logs where _arrival = pg_current_xact_id()"
                    )
                    await connection.execute("rollback")
                else:
                    await connection.execute("commit")
        return done

    async def seal() -> int:
        sealed = 0
        while not stopping:
            sealed += await quiet.connected.sealer.seal()
            await asyncio.sleep(0.003)
        return sealed

    sealing = [asyncio.create_task(seal()) for _ in range(2)]
    written = sum(await asyncio.gather(*(write(number) for number in range(8))))
    stopping = True
    sealed = sum(await asyncio.gather(*sealing)) + await quiet.connected.sealer.seal()
    found = [await verdict(quiet, slug) for slug in ("acme", "beta")]
    assert sealed == written == sum(one.entries for one in found)
    assert all(one.intact and one.unsealed == 0 and one.seals > 5 for one in found)


async def test_a_backlog_is_sealed_in_passes_and_each_survives_a_crash(
    quiet: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byodpp.audit.sealer._MOST_ENTRIES", 10)
    await make(quiet, 25)
    assert await quiet.connected.sealer.seal() == 10
    await make(quiet, 5)  # arrives while the backlog is being sealed

    async def crash(*_: Any) -> None:
        raise RuntimeError("cut")

    broken = _another(quiet)
    monkeypatch.setattr(broken, "_note", crash)
    monkeypatch.setattr(broken, "_sealed", crash)
    with pytest.raises(RuntimeError):
        await broken.seal()
    another = _another(quiet)
    assert [await another.seal() for _ in range(5)] == [10, 5, 5, 0, 0]
    found = await verdict(quiet)
    assert (found.entries, found.unsealed, found.intact) == (30, 0, True)


async def test_a_backlog_that_fills_its_last_pass_is_ended(
    quiet: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byodpp.audit.sealer._MOST_ENTRIES", 5)
    await make(quiet, 10)
    assert [await quiet.connected.sealer.seal() for _ in range(3)] == [5, 5, 0]
    await make(quiet, 1)
    assert await quiet.connected.sealer.seal() == 1


async def test_a_round_seals_all_that_is_there_in_small_passes_first_and_a_backlog_in_larger_ones(
    quiet: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("_ENTRIES", 2), ("_PASSES", 3), ("_MOST_ENTRIES", 10)):
        monkeypatch.setattr(f"byodpp.audit.sealer.{name}", count)
    await make(quiet, 20)
    assert await quiet.connected.sealer.passes.once()
    async with owner(quiet) as connection:
        seals = await connection.fetch(
            "select cardinality(entries) as count from byodpp.audit_seals order by tenant_id, number"
        )
    assert [seal["count"] for seal in seals] == [2, 2, 2, 10, 4]


async def test_a_trail_that_came_from_another_database_is_sealed_in_portions(
    quiet: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byodpp.audit.sealer._MOST_ENTRIES", 5)
    await make(quiet, 3)
    assert await quiet.connected.sealer.seal() == 3
    await make(quiet, 12)
    async with owner(quiet) as connection:
        await connection.execute("update audit_logs set _arrival = null")
    heard: list[str] = []
    async with quiet.connected.database.system() as transaction:
        transaction.connection.add_query_logger(lambda query: heard.append(query.query))
        assert await quiet.connected.sealer.take_in(transaction, (await quiet.tenant("acme")).id) == 12
    assert sum("unnest(entries)" in one for one in heard) <= 1, (
        "what is sealed is looked up once, not per portion"
    )
    found = await verdict(quiet)
    assert (found.entries, found.seals, found.unsealed, found.broken) == (15, 4, 0, None)
    async with system(quiet) as connection:
        seals = await connection.fetch("select entries, since from byodpp.audit_seals order by number")
    assert [len(one["entries"]) for one in seals] == [3, 5, 5, 2]
    assert [one["since"] for one in seals[1:]] == [None] * 3
    entries = [id for one in seals[1:] for id in one["entries"]]
    assert entries == sorted(entries)


async def test_the_sealer_finds_what_is_new_without_reading_the_whole_trail(quiet: TestedApplication) -> None:
    acme = (await quiet.tenant("acme")).id
    many = "insert into audit_logs (tenant_id, action) select $1, 'X' from generate_series(1, 4000)"
    async with system(quiet) as connection:
        for _ in range(3):
            await connection.execute(many, acme)
            assert await quiet.connected.sealer.seal() == 4000
        await connection.execute(many, acme)
        sealed = await connection.fetchval("select sealed from byodpp.audit_arrivals")
        now = await connection.fetchval("select pg_current_snapshot()::text")
        async with connection.transaction():
            await connection.execute(BY_ARRIVAL)
            sql = arrived_sql(quiet.blueprint.tables[quiet.blueprint.registry.get("AuditLogs")])
            for place, value in enumerate((sealed, now, "0", 0, 0, 5000), start=1):
                sql = sql.replace(f"${place}::", f"'{value}'::")
            plan = "\n".join(row[0] for row in await connection.fetch(f"explain {sql}"))
    assert "Index Scan using audit_logs_arrival_idx" in plan, plan
    assert "Seq Scan" not in plan, plan


async def test_one_process_seals_at_a_time(quiet: TestedApplication) -> None:
    await make(quiet, 2)
    async with system(quiet) as other:
        await other.execute("begin")
        await other.execute("select pg_advisory_xact_lock(hashtextextended('byodpp audit sealer', 0))")
        assert await quiet.connected.sealer.seal() == 0
        await other.execute("rollback")
    assert await quiet.connected.sealer.seal() == 2


async def test_a_database_that_was_restored_elsewhere_goes_on_with_its_chains(
    quiet: TestedApplication,
) -> None:
    await sealed_rounds(quiet, 3, 2)
    await make(quiet, 2)
    async with owner(quiet) as connection:
        # Another cluster: its transaction ids may be far behind those that the rows came with.
        await connection.execute("update byodpp.audit_arrivals set cluster = '1'")
        far = "update audit_logs set _arrival = (pg_current_xact_id()::text::bigint + 1000000)::text::xid8"
        await connection.execute(far)
    await make(quiet, 1)
    # The first pass marks what is not sealed as its own. That arrives with its commit, or at once where a
    # later transaction has ended meanwhile: PostgreSQL leaves a transaction's own id out of its snapshots.
    passes = [await quiet.connected.sealer.seal() for _ in range(3)]
    assert passes in ([0, 3, 0], [3, 0, 0])
    await make(quiet, 1)
    assert await quiet.connected.sealer.seal() == 1
    found = await verdict(quiet)
    assert (found.entries, found.unsealed, found.broken) == (9, 0, None)


@pytest.mark.parametrize(
    "spoilt",
    [
        "sealed = 'nonsense'",
        "sealed = '7:3:'",
        "sealed = '99999999999:99999999999:'",
        "target = 'nonsense'",
        "target = sealed, after_arrival = 'nonsense'",
        "after_arrival = '999999999999'",
        "target = sealed, after_arrival = '999999999999', after_tenant = 0, after_entry = 0",
        "sealed_at = '4713-01-01 BC', target_at = 'infinity'",
        "sealed_at = 'infinity'",
    ],
)
async def test_the_sealer_finds_anew_what_is_not_sealed_where_its_own_row_was_changed(
    quiet: TestedApplication, spoilt: str
) -> None:
    await sealed_rounds(quiet, 3, 2)
    await make(quiet, 2)
    async with owner(quiet) as connection:
        await connection.execute(f"update byodpp.audit_arrivals set {spoilt}")
    await make(quiet, 1)
    assert sum([await quiet.connected.sealer.seal() for _ in range(3)]) == 3
    found = await verdict(quiet)
    assert (found.entries, found.unsealed, found.broken) == (8, 0, None)
    await make(quiet, 1)
    assert await quiet.connected.sealer.seal() == 1


async def test_what_is_sealed_is_not_sealed_again_where_sql_has_put_back_how_far_it_had_come(
    quiet: TestedApplication, caplog: pytest.LogCaptureFixture
) -> None:
    sealer = quiet.connected.sealer
    await make(quiet, 2)
    assert await sealer.seal() == 2
    async with owner(quiet) as connection:
        early = await connection.fetchval("select sealed from byodpp.audit_arrivals")
        await make(quiet, 3)
        await make(quiet, 1, tenant="beta")
        assert await sealer.seal() == 4
        await connection.execute("update byodpp.audit_arrivals set sealed = $1", early)
    await make(quiet, 1)
    assert [await sealer.seal() for _ in range(3)] == [0, 1, 0]
    assert "byodpp.audit_arrivals was changed" in caplog.text
    found = [await verdict(quiet, tenant) for tenant in ("acme", "beta")]
    assert [(one.entries, one.unsealed, one.broken) for one in found] == [(6, 0, None), (1, 0, None)]


LAST: Final = 9223372036854775807
ENDS_CHANGED: Final = [  # by what, and whether the chain is as it was
    ("update {heads} set number = 1 where tenant_id = $1", True),
    ("update {heads} set number = -7 where tenant_id = $1", True),
    ("delete from {heads} where tenant_id = $1", True),
    ("update {heads} set total = 0, hash = '' where tenant_id = $1", True),
    (f"update {{heads}} set total = {LAST} where tenant_id = $1", True),
    (f"update {{heads}} set number = {LAST} where tenant_id = $1", True),
    ("update {heads} set number = 9 where tenant_id = $1", False),
    ("delete from {seals} where number > 1 and tenant_id = $1", False),
    ("insert into {seals} select tenant_id, 4, since, sealed_at, total, entries, digests, previous, hash,"
     " mac, key_id from {seals} where number = 3 and tenant_id = $1", False),
    (f"update {{seals}} set number = {LAST} where number = 3 and tenant_id = $1", False),
    (f"update {{seals}} set total = {LAST} where number = 3 and tenant_id = $1", False),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "intact"), ENDS_CHANGED)
async def test_what_sql_has_done_to_the_end_of_one_chain_stops_no_other(
    quiet: TestedApplication, caplog: pytest.LogCaptureFixture, sql: str, intact: bool
) -> None:
    await sealed_rounds(quiet, 2, 2, 2)
    await make(quiet, 1, tenant="beta")
    assert await quiet.connected.sealer.seal() == 1
    acme = (await quiet.tenant("acme")).id
    async with owner(quiet) as connection:
        await connection.execute(sql.format(seals="byodpp.audit_seals", heads="byodpp.audit_heads"), acme)
    assert (await verdict(quiet)).broken is not None
    for _ in range(2):
        await make(quiet, 1)
        await make(quiet, 1, tenant="beta")
        assert await quiet.connected.sealer.seal() == 2
    assert (await verdict(quiet)).intact == intact
    beta = await verdict(quiet, "beta")
    assert (beta.entries, beta.unsealed, beta.broken) == (3, 0, None)
    told = [record for record in caplog.records if "was changed" in record.message]
    assert not intact or [record.__dict__["tenant_id"] for record in told] == [acme]


async def test_a_seal_is_hashed_as_it_is_documented() -> None:
    seal = Seal.after(
        Head(tenant_id=7),
        [12, 11],
        bytes(31) + b"\1" + bytes(31) + b"\2",
        since=None,
        sealed_at=datetime(2026, 1, 31, 8, tzinfo=UTC),
    )
    text = (
        "byodpp audit seal 1\ntenant 7\nnumber 1\nprevious " + "0" * 64 + "\nsince -\n"
        "sealed 2026-01-31T08:00:00.000000Z\n12 " + "0" * 63 + "1\n11 " + "0" * 63 + "2\n"
    )
    assert seal.hash() == sha256(text.encode()).digest()
    assert seal.head() == Head(tenant_id=7, number=1, total=2, hash=seal.hash())
    others = (
        replace(seal, entries=[12]),
        replace(seal, entries=[12, 11, 10]),
        replace(seal, digests=seal.digests[:40]),
    )
    assert seal.hash() not in [other.hash() for other in others], "ids and digests belong together"


async def test_an_entry_is_hashed_alike_by_postgresql_and_by_python(quiet: TestedApplication) -> None:
    acme = (await quiet.tenant("acme")).id
    hostile = {"tëxt": "a=1:\n\\'\"\u2028😀", "number": 1.50, "nested": [None, {"z": 1, "a": -0.0}]}
    async with system(quiet) as connection:
        for changes in (hostile, {}, [1], "text", None):
            await connection.execute(INSERT, acme, "ACTION\n=:", json.dumps(changes, ensure_ascii=False))
        await connection.execute("set timezone = 'Asia/Kolkata'; set datestyle = 'German'")
        await quiet.connected.sealer.seal()
    found = await verdict(quiet)
    assert (found.entries, found.broken) == (5, None)


# --- tampering --------------------------------------------------------------------------

CHANGED = [
    ("action", "update audit_logs set action = 'READ' where id = $1"),
    ("changes", "update audit_logs set changes = '{}' where id = $1"),
    ("user_id", "update audit_logs set user_id = 99 where id = $1"),
    ("created_at", "update audit_logs set created_at = created_at - interval '1 microsecond' where id = $1"),
    ("updated_at", "update audit_logs set updated_at = updated_at + interval '1 day' where id = $1"),
    ("reason", "update audit_logs set reason = '' where id = $1"),
]


@pytest.mark.parametrize(("column", "sql"), CHANGED, ids=[column for column, _ in CHANGED])
async def test_a_changed_entry_is_named(quiet: TestedApplication, column: str, sql: str) -> None:
    ids = await sealed_rounds(quiet, 3, 3)
    async with owner(quiet) as connection:
        await connection.execute(sql, ids[4])
    found = await verdict(quiet)
    assert found.broken is not None
    assert (found.broken.reason, found.broken.seal, found.broken.entry) == (
        "the entry was changed",
        2,
        ids[4],
    )
    assert (found.seals, found.entries) == (1, 3), "what holds is told as well"


async def test_a_deleted_entry_is_named(quiet: TestedApplication) -> None:
    ids = await sealed_rounds(quiet, 3, 3)
    async with owner(quiet) as connection:
        await connection.execute("delete from audit_logs where id = $1", ids[1])
    found = await verdict(quiet)
    assert found.broken is not None
    assert (found.broken.reason, found.broken.entry) == ("the entry was deleted", ids[1])


async def test_an_entry_that_was_moved_to_another_tenant_is_missed(quiet: TestedApplication) -> None:
    ids = await sealed_rounds(quiet, 3)
    async with owner(quiet) as connection:
        beta = (await quiet.tenant("beta")).id
        await connection.execute("update audit_logs set tenant_id = $2 where id = $1", ids[1], beta)
    assert not (await verdict(quiet)).intact
    assert not (await verdict(quiet, "beta")).intact, "and there it has come past the sealer"


async def test_an_entry_that_was_put_in_between_is_found(quiet: TestedApplication) -> None:
    ids = await sealed_rounds(quiet, 3, 3)
    async with owner(quiet) as connection:
        await connection.execute("delete from audit_logs where id = $1", ids[5])  # makes room for an id
        await connection.execute(
            "insert into audit_logs (id, tenant_id, action, created_at, _arrival)"
            " select $2, tenant_id, 'FORGED', created_at, _arrival from audit_logs where id = $1",
            ids[2],
            ids[5] + 1000,
        )
        await connection.execute("delete from byodpp.audit_seals where number = 2")
        await connection.execute(
            "update byodpp.audit_heads h set number = 1, total = 3, hash = s.hash"
            " from byodpp.audit_seals s where s.tenant_id = h.tenant_id"
        )
        await connection.execute("delete from audit_logs where id = any($1)", ids[3:])
    found = await verdict(quiet)
    assert found.broken is not None
    assert found.broken.reason == "the entry was put in past the sealer"


async def test_an_entry_that_is_sealed_with_an_old_date_is_found(quiet: TestedApplication) -> None:
    acme = (await quiet.tenant("acme")).id
    await sealed_rounds(quiet, 2)
    async with owner(quiet) as connection:
        await connection.execute(
            "insert into audit_logs (tenant_id, action, created_at)"
            " values ($1, 'X', now() - interval '1 day')",
            acme,
        )
    assert await quiet.connected.sealer.seal() == 1
    found = await verdict(quiet)
    assert found.broken is not None
    assert found.broken.reason == "the entry is dated back"


@pytest.mark.parametrize("moment", ["infinity", "20000-01-01", "4713-01-01 BC"])
async def test_a_time_that_only_postgresql_can_read_keeps_no_chain_from_being_verified(
    quiet: TestedApplication, moment: str
) -> None:
    acme = (await quiet.tenant("acme")).id
    ids = await sealed_rounds(quiet, 2)
    async with owner(quiet) as connection:
        await connection.execute(
            f"insert into audit_logs (tenant_id, action, created_at) values ({acme}, 'X', '{moment}')"
        )
    found = await verdict(quiet)
    assert (found.entries, found.unsealed, found.broken) == (2, 1, None)
    assert await quiet.connected.sealer.seal() == 1
    found = await verdict(quiet)
    reason = "the entry is dated back" if "BC" in moment else None
    assert (found.broken and found.broken.reason) == reason
    async with owner(quiet) as connection:
        await connection.execute(
            f"update audit_logs set created_at = '{moment}' where tenant_id = {acme} and id = {ids[0]}"
        )
    found = await verdict(quiet)
    assert found.broken is not None and found.broken.reason == "the entry was changed"


_CHANGED = "the seal was changed"
_END = "the stored end of the chain is not its end"
SEALS_CHANGED: list[tuple[str, str]] = [
    ("update {seals} set total = total + 1 where number = 2", "the seal's total was changed"),
    ("update {seals} set sealed_at = now() where number = 2", "the seal was changed"),
    ("update {seals} set sealed_at = '-infinity' where number = 2", "the seal was changed"),
    ("update {seals} set entries[1] = entries[2], entries[2] = entries[1]", "the seal was changed"),
    (
        "update {seals} set digests = sha256('x') || substr(digests, 33) where number = 2",
        "the seal was changed",
    ),
    ("update {seals} set mac = '\\x00' where number = 2", "the seal was not made by this application"),
    ("delete from {seals} where number = 2", "seal 2 is missing"),
    ("delete from {seals} where number = 1", "seal 1 is missing"),
    ("delete from {seals} where number = 3", "the last 1 of 3 seals are missing"),
    ("delete from {seals}", "the last 3 of 3 seals are missing"),
    ("update {heads} set number = 2", _END),
    ("delete from {heads}", _END),
    ("update {heads} set total = total + 1", _END),
    ("update {seals} set since = '4713-01-01 BC' where number = 2", "the seal was changed"),
    ("update {seals} set sealed_at = '20000-01-01' where number = 2", "the seal was changed"),
    *(
        (f"alter table {{seals}} alter {name} drop not null; update {{seals}} set {name} = null", reason)
        for name, reason in [
            ("previous", "the seal does not follow the one before it"),
            *((one, _CHANGED) for one in ("total", "entries", "digests", "hash", "mac", "key_id")),
        ]
    ),
    ("alter table {heads} alter number drop not null; update {heads} set number = null", _END),
    ("update byodpp.audit_arrivals set sealed = '7:3:'", "what tells how far was sealed is no snapshot"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "reason"), SEALS_CHANGED)
async def test_a_changed_seal_is_found(quiet: TestedApplication, sql: str, reason: str) -> None:
    await sealed_rounds(quiet, 2, 2, 2)
    async with owner(quiet) as connection:
        await connection.execute(sql.format(seals="byodpp.audit_seals", heads="byodpp.audit_heads"))
    found = await verdict(quiet)
    assert found.broken is not None
    assert found.broken.reason == reason


async def test_a_chain_that_its_owner_makes_anew_lacks_the_macs(quiet: TestedApplication) -> None:
    ids = await sealed_rounds(quiet, 2, 2)
    async with owner(quiet) as connection:
        await connection.execute("update audit_logs set action = 'FORGED' where id = $1", ids[0])
        await connection.execute("truncate byodpp.audit_seals, byodpp.audit_heads, byodpp.audit_arrivals")
    table = quiet.blueprint.tables[quiet.blueprint.registry.get("AuditLogs")]
    assert await Sealer(quiet.connected.database, table, SealKey.derived(b"guessed")).seal() == 4
    found = await verdict(quiet)
    assert found.unknown_keys == {SealKey.derived(b"guessed").id}
    async with owner(quiet) as connection:
        await connection.execute("update byodpp.audit_seals set key_id = $1", key_of(quiet).id)
    found = await verdict(quiet)
    assert found.broken is not None
    assert found.broken.reason == "the seal was not made by this application"


async def test_a_tail_that_its_owner_makes_anew_with_a_key_of_his_own_is_found(
    quiet: TestedApplication,
) -> None:
    await sealed_rounds(quiet, 2, 2, 2)
    forged = "update byodpp.audit_seals set key_id = 'guessed', mac = sha256(hash) where number = $1"
    async with owner(quiet) as connection:
        await connection.execute(forged, 3)
    found = await verdict(quiet)
    assert found.broken is not None and (found.broken.seal, found.seals) == (3, 2)
    assert "is not known here, though that of the seals before it is" in found.broken.reason
    # A former key lies before the present one, and is told of.
    async with owner(quiet) as connection:
        for number in (1, 2):
            await connection.execute(forged, number)
    found = await verdict(quiet)
    assert found.intact and found.unknown_keys == {"guessed"} and found.seals == 3


async def test_a_tail_that_was_cut_off_is_missed_by_who_has_kept_the_end(quiet: TestedApplication) -> None:
    await sealed_rounds(quiet, 2, 2, 2)
    async with system(quiet) as connection:
        kept = await heads(connection)
    async with owner(quiet) as connection:
        await connection.execute(
            "delete from audit_logs where id in"
            " (select unnest(entries) from byodpp.audit_seals where number = 3)"
        )
        await connection.execute("delete from byodpp.audit_seals where number = 3")
        await connection.execute(
            "update byodpp.audit_heads h set number = 2, total = 4, hash = s.hash"
            " from byodpp.audit_seals s where s.number = 2"
        )
    assert (await verdict(quiet)).intact, "the database itself remembers nothing of it"
    found = await verdict(quiet, known=kept)
    assert found.broken is not None
    assert found.broken.reason == "the last 1 of 3 seals are missing"


async def test_the_sealer_tells_when_a_chain_was_cut_back(
    quiet: TestedApplication, caplog: pytest.LogCaptureFixture
) -> None:
    await sealed_rounds(quiet, 2, 2)
    async with owner(quiet) as connection:
        await connection.execute("delete from byodpp.audit_seals where number = 2")
        await connection.execute(
            "update byodpp.audit_heads h set number = 1, total = 2, hash = s.hash from byodpp.audit_seals s"
        )
    await make(quiet, 1)
    await quiet.connected.sealer.seal()
    assert any("cut back" in record.message for record in caplog.records)


async def test_another_chain_than_was_known_is_found(quiet: TestedApplication) -> None:
    await sealed_rounds(quiet, 2)
    async with system(quiet) as connection:
        [kept] = await heads(connection)
    found = await verdict(quiet, known=[replace(kept, hash=bytes(32))])
    assert found.broken is not None
    assert found.broken.reason == "the chain is another one than was known"


async def test_the_application_role_changes_neither_entries_nor_seals(quiet: TestedApplication) -> None:
    await sealed_rounds(quiet, 2)
    acme = (await quiet.tenant("acme")).id
    connection = await asyncpg.connect(quiet.settings.postgres_db_uri)
    try:
        for sql in (
            "update audit_logs set action = 'x'",
            "delete from audit_logs",
            "truncate audit_logs",
            "update byodpp.audit_seals set total = 0",
            "delete from byodpp.audit_seals",
            "insert into byodpp.audit_seals (tenant_id) values (1)",
            "update byodpp.audit_heads set number = 0",
            "select * from byodpp.audit_arrivals",
        ):
            await connection.execute("begin")
            await connection.execute(f"set local byodpp.tenant = '{acme}'")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(sql)
            await connection.execute("rollback")
        await connection.execute("begin")
        await connection.execute(f"set local byodpp.tenant = '{(await quiet.tenant('beta')).id}'")
        assert await connection.fetch("select * from byodpp.audit_seals") == []
        await connection.execute("rollback")
    finally:
        await connection.close()


# --- the command line -------------------------------------------------------------------


async def byodpp(tested: TestedApplication, *words: str) -> tuple[int, str, str]:
    """Run a command as an operator would."""
    done = await operated(tested, *words)
    return done.returncode, done.stdout, done.stderr


async def test_the_command_tells_what_is_sealed_and_what_is_broken(
    quiet: TestedApplication, tmp_path: Path
) -> None:
    ids = await sealed_rounds(quiet, 2, 2)
    await make(quiet, 1)
    code, out, err = await byodpp(quiet, "audit", "verify", "--tenant", "acme")
    assert code == 0, err
    [_, line] = out.splitlines()
    tenant, sealed, seals, first, last, unsealed, result = line.split()
    assert (tenant, sealed, seals, unsealed, result) == ("acme", "4", "2", "1", "intact")
    assert first <= last
    code, out, _ = await byodpp(quiet, "audit", "heads")
    assert (code, json.loads(out)[0]["number"]) == (0, 2)
    kept = tmp_path / "heads.json"
    kept.write_text(out)
    async with owner(quiet) as connection:
        await connection.execute("update audit_logs set action = 'x' where id = $1", ids[2])
    code, out, _ = await byodpp(quiet, "audit", "verify", "--heads", str(kept))
    assert code == 1
    assert f"BROKEN at seal 2, entry {ids[2]}: the entry was changed" in out


def _end_told(**said: int) -> str:
    return json.dumps({"tenant": 1, "number": 1, "total": 1, "hash": "00", **said})


async def test_the_command_refuses_what_it_cannot_look_at(quiet: TestedApplication, tmp_path: Path) -> None:
    code, _, err = await byodpp(quiet, "audit", "verify", "--tenant", "nobody")
    assert code == 1
    assert "there is no tenant 'nobody'" in err
    wrong = tmp_path / "heads.json"
    for told in ('{"tenant": 1}', _end_told(tenant=2**70), _end_told(number=2**70), _end_told(number=-1)):
        wrong.write_text(f"[{told}]")
        code, _, err = await byodpp(quiet, "audit", "verify", "--heads", str(wrong))
        assert code == 1
        assert "Give a file that `byodpp audit heads` has printed." in err


async def test_who_reads_the_documentation_can_check_an_entry_without_the_program(
    quiet: TestedApplication,
) -> None:
    await sealed_rounds(quiet, 1)
    async with system(quiet) as connection:
        await connection.execute("set timezone = 'UTC'")
        names = await connection.fetch(
            "select attname from pg_attribute where attrelid = 'audit_logs'::regclass and attnum > 0"
            " and attname not like '\\_%' order by attname::text collate \"C\""
        )
        text = b""
        for name in (row["attname"] for row in names):
            value = await connection.fetchval(f'select "{name}"::text from audit_logs')
            if value is not None:
                text += f"{name}={len(value.encode())}:{value}\n".encode()
        assert await connection.fetchval("select digests from byodpp.audit_seals") == sha256(text).digest()


def _another(tested: TestedApplication) -> Sealer:
    table = tested.blueprint.tables[tested.blueprint.registry.get("AuditLogs")]
    return Sealer(tested.connected.database, table, key_of(tested))
