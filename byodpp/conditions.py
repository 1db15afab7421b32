"""What a query means, as frozen values: the shape of a condition, a page, and what a caller may see.

Made by `query_filters` and `query_judge` (which judge) and by `authorization` (which grants);
read by `statements`. Nothing here can be wrong: every name was checked against the registry.

A *shape* holds no client's values: a `Parameter` says where in `Query.values` the value lies,
so that two requests that differ in values only share one compiled statement. Rules of
policies carry their few values as `Constant`, and what depends on the caller as `Variable`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from byodpp.definitions import ResourceDefinition

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "After",
    "Aggregate",
    "AllOf",
    "AnyOf",
    "Comparison",
    "Condition",
    "Constant",
    "Group",
    "Grouping",
    "Include",
    "Lookup",
    "Negation",
    "Operand",
    "Parameter",
    "Quantified",
    "Query",
    "Refusal",
    "Relevance",
    "Search",
    "Shape",
    "Sort",
    "SortWord",
    "Variable",
    "Visibility",
    "all_of",
    "any_of",
    "with_constants",
]


@dataclass(frozen=True, slots=True)
class Parameter:
    """The value at this place of `Query.values`, in the form asyncpg takes."""

    index: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that belongs to the shape, in the form asyncpg takes; a list is a tuple."""

    value: Any


@dataclass(frozen=True, slots=True)
class Variable:
    """What the caller brings: `user.id` and others of `VARIABLES`.

    Absent, null, an empty list, or a value that the field's type refuses make the
    comparison unknown: it never allows, and in a refusal refuses.
    """

    name: str


Operand = Parameter | Constant | Variable


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field of the row, or of the row at the end of to-one relations, against a value.

    `operator` is a word of the query language, already simplified: `like` and `ilike` stand
    for the five text operators (the operand is a complete pattern), `has` for `hasAny` and
    `hasAll`. Nulls: every operator is false for them, except `ne`, `nin`, and `isNull`.
    """

    path: tuple[str, ...]  # to-one relations; empty is the row itself
    field: str
    operator: str  # eq ne gt gte lt lte in nin between like ilike isNull has
    operand: Operand | tuple[Operand, Operand]  # a pair for `between`
    inside: tuple[str, ...] = ()  # keys inside a json field
    # How a value inside json is compared; `digits` is a number, or a text that spells one.
    kind: Literal["", "text", "number", "digits", "json"] = ""


@dataclass(frozen=True, slots=True)
class AllOf:
    """True when every part is; true when there is none."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True when one part is; false when there is none."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """The boolean complement: includes rows for which the part is null."""

    part: Condition


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a deny leaves: rows for which the part is known to be false."""

    part: Condition


@dataclass(frozen=True, slots=True)
class Quantified:
    """A statement about the rows of a to-many relation; `every` of none is true."""

    path: tuple[str, ...]  # to-one relations, then the to-many one
    quantifier: Literal["some", "every", "none"]
    part: Condition


@dataclass(frozen=True, slots=True)
class Search:
    """Full text over these fields of the row."""

    fields: tuple[str, ...]
    operand: Operand


@dataclass(frozen=True, slots=True)
class Opened:
    """The row was opened to the session's tenant by a grant, or is everybody's reference data."""


Condition = Comparison | AllOf | AnyOf | Negation | Refusal | Quantified | Search | Opened

#: True for every row.
EVERYTHING = AllOf(())
#: True for no row.
NOTHING = AnyOf(())


def all_of(parts: Sequence[Condition | None]) -> Condition | None:
    """Join what must all hold; None stands for "no condition"."""
    present = tuple(part for part in parts if part is not None)
    if len(present) < 2:
        return present[0] if present else None
    return AllOf(present)


def any_of(parts: Sequence[Condition | None]) -> Condition | None:
    """Join what may hold; None stands for "no condition", so one None makes all None."""
    present = tuple(part for part in parts if part is not None)
    if len(present) != len(parts):
        return None
    return present[0] if len(present) == 1 else AnyOf(present)


def with_constants(condition: Condition, values: Sequence[Any]) -> Condition:
    """Replace each Parameter by the Constant it stands for."""

    def fixed(operand: Operand) -> Operand:
        if not isinstance(operand, Parameter):
            return operand
        value = values[operand.index]
        return Constant(tuple(value) if isinstance(value, list) else value)

    match condition:
        case Comparison(operand=operand):
            both = (fixed(operand[0]), fixed(operand[1])) if isinstance(operand, tuple) else fixed(operand)
            return replace(condition, operand=both)
        case Search(operand=operand):
            return replace(condition, operand=fixed(operand))
        case AllOf() | AnyOf():
            return type(condition)(tuple(with_constants(part, values) for part in condition.parts))
        case Opened():
            return condition
        case _:
            return replace(condition, part=with_constants(condition.part, values))


def depends_on_time(condition: Condition | None) -> bool:
    """Whether a condition compares with the moment in which it is asked."""
    match condition:
        case None | Opened() | Search():
            return False
        case Comparison(operand=operand):
            operands = operand if isinstance(operand, tuple) else (operand,)
            return any(isinstance(one, Variable) and one.name == "now" for one in operands)
        case AllOf() | AnyOf():
            return any(depends_on_time(part) for part in condition.parts)
        case _:
            return depends_on_time(condition.part)


@dataclass(frozen=True, slots=True, eq=False)
class Visibility:
    """What a caller may read of one resource. Compared and hashed by its meaning."""

    rows: Condition | None  # None is all rows of the caller's scope
    fields: Mapping[str, Condition | None]  # readable field -> None (always), or when it is visible
    depends_on_time: bool = field(init=False, repr=False)  # some condition asks for the present moment
    _key: tuple[Any, ...] = field(init=False, repr=False)
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compute the hash once: a visibility is part of every statement's cache key."""
        key = (self.rows, frozenset(self.fields.items()))
        timed = any(depends_on_time(one) for one in {self.rows, *self.fields.values()})
        object.__setattr__(self, "depends_on_time", timed)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Visibility):
            return NotImplemented
        return self._hash == other._hash and self._key == other._key


