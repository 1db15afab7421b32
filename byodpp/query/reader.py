"""The reader of queries: what a client asks becomes a judged Query, remembered when it was asked before.

In: a query string or the JSON of a query, the resource, and what the caller may read. Out: a
Query. The same string asked by callers with the same rights is parsed and judged once, and so are
strings that differ in their cursor alone; what is remembered is bounded, so that ever new queries
cost time but no memory. Refuses what `query_text`, `query_judge` and `query_cursors` refuse;
refusals are not remembered.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, Literal

from byodpp.aside import is_large
from byodpp.conditions import Lookup, Query, Visibility
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import Detail, QueryTooComplex
from byodpp.query.cursors import Cursors
from byodpp.query.judge import judge
from byodpp.query.text import RawQuery, Text, parse, parse_json
from byodpp.registry import Registry

__all__ = ["QueryReader"]

Mode = Literal["list", "read"]

#: Longer query strings are not remembered: they are rare, and many of them would be much.
MAX_LENGTH: Final = 1_000
#: Values of a query in JSON beside those that its filter compares with.
_OTHER_VALUES: Final = 10_000
#: A cursor as this application writes it, with nothing in it to decode.
_CURSOR: Final = re.compile(rb"(?:\A|&)cursor=([\w-]*)(?=&|\Z)", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A judged query, and the rules under which it was judged."""

    query: Query  # without what its cursor says
    rules: tuple[Visibility | None, ...]  # of the resources that the query touches, in their order


class QueryReader:
    """Reads queries for all resources."""

    def __init__(self, registry: Registry, cursors: Cursors, *, max_remembered: int = 2_000) -> None:
        """Args:
        registry: the resources.
        cursors: writes and reads cursors.
        max_remembered: queries kept; the least recently used one goes first.
        """
        self.cursors = cursors
        self._registry = registry
        self._max_remembered = max_remembered
        self._remembered: OrderedDict[Any, _Remembered] = OrderedDict()

    def read(
        self, query_string: bytes, resource: ResourceDefinition, lookup: Lookup, mode: Mode, tenant_id: int
    ) -> Query:
        """Read a query string.

        Args:
            query_string: as it was sent.
            resource: whose rows are asked for.
            lookup: what the caller may read.
            mode: `read` asks for one row.
            tenant_id: whose rows; a cursor is good for one tenant only.

        Raises:
            InvalidEncoding: it is not UTF-8.
            InvalidQuery: it cannot be read, or names what is not there for the caller.
            QueryTooComplex: a bound of the resource is passed.
        """
        rest, cursor = _apart(query_string)
        key = (rest, cursor is not None, resource.id, mode, lookup(resource))
        known = self._remembered.get(key)
        if known is not None and known.rules == self._rules(known.query, lookup):
            self._remembered.move_to_end(key)
            return known.query if cursor is None else self.cursors.resume(known.query, tenant_id, cursor)
        raw = parse(query_string)
        query = judge(raw, resource, self._registry, lookup, mode)
        if ("cursor" in raw.scalars) == (cursor is not None) and len(rest) <= MAX_LENGTH:
            self._remembered[key] = _Remembered(query, self._rules(query, lookup))
            self._remembered.move_to_end(key)
            if len(self._remembered) > self._max_remembered:
                self._remembered.popitem(last=False)
        return self._resumed(query, raw, tenant_id)

    def read_json(
        self, asked: Any, resource: ResourceDefinition, lookup: Lookup | None, mode: Mode, tenant_id: int
    ) -> Query:
        """Read a query in JSON, as `POST …/query` takes it. Arguments and errors are those of `read`."""
        bounds = resource.bounds
        most = bounds.max_filter_terms * bounds.max_in_values + _OTHER_VALUES
        if is_large(asked, most):
            raise QueryTooComplex(
                details=[Detail("", "too_complex", f"A query holds at most {most} values.")]
            )
        return self.judge(parse_json(asked), resource, lookup, mode, tenant_id)

    def judge(
        self, raw: RawQuery, resource: ResourceDefinition, lookup: Lookup | None, mode: Mode, tenant_id: int
    ) -> Query:
        """Judge what was read, its cursor included."""
        return self._resumed(judge(raw, resource, self._registry, lookup, mode), raw, tenant_id)

    def _resumed(self, query: Query, raw: RawQuery, tenant_id: int) -> Query:
        """Return the query of the page behind the cursor, if there is one."""
        cursor = raw.scalars.get("cursor")
        if cursor is None:
            return query
        return self.cursors.resume(query, tenant_id, cursor.text if isinstance(cursor, Text) else cursor)

    def __len__(self) -> int:
        return len(self._remembered)

    def _rules(self, query: Query, lookup: Lookup) -> tuple[Visibility | None, ...]:
        return tuple(lookup(self._registry[id_]) for id_ in query.shape.touched)


def _apart(query_string: bytes) -> tuple[bytes, str | None]:
    """Return a query string without its cursor, and the cursor; None unless there is one, written plainly."""
    if query_string.count(b"cursor=") == 1 and (found := _CURSOR.search(query_string)):
        return query_string[: found.start()] + query_string[found.end() :], found[1].decode()
    return query_string, None
