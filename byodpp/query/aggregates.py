"""Judging aggregates: `aggregate=count,sum:price&group=categoryId,month(createdAt)&having[count][gt]=5`.

Comes from `query_judge`; goes to `statement_aggregates` as a Grouping. A field that the caller
may not read is refused here in the same words as one that does not exist; where a rule shows
a field on some rows only, the others count as null, which no aggregate takes in.

An answer's rows have one member for each kind of thing asked: `{"group": {"categoryId": 7,
"month(createdAt)": "2024-05-01T00:00:00.000000Z"}, "count": 12, "sum": {"price": 99.50}}`. A
period is named by its first moment in UTC, or its first day where the field is a date.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from byodpp.conditions import Aggregate, Condition, Group, Grouping, SortWord
from byodpp.definitions import FieldDefinition, Kind, ResourceDefinition
from byodpp.fields import FIELD_TYPES
from byodpp.query.filters import FilterJudge
from byodpp.query.names import Judgement, Names, closed
from byodpp.query.text import FUNCTIONS, RawQuery, RawSort

__all__ = ["PERIODS", "GroupingJudge", "functions_of", "is_word", "measured", "periods_of", "result_field"]

#: Periods into which moments are put, in UTC; days of no time zone have no hours.
PERIODS: Final = ("hour", "day", "week", "month", "quarter", "year")
MAX_AGGREGATES: Final = 32
MAX_GROUPS: Final = 8
#: Bytes of a member's name that PostgreSQL keeps.
_MAX_WORD_BYTES: Final = 63
_PERIOD: Final = re.compile(r"([^()]*)\(([^()]*)\)")


def functions_of(definition: FieldDefinition) -> tuple[str, ...]:
    """Return the functions that a field allows, in the order in which documentation lists them."""
    if not definition.type.sortable or definition.write_only:
        return ()
    allowed = {"countDistinct", *definition.type.aggregates}
    return tuple(one for one in FUNCTIONS if one in allowed)


def periods_of(definition: FieldDefinition) -> tuple[str, ...]:
    """Return the periods into which a field's values fall."""
    if definition.type.name == "datetime":
        return PERIODS
    return tuple(one for one in PERIODS if one != "hour") if definition.type.name == "date" else ()


def is_word(name: str) -> bool:
    """Whether a name means something in a query with `aggregate` only: `count`, `sum:price`, `month(at)`."""
    match = _PERIOD.fullmatch(name)
    return name.partition(":")[0] in FUNCTIONS or (match is not None and match[1] in PERIODS)


def result_field(aggregate: Aggregate, resource: ResourceDefinition, column: str = "") -> FieldDefinition:
    """Return the type of an aggregate's result as a field: for its JSON, and for comparing with it.

    Args:
        aggregate: which.
        resource: whose rows are taken together.
        column: name of the result's column.
    """
    source = resource.fields.get(aggregate.field)
    if aggregate.function in ("min", "max") and source is not None:
        return replace(source, name=aggregate.word, column=column or aggregate.word, filterable=True)
    kind = "bigint"
    if aggregate.function in ("sum", "avg") and source is not None:
        kind = "float" if source.type.name == "float" else "decimal"
    words = {"asString": True} if source is not None and source.constraints.get("asString") else {}
    return FieldDefinition(
        name=aggregate.word,
        column=column or aggregate.word,
        type=FIELD_TYPES[kind],
        constraints=MappingProxyType(words if kind == "decimal" else {}),
    )


def measured(resource: ResourceDefinition, aggregates: Sequence[Aggregate]) -> ResourceDefinition:
    """Return aggregates as the fields of a resource whose rows are groups: what `having` is about.

    The column of the first one is `a0`, of the second `a1`, and so on.
    """
    fields = {one.word: result_field(one, resource, f"a{index}") for index, one in enumerate(aggregates)}
    return replace(
        resource,
        name=f"{resource.name} in groups",
        kind=Kind.DATABASE,
        fields=MappingProxyType(fields),
        relations=MappingProxyType({}),
        soft_delete=False,
    )


