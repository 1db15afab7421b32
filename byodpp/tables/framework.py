"""The tables that belong to the framework and to no resource, in the schema `byodpp`.

Pure, like `tables`, which adds them to its own. Migrations make and change them together with
the resources' tables, so that a new version of the package is an ordinary migration.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import quoted_name

from byodpp.tables.roles import FRAMEWORK_SCHEMA

__all__ = [
    "ARRIVAL",
    "CONTROL_PLANE_ROUTE",
    "CORRELATION",
    "EVENT",
    "EVENT_NUMBER",
    "NUMBER",
    "UNHASHED",
    "framework_tables",
    "hidden_columns",
    "kept_as_written",
]

#: Column of the audit entries that no field shows: the transaction that brought the entry, whatever its id.
#: A field's column cannot bear the name by itself.
ARRIVAL: Final = "_arrival"
#: Columns of the audit entries that make an event of what an entry tells (`docs/decisions/0055`): the event's
#: name, null where it is none; the number of its statement among all events; and the correlation id
#: where that is not the request's id.
EVENT: Final = "_event"
EVENT_NUMBER: Final = "_event_number"
CORRELATION: Final = "_correlation"
#: Columns of the audit entries that no digest holds.
UNHASHED: Final = frozenset({ARRIVAL, EVENT, EVENT_NUMBER, CORRELATION})
#: The like of revocations: the number of the change that brought it.
NUMBER: Final = "_number"


class _TransactionId(sa.types.UserDefinedType[str]):
    """PostgreSQL's 64-bit transaction id, which no SQLAlchemy type stands for."""

    cache_ok = True

    def get_col_spec(self, **options: Any) -> str:
        return "XID8"


def hidden_columns(part: str | None, resource: str) -> tuple[sa.Column[Any], ...]:
    """Return the columns of a part's table that no field shows; most have none. The first has an index.

    - The arrival of an audit entry, by which the sealer finds what has been committed since its last
      look; null is an entry that has been sealed elsewhere: before a restoration, or before its tenant moved.
      Beside it, what makes the entry an event.
    - The number of a revocation, in the order of the commits; null until its transaction has counted.
    """
    if (part, resource) == ("audit", "AuditLogs"):
        default: sa.ColumnElement[Any] = sa.literal_column("pg_current_xact_id()")
        arrival = sa.Column(
            quoted_name(ARRIVAL, True), _TransactionId(), nullable=True, server_default=default
        )
        text = sa.Text(collation="C")
        return (
            arrival,
            sa.Column(quoted_name(EVENT, True), text, nullable=True),
            sa.Column(quoted_name(EVENT_NUMBER, True), sa.BigInteger, nullable=True),
            sa.Column(quoted_name(CORRELATION, True), text, nullable=True),
        )
    if (part, resource) == ("keys", "Revocations"):
        return (sa.Column(quoted_name(NUMBER, True), sa.BigInteger, nullable=True),)
    return ()


def kept_as_written(part: str | None, resource: str) -> frozenset[str]:
    """Return the columns of a part's table that are json, not jsonb; most have none.

    What an audit entry says is written with every change, and searched by few: PostgreSQL keeps the text and
    does not take it apart (`docs/decisions/0090`).
    """
    return frozenset({"changes"}) if (part, resource) == ("audit", "AuditLogs") else frozenset()


#: Begins the route of an idempotency key where it is one of the control plane: such keys stay there.
CONTROL_PLANE_ROUTE: Final = "control plane "


