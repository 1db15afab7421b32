"""Entries that wait for a seal, found and hashed by PostgreSQL, gathered tenant by tenant.

In: two snapshots, or a tenant that has come from elsewhere. Out: statements whose rows are `Arrivals`.

A server answers requests while it seals, thousands of entries at a time. So each tenant's entries come
as one row: an array of ids and the digests in one piece, not a row for each that Python would take apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from byodpp.audit.entries import columns_of, digest_sql, named_texts
from byodpp.sql_text import quote
from byodpp.tables.framework import ARRIVAL

__all__ = [
    "BY_ARRIVAL",
    "IS_SEALED",
    "Arrivals",
    "again_sql",
    "arrived_sql",
    "come_ids_sql",
    "come_sql",
    "last_of",
]

#: Whether an entry `e` is sealed, as SQL.
IS_SEALED: Final = (
    "exists (select from (select tenant_id, unnest(entries) as id from byodpp.audit_seals) s"
    " where s.tenant_id = e.tenant_id and s.id = e.id)"
)


#: What a session must have set, so that PostgreSQL finds new entries by the index of arrivals. As long as the
#: trail was not analysed it takes what is new for a part of all, and would read everything in each pass.
BY_ARRIVAL: Final = (
    "set local enable_seqscan = off; set local enable_bitmapscan = off;"
    " set local max_parallel_workers_per_gather = 0"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Entries of one tenant in the order of their arrival."""

    tenant_id: int
    entries: Sequence[int]  # ids
    digests: bytes  # 32 bytes for each of them
    arrival: str | None  # transaction of the last; None where that was in another database

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Arrivals:
        """Return what a row of the statements below holds."""
        entries = [int(id) for id in record["entries"].split(",")]
        return cls(**{name: record[name] for name in cls.__dataclass_fields__} | {"entries": entries})


def last_of(found: Sequence[Arrivals]) -> tuple[str, int, int]:
    """Return arrival, tenant, and id of the entry that is the last of all, in the order of `arrived_sql`."""
    ends = ((int(one.arrival or 0), one.tenant_id, one.entries[-1]) for one in found)
    arrival, tenant, entry = max(ends)
    return str(arrival), tenant, entry


def arrived_sql(table: sa.Table) -> str:
    """Return the statement that finds what became visible between two snapshots, by transaction.

    Its arguments: both snapshots; arrival, tenant, and id after which to begin; how many entries at most.
    """
    arrival = quote(ARRIVAL)
    return _gathered(
        table,
        f"select * from {quote(str(table.name))}"
        f" where {arrival} >= greatest(pg_snapshot_xmin($1::text::pg_snapshot), $3::text::xid8)"
        f" and not pg_visible_in_snapshot({arrival}, $1::text::pg_snapshot)"
        f" and pg_visible_in_snapshot({arrival}, $2::text::pg_snapshot)"
        f" and ({arrival}, tenant_id, id) > ($3::text::xid8, $4::bigint, $5::bigint)"
        f" order by {arrival}, tenant_id, id limit $6::integer",
    )


def again_sql(table: sa.Table) -> str:
    """Return the statement that finds a tenant of whom `arrived_sql` finds entries that are sealed.

    They are if his last seal holds any of them: what is in one seal was visible before the next. Its
    arguments: tenants; the first snapshot; arrival, tenant, and id after which entries were looked for.
    """
    arrival = quote(ARRIVAL)
    return (
        "select t.id from unnest($1::bigint[]) t (id) cross join lateral ("
        "select s.entries[cardinality(s.entries)] as id from byodpp.audit_seals s where s.tenant_id = t.id"
        " order by s.number desc limit 1) s"
        f" join {quote(str(table.name))} e on e.tenant_id = t.id and e.id = s.id"
        f" where not pg_visible_in_snapshot(e.{arrival}, $2::text::pg_snapshot)"
        f" and (e.{arrival}, e.tenant_id, e.id) > ($3::text::xid8, $4::bigint, $5::bigint) limit 1"
    )


def come_ids_sql(table: sa.Table) -> str:
    """Return the statement that finds entries of a tenant that came from another database: ids, by ids.

    Its arguments: the tenant, and how many ids make a row. A row is a text as `come_sql` takes it. What is
    sealed is looked up once for all of them; once for each row it would be the square of the trail's length.
    """
    return (
        "select string_agg(id::text, ',' order by id) from ("
        "select id, (row_number() over (order by id) - 1) / $2::integer as place"
        f" from {quote(str(table.name))} e"
        f" where tenant_id = $1::bigint and {quote(ARRIVAL)} is null and not {IS_SEALED}"
        ") p group by place order by place"
    )


def come_sql(table: sa.Table) -> str:
    """Return the statement that hashes entries of a tenant that came from another database.

    Its arguments: the tenant, and ids with commas between.
    """
    return _gathered(
        table,
        f"select * from {quote(str(table.name))}"
        " where tenant_id = $1::bigint and id = any(string_to_array($2::text, ',')::bigint[])",
    )


def _gathered(table: sa.Table, found: str) -> str:
    """Return the statement that makes rows of `Arrivals` of entries.

    Both sub-selects are left as they are (`offset 0`): so the texts of an entry are written once, and what
    is sorted are digests.
    """
    columns = columns_of(table)
    texts = (
        f"select tenant_id, id, {quote(ARRIVAL)} as arrival, {named_texts(columns)} from ({found}) e offset 0"
    )
    digests = f"select tenant_id, id, arrival, {digest_sql(columns)} as digest from ({texts}) t offset 0"
    order = "order by d.arrival, d.id"
    return (
        # As a text: of an array of numbers the driver would look up the type, once per connection.
        f"select tenant_id, string_agg(d.id::text, ',' {order}) as entries,"
        f" string_agg(d.digest, ''::bytea {order}) as digests,"
        f" (array_agg(d.arrival {order}))[count(*)]::text as arrival"
        f" from ({digests}) d group by tenant_id"
    )
