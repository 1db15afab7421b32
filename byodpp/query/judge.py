"""Judging a query against a resource: names, types, operators and bounds; all faults at once.

Comes from `query_text` (a RawQuery); goes to `statements` (a Query: shape and values). What
the caller may not read does not exist here: it cannot be selected, filtered, sorted,
searched or included, and is refused in the same words as a name that was never there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from byodpp.conditions import (
    AllOf,
    Condition,
    Grouping,
    Include,
    Lookup,
    Parameter,
    Query,
    Relevance,
    Search,
    Shape,
    Sort,
    all_of,
)
from byodpp.definitions import FieldDefinition, ResourceDefinition
from byodpp.fields import FieldFault
from byodpp.query.aggregates import GroupingJudge, is_word
from byodpp.query.filters import FilterJudge
from byodpp.query.names import Judgement, closed
from byodpp.query.text import RawInclude, RawQuery, RawSort, Text
from byodpp.query.values import Rejected, text
from byodpp.registry import Registry
from byodpp.wire import whole

__all__ = ["COUNTS", "PARAMETERS", "RELEVANCE", "judge"]

#: Parameters of each mode, in the order in which documentation lists them.
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "list": (
        *("filter", "sort", "fields", "include", "limit", "offset", "page", "cursor", "count", "search"),
        *("aggregate", "group", "having", "asOf"),
    ),
    "read": ("fields", "include", "asOf"),
}
#: The word by which rows are sorted by how well they fit a search; a field of this name comes first.
RELEVANCE: Final = "relevance"
#: Ways of finding out how many rows there are.
COUNTS: Final = ("exact", "estimated", "none")
#: Page sizes that many clients ask for are part of the shape, so that PostgreSQL plans for them.
#: Digits that are read of a number; more are out of range in any case.
_LONGEST_NUMBER: Final = 20
_COMMON_LIMITS: Final = frozenset({1, 5, 10, 20, 25, 50, 100})


def judge(
    raw: RawQuery,
    resource: ResourceDefinition,
    registry: Registry,
    lookup: Lookup | None,
    mode: Literal["list", "read"] = "list",
) -> Query:
    """Return what a query means.

    Args:
        raw: what was read.
        resource: whose rows are asked for.
        registry: where relations lead.
        lookup: what the caller may read; None: a trusted caller, who may read everything.
        mode: `read` asks for one row and takes `fields`, `include` and `asOf` only.

    Raises:
        QueryTooComplex: a bound of the resource is passed.
        InvalidQuery: anything else is wrong.
    """
    judgement = Judgement(registry, lookup, resource.bounds)
    judgement.touched.add(resource.id)
    return _QueryJudge(judgement, resource, mode).judge(raw)


@dataclass(slots=True)
class _IncludeNode:
    """One step of an include path while the tree is put together."""

    children: dict[str, _IncludeNode]
    options: RawInclude | None = None


@dataclass(slots=True)
class _QueryJudge:
    """Judges one query; faults and values go to the judgement."""

    judgement: Judgement
    resource: ResourceDefinition
    mode: Literal["list", "read"]

    def judge(self, raw: RawQuery) -> Query:
        self._parameters(raw)
        condition = self._condition(raw)
        bound = len(self.judgement.values)  # values of the condition come first
        grouping = self._grouping(raw)
        sort = () if grouping is not None else self._order(raw, condition)
        fields = self._fields(raw.fields, self.resource, "fields")
        limit, offset, page = self._page(raw)
        includes = self._includes(raw, limit if self.mode == "list" else 1)
        shape_limit = self._shape_limit(limit) if self.mode == "list" else None
        as_of = self._as_of(raw)
        self.judgement.finish()
        shape = Shape(
            fields=fields,
            includes=includes,
            filter=condition,
            sort=sort,
            limit=shape_limit,
            offset=self.judgement.parameter(offset) if offset else None,
            count=self._count(raw),
            grouping=grouping,
            touched=(self.resource.id, *sorted(self.judgement.touched - {self.resource.id})),
            as_of=as_of,
        )
        self.judgement.finish()
        values = tuple(self.judgement.values)
        if self.mode == "read":
            return Query(shape=shape, values=values)
        chosen = values[:bound] if as_of is None else (*values[:bound], values[as_of.index])
        fingerprint = b"" if grouping is not None else self._fingerprint(shape, chosen)
        return Query(
            shape=shape, values=values, limit=limit, offset=offset, page=page, fingerprint=fingerprint
        )

    def _fingerprint(self, shape: Shape, values: tuple[Any, ...]) -> bytes:
        """Return what a cursor is bound to: which rows are listed, and in which order."""
        kinds = [
            definition.type.name
            for term in shape.sort
            if isinstance(term, Sort) and not term.path
            for definition in (self.resource.fields[term.field],)
        ]
        bound = repr((self.resource.id, shape.filter, values, shape.sort, kinds))
        return hashlib.sha256(bound.encode()).digest()

    def _parameters(self, raw: RawQuery) -> None:
        """Refuse parameters that do not exist, or not for this operation."""
        known = [name for name in PARAMETERS[self.mode] if self._knows(name)]
        for name in (*raw.unknown, *(name for name in raw.given if name not in known)):
            word = name.partition("[")[0] or name
            if word in known:
                self.judgement.fault(name, "unknown_parameter", f"`{word}` takes no brackets.")
                continue
            self.judgement.unknown(name, "unknown_parameter", "parameter", word, tuple(known))

    def _knows(self, parameter: str) -> bool:
        """Whether a parameter means something for this resource."""
        if parameter == "asOf":
            return self.resource.history
        return parameter != "search" or bool(self._search_fields())

    def _as_of(self, raw: RawQuery) -> Parameter | None:
        """Return the moment whose rows are asked for."""
        if "asOf" not in raw.scalars or not self.resource.history:
            return None
        if raw.includes:
            self.judgement.fault("include", "conflict", "`include` shows rows as they are, not with `asOf`.")
        given, field = raw.scalars["asOf"], self.resource.fields["createdAt"]
        try:
            if isinstance(given, Text):
                return self.judgement.parameter(field.type.from_text(given.text, field))
            return self.judgement.parameter(field.type.from_json(given, field))
        except FieldFault as fault:
            self.judgement.fault("asOf", fault.code, str(fault))
        return None

    # --- filter and search ---

    def _condition(self, raw: RawQuery) -> Condition | None:
        found: list[Condition | None] = []
        if raw.filter is not None and self.mode == "list":
            found.append(FilterJudge(self.judgement).judge(raw.filter, self.resource))
        fields = self._search_fields()
        if "search" in raw.scalars and fields and self.mode == "list":
            try:
                words = text(raw.scalars["search"])
                if not words.strip():
                    raise Rejected("Expected at least one word.")
                if len(words) > 1_000:
                    raise Rejected("A search has at most 1000 characters.")
                found.append(Search(fields, self.judgement.parameter(words)))
            except Rejected as error:
                self.judgement.fault("search", error.code, str(error))
        return all_of(found)

    def _grouping(self, raw: RawQuery) -> Grouping | None:
        """Judge what is asked of groups, and refuse what belongs to rows only, or to groups only."""
        if self.mode == "read":
            return None
        if "aggregate" not in raw.given:
            for name in ("group", "having"):
                if name in raw.given:
                    self.judgement.fault(name, "conflict", f"`{name}` needs `aggregate`.")
            return None
        for name in ("fields", "include", "cursor"):
            if name in raw.given:
                self.judgement.fault(name, "conflict", f"`{name}` and `aggregate` exclude each other.")
        elsewhere = frozenset({RELEVANCE} if self._search_fields() else ())
        return GroupingJudge(self.judgement, self.resource, elsewhere).judge(raw)

    def _search_fields(self) -> tuple[str, ...]:
        """Return the declared search fields that the caller may read."""
        names = self.judgement.names(self.resource)
        return tuple(name for name in self.resource.search if names is not None and name in names.fields)

    # --- sort and fields ---

    def _order(self, raw: RawQuery, condition: Condition | None) -> tuple[Sort | Relevance, ...]:
        """Return the order of the rows; where words are searched, `relevance` is one and the usual one."""
        search = _search_in(condition) if self.mode == "list" else None
        if search is not None and not raw.sort:
            return (Relevance(search),)
        relevant = None if self._is_field(RELEVANCE) else search
        terms = tuple(term for term in raw.sort if not self._is_misplaced(term, relevant))
        places = [index for index, term in enumerate(terms) if relevant and term.name == RELEVANCE]
        if len(places) > 1:
            self.judgement.fault("sort", "repeated", "A field occurs twice.")
        others = tuple(term for index, term in enumerate(terms) if index not in places)
        sorts: list[Sort | Relevance] = [*self._sorts(others, self.resource, "sort")]
        if relevant is not None and places and len(sorts) == len(others):
            # Whatever direction is named: nobody wants the worst first.
            sorts.insert(places[0], Relevance(relevant))
        return tuple(sorts)

    def _is_field(self, name: str) -> bool:
        known = self.judgement.names(self.resource)
        return known is not None and name in known.fields

    def _is_misplaced(self, term: RawSort, search: Search | None) -> bool:
        """Note an order that belongs to queries of another kind, whichever field it names."""
        if self._is_field(term.name) or (term.name == RELEVANCE and search is not None):
            return False
        if term.name == RELEVANCE and self._search_fields():
            self.judgement.fault("sort", "conflict", "`relevance` needs `search`.")
        elif is_word(term.name):
            self.judgement.fault("sort", "conflict", f"{term.name[:100]!r} needs `aggregate`.")
        else:
            return False
        return True

    def _sorts(
        self, raw: tuple[RawSort, ...], resource: ResourceDefinition, parameter: str
    ) -> tuple[Sort, ...]:
        bound = self.judgement.bounds.max_sorts
        if len(raw) > bound:
            self.judgement.excess(parameter, f"More than {bound} sorts.")
            return ()
        found = [self._sort(term, resource, parameter) for term in raw]
        sorts = tuple(term for term in found if term is not None)
        if len({(sort.path, sort.field) for sort in sorts}) != len(sorts):
            self.judgement.fault(parameter, "repeated", "A field occurs twice.")
        return sorts

    def _sort(self, term: RawSort, resource: ResourceDefinition, parameter: str) -> Sort | None:
        found = self.judgement.field_at(term.name, resource, parameter)
        if found is None:
            return None
        path, definition = found
        filterable = definition.filterable or definition.name == "id" or self.judgement.lookup is None
        if not (definition.type.sortable and filterable):
            has_order = definition.type.sortable or definition.encrypted
            told = closed(definition) if has_order else f"{definition.name!r} has no order."
            self.judgement.fault(parameter, "not_sortable", told)
            return None
        return Sort(path, definition.name, term.descending, term.nulls_first)

    def _fields(
        self, raw: tuple[str, ...] | None, resource: ResourceDefinition, parameter: str
    ) -> tuple[str, ...] | None:
        """Return the chosen fields in the order of definition: one shape for every order of asking."""
        if raw is None:
            return None
        names = self.judgement.names(resource)
        known: Mapping[str, FieldDefinition] = names.fields if names is not None else {}
        readable = {name: definition for name, definition in known.items() if not definition.write_only}
        for name in raw:
            if name not in readable and (outer := readable.get(name.partition(".")[0])) is not None:
                self.judgement.inside(parameter, outer)
            elif name not in readable:
                self.judgement.unknown(parameter, "unknown_field", "field", name, readable)
        chosen = frozenset(raw)
        return tuple(name for name in resource.fields if name in chosen)

    # --- includes ---

    def _includes(self, raw: RawQuery, rows: int) -> tuple[Include, ...]:
        bounds = self.judgement.bounds
        root = _IncludeNode({})
        steps = 0
        if len(raw.includes) > bounds.max_includes:
            self.judgement.stop("include", f"More than {bounds.max_includes} includes.")
        for path, options in raw.includes.items():
            node, parts = root, path.split(".")
            if len(parts) > bounds.max_include_depth:
                self.judgement.excess("include", f"{path[:100]!r} is deeper than {bounds.max_include_depth}.")
                continue
            for part in parts:
                steps += part not in node.children
                node = node.children.setdefault(part, _IncludeNode({}))
            node.options = options
        if steps > bounds.max_includes:
            self.judgement.stop("include", f"More than {bounds.max_includes} includes.")
        self._fields_without_include(raw)
        found, most = self._children(root, self.resource, raw, (), (), rows)
        if most > bounds.max_include_rows:
            self.judgement.excess(
                "include",
                f"Up to {most} included rows, at most {bounds.max_include_rows}: ask for a lower `limit`.",
            )
        return found

    def _fields_without_include(self, raw: RawQuery) -> None:
        included = {path[:end] for path in raw.includes for end in [*_dots(path), len(path)]}
        for path in raw.fields_of:
            if path not in included:
                self.judgement.fault(f"fields[{path}]", "not_included", f"{path[:100]!r} is not included.")

    def _children(
        self,
        node: _IncludeNode,
        resource: ResourceDefinition,
        raw: RawQuery,
        path: tuple[str, ...],
        edges: tuple[tuple[Any, str], ...],
        rows: int,
    ) -> tuple[tuple[Include, ...], int]:
        """Return the includes below a resource, and how many rows they may bring at most."""
        found, most = [], 0
        names = self.judgement.names(resource)
        for name, child in node.children.items():
            relation = names.relations.get(name) if names is not None else None
            if relation is None:
                known: tuple[str, ...] = tuple(names.relations) if names is not None else ()
                self.judgement.unknown("include", "unknown_relation", "relation", name, known)
                continue
            target = self.judgement.target(resource, relation)
            edge = (resource.id, name)
            if edge in edges and target.id != resource.id:
                self.judgement.excess("include", f"{'.'.join((*path, name))[:200]!r} goes in a circle.")
                continue
            below = (*path, name)
            include, limit = self._include(
                name, child.options, target, ".".join(below), many=relation.many, raw=raw
            )
            count = rows * limit if relation.many else rows
            children, more = self._children(child, target, raw, below, (*edges, edge), count)
            found.append(replace(include, includes=children))
            most += more + (count if relation.many else 0)
        return tuple(sorted(found, key=lambda one: one.relation)), most

    def _include(
        self,
        name: str,
        options: RawInclude | None,
        target: ResourceDefinition,
        path: str,
        *,
        many: bool,
        raw: RawQuery,
    ) -> tuple[Include, int]:
        options = options or RawInclude()
        parameter = f"include[{path}]"
        if not many:
            for option in options.options:
                if option in ("limit", "sort"):
                    self.judgement.fault(
                        f"{parameter}[{option}]", "to_one", "There is one related row at most."
                    )
        condition = None
        if options.filter is not None:
            condition = FilterJudge(self.judgement).judge(options.filter, target, f"{parameter}[filter]")
        limit = target.bounds.limit
        if options.limit is not None:
            limit = self._number(options.limit, f"{parameter}[limit]", 1, target.bounds.max_limit, limit)
        fields, chosen = options.fields, raw.fields_of.get(path)
        if fields is not None and chosen is not None:
            self.judgement.fault(f"fields[{path}]", "repeated", "Given in two forms.")
        include = Include(
            relation=name,
            fields=self._fields(fields if fields is not None else chosen, target, f"fields[{path}]"),
            filter=condition,
            sort=self._sorts(options.sort, target, f"{parameter}[sort]"),
            limit=self._shape_limit(limit) if many else None,
        )
        return include, limit

    # --- page ---

    def _page(self, raw: RawQuery) -> tuple[int, int, int]:
        """Return limit, offset and page."""
        bounds, scalars = self.judgement.bounds, raw.scalars
        limit = min(bounds.limit, bounds.max_limit)
        if self.mode == "read":
            return limit, 0, 1
        if "limit" in scalars:
            limit = self._number(scalars["limit"], "limit", 1, bounds.max_limit, limit)
        if "cursor" in scalars:
            for name in ("page", "offset"):
                if name in scalars:
                    self.judgement.fault(name, "conflict", f"`{name}` and `cursor` exclude each other.")
        if "page" in scalars and "offset" in scalars:
            self.judgement.fault("page", "conflict", "`page` and `offset` are two forms of one thing.")
        if "page" in scalars:
            page = self._number(scalars["page"], "page", 1, bounds.max_offset // limit + 1, 1)
            return limit, (page - 1) * limit, page
        offset = self._number(scalars.get("offset", 0), "offset", 0, bounds.max_offset, 0)
        return limit, offset, offset // limit + 1

    def _number(self, raw: Any, parameter: str, low: int, high: int, otherwise: int) -> int:
        """Return a whole number, `otherwise` after noting a fault."""
        value = raw
        if isinstance(raw, Text):
            digits = raw.text
            is_number = digits.isascii() and digits.removeprefix("-").isdigit()
            value = int(digits[:_LONGEST_NUMBER]) if is_number else None
        value = whole(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.judgement.fault(parameter, "type", "Expected a whole number.")
            return otherwise
        if not low <= value <= high:
            self.judgement.fault(parameter, "out_of_range", f"Must be between {low} and {high}.")
            return otherwise
        return value

    def _shape_limit(self, limit: int) -> int | Parameter:
        if limit in _COMMON_LIMITS or limit == self.judgement.bounds.limit:
            return limit
        return self.judgement.parameter(limit)

    def _count(self, raw: RawQuery) -> Literal["exact", "estimated", "none"]:
        if self.mode == "read":
            return "none"
        asked = raw.scalars.get("count", "exact")
        word = asked.text if isinstance(asked, Text) else asked
        for known in COUNTS:
            if word == known:
                return known
        self.judgement.unknown("count", "unknown_word", "way to count", str(word), COUNTS)
        return "exact"


def _search_in(condition: Condition | None) -> Search | None:
    """Return the search of a query's condition: it is the last part."""
    if isinstance(condition, AllOf) and condition.parts:
        condition = condition.parts[-1]
    return condition if isinstance(condition, Search) else None


def _dots(path: str) -> list[int]:
    return [index for index, character in enumerate(path) if character == "."]
