"""Pools and transactions: trips, tenants, cancellation, and what each fault means to a client."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from byodpp.database import Database, SessionContext, Transaction
from byodpp.database.connections import PoolOptions, open_pool
from byodpp.database.sqlstate import is_connection_loss, is_retryable, translate
from byodpp.embedded import SUPERUSER, EmbeddedPostgres, RunningServer
from byodpp.exceptions import (
    ApiError,
    Conflict,
    DatabaseStartError,
    Forbidden,
    InternalError,
    OutcomeUnknown,
    QueryTimeout,
    ReferencedConflict,
    StorageFull,
    Unavailable,
    UniqueConflict,
    ValidationFailed,
)
from byodpp.tables.roles import APP, OWNER, SYSTEM
from tests.patience import in_turns, soon

T1 = SessionContext(tenant_id=1, user_id=10)
T2 = SessionContext(tenant_id=2, user_id=20, grants=("kinds:1:7", 'it\'s "odd" \\ {x},'))

SCHEMA = """
create table kinds (id bigint primary key);
create table things (
  id bigint generated always as identity primary key,
  name varchar(10) unique,
  amount numeric(5, 2) check (amount >= 0),
  kind_id bigint constraint things_kind references kinds,
  later_id bigint constraint things_later references kinds deferrable initially deferred);
create table secrets (id bigint primary key, tenant_id bigint not null);
alter table secrets enable row level security;
alter table secrets force row level security;
create policy own on secrets using (tenant_id = current_setting('byodpp.tenant')::bigint);
insert into kinds values (1), (7);
grant all on kinds, things, secrets to byodpp_app, byodpp_system;
"""
SETTINGS = "current_setting('byodpp.tenant', true), current_setting('byodpp.user', true)"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    async with EmbeddedPostgres(tmp_path_factory.mktemp("database"), durable=False).running() as running:
        connection = await asyncpg.connect(running.uri(OWNER))
        await connection.execute(SCHEMA)
        await connection.close()
        yield running


def make(server: RunningServer, **options: Any) -> Database:
    options = {"pool_max_connections": 4, "start_timeout_seconds": 0.0} | options
    return Database(app_uri=server.uri(APP), system_uri=server.uri(SYSTEM), **options)


@pytest.fixture(scope="module")
async def database(server: RunningServer) -> AsyncIterator[Database]:
    opened = make(server)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def admin(server: RunningServer) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(server.uri(SUPERUSER))
    await connection.execute("truncate things, secrets")
    yield connection
    await connection.close()


async def quiet(admin: asyncpg.Connection[Any]) -> bool:
    """Tell whether, soon, no request's connection works or holds a transaction."""
    sql = "select count(*) from pg_stat_activity where usename = $1 and state <> 'idle'"
    for _ in range(1_500):  # a rollback may wait its turn for seconds, where all of them wait for a processor
        if await admin.fetchval(sql, APP) == 0:
            return True
        await asyncio.sleep(0.02)
    return False


# --- trips ------------------------------------------------------------------------------


