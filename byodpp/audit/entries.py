"""What is hashed of an audit entry.

For each column but those that no field shows, in the order of their names, unless it is null: the name, `=`,
the length of the value in bytes of UTF-8, `:`, the value, and a line feed. The value is what
PostgreSQL writes of it with `timezone` UTC and `datestyle` ISO. Null columns leave no trace, so
that a column that is added later changes no digest; the tenant and the id are part of it.

The sealer lets PostgreSQL hash, where the rows are; `verification` hashes here, so that a
function that somebody has replaced in the database deceives nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from byodpp.sql_text import quote, quote_text
from byodpp.tables.framework import UNHASHED

__all__ = ["DIGEST_BYTES", "SESSION", "columns_of", "digest", "digest_sql", "named_texts", "texts_sql"]

DIGEST_BYTES: Final = 32
#: What a session must have set, so that PostgreSQL writes the same texts everywhere.
SESSION: Final = (
    "set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'; set local intervalstyle = 'iso_8601'; "
    "set local bytea_output = 'hex'; set local extra_float_digits = 1"
)


def columns_of(table: sa.Table) -> tuple[str, ...]:
    """Return the columns that are hashed, in order."""
    return tuple(sorted(str(column.name) for column in table.c if column.name not in UNHASHED))


def digest_sql(columns: Sequence[str]) -> str:
    """Return the digest of a row as an SQL expression over the texts of its columns (`named_texts`)."""
    parts = (
        f"coalesce({quote_text(name + '=')} || octet_length(t{place}) || ':' || t{place} || chr(10), '')"
        for place, name in enumerate(columns)
    )
    return f"sha256(convert_to(concat({', '.join(parts)}), 'UTF8'))"


def named_texts(columns: Sequence[str]) -> str:
    """Return the texts of a row's columns as SQL columns, for `digest_sql` to use each of them twice.

    They belong into a sub-select that PostgreSQL does not take apart (`offset 0`): it would write each twice.
    """
    return ", ".join(f"{quote(name)}::text as t{place}" for place, name in enumerate(columns))


def texts_sql(columns: Iterable[str]) -> str:
    """Return the texts of a row's columns as an SQL array."""
    return f"array[{', '.join(f'{quote(name)}::text' for name in columns)}]::text[]"


def digest(columns: Sequence[str], texts: Sequence[Any]) -> bytes:
    """Return the digest of a row.

    Args:
        columns: of `columns_of`.
        texts: as `texts_sql` returns them; None is null.
    """
    parts = []
    for name, value in zip(columns, texts, strict=True):
        if value is not None:
            data = value.encode()
            parts.append(b"%b=%d:%b\n" % (name.encode(), len(data), data))
    return hashlib.sha256(b"".join(parts)).digest()
