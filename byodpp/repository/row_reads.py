"""Reading rows by their keys: what one caller's reads have in common is found out once.

In: a caller, a resource, a judged query. Out: a `RowRead`, which reads as often as it is asked;
`RowReads` keeps those of callers who come again. Rejects what reading rejects.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
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
    """The statement that reads a row for a caller, and whose it is."""

    store: Store
    principal: Principal
    resource: ResourceDefinition
    query: Query
    compiled: Compiled
    plain: bool  # its JSON goes out as it comes: nothing in it is sealed, and there is one such row at most

    async def row(self, key: Any) -> Row | None:
        """Read a row with one trip and no transaction of its own; None when there is none to be seen."""
        id = self.store.key(self.resource, key)
        if id is None:
            return None
        principal = self.principal
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
    """Remembers reads: as long as the caller is the same object and the rules are those of then."""

    def __init__(self, *, max_remembered: int = 4_000) -> None:
        """Args:
        max_remembered: reads kept; the one that was used longest ago leaves when there are too many.
        """
        self._max_remembered = max_remembered
        self._remembered: OrderedDict[tuple[int, tuple[str, str], bytes], tuple[object, RowRead]] = (
            OrderedDict()
        )

    def known(
        self, principal: Principal, resource: ResourceDefinition, query_string: bytes, rules: object
    ) -> RowRead | None:
        """Return what was kept of the same question.

        Args:
            principal: who asks.
            resource: of the row.
            query_string: as it was sent.
            rules: in force in the caller's tenant.
        """
        key = (id(principal), resource.id, query_string)
        found = self._remembered.get(key)
        # The number of an object that is no more may be another one's by now.
        if found is not None and found[1].principal is principal and found[0] is rules:
            self._remembered.move_to_end(key)
            return found[1]
        return None

    def keep(self, read: RowRead, query_string: bytes, rules: object) -> None:
        """Keep a read; not for callers who are made anew for each request."""
        if read.principal.anonymous or read.principal.guest or len(query_string) > _LONGEST:
            return
        self._remembered[id(read.principal), read.resource.id, query_string] = rules, read
        if len(self._remembered) > self._max_remembered:
            self._remembered.popitem(last=False)

    def forget(self, tenants: Collection[int] | None = None) -> None:
        """Let go of the callers of these tenants, who are made anew from now on; None: of all."""
        if tenants is None:
            self._remembered.clear()
            return
        for key in [
            key
            for key, (_, read) in self._remembered.items()
            if read.principal.home_tenant_id in tenants or read.principal.tenant_id in tenants
        ]:
            del self._remembered[key]

    def __len__(self) -> int:
        return len(self._remembered)