class Relay:
    """A socket between driver and server that counts the trips and can lose answers."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.trips = 0
        self.swallow = b""  # once this was sent by the client, nothing comes back and the link ends
        self.hang = False  # nothing is passed on any more, and nobody is told

    async def serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        server_in, server_out = await asyncio.open_unix_connection(self.target)
        cut = asyncio.Event()

        async def forth() -> None:
            while data := await client_in.read(65536):
                if self.hang:
                    continue
                self.trips += 1
                server_out.write(data)
                if self.swallow and self.swallow in data:
                    cut.set()

        async def back() -> None:
            while data := await server_in.read(65536):
                if cut.is_set():
                    return
                client_out.write(data)

        tasks = [asyncio.create_task(forth()), asyncio.create_task(back())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for writer in (client_out, server_out):
            writer.close()


@pytest.fixture
async def relay(server: RunningServer) -> AsyncIterator[tuple[Relay, Callable[..., Database]]]:
    made = Relay(str(server.socket_folder / ".s.PGSQL.5432"))
    listener = await asyncio.start_unix_server(made.serve, server.socket_folder / ".s.PGSQL.6000")
    uri = server.uri(APP).replace("port=5432", "port=6000")
    opened: list[Database] = []

    def connect(**options: Any) -> Database:
        opened.append(Database(app_uri=uri, pool_max_connections=1, start_timeout_seconds=0.0, **options))
        return opened[-1]

    yield made, connect
    made.hang = False
    for database in opened:
        await database.close()
    listener.close()


RelayFixture = tuple[Relay, Callable[..., Database]]


async def test_a_transaction_is_one_trip_to_begin_one_per_statement_and_one_to_commit(
    relay: RelayFixture,
) -> None:
    link, connect = relay
    database = connect()
    await database.open()
    for expected in (4, 3):  # the first time the statement is prepared
        before = link.trips
        async with database.transaction(T1) as transaction:
            assert await transaction.fetchval("select $1::int", 5) == 5
        assert link.trips - before == expected


async def test_a_read_is_a_single_trip_and_giving_the_connection_back_costs_none(relay: RelayFixture) -> None:
    link, connect = relay
    database = connect()
    await database.open()
    await database.read("select $1::int", [1])
    before = link.trips
    for number in range(5):
        row = await database.read("select $1::int", [number])
        assert row is not None and row[0] == number
    assert link.trips - before == 5


# --- context ----------------------------------------------------------------------------


async def test_a_transaction_knows_its_tenant_user_and_grants(database: Database) -> None:
    async with database.transaction(T2) as transaction:
        row = await transaction.fetchrow(f"select {SETTINGS}, current_setting('byodpp.grants')::text[]")
        assert row is not None
        assert tuple(row) == ("2", "20", list(T2.grants))
        assert transaction.context is T2
    async with database.transaction(T1) as transaction:
        assert await transaction.fetchval("select current_setting('byodpp.grants')") == ""


async def test_nothing_of_the_context_outlives_the_transaction(database: Database) -> None:
    async with database.transaction(T1):
        pass
    row = await database.read(f"select {SETTINGS}", [])
    assert row is not None
    assert set(row) <= {None, ""}


async def test_the_context_of_a_read_travels_in_its_statement(database: Database) -> None:
    sql = """select (select current_setting('byodpp.tenant') || current_setting('byodpp.grants')) from
             (select set_config('byodpp.tenant', $1, true), set_config('byodpp.user', $2, true),
                     set_config('byodpp.grants', $3, true)) s"""
    row = await database.read(sql, T2.settings)
    assert row is not None
    assert row[0].startswith("2{")


async def test_json_is_text_in_both_directions(database: Database) -> None:
    row = await database.read("select $1::jsonb as b, $2::json as j", ['{"b":1,"a":1.50}', '{"b": 1}'])
    assert row is not None
    assert (row["b"], row["j"]) == ('{"a": 1.50, "b": 1}', '{"b": 1}')


async def test_the_clock_of_the_api_is_utc_whatever_the_server_says(database: Database) -> None:
    row = await database.read("select to_json('2026-01-01 12:00+02'::timestamptz)::text", [])
    assert row is not None
    assert row[0] == '"2026-01-01T10:00:00+00:00"'


async def test_a_read_only_transaction_changes_nothing(database: Database) -> None:
    with pytest.raises(InternalError):
        async with database.transaction(T1, read_only=True) as transaction:
            await transaction.execute("insert into kinds values (99)")


async def test_the_system_role_passes_row_level_security_and_the_app_role_does_not(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    await admin.execute("insert into secrets values (1, 1), (2, 2)")
    async with database.transaction(T1) as transaction:
        assert await transaction.fetchval("select array_agg(id) from secrets") == [1]
    async with database.system() as transaction:
        assert await transaction.fetchval("select count(*) from secrets") == 2


# --- commit and rollback ----------------------------------------------------------------


async def count(admin: asyncpg.Connection[Any]) -> int:
    return int(await admin.fetchval("select count(*) from things"))


async def test_an_exception_undoes_everything_and_passes_through(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    with pytest.raises(KeyError):
        async with database.transaction(T1) as transaction:
            await transaction.execute("insert into things (name) values ('a')")
            raise KeyError("mine")
    assert await count(admin) == 0


async def test_callbacks_run_after_the_commit_when_the_connection_is_free(
    server: RunningServer, admin: asyncpg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    database = make(server, pool_max_connections=1, pool_acquire_timeout_seconds=0.5)
    await database.open()
    seen: list[Any] = []

    async def look() -> None:
        row = await database.read("select count(*) from things", [])
        seen.append(row and row[0])

    async def fail() -> None:
        raise RuntimeError("nobody may notice")

    async with database.transaction(T1) as transaction:
        await transaction.execute("insert into things (name) values ('a')")
        transaction.after_commit(fail)
        transaction.after_commit(look)
        assert seen == []
    assert seen == [1]
    assert "after_commit callback failed" in caplog.text
    await database.close()


async def test_callbacks_of_what_is_rolled_back_never_run(database: Database) -> None:
    seen: list[int] = []

    async def look() -> None:
        seen.append(1)

    with pytest.raises(KeyError):
        async with database.transaction(T1) as transaction:
            transaction.after_commit(look)
            raise KeyError
    async with database.transaction(T1) as transaction:
        with pytest.raises(KeyError):
            async with transaction.savepoint():
                transaction.after_commit(look)
                raise KeyError
    assert seen == []


async def test_a_savepoint_undoes_only_its_block(database: Database, admin: asyncpg.Connection[Any]) -> None:
    async with database.transaction(T1) as transaction:
        await transaction.execute("insert into things (name) values ('a')")
        with pytest.raises(UniqueConflict):
            async with transaction.savepoint():
                await transaction.execute("insert into things (name) values ('b')")
                await transaction.execute("insert into things (name) values ('a')")
        await transaction.execute("insert into things (name) values ('c')")
    assert await admin.fetchval("select array_agg(name order by name) from things") == ["a", "c"]


async def test_swallowing_an_error_does_not_make_a_rolled_back_change_look_committed(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    with pytest.raises(UniqueConflict):
        async with database.transaction(T1) as transaction:
            await transaction.execute("insert into things (name) values ('a')")
            with pytest.raises(UniqueConflict):
                await transaction.execute("insert into things (name) values ('a')")
            with pytest.raises(InternalError):
                await transaction.fetchval("select 1")
    assert await count(admin) == 0


async def test_a_statement_after_the_end_of_its_transaction_is_our_fault_not_an_outage(
    database: Database,
) -> None:
    async with database.transaction(T1) as transaction:
        pass
    with pytest.raises(InternalError):
        await transaction.fetchval("select 1")


async def test_the_driver_connection_shares_the_transaction_and_its_errors_are_translated(
    database: Database,
) -> None:
    with pytest.raises(UniqueConflict):
        async with database.transaction(T1) as transaction:
            await transaction.connection.execute("insert into kinds values (1)")


# --- faults -----------------------------------------------------------------------------

Act = Callable[[Transaction], Awaitable[Any]]


@pytest.mark.parametrize(
    ("sql", "args", "expected", "code"),
    [
        ("insert into things (name) values ('x'), ('x')", (), UniqueConflict, None),
        ("insert into things (kind_id) values ($1)", (99,), ValidationFailed, "reference"),
        ("insert into things (name) values ($1)", ("x" * 11,), ValidationFailed, "too_long"),
        ("insert into things (name) values ($1)", ("a\0",), ValidationFailed, "format"),
        ("insert into things (amount) values ($1)", (100000,), ValidationFailed, "out_of_range"),
        ("insert into things (amount) values ($1)", (-1,), ValidationFailed, "invalid"),
        ("insert into things (kind_id) values ($1)", (2**70,), ValidationFailed, "type"),
        ("insert into kinds values ($1)", (None,), ValidationFailed, "required"),
        ("select $1::jsonb", ('{"a": "\\u0000"}',), ValidationFailed, "format"),
        ("select $1::jsonb", ("[" * 100_000,), ValidationFailed, "too_deep"),
        ("select $1::text::date", ("31.31.2026",), ValidationFailed, "out_of_range"),
        ("select 1 offset $1", (-1,), ValidationFailed, "out_of_range"),
        ("select 1 / $1::int", (0,), ValidationFailed, "out_of_range"),
        ("insert into secrets values (5, 2)", (), Forbidden, None),
        ("create table nope (id int)", (), InternalError, None),
        ("selekt", (), InternalError, None),
    ],
)
async def test_a_refused_statement_has_one_meaning(
    database: Database,
    admin: asyncpg.Connection[Any],
    sql: str,
    args: tuple[Any, ...],
    expected: type[ApiError],
    code: str | None,
) -> None:
    with pytest.raises(expected) as caught:
        async with database.transaction(T1) as transaction:
            await transaction.execute(sql, *args)
    assert type(caught.value) is expected
    assert [detail.code for detail in caught.value.details] == ([code] if code else [])
    assert "insert" not in str(caught.value) and "things" not in str(caught.value)


async def test_deleting_what_is_referenced_is_a_conflict_and_names_the_constraint(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    await admin.execute("insert into things (kind_id) values (7)")
    with pytest.raises(ReferencedConflict) as caught:
        async with database.transaction(T1) as transaction:
            await transaction.execute("  delete from kinds where id = $1", 7)
    assert vars(caught.value)["constraint"] == "things_kind"
    assert vars(caught.value)["table"] == "things"


async def test_a_deferred_constraint_speaks_at_commit(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    with pytest.raises(Conflict):
        async with database.transaction(T1) as transaction:
            await transaction.execute("insert into things (later_id) values (99)")
    assert await count(admin) == 0


async def test_a_lost_update_is_a_conflict_that_may_be_tried_again(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    await admin.execute("insert into things (name) values ('a')")
    with pytest.raises(Conflict) as caught:
        async with database.transaction(T1, isolation="repeatable read") as transaction:
            await transaction.fetch("select * from things")
            await admin.execute("update things set name = 'b'")
            await transaction.execute("update things set name = 'c'")
    assert is_retryable(caught.value)


async def test_a_statement_that_takes_too_long_is_ended(server: RunningServer) -> None:
    database = make(server, statement_timeout_seconds=0.5)  # enough for what opening asks, on any machine
    await database.open()
    with pytest.raises(QueryTimeout) as caught:
        await database.read("select pg_sleep(5)", [])
    assert caught.value.headers["Retry-After"] == "1"
    await database.close()


def of_state(state: str) -> asyncpg.PostgresError:
    fields = {"C": state, "S": "ERROR", "M": "secret text"}
    made = asyncpg.PostgresError.new(fields)
    assert isinstance(made, asyncpg.PostgresError)
    return made


@pytest.mark.parametrize(
    ("state", "expected", "in_commit"),
    [
        ("23505", UniqueConflict, UniqueConflict),
        ("23001", ReferencedConflict, ReferencedConflict),
        ("23503", ValidationFailed, Conflict),
        ("40001", Conflict, Conflict),
        ("40P01", Conflict, Conflict),
        ("42501", InternalError, InternalError),
        ("53100", StorageFull, StorageFull),
        ("53200", Unavailable, Unavailable),
        ("53300", Unavailable, Unavailable),
        ("54000", ValidationFailed, ValidationFailed),
        ("54011", ValidationFailed, ValidationFailed),
        ("55P03", QueryTimeout, QueryTimeout),
        ("57014", QueryTimeout, QueryTimeout),
        ("57P01", Unavailable, OutcomeUnknown),
        ("57P02", Unavailable, OutcomeUnknown),
        ("57P03", Unavailable, OutcomeUnknown),
        ("08003", Unavailable, OutcomeUnknown),
        ("08006", Unavailable, OutcomeUnknown),
        ("25P03", Unavailable, OutcomeUnknown),
        ("22021", ValidationFailed, ValidationFailed),
        ("2201B", ValidationFailed, ValidationFailed),
        ("22999", ValidationFailed, ValidationFailed),
        ("XX000", InternalError, InternalError),
    ],
)
def test_every_state_has_its_answer(state: str, expected: type[ApiError], in_commit: type[ApiError]) -> None:
    for committing, kind in ((False, expected), (True, in_commit)):
        answer = translate(of_state(state), committing=committing)
        assert type(answer) is kind
        assert "secret text" not in answer.message
        assert is_retryable(answer) == (state in ("40001", "40P01"))


def test_what_postgresql_cannot_put_together_is_not_called_a_body() -> None:
    answer = translate(of_state("54000"))
    assert "body" not in answer.message and "more than PostgreSQL puts together" in answer.message
    assert [detail.code for detail in answer.details] == ["too_long"]


@pytest.mark.parametrize(
    ("error", "expected", "in_commit"),
    [
        (ConnectionResetError(), Unavailable, OutcomeUnknown),
        (ConnectionRefusedError(), Unavailable, OutcomeUnknown),
        (asyncpg.InterfaceError("connection is closed"), Unavailable, OutcomeUnknown),
        (asyncpg.ConnectionDoesNotExistError("gone"), Unavailable, OutcomeUnknown),
        (TimeoutError(), QueryTimeout, OutcomeUnknown),
        (asyncpg.DataError("invalid input for query argument"), ValidationFailed, ValidationFailed),
        (OverflowError(), ValidationFailed, ValidationFailed),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"), ValidationFailed, ValidationFailed),
        (asyncpg.InvalidCachedStatementError("changed"), Unavailable, Unavailable),
        (asyncpg.InterfaceError("another operation is in progress"), InternalError, InternalError),
        (UniqueConflict(), UniqueConflict, UniqueConflict),
    ],
)
def test_every_fault_of_the_link_has_its_answer(
    error: Exception, expected: type[ApiError], in_commit: type[ApiError]
) -> None:
    assert type(translate(error)) is expected
    assert type(translate(error, committing=True)) is in_commit


# --- the link -----------------------------------------------------------------------------


async def test_an_answer_to_commit_that_is_lost_leaves_the_outcome_unknown(
    relay: RelayFixture, admin: asyncpg.Connection[Any]
) -> None:
    link, connect = relay
    database = connect()
    await database.open()
    with pytest.raises(OutcomeUnknown):
        async with database.transaction(T1) as transaction:
            await transaction.execute("insert into things (name) values ('a')")
            link.swallow = b"commit"
    link.swallow = b""
    assert await count(admin) == 1
    await database.ping()


async def test_a_link_that_is_dead_without_a_word_ends_the_request_in_time(relay: RelayFixture) -> None:
    link, connect = relay
    database = connect(statement_timeout_seconds=0.5)  # enough for what opening asks, on any machine
    await database.open()
    link.hang = True

    async def ask() -> None:
        with pytest.raises(Unavailable):
            await database.read("select 1", [])

    _, seconds = await in_turns(ask())
    assert seconds < 7.5


async def test_the_statement_of_a_process_that_was_killed_ends_and_lets_go_of_its_locks(
    server: RunningServer, admin: asyncpg.Connection[Any]
) -> None:
    database = make(server, statement_timeout_seconds=120)
    await database.open()
    started, running = time.monotonic(), asyncio.Event()

    async def work() -> None:
        async with database.transaction(T1) as transaction:
            await transaction.execute("insert into things (name) values ('held')")
            asyncio.get_running_loop().call_soon(running.set)
            await transaction.execute("select pg_sleep(60)")

    task = asyncio.create_task(work())
    async with asyncio.timeout(60):
        await running.wait()
        database._pool(database._app).terminate()  # as a kill does: not a word to the server
        with pytest.raises(ApiError):
            await task
        await admin.execute("insert into things (name) values ('held')")  # waits for the other's end
    assert time.monotonic() - started < 30
    await admin.execute("delete from things where name = 'held'")
    await database.close()


async def test_a_platform_that_cannot_look_for_us_is_done_without(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = "set client_connection_check_interval = '-1'"  # with the error of a platform that cannot
    monkeypatch.setattr("byodpp.database.connections._LOOK_FOR_US", refused)
    database = make(server)
    await database.open()
    assert await database.read("select 1 as one", []) is not None
    await database.close()


async def test_a_connection_that_the_server_ended_is_replaced_unseen(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    for _ in range(3):
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", APP)
        async with database.transaction(T1) as transaction:
            assert await transaction.fetchval("select 1") == 1
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", APP)
        await database.ping()


async def test_a_connection_that_ends_within_a_transaction_is_an_outage(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    with pytest.raises(Unavailable) as caught:
        async with database.transaction(T1) as transaction:
            pid = await transaction.fetchval("select pg_backend_pid()")
            await admin.execute("select pg_terminate_backend($1)", pid)
            await transaction.fetchval("select 1")
    assert type(caught.value) is Unavailable
    await database.ping()


async def test_a_table_that_changes_under_a_prepared_read_is_read_again(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    await admin.execute("create table changing (a int); grant all on changing to byodpp_app")
    for column in ("b", "c", "d"):
        assert await database.read("select * from changing", []) is None
        await admin.execute(f"alter table changing add {column} int")
    await admin.execute("drop table changing")


# --- being busy, being cancelled --------------------------------------------------------


async def test_when_every_connection_is_held_the_answer_comes_in_time(server: RunningServer) -> None:
    database = make(server, pool_max_connections=1, pool_acquire_timeout_seconds=1.0)
    await database.open()

    async def refused() -> Unavailable:
        with pytest.raises(Unavailable) as caught:
            await database.read("select 1", [])
        return caught.value

    async with database.transaction(T1):
        started = time.monotonic()
        refusal, seconds = await in_turns(refused())
        assert time.monotonic() - started > 0.9 and seconds < 3
        assert refusal.headers["Retry-After"] == "1"
    await database.ping()
    await database.close()


async def test_cancelled_requests_leave_no_transaction_no_tenant_and_no_lost_connection(
    server: RunningServer, admin: asyncpg.Connection[Any]
) -> None:
    database = make(server, pool_max_connections=8, pool_acquire_timeout_seconds=5.0)
    await database.open()
    dice = random.Random(20)
    foreign: list[Any] = []

    async def request(tenant: int) -> None:
        row = await database.read(f"select {SETTINGS}", [])
        if row is None or set(row) - {None, ""}:
            foreign.append(row)
        async with database.transaction(SessionContext(tenant_id=tenant)) as transaction:
            await transaction.execute("insert into things (kind_id) values (1)")
            await transaction.fetchval("select pg_sleep(0.001)")
            if await transaction.fetchval("select current_setting('byodpp.tenant')") != str(tenant):
                foreign.append(tenant)

    async def client(number: int) -> None:
        task = asyncio.create_task(request(number))
        if dice.random() < 0.4:
            await asyncio.sleep(dice.random() * 0.02)
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    for batch in range(10):
        await asyncio.gather(*(client(batch * 50 + number) for number in range(50)))
    assert foreign == []
    assert await quiet(admin)
    # All eight can be taken again, so none was lost.
    scopes = [database.transaction(T1) for _ in range(8)]
    await asyncio.gather(*(scope.__aenter__() for scope in scopes))
    await asyncio.gather(*(scope.__aexit__(None, None, None) for scope in scopes))
    await database.close()


@pytest.mark.parametrize("way", ["read", "transaction", "system"])
async def test_a_cancelled_request_ends_its_statement(
    database: Database, admin: asyncpg.Connection[Any], way: str
) -> None:
    async def run() -> None:
        if way == "read":
            await database.read("select pg_sleep(30)", ())
        scope = database.system() if way == "system" else database.transaction(T1)
        async with scope as transaction:
            await transaction.fetchval("select pg_sleep(30)")

    running = asyncio.create_task(run())
    asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    async with asyncio.timeout(20):
        while not await admin.fetchval(asleep):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(10):
        while await admin.fetchval(asleep):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    assert await quiet(admin)


async def test_a_client_that_leaves_during_commit_does_not_cut_it_short(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    for after in (0.0, 0.0002, 0.0005, 0.001):
        await admin.execute("truncate things")
        ready = asyncio.Event()
        seen: list[int] = []

        async def called(seen: list[int] = seen) -> None:
            seen.append(1)

        async def request(ready: asyncio.Event = ready, called: Any = called) -> None:
            async with database.transaction(T1) as transaction:
                await transaction.execute("insert into things (name) values ('a')")
                transaction.after_commit(called)
                ready.set()

        task = asyncio.create_task(request())
        await ready.wait()
        await asyncio.sleep(after)
        task.cancel()
        await asyncio.wait([task])
        assert await quiet(admin)
        assert await count(admin) == len(seen) == 1


# --- start and stop ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "reason"),
    [(SUPERUSER, "is a superuser"), (OWNER, "owns the database"), (SYSTEM, "has BYPASSRLS")],
)
async def test_serving_as_a_role_that_may_do_too_much_is_refused(
    server: RunningServer, role: str, reason: str
) -> None:
    database = Database(app_uri=server.uri(role), start_timeout_seconds=0.0)
    with pytest.raises(DatabaseStartError, match=reason):
        await database.open()


async def test_a_system_role_that_sees_nothing_is_refused(server: RunningServer) -> None:
    database = Database(app_uri=server.uri(APP), system_uri=server.uri(APP), start_timeout_seconds=0.0)
    with pytest.raises(DatabaseStartError, match="has no BYPASSRLS"):
        await database.open()


async def test_a_role_that_may_become_the_owner_is_refused(
    server: RunningServer, admin: asyncpg.Connection[Any]
) -> None:
    await admin.execute("create role sly login; grant byodpp_owner to sly")
    with pytest.raises(DatabaseStartError, match="owns tables"):
        await Database(app_uri=server.uri("sly"), start_timeout_seconds=0.0).open()


@pytest.mark.parametrize("change", [("byodpp_app@", "who@"), ("/byodpp?", "/other?")])
async def test_a_wrong_name_ends_the_start_at_once(server: RunningServer, change: tuple[str, str]) -> None:
    started = time.monotonic()
    with pytest.raises(DatabaseStartError):
        await Database(app_uri=server.uri(APP).replace(*change)).open()
    assert time.monotonic() - started < 5.0


async def test_a_server_that_is_away_is_waited_for(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    link = Relay(str(server.socket_folder / ".s.PGSQL.5432"))
    path = server.socket_folder / ".s.PGSQL.6001"
    database = Database(app_uri=server.uri(APP).replace("port=5432", "port=6001"))
    opening = asyncio.create_task(database.open())

    async def told() -> object:
        return "the database is not there" in caplog.text

    await soon(told, True, 10.0)
    assert not opening.done()
    listener = await asyncio.start_unix_server(link.serve, path)
    await asyncio.wait_for(opening, 30.0)
    await database.close()
    listener.close()


async def test_a_server_that_goes_away_is_an_outage_until_it_is_back(server: RunningServer) -> None:
    link = Relay(str(server.socket_folder / ".s.PGSQL.5432"))
    path = server.socket_folder / ".s.PGSQL.6002"
    listener = await asyncio.start_unix_server(link.serve, path)
    database = Database(app_uri=server.uri(APP).replace("port=5432", "port=6002"), pool_max_connections=1)
    await database.open()
    async with database.transaction(T1) as transaction:
        pid = await transaction.fetchval("select pg_backend_pid()")
    listener.close()
    path.unlink(missing_ok=True)
    admin = await asyncpg.connect(server.uri(SUPERUSER))
    await admin.execute("select pg_terminate_backend($1)", pid)
    await admin.close()
    for _ in range(3):
        with pytest.raises(Unavailable):
            await database.ping()
        with pytest.raises(Unavailable):
            async with database.transaction(T1):
                pass
    listener = await asyncio.start_unix_server(link.serve, path)
    await database.ping()
    await database.close()
    listener.close()


async def test_a_database_that_takes_no_connections_for_a_while_is_an_outage(server: RunningServer) -> None:
    admin = await asyncpg.connect(server.uri(SUPERUSER))
    await admin.execute("create database quiet")
    quiet = Database(app_uri=server.uri(APP).replace("/byodpp?", "/quiet?"), pool_max_connections=1)
    await quiet.open()
    await admin.execute("alter database quiet allow_connections false")
    await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'quiet'")
    for _ in range(2):
        with pytest.raises(Unavailable):
            async with quiet.transaction(T1) as transaction:
                await transaction.fetchval("select 1")
    await admin.execute("alter database quiet allow_connections true")
    await quiet.ping()
    await quiet.close()
    await admin.close()


async def test_waiting_has_an_end_when_one_is_set(tmp_path: Path) -> None:
    uri = f"postgresql://x@/y?host={tmp_path}"
    with pytest.raises(DatabaseStartError, match="is not there"):
        await Database(app_uri=uri, start_timeout_seconds=0.3).open()


async def test_what_is_not_open_answers_that_it_is_not_there(server: RunningServer) -> None:
    database = make(server)
    with pytest.raises(Unavailable):
        await database.ping()
    await database.close()


async def test_without_its_address_the_system_role_is_not_to_be_had(server: RunningServer) -> None:
    with pytest.raises(DatabaseStartError, match="POSTGRES_SYSTEM_URI"):
        Database(app_uri=server.uri(APP)).system()


async def test_closing_cuts_what_does_not_end(
    server: RunningServer, admin: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byodpp.database.transactions.RELEASE_TIMEOUT_SECONDS", 0.2)
    database = make(server)
    await database.open()
    task = asyncio.create_task(database.read("select pg_sleep(20)", []))
    await asyncio.sleep(0.05)
    await database.close()
    with pytest.raises(Unavailable):
        await task


async def test_of_a_server_that_hangs_it_is_told_that_it_gave_no_answer(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    options = PoolOptions(
        min_connections=1,
        max_connections=1,
        connect_timeout_seconds=0.1,
        statement_timeout_seconds=1.0,
        start_timeout_seconds=0.0,
    )
    async with await asyncio.start_unix_server(silent, tmp_path / ".s.PGSQL.5432"):
        with pytest.raises(DatabaseStartError, match="cannot be used: TimeoutError"):
            await open_pool(f"postgresql://x@/y?host={tmp_path}", options)


async def test_a_pool_without_connections_at_start_still_tries_the_address(tmp_path: Path) -> None:
    options = PoolOptions(
        min_connections=0,
        max_connections=1,
        connect_timeout_seconds=1.0,
        statement_timeout_seconds=1.0,
        start_timeout_seconds=0.0,
    )
    with pytest.raises(DatabaseStartError):
        await open_pool(f"postgresql://x@/y?host={tmp_path}", options)


def test_a_grant_cannot_break_out_of_its_setting() -> None:
    context = SessionContext(tenant_id=1, grants=("a'; drop table x; --",))
    assert context.settings[2] == '{"a\'; drop table x; --"}'
    with pytest.raises(ValueError, match="U\\+0000"):
        SessionContext(tenant_id=1, grants=("\0",))


def test_only_a_dead_link_counts_as_one() -> None:
    assert is_connection_loss(ConnectionResetError())
    assert not is_connection_loss(TimeoutError())
    assert not is_connection_loss(asyncpg.DataError("the file is closed"))


# --- lone statements --------------------------------------------------------------------

LONE = """with _row as (insert into things (name) select $1::text from (
  select set_config('byodpp.tenant', '1', true), set_config('byodpp.user', '10', true)) s returning name)
