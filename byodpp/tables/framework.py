"""The tables that belong to the framework and to no resource, in the schema `byodpp`.

Pure, like `tables`, which adds them to its own. Migrations make and change them together with
the resources' tables, so that a new version of the package is an ordinary migration.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import quoted_name

from byodpp.tables.roles import FRAMEWORK_SCHEMA

__all__ = ["framework_tables"]


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
            "policy_version",
            column("version", sa.BigInteger),
            sa.PrimaryKeyConstraint("version", name="policy_version_pkey_00000001"),
        ),
    ]