def framework_tables(metadata: sa.MetaData) -> list[sa.Table]:
    """Add the tables that belong to no resource."""

    def table(name: str, *parts: Any) -> sa.Table:
        return sa.Table(name, metadata, *parts, schema=FRAMEWORK_SCHEMA, quote=True, quote_schema=True)

    def column(name: str, kind: Any, *, nullable: bool = False, default: str | None = None) -> sa.Column[Any]:
        clause: sa.ColumnElement[Any] | None = None if default is None else sa.literal_column(default)
        return sa.Column(quoted_name(name, True), kind, nullable=nullable, server_default=clause)

    text, moment = sa.Text(collation="C"), sa.DateTime(timezone=True)
    return [
        table(
            "outbox",
            sa.Column(quoted_name("id", True), sa.BigInteger, sa.Identity(always=False), nullable=False),
            column("tenant_id", sa.BigInteger),
            column("name", text),
            column("data", postgresql.JSONB),
            column("resource", text, nullable=True),
            column("resource_id", text, nullable=True),
            column("request_id", text, nullable=True),
            column("correlation_id", text, nullable=True),
            column("actor_id", sa.BigInteger, nullable=True),
            column("created_at", moment, default="now()"),
            column("dispatched_at", moment, nullable=True),
            sa.PrimaryKeyConstraint("id", name="outbox_pkey_00000001"),
            sa.Index(
                "outbox_waiting_idx_00000001",
                "id",
                postgresql_where=sa.literal_column("dispatched_at IS NULL"),
            ),
        ),
        table(
            "idempotency_keys",
            column("tenant_id", sa.BigInteger),
            column("user_id", sa.BigInteger),
            column("method", text),
            column("route", text),
            column("key", text),
            column("request_hash", text),
            column("status", sa.Integer, nullable=True),
            column("headers", postgresql.JSONB, nullable=True),
            column("body", sa.LargeBinary, nullable=True),
            column("created_at", moment, default="now()"),
            sa.PrimaryKeyConstraint(
                "tenant_id", "user_id", "method", "route", "key", name="idempotency_keys_pkey_00000001"
            ),
            sa.Index("idempotency_keys_created_at_idx_00000001", "created_at"),
        ),
        table(
            "history",
            sa.Column(quoted_name("id", True), sa.BigInteger, sa.Identity(always=False), nullable=False),
            column("tenant_id", sa.BigInteger),
            column("resource", text),  # name of the table: versions of the API share it
            column("resource_id", text),
            column("operation", text),
            column("at", moment),
            column("actor_id", sa.BigInteger, nullable=True),
            column("request_id", text, nullable=True),
            column("row", postgresql.JSONB),
            sa.PrimaryKeyConstraint("id", name="history_pkey_00000001"),
            sa.Index("history_versions_idx_00000001", "tenant_id", "resource", "resource_id", "at", "id"),
        ),
        table(
            "imports",
            sa.Column(quoted_name("id", True), sa.BigInteger, sa.Identity(always=False), nullable=False),
            column("tenant_id", sa.BigInteger),
            column("user_id", sa.BigInteger),  # whose key it is; 0: the key is the file's hash, anybody's
            column("resource", text),  # `v1.Products`
            column("key", text),
            column("file_hash", text),  # of the file and of everything that says how it is read
            column("operation", text),
            column("state", text),  # running, finished, failed
            column("turn", sa.BigInteger, default="0"),  # counts who works on it: the last one may go on
            column("records", sa.BigInteger, default="0"),  # that are done, refused ones included
            column("line", sa.BigInteger, default="0"),  # where the last of them began
            column("created", sa.BigInteger, default="0"),
            column("updated", sa.BigInteger, default="0"),
            column("rejected", sa.BigInteger, default="0"),
            column("resumed", sa.BigInteger, default="0"),  # how often it was taken up again
            column("fault", postgresql.JSONB, nullable=True),  # why a failed one ended
            column("created_at", moment, default="now()"),
            column("updated_at", moment, default="now()"),
            sa.PrimaryKeyConstraint("tenant_id", "id", name="imports_pkey_00000001"),
            sa.Index(
                "imports_key_00000001",
                "tenant_id",
                "user_id",
                "resource",
                "key",
                unique=True,
            ),
        ),
        table(
            "import_rejects",
            column("tenant_id", sa.BigInteger),
            column("import_id", sa.BigInteger),
            column("record", sa.BigInteger),  # counted from 1
            column("line", sa.BigInteger),  # of the file
            column("error", text),  # JSON, as the answer tells it
            sa.PrimaryKeyConstraint("tenant_id", "import_id", "record", name="import_rejects_pkey_00000001"),
        ),
        table(
            "schema_state",
            column("revision", text),
            column("kind", text),
            column("fingerprint", text),
            column("applied_at", moment, default="now()"),
            sa.PrimaryKeyConstraint("revision", name="schema_state_pkey_00000001"),
        ),
        table(
            "seeds",
            column("name", text),
            column("loaded_at", moment, default="now()"),
            sa.PrimaryKeyConstraint("name", name="seeds_pkey_00000001"),
        ),
        table(
            "access_versions",  # how often a tenant has changed its policies, roles, or who holds them
            column("tenant_id", sa.BigInteger),
            column("version", sa.BigInteger),
            sa.PrimaryKeyConstraint("tenant_id", name="access_versions_pkey_00000001"),
        ),
        # Where servers from before `access_versions` count; dropping it would cut those off that still run.
        table(
            "policy_version",
            column("version", sa.BigInteger),
            sa.PrimaryKeyConstraint("version", name="policy_version_pkey_00000001"),
        ),
        table(
            "tenant_procedures",
            sa.Column(quoted_name("id", True), sa.BigInteger, sa.Identity(always=False), nullable=False),
            column("kind", text),
            column("slug", text),
            column("given", postgresql.JSONB),
            column("done", postgresql.JSONB, default="'{}'::jsonb"),  # step -> its result
            column("failure", text, nullable=True),
            column("begun_at", moment, default="now()"),
            column("changed_at", moment, default="now()"),
            column("finished_at", moment, nullable=True),
            sa.PrimaryKeyConstraint("id", name="tenant_procedures_pkey_00000001"),
            sa.Index(
                "tenant_procedures_slug_idx_00000001",
                "slug",
                unique=True,
                postgresql_where=sa.literal_column("finished_at IS NULL"),
            ),
        ),
        table(
            "tenant_places",  # of tenants that have, or had, a place beside the shared tables
            column("tenant_id", sa.BigInteger),  # -1 where rows of all places are looked at together
            column("tier", text),  # where the tenant is served: shared, schema, database
            column(
                "place", text, nullable=True
            ),  # the schema, or the name of the database, while there is one
            column("state", text),  # served; moving: away from there; settling: moved just now
            column("fingerprint", text, nullable=True),  # of the shared tables that the place was made like
            column("changed_at", moment, default="now()"),
            sa.PrimaryKeyConstraint("tenant_id", name="tenant_places_pkey_00000001"),
        ),
        table(
            "platform_keys",  # values that are unique in the whole platform, wherever their rows lie
            column("name", text),  # of the unique index
            column("key", text),  # SHA-256 of the values
            column("tenant_id", sa.BigInteger),
            # In the database of a tenant: whether the one that all share knows of it.
            column("confirmed", sa.Boolean, default="false"),
            sa.PrimaryKeyConstraint("name", "key", name="platform_keys_pkey_00000001"),
            sa.Index(  # looked at before each commit there
                "platform_keys_new_idx_00000001",
                "tenant_id",
                postgresql_where=sa.literal_column("NOT confirmed"),
            ),
        ),
        table(
            "directory_changes",  # told to every process, and deleted after a minute; see `changes`
            column("arrival", _TransactionId(), default="pg_current_xact_id()"),
            column("tenant_id", sa.BigInteger),  # whose row, users, or place has changed; 0 stands for all
            sa.PrimaryKeyConstraint("arrival", "tenant_id", name="directory_changes_pkey_00000001"),
        ),
        table(
            "revocation_version",
            column("version", sa.BigInteger),
            sa.PrimaryKeyConstraint("version", name="revocation_version_pkey_00000001"),
        ),
        table(
            "api_key_hashes",
            column("id", text),  # of ApiKeys; of all tenants, since a key says no tenant
            column("tenant_id", sa.BigInteger),
            column("hash", sa.LargeBinary),  # SHA-256 of the secret
            sa.PrimaryKeyConstraint("id", name="api_key_hashes_pkey_00000001"),
        ),
        table(
            "secret_values",
            column("tenant_id", sa.BigInteger),
            column("secret_id", text),  # of Secrets
            column("key_id", text),
            column("sealed", sa.LargeBinary),  # nonce, ciphertext, tag
            sa.PrimaryKeyConstraint("tenant_id", "secret_id", name="secret_values_pkey_00000001"),
        ),
        table(
            "tenant_storage",  # what was measured last; see `limits.storage`
            column("tenant_id", sa.BigInteger),
            column("bytes", sa.BigInteger),
            column("measured_at", moment),
            sa.PrimaryKeyConstraint("tenant_id", name="tenant_storage_pkey_00000001"),
        ),
        table(
            "audit_seals",
            column("tenant_id", sa.BigInteger),
            column("number", sa.BigInteger),  # from 1, without gaps
            column("since", moment, nullable=True),  # what was committed before is in earlier seals
            column("sealed_at", moment),
            column("total", sa.BigInteger),  # entries of this and all earlier seals
            column("entries", postgresql.ARRAY(sa.BigInteger)),  # ids of AuditLogs, in the order of arrival
            column("digests", sa.LargeBinary),  # 32 bytes for each of them
            column("previous", sa.LargeBinary),  # hash of the seal before
            column("hash", sa.LargeBinary),
            column("mac", sa.LargeBinary),  # of the hash, by a key that is not in the database
            column("key_id", text),
            sa.PrimaryKeyConstraint("tenant_id", "number", name="audit_seals_pkey_00000001"),
        ),
        table(
            "audit_heads",
            column("tenant_id", sa.BigInteger),
            column("number", sa.BigInteger),
            column("total", sa.BigInteger),
            column("hash", sa.LargeBinary),
            sa.PrimaryKeyConstraint("tenant_id", name="audit_heads_pkey_00000001"),
        ),
        table(
            "audit_arrivals",
            column("cluster", text),  # system identifier: transaction ids mean nothing in another one
            column("sealed", text),  # snapshot: every entry that it shows is sealed
            column("sealed_at", moment, nullable=True),  # when that snapshot was taken
            column("target", text, nullable=True),  # snapshot that is being sealed in several passes
            column("target_at", moment, nullable=True),
            column("after_arrival", text, nullable=True),  # the last entry sealed of those
            column("after_tenant", sa.BigInteger, nullable=True),
            column("after_entry", sa.BigInteger, nullable=True),
            sa.PrimaryKeyConstraint("cluster", name="audit_arrivals_pkey_00000001"),
        ),
    ]
