"""Judging a filter: a tree of names and values becomes a Condition, or faults.

Comes from `query_text` (trees of queries) and from JSON (policies, logic classes). One
grammar for all: `{"price": {"gte": 5}, "or": [{…}, {…}], "not": {…}, "category.name": "x",
"dpps": {"some": {"status": "draft"}}}`; several entries of an object are ANDed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from byodpp.aside import is_large
from byodpp.conditions import (
    NOTHING,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Constant,
    Negation,
    Operand,
    Quantified,
    Variable,
)
from byodpp.definitions import VARIABLES, FieldDefinition, ResourceDefinition
from byodpp.fields.numbers import exact
from byodpp.query.documents import definition_inside, has_digits, member, number
from byodpp.query.names import Judgement, closed
from byodpp.query.text import Text
from byodpp.query.values import (
    Rejected,
    items,
    json_candidates,
    json_text,
    pattern,
    scalar,
    scalar_json,
    text,
    truth,
)
from byodpp.suggestion import nearest

__all__ = ["OPERATORS", "QUANTIFIERS", "FilterJudge", "has_paths"]

#: Every operator of the language, in the order in which documentation lists them.
OPERATORS: Final = (
    *("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "between", "like", "ilike", "contains"),
    *("startsWith", "endsWith", "isNull", "has", "hasAny", "hasAll"),
)
QUANTIFIERS: Final = ("some", "every", "none")
#: Names and elements of a tree that one comparison may need: it may lie deep.
_LOOKS_PER_TERM: Final = 50
#: What can be asked of a value inside json, whatever its declared type.
_INSIDE: Final = frozenset(OPERATORS)
_PATTERNS: Final = frozenset({"like", "ilike", "contains", "startsWith", "endsWith"})
_ORDERS: Final = frozenset({"gt", "gte", "lt", "lte"})
_HAS: Final = frozenset({"has", "hasAny", "hasAll"})
_LISTS: Final = frozenset({"in", "nin"})
#: What `between` says of its first value, and of its second.
_ENDS: Final = ("gte", "lte")


def has_paths(definition: FieldDefinition) -> bool:
    """Return whether values inside the field can be named: `metadata.color`, `tags.0`."""
    return definition.type.document


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the query we are, and from which row names are read."""

    resource: ResourceDefinition
    path: tuple[str, ...]  # to-one relations from the condition's own row
    parameter: str  # as the client would spell it
    depth: int

    def at(self, step: str | int) -> _Place:
        """The same row, one bracket further."""
        return replace(self, parameter=f"{self.parameter}[{step}]")


@dataclass(frozen=True, slots=True)
class _Target:
    """The field that a comparison is about."""

    place: _Place
    definition: FieldDefinition
    inside: tuple[str, ...]

    def compare(
        self, operator: str, operand: Operand | tuple[Operand, Operand], kind: Any = ""
    ) -> Comparison:
        return Comparison(self.place.path, self.definition.name, operator, operand, self.inside, kind)


