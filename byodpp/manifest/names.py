"""The names of a draft's fields and columns: which are implied, reserved, too long, or twice there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from byodpp.definitions import Kind, Scope
from byodpp.grammar.shapes import Checker
from byodpp.grammar.values import Checked
from byodpp.manifest.draft import MAX_NAME_BYTES, Draft, snake_case

__all__ = ["RESERVED_WORDS", "implied_names", "name_fields"]

#: Words of the query language: a field or relation of that name could not be told from them.
RESERVED_WORDS: Final = frozenset(
    "eq ne gt gte lt lte in nin between like ilike contains startsWith endsWith isNull "
    "has hasAny hasAll and or not some every none".split()
)
#: System columns of PostgreSQL, and the names its tables cannot have twice.
_RESERVED_COLUMNS: Final = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
#: Names that the framework gives: name -> whether it is never free, even where it is not implied.
_ALWAYS_IMPLIED: Final = frozenset({"id", "tenantId", "createdAt", "updatedAt"})


def implied_names(draft: Draft) -> dict[str, str]:
    """Return the names that the framework adds to this resource -> what switches them on."""
    if draft.kind is Kind.LOGIC:
        return {}
    found = {"id": "every resource"}
    if draft.scope in (Scope.TENANT, Scope.USER, Scope.LIBRARY):
        found["tenantId"] = f'"scope": "{draft.scope}"'
    if draft.scope is Scope.USER:
        found["ownerId"] = '"scope": "user"'
    if draft.kind is Kind.DATABASE:
        found |= {"createdAt": "every resource", "updatedAt": "every resource"}
        if draft.body.get("versioned", False) is not False:
            found["version"] = '"versioned"'
        if draft.body.get("softDelete"):
            found["deletedAt"] = '"softDelete"'
    return found


def name_fields(draft: Draft, checker: Checker) -> None:
    """Fill `Draft.names`; refuse names and columns that are reserved or collide."""
    fields = draft.body.get("fields") or Checked({}, draft.body.at("fields"))
    implied = implied_names(draft)
    for name in implied:
        draft.names[name] = snake_case(name)
    folded = {name.casefold(): name for name in draft.names}
    columns = {column: name for name, column in draft.names.items()}
    for name in (*fields, *sorted(fields.broken)):
        spec = fields.get(name, {})
        column = spec.get("column", snake_case(name))
        path = fields.at(name)
        if name in implied or (name in _ALWAYS_IMPLIED and draft.kind is Kind.DATABASE):
            reason = f"{name!r} is the framework's own field"
            checker.report(
                path,
                reason,
                "Leave it out: it is there by itself." if name in implied else "Choose another name.",
            )
            draft.names[name] = column
            continue
        _check_field_name(name, column, path, folded, columns, checker)
        draft.names[name] = column
        folded.setdefault(name.casefold(), name)
        columns.setdefault(column.lower(), name)
    state = _state_field(draft)
    if state is not None and state not in draft.names:
        draft.names[state] = snake_case(state)


def _state_field(draft: Draft) -> str | None:
    states = draft.body.get("states")
    return states.get("field", "status") if states is not None and "field" not in states.broken else None


def _check_field_name(
    name: str, column: str, path: str, folded: Mapping[str, str], columns: Mapping[str, str], checker: Checker
) -> None:
    if name in RESERVED_WORDS:
        checker.report(path, f"{name!r} is a word of the query language", "Choose another name.")
    elif folded.get(name.casefold(), name) != name:
        other = folded[name.casefold()]
        checker.report(
            path, f"{name!r} and {other!r} differ by capitals only", "Choose names that differ by more."
        )
    elif column.lower() in columns:
        reason = f"the column {column!r} belongs to the field {columns[column.lower()]!r} already"
        checker.report(path, reason, 'Give another "column", or another name.')
    elif column.lower() in _RESERVED_COLUMNS:
        checker.report(path, f"the column {column!r} is one of PostgreSQL's own", 'Give another "column".')
    elif len(column.encode()) > MAX_NAME_BYTES:
        reason = f"the column {column!r} is longer than {MAX_NAME_BYTES} bytes; the database would cut it off"
        checker.report(path, reason, 'Give a shorter name, or a shorter "column".')