@dataclass(slots=True)
class GroupingJudge:
    """Judges what is asked of groups of one resource's rows; faults go to the judgement."""

    judgement: Judgement
    resource: ResourceDefinition
    elsewhere: frozenset[str] = frozenset()  # orders that only queries without groups have
    _computed: dict[str, Aggregate] = field(default_factory=dict)  # by word, in the order of mention

    def judge(self, raw: RawQuery) -> Grouping:
        """Return what is asked; it means nothing once a fault was noted."""
        if len(raw.aggregates) > MAX_AGGREGATES:
            self.judgement.stop("aggregate", f"More than {MAX_AGGREGATES} aggregates.")
        if len(raw.groups) > MAX_GROUPS:
            self.judgement.stop("group", f"More than {MAX_GROUPS} groups.")
        for word in raw.aggregates:
            self._aggregate(word, "aggregate")
        shown = len(self._computed)
        groups = tuple(group for word in raw.groups if (group := self._group(word)) is not None)
        having = None if raw.having is None else self._having(raw.having)
        sort = self._sorts(raw.sort, groups)
        return Grouping(tuple(self._computed.values()), shown, groups, having, sort)

    def _names(self) -> Mapping[str, FieldDefinition]:
        names = self.judgement.names(self.resource)
        return names.fields if names is not None else {}

    # --- aggregates ---

    def _aggregate(self, word: str, parameter: str) -> Aggregate | None:
        function, colon, name = word.partition(":")
        if function not in FUNCTIONS:
            self.judgement.unknown(parameter, "unknown_function", "function", function, FUNCTIONS)
            return None
        if (function == "count") == bool(colon):
            told = "`count` counts rows." if colon else f"Expected {function}:field."
            self.judgement.fault(parameter, "format", told)
            return None
        if colon and not self._allows(function, name, parameter):
            return None
        return self._computed.setdefault(word, Aggregate(function, name))

    def _allows(self, function: str, name: str, parameter: str) -> bool:
        definition = self._names().get(name)
        outer = self._names().get(name.partition(".")[0])
        if definition is None and outer is not None:
            self.judgement.inside(parameter, outer)
            return False
        if definition is None:
            self.judgement.unknown(parameter, "unknown_field", "field", name, self._names())
            return False
        if not self._usable(definition) or function not in functions_of(definition):
            told = f"{name!r} cannot be taken together by {function}."
            told = told if self._usable(definition) else closed(definition)
            self.judgement.fault(parameter, "not_aggregatable", told)
            return False
        return True

    def _usable(self, definition: FieldDefinition) -> bool:
        return definition.filterable or definition.name == "id" or self.judgement.lookup is None

    # --- groups ---

    def _group(self, word: str) -> Group | None:
        match = _PERIOD.fullmatch(word)
        period, name = (match[1], match[2]) if match else ("", word)
        if match and period not in PERIODS:
            self.judgement.unknown("group", "unknown_period", "period", period, PERIODS)
            return None
        found = self.judgement.field_at(name, self.resource, "group")
        if found is None:
            return None
        path, definition = found
        if not (definition.type.sortable and self._usable(definition)):
            told = f"Rows cannot be grouped by {definition.name!r}."
            told = told if self._usable(definition) else closed(definition)
            self.judgement.fault("group", "not_groupable", told)
        elif period and period not in periods_of(definition):
            self.judgement.fault("group", "type", f"{definition.name!r} falls into no {period}.")
        elif len(word.encode()) > _MAX_WORD_BYTES:
            self.judgement.fault("group", "too_long", f"A group has at most {_MAX_WORD_BYTES} bytes.")
        else:
            return Group(path, definition.name, period)
        return None

    # --- having and sort ---

    def _having(self, tree: object) -> Condition:
        """Judge a filter whose names are words of aggregates, whether they are answered or not."""
        possible = [Aggregate("count")]
        for name, definition in self._names().items():
            if self._usable(definition):
                possible += (Aggregate(function, name) for function in functions_of(definition))
        known = {one.word: one for one in possible}
        groups = measured(self.resource, possible)
        self.judgement.declare(groups, Names(groups.fields, {}))
        condition = FilterJudge(self.judgement, words=True).judge(tree, groups, "having")
        for word in _words(tree):
            if word in known:
                self._computed.setdefault(word, known[word])
        return condition

    def _sorts(self, raw: tuple[RawSort, ...], groups: tuple[Group, ...]) -> tuple[SortWord, ...]:
        bound = self.judgement.bounds.max_sorts
        if len(raw) > bound:
            self.judgement.excess("sort", f"More than {bound} sorts.")
            return ()
        words = {group.word for group in groups}
        for term in raw:
            if term.name in words:
                continue
            if term.name.partition(":")[0] in FUNCTIONS:
                self._aggregate(term.name, "sort")
            elif self._orders_rows(term.name):
                told = f"{term.name[:100]!r} is not in `group`: groups have no other order."
                self.judgement.fault("sort", "conflict", told)
            else:
                known = (*words, *self._computed)
                self.judgement.unknown("sort", "unknown_field", "group or aggregate", term.name, known)
        if len({term.name for term in raw}) != len(raw):
            self.judgement.fault("sort", "repeated", "A name occurs twice.")
        return tuple(SortWord(term.name, term.descending, term.nulls_first) for term in raw)

    def _orders_rows(self, name: str) -> bool:
        return name in self.elsewhere or is_word(name) or self.judgement.leads(name, self.resource)


def _words(tree: object) -> list[str]:
    """Return every name in a tree that may be an aggregate's."""
    if isinstance(tree, Mapping):
        return [word for key, value in tree.items() for word in (key, *_words(value))]
    if isinstance(tree, list):
        return [word for value in tree for word in _words(value)]
    return []