select name, current_setting('byodpp.tenant') as tenant from _row"""


async def names(admin: asyncpg.Connection[Any]) -> list[str]:
    return [row["name"] for row in await admin.fetch("select name from things order by name")]


async def test_a_lone_statement_is_one_trip_and_leaves_its_context_behind(
    relay: RelayFixture, admin: asyncpg.Connection[Any]
) -> None:
    link, connect = relay
    database = connect()
    await database.open()
    called = []

    async def call() -> None:
        called.append(await names(admin))

    for number, expected in enumerate((2, 1, 1)):  # the first time the statement is prepared
        before = link.trips
        async with database.lone(T1) as transaction:
            row = await transaction.fetchrow(LONE, f"a{number}")
            transaction.after_commit(call)
        assert row is not None and tuple(row) == (f"a{number}", "1")
        assert link.trips - before == expected
    assert called == [["a0"], ["a0", "a1"], ["a0", "a1", "a2"]]
    left = await database.read(f"select {SETTINGS}", [])
    assert left is not None and set(left.values()) <= {"", None}


async def test_what_a_lone_statement_refuses_it_has_not_done_and_the_connection_is_at_hand(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    for name, kind in (("a", None), ("a", UniqueConflict), ("x" * 11, ValidationFailed), ("b", None)):
        if kind is None:
            async with database.lone(T1) as transaction:
                await transaction.fetch(LONE, name)
        else:
            with pytest.raises(kind):
                async with database.lone(T1) as transaction:
                    await transaction.fetch(LONE, name)
    with pytest.raises(UniqueConflict):  # also when it was caught
        async with database.lone(T1) as transaction:
            with pytest.raises(UniqueConflict):
                await transaction.fetch(LONE, "a")
    with pytest.raises(ZeroDivisionError):  # too late: the row is there
        async with database.lone(T1) as transaction:
            await transaction.fetch(LONE, "c")
            raise ZeroDivisionError
    async with database.transaction(T1) as transaction:
        assert await transaction.fetchval("select pg_current_xact_id_if_assigned() is null")
    assert await names(admin) == ["a", "b", "c"]


async def test_a_lone_statement_is_never_followed_by_another(
    database: Database, admin: asyncpg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def second(transaction: Transaction, way: str) -> None:
        match way:
            case "fetch":
                await transaction.fetch(LONE, "b")
            case "fetchval":
                await transaction.fetchval("select 1")
            case "execute":
                await transaction.execute("delete from things")
            case "executemany":
                await transaction.executemany("delete from things where id = $1", [(1,)])
            case "savepoint":
                async with transaction.savepoint():
                    await transaction.fetch(LONE, "b")
            case "refuse_commit":
                raise transaction.refuse_commit(Conflict("too late"))

    ways = ("fetch", "fetchval", "execute", "executemany", "savepoint", "refuse_commit")
    for way in ways:
        with pytest.raises(InternalError):
            async with database.lone(T1) as transaction:
                await transaction.fetch(LONE, way[:10])
                await second(transaction, way)
    assert await names(admin) == sorted(way[:10] for way in ways)
    assert len([one for one in caplog.records if "a lone statement" in one.message]) == len(ways)


async def test_nobody_knows_what_became_of_a_lone_statement_whose_answer_is_lost(
    relay: RelayFixture, admin: asyncpg.Connection[Any]
) -> None:
    link, connect = relay
    database = connect()
    await database.open()
    async with database.lone(T1) as transaction:
        await transaction.fetch(LONE, "a")
    link.swallow = b"lost"
    with pytest.raises(OutcomeUnknown):
        async with database.lone(T1) as transaction:
            await transaction.fetch(LONE, "lost")
    link.swallow = b""
    async with database.lone(T1) as transaction:
        await transaction.fetch(LONE, "b")
    assert await names(admin) == ["a", "b", "lost"]


async def test_where_a_connection_has_rested_a_transaction_finds_out_whether_it_lives(
    relay: RelayFixture, admin: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that changes something cannot be sent twice; `begin` can."""
    link, connect = relay
    database = connect()
    await database.open()
    await database.ping()
    monkeypatch.setattr("byodpp.database.lone._FRESH_SECONDS", 0.0)
    before = link.trips
    async with database.lone(T1) as transaction:
        assert transaction.sets_context
        await transaction.fetch(LONE, "a")
    assert link.trips - before == 4
    await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", APP)
    async with database.lone(T1) as transaction:
        await transaction.fetch(LONE, "b")
    assert await names(admin) == ["a", "b"]


async def test_a_cancelled_lone_statement_leaves_nothing_open(
    database: Database, admin: asyncpg.Connection[Any]
) -> None:
    slow = LONE.replace("select $1::text", "select $1::text || case when pg_sleep(30) is null then '' end")

    async def run() -> None:
        async with database.lone(T1) as transaction:
            await transaction.fetch(slow, "a")

    running = asyncio.create_task(run())
    asleep = "select count(*) from pg_stat_activity where usename = $1 and wait_event = 'PgSleep'"
    async with asyncio.timeout(30):  # whom a cancellation reaches before the statement does, it does not stop
        while not await admin.fetchval(asleep, APP):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await quiet(admin) and await names(admin) == []
    async with database.lone(T1) as transaction:
        await transaction.fetch(LONE, "b")
    assert await names(admin) == ["b"]
