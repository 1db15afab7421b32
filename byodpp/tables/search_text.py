"""The text in which `search` looks: one SQL expression, the same in the index and in every query.

PostgreSQL uses an index over an expression only where a query says the same expression, so that
`tables` (which declares the index) and `statement_conditions` (which searches) both take it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSVECTOR

__all__ = ["MAX_CHARACTERS", "search_document", "search_words"]

#: Characters that are searched, counted from the beginning: a tsvector holds less than a megabyte,
#: in which each word may lie twice (`a-b` is also `a` and `b`) and take four bytes a character.
MAX_CHARACTERS: Final = 100_000

#: No stemming: a tenant's texts are of many languages, and codes and names must be found as they are.
_LANGUAGE: Final = "'simple'::regconfig"


def search_document(columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
    """Return the words of some text columns, whatever is null among them."""
    nothing: sa.ColumnElement[str] = sa.literal_column("''")
    blank: sa.ColumnElement[str] = sa.literal_column("' '")
    # COALESCE would say the same, but PostgreSQL uses no index beside policies for an expression with it.
    texts: list[sa.ColumnElement[str]] = [
        sa.case((column.is_(None), nothing), else_=sa.cast(column, sa.Text())) for column in columns
    ]
    document = texts[0]
    for text in texts[1:]:
        document = document.concat(blank).concat(text)
    beginning = sa.func.left(document, sa.literal_column(str(MAX_CHARACTERS)))
    return sa.func.to_tsvector(_language(), beginning, type_=TSVECTOR())


def search_words(words: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return what is searched for: words, `"phrases"`, `or`, and `-without`."""
    return sa.func.websearch_to_tsquery(_language(), words)


def _language() -> sa.ColumnElement[Any]:
    return sa.literal_column(_LANGUAGE)