@dataclass(slots=True)
class FilterJudge:
    """Judges the filters of one query; values and faults go to the judgement."""

    judgement: Judgement
    variables: bool = False  # whether `$user.id` and its like are variables: rules only
    words: bool = False  # whether names are words such as `sum:price`, which brackets do not part
    looked: int = 0  # at names and elements of trees, whatever they turned out to be

    def judge(self, tree: Any, resource: ResourceDefinition, parameter: str = "filter") -> Condition:
        """Return the condition that a tree spells over a resource's rows.

        Faults are noted in the judgement; the condition then means nothing.
        """
        return self._node(tree, _Place(resource, (), parameter, 1))

    def _look(self) -> None:
        """Count one more name or element of a tree; stop where there are far more than comparisons may be."""
        self.looked += 1
        bound = self.judgement.bounds.max_filter_terms
        if self.looked > _LOOKS_PER_TERM * bound:
            self.judgement.stop("filter", f"The filter has more than {bound} comparisons.")

    def _node(self, tree: Any, place: _Place) -> Condition:
        self._look()
        if place.depth > self.judgement.bounds.max_filter_depth:
            bound = self.judgement.bounds.max_filter_depth
            self.judgement.stop("filter", f"The filter is nested deeper than {bound}.")
        if not isinstance(tree, Mapping) or not tree:
            self.judgement.fault(place.parameter, "type", "Expected an object with at least one name.")
            return NOTHING
        parts = tuple(self._entry(name, value, place.at(name)) for name, value in tree.items())
        return parts[0] if len(parts) == 1 else AllOf(parts)

    def _entry(self, name: str, value: Any, place: _Place) -> Condition:
        self._look()
        below = replace(place, depth=place.depth + 1)
        if name in ("and", "or"):
            return self._junction(AllOf if name == "and" else AnyOf, value, below)
        if name == "not":
            return Negation(self._node(value, below))
        return self._named(name, value, below)

    def _junction(self, kind: type[AllOf] | type[AnyOf], value: Any, place: _Place) -> Condition:
        try:
            trees = items(value) if not isinstance(value, Text) else []
        except Rejected:
            trees = []
        if not trees:
            self.judgement.fault(place.parameter, "type", "Expected a list of conditions.")
            return NOTHING
        return kind(tuple(self._node(tree, place.at(index)) for index, tree in enumerate(trees)))

    # --- names ---

    def _named(self, name: str, value: Any, place: _Place) -> Condition:
        """Follow a dotted name to a field, a to-one object, or a to-many relation."""
        first, *rest = name.split(".")
        names = self.judgement.names(place.resource)
        if names is not None and first in names.relations:
            relation = names.relations[first]
            target = self.judgement.target(place.resource, relation)
            below = replace(
                place, resource=target, path=(*place.path, first), depth=place.depth + (1 if rest else 0)
            )
            if relation.many:
                return self._quantified(".".join(rest), value, below)
            if rest and place.depth > self.judgement.bounds.max_filter_depth:  # as of objects in each other
                self.judgement.stop("filter", "The filter is nested too deeply.")
            return self._named(".".join(rest), value, below) if rest else self._node(value, below)
        if names is None or first not in names.fields:
            known = (*names.fields, *names.relations) if names else ()
            meant = self._meant(first, rest, value)
            self.judgement.unknown(place.parameter, "unknown_field", "field", first, known, meant)
            return NOTHING
        return self._field(names.fields[first], tuple(rest), value, self._stepped(place, rest))

    def _meant(self, first: str, rest: Sequence[str], value: Any) -> str:
        """Return the word that a name, or the brackets behind it, may have been meant to be."""
        parted = rest or (list(value) if isinstance(value, Mapping) else ())
        return f"{first}:{parted[0]}" if self.words and parted and parted[0] not in OPERATORS else first

    def _stepped(self, place: _Place, steps: Sequence[str]) -> _Place:
        """Return the place of some steps inside a document, which count like as many brackets."""
        deeper = replace(place, depth=place.depth + len(steps))
        if steps and deeper.depth > self.judgement.bounds.max_filter_depth:
            self.judgement.stop("filter", "The filter is nested too deeply.")
        return deeper

    def _quantified(self, rest: str, value: Any, place: _Place) -> Condition:
        """Judge `{"some": {…}}`; `dpps.some` is no name."""
        parts = []
        if rest or not isinstance(value, Mapping) or not value:
            example = f"filter[{'.'.join(place.path)}][some][{rest or 'field'}]"
            self.judgement.fault(
                place.parameter, "quantifier", f"A to-many relation needs a quantifier: {example}"
            )
            return NOTHING
        for word, tree in value.items():
            self._look()
            if word not in QUANTIFIERS:
                self.judgement.unknown(
                    place.at(word).parameter, "unknown_quantifier", "quantifier", word, QUANTIFIERS
                )
                continue
            inner = _Place(place.resource, (), place.at(word).parameter, place.depth)
            parts.append(Quantified(place.path, word, self._node(tree, inner)))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _field(
        self, definition: FieldDefinition, inside: tuple[str, ...], value: Any, place: _Place
    ) -> Condition:
        if not definition.filterable and definition.name != "id" and self.judgement.lookup is not None:
            self.judgement.fault(place.parameter, "not_filterable", closed(definition))
            return NOTHING
        try:
            if "" in inside:
                raise Rejected("A step of the path is empty.", "unknown_field")
            definition_inside(definition, inside)
        except Rejected as error:
            self.judgement.fault(place.parameter, error.code, str(error))
            return NOTHING
        target = _Target(place, definition, inside)
        if not isinstance(value, Mapping):
            # The shorthand; on a document only null has one.
            word = "eq" if value is not None else "isNull"
            return self._operation(
                replace(target, place=place), word, value if value is not None else True, shown=False
            )
        if not value:
            self.judgement.fault(place.parameter, "type", "Expected an operator.")
            return NOTHING
        parts = tuple(self._operation(target, word, operand) for word, operand in value.items())
        return parts[0] if len(parts) == 1 else AllOf(parts)

    def _operation(self, target: _Target, word: str, operand: Any, *, shown: bool = True) -> Condition:
        """Judge one entry below a field: an operator, or the next key inside json.

        Args:
            target: the field.
            word: operator or key.
            operand: its value.
            shown: whether the client spelled the word.
        """
        self._look()
        place = target.place.at(word) if shown else target.place
        if word not in OPERATORS and has_paths(target.definition):
            steps = word.split(".")
            deeper = self._stepped(place, steps)
            return self._field(target.definition, (*target.inside, *steps), operand, deeper)
        known = _INSIDE if target.inside else target.definition.type.operators
        if word not in known:
            ordered = tuple(one for one in OPERATORS if one in known)
            self.judgement.unknown(place.parameter, "unknown_operator", "operator", word, ordered)
            return NOTHING
        return self._operator(_Target(place, target.definition, target.inside), word, operand)

    # --- operators ---

    def _operator(self, target: _Target, word: str, raw: Any) -> Condition:
        self.judgement.terms += 1
        bound = self.judgement.bounds.max_filter_terms
        if self.judgement.terms > bound:
            self.judgement.stop("filter", f"The filter has more than {bound} comparisons.")
        try:
            if self._is_variable(raw):
                return self._variable(target, word, raw)
            if self.variables and word == "between":
                return self._between_variables(target, raw)
            return self._compare(target, word, raw if word in _LISTS else self._literal(word, raw))
        except Rejected as error:
            self.judgement.fault(target.place.parameter, error.code, str(error))
            return NOTHING

    def _compare(self, target: _Target, word: str, raw: Any) -> Condition:
        if word == "isNull":
            return target.compare("isNull", Constant(truth(raw)))
        if raw is None and word in ("eq", "ne"):
            return target.compare("isNull", Constant(word == "eq"))
        if word in _PATTERNS:
            operator = "ilike" if word == "ilike" else "like"
            return target.compare(
                operator, self.judgement.parameter(pattern(word, raw)), "text" if target.inside else ""
            )
        if word in _HAS:
            return self._has(target, word, raw)
        if word in ("in", "nin"):
            return self._list(target, word, self._elements(raw))
        if word == "between":
            low, high = self._pair(raw)
            return self._ordered(target, word, low, high)
        if target.inside:
            return self._inside(target, word, raw)
        return target.compare(word, self.judgement.parameter(scalar(raw, target.definition)))

    def _elements(self, raw: Any) -> list[Any]:
        elements = items(raw)
        bound = self.judgement.bounds.max_in_values
        if len(elements) > bound:
            self.judgement.stop("filter", f"A list has more than {bound} values.")
        if not elements and self.judgement.lookup is not None:
            raise Rejected("The list is empty.")
        return elements

    def _pair(self, raw: Any) -> tuple[Any, Any]:
        elements = items(raw)
        if len(elements) != 2:
            raise Rejected("Expected two values.")
        return elements[0], elements[1]

    def _list(self, target: _Target, word: str, elements: list[Any]) -> Condition:
        """Judge `in` and `nin`; null and variables among the values become terms of their own."""
        plain = [
            self._literal(word, one) for one in elements if one is not None and not self._is_variable(one)
        ]
        others = [
            self._operator(target, "eq", one) for one in elements if one is None or self._is_variable(one)
        ]
        if target.inside:
            comparison = self._any_inside(target, "in", plain)
        else:
            values = [scalar(one, target.definition) for one in plain]
            comparison = target.compare("in", self.judgement.parameter(values))
        if not others:
            return replace(comparison, operator=word)
        either = AnyOf((comparison, *others)) if plain else AnyOf(tuple(others))
        return either if word == "in" else Negation(either)

    def _ordered(self, target: _Target, word: str, *raw: Any) -> Condition:
        """Judge a comparison that needs an order; inside json numbers and texts have one."""
        kind, values = "", [] if target.inside else [scalar(one, target.definition) for one in raw]
        if target.inside:
            kind, values = self._order_inside(target, raw)
        operands = [self.judgement.parameter(one) for one in values]
        return target.compare(word, (operands[0], operands[1]) if len(operands) == 2 else operands[0], kind)

    def _order_inside(self, target: _Target, raw: tuple[Any, ...]) -> tuple[str, list[Any]]:
        """Return how values inside json are ordered, and what they are compared with."""
        definition = self._declared(target)
        if definition is not None and has_digits(definition):
            return "digits", [number(one, definition) for one in raw]
        candidates = [self._candidates(definition, one)[-1] for one in raw]
        if all(isinstance(one, int | Decimal | float) and not isinstance(one, bool) for one in candidates):
            return "number", [exact(one) for one in candidates]
        if definition is not None and not definition.type.document:
            return "text", [text(one) for one in candidates]
        return "text", [text(one) for one in raw]

    def _inside(self, target: _Target, word: str, raw: Any) -> Condition:
        if word in _ORDERS:
            return self._ordered(target, word, raw)
        return self._any_inside(target, "in" if word == "eq" else "nin", [raw])

    def _any_inside(self, target: _Target, word: str, raw: list[Any]) -> Comparison:
        """Compare a value inside json with all that some operands may mean."""
        definition = self._declared(target)
        if definition is not None and has_digits(definition):
            numbers = [number(one, definition) for one in raw]
            return target.compare(word, self.judgement.parameter(numbers), "digits")
        candidates = [json_text(value) for one in raw for value in self._candidates(definition, one)]
        return target.compare(word, self.judgement.parameter(candidates), "json")

    def _candidates(self, definition: FieldDefinition | None, raw: Any) -> list[Any]:
        """Return the JSON values that an operand inside json may mean."""
        if definition is None or raw is None or definition.type.document:
            return json_candidates(raw)
        return [scalar_json(raw, definition)]

    def _declared(self, target: _Target) -> FieldDefinition | None:
        """Return what is declared at the end of the path, None where anything may lie."""
        return definition_inside(target.definition, target.inside)

    def _has(self, target: _Target, word: str, raw: Any) -> Condition:
        """Judge has, hasAny, hasAll: one term per value, joined by or and and."""
        elements = [raw] if word == "has" else items(raw)
        if not elements:
            raise Rejected("The list is empty.")
        self.judgement.terms += len(elements) - 1
        if self.judgement.terms > self.judgement.bounds.max_filter_terms:
            self.judgement.stop("filter", "The filter has too many comparisons.")
        parts = tuple(self._has_one(target, element) for element in elements)
        if len(parts) == 1:
            return parts[0]
        return AllOf(parts) if word == "hasAll" else AnyOf(parts)

    def _has_one(self, target: _Target, raw: Any) -> Condition:
        """Judge one `has`: an array holds the value, or an object the key."""
        definition = self._declared(target)
        item = definition.items if definition is not None else None
        if item is not None and has_digits(item) and not item.type.canonical(item):
            return target.compare("has", self.judgement.parameter(number(raw, item)), "digits")
        if item is not None:
            bound = self.judgement.bounds.max_in_values
            if is_large(raw, bound):
                self.judgement.stop("filter", f"What an item must hold has more than {bound} values.")
            return target.compare(
                "has", self.judgement.parameter(f"[{json_text(member(raw, item))}]"), "json"
            )
        if isinstance(raw, list | Mapping) or raw is None:
            raise Rejected("Expected a single value.")
        candidates = json_candidates(raw)
        values = [f"[{json_text(value)}]" for value in candidates]
        parts: list[Condition] = [
            target.compare("has", self.judgement.parameter(value), "json") for value in values
        ]
        if isinstance(candidates[0], str):
            parts.append(target.compare("has", self.judgement.parameter(candidates[0]), "text"))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    # --- variables ---

    def _is_variable(self, raw: Any) -> bool:
        return self.variables and isinstance(raw, str) and raw.startswith("$")

    def _literal(self, word: str, raw: Any) -> Any:
        """Return a value of a list or a document in a rule, where a variable would be a text like any other.

        Raises:
            Rejected: one stands there.
        """
        if not self.variables:
            return raw
        match raw:
            case str() if raw.startswith("$$"):
                return raw[1:]
            case str() if raw.startswith("$"):
                raise Rejected(f"A variable cannot be used with {word!r} here; `$$` begins a text with `$`.")
            case list():
                return [self._literal(word, one) for one in raw]
            case Mapping():
                return {key: self._literal(word, one) for key, one in raw.items()}
        return raw

    def _between_variables(self, target: _Target, raw: Any) -> Condition:
        """Judge `between` in a rule: each of its ends may be a variable."""
        ends = self._pair(raw)
        if any(self._is_variable(one) for one in ends):
            return AllOf(
                tuple(self._operator(target, one, end) for one, end in zip(_ENDS, ends, strict=True))
            )
        return self._compare(target, "between", [self._literal("between", one) for one in ends])

    def _variable(self, target: _Target, word: str, raw: str) -> Condition:
        """Judge `$user.id` and its like; `$$` at the beginning is a literal `$`."""
        if raw.startswith("$$"):
            return self._compare(target, word, raw[1:])
        name = "user.id" if raw == "$user" else raw[1:]
        if f"${name}" not in VARIABLES:
            raise Rejected(
                f"there is no variable {raw[:100]!r}. {nearest(raw, VARIABLES, prefix='$user.')}".rstrip()
            )
        if target.inside or word in _PATTERNS | _HAS | {"isNull", "between"}:
            raise Rejected(f"A variable cannot be used with {word!r} here.")
        return target.compare(word, Variable(name))
