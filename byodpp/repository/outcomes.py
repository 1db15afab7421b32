"""What became of a write: the record that its statement returned, judged.

In: a record of `WriteStatements.change`. Out: the refusal that it means, None when all is well.
Nothing here raises: `repository` does, and undoes what was done already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from byodpp.conditions import NOTHING, Visibility
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import (
    ApiError,
    Conflict,
    Detail,
    Forbidden,
    PreconditionFailed,
    StateConflict,
    ValidationFailed,
)
from byodpp.rows import Row
from byodpp.statements.modifiers import TWICE

__all__ = ["barred", "difference", "refusal", "unfit"]


def refusal(
    resource: ResourceDefinition,
    record: Any,
    operation: str,
    expected_version: int | None,
    visibility: Visibility,
    sources: Sequence[str] = (),
) -> ApiError | None:
    """Return why the row was not changed.

    Args:
        resource: of the row.
        record: None when the row could not even be locked, though it may be read.
        operation: one of the seven, or a transition's key.
        expected_version: that the row had to have; None is any.
        visibility: what the caller may be told of the row.
        sources: states that it had to be in; empty is any.
    """
    if record is None or not record["permitted"]:
        return barred(resource, operation)
    if record["fits"] is False:
        return Forbidden(f"You may not make the row of {resource.name} like this.")
    if expected_version is not None and record["version"] != expected_version:
        found = record["version"]
        return PreconditionFailed(f"The row has version {found}, not {expected_version}. Read it again.")
    if sources and record["state"] not in sources:
        step, starts = operation.partition(":")[0], " or ".join(sources)
        field = resource.states.field if resource.states is not None else ""
        known = visibility.fields.get(field, NOTHING) is None
        found = record["state"] if known else "in another state"
        return StateConflict(f"{step} starts from {starts}; the row is {found}.")
    if record["unfit"]:
        return unfit(record["unfit"])
    if not record["changed"]:
        return Conflict("Another request changed the row at the same time; try again.")
    return None


def barred(resource: ResourceDefinition, operation: str) -> Forbidden:
    """Return the refusal of what the caller may not do to a row that he may read."""
    return Forbidden(f"You may read this row of {resource.name}, but not {operation} it.")


def unfit(names: Sequence[str]) -> Conflict:
    """Return the refusal of modifiers whose results are no values of their fields.

    Args:
        names: as `statements.modifiers.unfit` tells them.
    """
    details = [
        Detail(name.removesuffix(TWICE), "unique_items", "The array would hold the same item twice.")
        if name.endswith(TWICE)
        else Detail(name, "out_of_range", "The result would not be a value of this field.")
        for name in names
    ]
    return Conflict("The row's present value does not allow this change.", details=details)


def difference(resource: ResourceDefinition, read_only: Mapping[str, Any], stored: Row) -> ApiError | None:
    """Return the refusal of values that must be as stored, but are not.

    Args:
        resource: of the row.
        read_only: values by field.
        stored: the row as the caller saw it: what is hidden from him answers no guess.
    """
    changed = [name for name, value in read_only.items() if stored.get(name) != value]
    fields = resource.fields
    if barred := [name for name in changed if name in fields and not fields[name].read_only]:
        details = [Detail(name, "forbidden", "You may not write this field.") for name in barred]
        return Forbidden("You may not write these fields.", details=details)
    if changed:
        told = "This field is read-only; leave it out or send what is stored."
        return ValidationFailed(details=[Detail(name, "read_only", told) for name in changed])
    return None
