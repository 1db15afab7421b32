"""What an export is asked for: the query language, without the words that make pages of a list.

In: a query string, or the words of a query as JSON values. Out: a judged Query without a limit. May
reject: InvalidQuery, InvalidEncoding, QueryTooComplex.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from byodpp.conditions import Lookup, Query
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import Detail, InvalidQuery
from byodpp.query.reader import QueryReader
from byodpp.query.text import parse, parse_json
from byodpp.transfer.formats import Format
from byodpp.transfer.options import EXPORT_WORDS

__all__ = ["QUERY_WORDS", "export_query"]

#: Words of a list that an export has.
QUERY_WORDS: Final = ("filter", "search", "sort", "fields", "include", "asOf")
#: Formats in which a row may hold other rows.
_NESTED: Final = frozenset({Format.JSON, Format.NDJSON})


def export_query(
    asked: bytes | Mapping[str, Any],
    resource: ResourceDefinition,
    reader: QueryReader,
    lookup: Lookup,
    tenant_id: int,
    format: Format,
) -> Query:
    """Judge what is to be exported.

    Args:
        asked: a query string, or its words.
        resource: whose rows.
        reader: of queries.
        lookup: what the caller may read.
        tenant_id: whose rows.
        format: of the file.
    """
    raw = parse(asked) if isinstance(asked, bytes) else parse_json(dict(asked))
    told = f"An export has {', '.join(QUERY_WORDS)}, {', '.join(EXPORT_WORDS)}."
    strange = dict.fromkeys(name for name in (*raw.given, *raw.unknown) if name not in QUERY_WORDS)
    details = [Detail(name[:100], "unknown_parameter", told) for name in strange]
    if format not in _NESTED and raw.includes:
        words = " or ".join(sorted(_NESTED))
        details.append(Detail("include", "conflict", f"A table has no room for related rows; {words} has."))
    if details:
        raise InvalidQuery(details=details[:100])
    query = reader.judge(raw, resource, lookup, "list", tenant_id)
    shape = replace(query.shape, limit=None, offset=None, after=None, count="none")
    return replace(query, shape=shape)