#: Tells what the caller may read of a resource; None: nothing, as if it did not exist.
Lookup = Callable[["ResourceDefinition"], Visibility | None]


@dataclass(frozen=True, slots=True)
class Sort:
    """One term of an order."""

    path: tuple[str, ...]  # to-one relations; empty is the row itself
    field: str
    descending: bool = False
    nulls_first: bool | None = None  # None: last ascending, first descending


@dataclass(frozen=True, slots=True)
class Relevance:
    """A term of an order: how well a row fits the words that are searched; never null."""

    search: Search
    descending: bool = True


@dataclass(frozen=True, slots=True)
class After:
    """Where a page by cursor begins: behind the row that had these values in the terms of the order."""

    places: tuple[int | None, ...]  # place of each value in `Query.values`, as text; None: it was null


@dataclass(frozen=True, slots=True)
class Group:
    """One thing by which rows are grouped: a field, or the period into which it falls in UTC."""

    path: tuple[str, ...]  # to-one relations; empty is the row itself
    field: str
    period: str = ""  # hour day week month quarter year; empty: the value itself

    @property
    def word(self) -> str:
        """As a client spells it: `categoryId`, `category.name`, `month(createdAt)`."""
        name = ".".join((*self.path, self.field))
        return f"{self.period}({name})" if self.period else name


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One number (or least or greatest value) for each group of rows."""

    function: str  # count countDistinct sum avg min max
    field: str = ""  # of the row; `count` has none

    @property
    def word(self) -> str:
        """As a client spells it: `count`, `sum:price`."""
        return f"{self.function}:{self.field}" if self.field else self.function


@dataclass(frozen=True, slots=True)
class SortWord:
    """One term of an order of groups."""

    word: str  # of a Group or an Aggregate
    descending: bool = False
    nulls_first: bool | None = None  # None: last ascending, first descending


@dataclass(frozen=True, slots=True)
class Grouping:
    """What is asked of groups of rows in place of the rows themselves."""

    aggregates: tuple[Aggregate, ...]  # the first `shown` are answered, the rest serve having and sort
    shown: int
    groups: tuple[Group, ...] = ()  # none: all rows are one group
    having: Condition | None = None  # its fields are words of aggregates
    sort: tuple[SortWord, ...] = ()  # the groups are appended


@dataclass(frozen=True, slots=True, kw_only=True)
class Include:
    """Related rows that travel inside a row."""

    relation: str
    fields: tuple[str, ...] | None = None  # None: all that the caller may read
    filter: Condition | None = None
    sort: tuple[Sort, ...] = ()  # the key is appended
    limit: int | Parameter | None = None  # rows per parent; None for to-one
    includes: tuple[Include, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Everything of a query but its values."""

    fields: tuple[str, ...] | None = None  # None: all that the caller may read
    includes: tuple[Include, ...] = ()
    filter: Condition | None = None
    sort: tuple[Sort | Relevance, ...] = ()  # the key is appended
    limit: int | Parameter | None = None
    offset: Parameter | None = None
    after: After | None = None
    count: Literal["exact", "estimated", "none"] = "exact"
    grouping: Grouping | None = None  # None: rows are asked for
    touched: tuple[tuple[str, str], ...] = ()  # ids of the resources read: root first, the rest sorted
    as_of: Parameter | None = None  # the moment whose rows are meant; None is now
    answers: bool = True  # False: nobody is answered with the rows, and their bytes have no bound
    keyed: bool = False  # the keys of a page's rows are told beside it, whatever its fields are
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute the hash once: a shape is looked up for every request."""
        which = (self.filter, self.sort, self.limit, self.offset, self.after, self.count)
        what = (self.fields, self.includes, self.grouping, self.touched, self.as_of, self.answers, self.keyed)
        object.__setattr__(self, "_hash", hash((which, what)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A judged query: shape and values, and the page in numbers for the envelope."""

    shape: Shape
    values: tuple[Any, ...] = ()
    limit: int = 0  # rows of a page; 0 for a single row
    offset: int = 0  # rows before the page; of a page by cursor, as far as its reader has counted
    page: int = 1  # counted from 1
    fingerprint: bytes = b""  # of resource, filter and order: what a cursor is good for; empty: none is
