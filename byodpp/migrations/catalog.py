"""A database's own catalogs as a Snapshot, in a handful of statements however many tables.

Reads only what is ours: the schema `byodpp`, and those tables of the application's schema
that carry our policies or that the manifest names. Tables of others are left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from byodpp.migrations.snapshot import ColumnState, ConstraintState, IndexState, Snapshot, TableState
from byodpp.tables.roles import APP, FRAMEWORK_SCHEMA, SYSTEM
from byodpp.row_security import POLICY_PREFIX, Grant, Policy

if TYPE_CHECKING:
    import asyncpg

__all__ = ["FORESEE_TENANTS", "LOCK_TIMEOUT", "SEAL_POLICIES", "read"]

#: Sets how long a statement may wait for a table while others queue behind it: half a second longer than
#: the server takes to look why it waits, for only then does an autovacuum that has the table give way.
LOCK_TIMEOUT: Final = (
    "select set_config('lock_timeout', (setting::bigint + 500)::text, {local}) from pg_settings"
    " where name = 'deadlock_timeout'"
)

#: Name of a policy that somebody changed by hand: it equals no policy of ours.
ALTERED: Final = "altered "

#: Alembic's own bookkeeping is no table of the application.
_NOT_OURS: Final = frozenset({f"{FRAMEWORK_SCHEMA}.alembic_version"})

_SEAL: Final = (
    "md5(concat_ws('|', p.polcmd, p.polpermissive, p.polroles::text,"
    " pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)))"
)
#: Writes beside each new policy what PostgreSQL made of it, so that a later change by hand shows.
SEAL_POLICIES: Final = f"""
do $seal$
declare
    found record;
begin
    for found in
        select p.polname, p.polrelid::regclass as relation, {_SEAL} as seal
        from pg_policy p join pg_class c on c.oid = p.polrelid
        where c.relnamespace in (current_schema()::regnamespace, '{FRAMEWORK_SCHEMA}'::regnamespace)
          and p.polname like '{POLICY_PREFIX}\\_%' and obj_description(p.oid, 'pg_policy') is null
    loop
        execute format('comment on policy %I on %s is %L', found.polname, found.relation, found.seal);
    end loop;
end
$seal$
"""

#: Tells the planner that a table which was never counted holds the rows of one tenant. Of an unknown column it
#: takes any value for rare: then to look through a tenant's rows costs what it costs to find one by its key, and
#: a plan that does so, made while the table is small, is kept while rows come, until somebody analyses the
#: table. PostgreSQL can be told so from version 18 on.
FORESEE_TENANTS: Final = f"""
do $foreseen$
declare
    found record;
begin
    if current_setting('server_version_num')::integer < 180000 then
        return;
    end if;
    for found in
        select n.nspname, c.relname
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
            join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
        where n.nspname in (current_schema(), '{FRAMEWORK_SCHEMA}') and c.relkind = 'r' and c.reltuples < 0
          and pg_has_role(c.relowner, 'USAGE')
    loop
        perform pg_restore_attribute_stats(
            'schemaname', found.nspname::text, 'relname', found.relname::text, 'attname', 'tenant_id'::text,
            'inherited', false, 'null_frac', 0::real, 'avg_width', 8, 'n_distinct', 1::real
        );
    end loop;
end
$foreseen$
"""

_FROM: Final = f"""
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    {{join}}
    where c.relkind in ('r', 'p') and n.nspname in (current_schema(), '{FRAMEWORK_SCHEMA}')
"""
_KEY: Final = (
    f"case when n.nspname = '{FRAMEWORK_SCHEMA}' then n.nspname || '.' else '' end || c.relname as key"
)


def _query(columns: str, join: str = "", tail: str = "") -> str:
    return f"select {_KEY}, {columns}" + _FROM.format(join=join) + tail


#: The names of numbered columns of a table.
_NAMES: Final = (
    "array(select attname::text from pg_attribute"
    " where attrelid = c.oid and attnum = any({numbers})) as columns"
)
_TABLES: Final = _query("c.relname as name, c.relrowsecurity and c.relforcerowsecurity as secured")
_COLUMNS: Final = _query(
    "a.attname as name, format_type(a.atttypid, a.atttypmod) as type, not a.attnotnull as nullable,"
    " pg_get_expr(d.adbin, d.adrelid) as default, a.attidentity <> '' as identity, o.collname as collation",
    "join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
    " join pg_type t on t.oid = a.atttypid"
    " left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum"
    " left join pg_collation o on o.oid = a.attcollation and a.attcollation <> t.typcollation",
    "order by c.oid, a.attnum",
)
_CONSTRAINTS: Final = _query(
    "k.conname as name, k.contype::text as kind, r.relname as target,"
    " case when k.contype = 'c' then pg_get_constraintdef(k.oid) else '' end as sql, "
    + _NAMES.format(numbers="k.conkey"),
    "join pg_constraint k on k.conrelid = c.oid and k.contype in ('p', 'f', 'c') and k.conparentid = 0"
    " left join pg_class r on r.oid = k.confrelid",
)
_INDEXES: Final = _query(
    "x.relname as name, i.indisunique as unique, i.indisvalid as valid, i.indpred is not null as partial, "
    + _NAMES.format(numbers="i.indkey"),
    "join pg_index i on i.indrelid = c.oid join pg_class x on x.oid = i.indexrelid",
    "and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.conrelid = c.oid)",
)
_POLICIES: Final = _query(
    "p.polname as name, p.polcmd::text as command, pg_get_expr(p.polqual, p.polrelid) as using,"
    " pg_get_expr(p.polwithcheck, p.polrelid) as check,"
    f" {_SEAL} is not distinct from obj_description(p.oid, 'pg_policy') as sealed",
    "join pg_policy p on p.polrelid = c.oid",
)
_GRANTS: Final = _query(
    "coalesce(g.rolname, 'public') as role, lower(e.privilege_type) as privilege",
    "cross join lateral aclexplode(c.relacl) e left join pg_roles g on g.oid = e.grantee",
    f"and (e.grantee = 0 or g.rolname in ('{APP}', '{SYSTEM}'))",
)
_FUNCTIONS: Final = f"""
    select p.proname as name, p.prosrc as body from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = '{FRAMEWORK_SCHEMA}'
