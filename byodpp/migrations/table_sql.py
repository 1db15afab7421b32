"""The SQL of what hangs on a table: indexes, row-level security, policies, rights; and of collations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from byodpp.migrations.snapshot import IndexState, TableState
from byodpp.sql_text import quote, quote_text

__all__ = ["collation_sql", "grants_sql", "indexes_sql", "policies_sql", "secure_sql"]


def collation_sql(name: str) -> str:
    """Return the statement that makes a locale's order; without ICU it is that of code points."""
    locale = name.removesuffix("-x-icu")
    return (
        "DO $collation$ BEGIN\n"
        f"    CREATE COLLATION {quote(name)} (provider = icu, locale = {quote_text(locale)});\n"
        "EXCEPTION WHEN feature_not_supported THEN\n"
        f"    RAISE WARNING 'this server has no ICU: % compares by code point', {quote_text(locale)};\n"
        f"    CREATE COLLATION {quote(name)} (provider = libc, locale = 'C');\n"
        "END $collation$"
    )


def indexes_sql(table: TableState, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        index = table.indexes[name]
        unique = "UNIQUE " if index.unique else ""
        if index.extension is None:
            yield f"CREATE {unique}INDEX {quote(name)} ON {table.sql} {index.sql}"
        else:
            yield _trigram_sql(table, index)


def _trigram_sql(table: TableState, index: IndexState) -> str:
    """Return the index of parts of a text, made where the server has what it needs.

    It folds the letters of every script, so that it has the collation of ILIKE, not the column's.
    """
    [column] = index.columns
    head = f"CREATE INDEX {quote(index.name)} ON {table.sql} USING gin ({quote(column)} COLLATE \"default\" "
    return f"""DO $byodpp$
DECLARE
    place text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = '{index.extension}') THEN
        RETURN;
    END IF;
    CREATE EXTENSION IF NOT EXISTS {index.extension};
    SELECT extnamespace::regnamespace::text INTO place FROM pg_extension WHERE extname = '{index.extension}';
    EXECUTE {quote_text(head)} || place || '.gin_trgm_ops)';
END $byodpp$"""


def secure_sql(table: TableState) -> tuple[str, ...]:
    return (
        f"ALTER TABLE {table.sql} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table.sql} FORCE ROW LEVEL SECURITY",
    )


def policies_sql(table: TableState, names: Iterable[str]) -> Iterator[str]:
    return (table.policies[name].create(table.sql) for name in names)


def grants_sql(table: TableState) -> Iterator[str]:
    for role in sorted({grant.role for grant in table.grants}):
        rights = sorted(grant.privilege.upper() for grant in table.grants if grant.role == role)
        yield f"GRANT {', '.join(rights)} ON {table.sql} TO {role}"
