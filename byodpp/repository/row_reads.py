"""Reading rows by their keys: what reads of many callers have in common is found out once.

In: a standing of callers, a resource, a judged query. Out: a `RowRead`, which reads for each of them as often
as it is asked; `RowReads` keeps those that were asked for last. Rejects what reading rejects.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from byodpp.authentication import Principal
from byodpp.conditions import Query
from byodpp.definitions import ResourceDefinition
from byodpp.repository.answer_bound import within_bound
from byodpp.rows import Row
from byodpp.statements import Compiled
from byodpp.statements.json import split_version

if TYPE_CHECKING:
    from byodpp.repository.stores import Store

__all__ = ["RowRead", "RowReads"]

#: Longer query strings are not remembered.
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRead:
    """The statement that reads a row for all callers of one standing."""

    store: Store
    resource: ResourceDefinition
    query: Query
    compiled: Compiled
    plain: bool  # its JSON goes out as it comes: nothing in it is sealed, and there is one such row at most

    async def row(self, principal: Principal, key: Any) -> Row | None:
        """Read a row with one trip and no transaction of its own; None when there is none to be seen.

        Args:
            principal: for whom, of that standing.
            key: of the row.
        """
        id = self.store.key(self.resource, key)
        if id is None:
            return None
        arguments = self.compiled.arguments(
            self.query.values,
            principal.variables,
            principal.session,
            scope_tenant_id=principal.tenant_id,
            named={"id": id},
        )
        store = self.store
        record = await store.asked(principal, self.compiled.sql, arguments)
        if not self.plain:
            return await store.row_of(self.resource, self.query, record)
        if record is None or record["data"] is None:
            return None
        json, version = split_version(within_bound(record["data"], self.resource))
        return Row(json.encode(), self.resource, store.registry, version=version)


class RowReads:
    """Remembers reads. A standing belongs to one state of the rules: with another one nothing is found."""

    def __init__(self, *, max_remembered: int = 4_000) -> None:
        """Args:
        max_remembered: reads kept; the one that was used longest ago leaves when there are too many.
        """
        self._max_remembered = max_remembered
        self._remembered: OrderedDict[tuple[Hashable, tuple[str, str], bytes], RowRead] = OrderedDict()

    def known(self, standing: Hashable, resource: ResourceDefinition, query_string: bytes) -> RowRead | None:
        """Return what was kept of the same question.

        Args:
            standing: of who asks, of the authorizer.
            resource: of the row.
            query_string: as it was sent.
        """
        key = (standing, resource.id, query_string)
        found = self._remembered.get(key)
        if found is not None:
            self._remembered.move_to_end(key)
        return found

    def keep(self, read: RowRead, standing: Hashable, query_string: bytes) -> None:
        """Keep a read for all callers of a standing."""
        if len(query_string) > _LONGEST:
            return
        self._remembered[standing, read.resource.id, query_string] = read
        if len(self._remembered) > self._max_remembered:
            self._remembered.popitem(last=False)

    def __len__(self) -> int:
        return len(self._remembered)