"""
_USAGE: Final = f"""
    select coalesce(bool_and(has_schema_privilege(r.rolname, n.oid, 'usage')), false)
    from pg_namespace n, pg_roles r
    where n.nspname = '{FRAMEWORK_SCHEMA}' and r.rolname in ('{APP}', '{SYSTEM}')
"""
_COLLATIONS: Final = """
    select coalesce(array_agg(collname::text), '{}') from pg_collation
    where collnamespace in ('pg_catalog'::regnamespace, current_schema()::regnamespace)
"""
_EXTENSIONS: Final = "select coalesce(array_agg(name::text), '{}') from pg_available_extensions"
_COMMANDS: Final[Mapping[str, Any]] = MappingProxyType(
    {"r": "select", "a": "insert", "w": "update", "d": "delete", "*": "all"}
)


async def read(connection: asyncpg.Connection[Any], wanted: Collection[str] = ()) -> Snapshot:
    """Return what the database holds.

    Args:
        connection: of any role that may read the catalogs; its search path names the schema.
        wanted: keys of tables to report even if they carry no policy of ours.
    """
    parts = {
        name: await _grouped(connection, sql)
        for name, sql in {
            "columns": _COLUMNS,
            "constraints": _CONSTRAINTS,
            "indexes": _INDEXES,
            "policies": _POLICIES,
            "grants": _GRANTS,
        }.items()
    }
    tables = {}
    for row in await connection.fetch(_TABLES):
        key = row["key"]
        ours = key in wanted or any(p["name"].startswith(f"{POLICY_PREFIX}_") for p in parts["policies"][key])
        if ours and key not in _NOT_OURS:
            tables[key] = _table(row, {name: rows[key] for name, rows in parts.items()})
    functions = {row["name"]: row["body"] for row in await connection.fetch(_FUNCTIONS)}
    return Snapshot(
        tables=MappingProxyType(tables),
        functions=MappingProxyType(functions),
        collations=frozenset(await connection.fetchval(_COLLATIONS)),
        extensions=frozenset(await connection.fetchval(_EXTENSIONS)),
        usage=bool(await connection.fetchval(_USAGE)),
    )


async def _grouped(connection: asyncpg.Connection[Any], sql: str) -> defaultdict[str, list[Any]]:
    rows: defaultdict[str, list[Any]] = defaultdict(list)
    for row in await connection.fetch(sql):
        rows[row["key"]].append(row)
    return rows


def _table(row: Any, parts: dict[str, list[Any]]) -> TableState:
    return TableState(
        name=row["name"],
        schema=FRAMEWORK_SCHEMA if row["key"] != row["name"] else None,
        secured=row["secured"],
        columns=MappingProxyType({each["name"]: _column(each) for each in parts["columns"]}),
        constraints=MappingProxyType({each["name"]: _constraint(each) for each in parts["constraints"]}),
        indexes=MappingProxyType(
            # An index that a broken build left behind serves nobody.
            {each["name"]: _index(each) for each in parts["indexes"] if each["valid"]}
        ),
        policies=MappingProxyType(_policies(parts["policies"])),
        grants=frozenset(Grant(each["role"], each["privilege"]) for each in parts["grants"]),
    )


def _column(row: Any) -> ColumnState:
    return ColumnState(
        name=row["name"],
        type=row["type"],
        nullable=row["nullable"],
        default=row["default"],
        identity=row["identity"],
        collation=row["collation"],
    )


def _constraint(row: Any) -> ConstraintState:
    return ConstraintState(
        name=row["name"],
        kind=row["kind"],
        sql=row["sql"],
        columns=frozenset(row["columns"]),
        target=row["target"],
    )


def _index(row: Any) -> IndexState:
    return IndexState(
        name=row["name"],
        unique=row["unique"],
        sql="",
        columns=frozenset(row["columns"]),
        partial=row["partial"],
    )


def _policies(rows: Iterable[Any]) -> dict[str, Policy]:
    found = {}
    for row in rows:
        # The key differs from the name where the text is not what we wrote.
        key = row["name"] if row["sealed"] else ALTERED + row["name"]
        found[key] = Policy(
            name=row["name"], command=_COMMANDS[row["command"]], using=row["using"], check=row["check"]
        )
    return found
