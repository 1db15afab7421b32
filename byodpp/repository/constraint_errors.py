"""From the constraint that an error names to the fields that a client knows.

In: an ApiError as `database` made it of the driver's. Out: the same refusal in the words of the
resource, or the error as it is when it names no constraint of ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import ApiError, Detail, ReferencedConflict, UniqueConflict, ValidationFailed
from byodpp.schemas.keys import REFERENCE
from byodpp.tables import Tables

__all__ = ["already_there", "explained"]


def explained(
    tables: Tables, error: ApiError, resource: ResourceDefinition, *, deleting: bool = False
) -> ApiError:
    """Name the fields of the constraint that an error names.

    Args:
        tables: whose constraints they are.
        error: what a write raised.
        resource: that was written.
        deleting: a row of it was deleted.
    """
    use = tables.constraint(error.constraint)
    if use is None:
        return error
    if use.kind == "unique":
        fields = use.fields_of(resource) if resource in use.resources else use.fields
        return _carrying(error, already_there(resource, fields))
    if use.kind == "reference" and (deleting or resource not in use.resources):
        return _carrying(error, ReferencedConflict(f"Rows of {use.resource.name} refer to this one."))
    if use.kind == "reference":
        details = [Detail(name, "reference", REFERENCE) for name in use.fields_of(resource)]
        return _carrying(error, ValidationFailed(details=details))
    if use.kind == "check":
        details = [Detail(name, "invalid", "This value is not allowed.") for name in use.fields_of(resource)]
        return _carrying(error, ValidationFailed(details=details))
    return error


def already_there(resource: ResourceDefinition, fields: Sequence[str]) -> UniqueConflict:
    """Return the refusal of a row whose unique key another one has."""
    told = " and ".join(fields)
    return UniqueConflict(
        f"{resource.name} with this {told} exists already.",
        details=[Detail(name, "unique", f"This {told} exists already.") for name in fields],
    )


def _carrying(old: ApiError, new: ApiError) -> ApiError:
    """Return the new error with what `database` noted on the old one."""
    for name in ("sqlstate", "constraint", "table", "column", "retryable"):
        if hasattr(old, name):
            setattr(new, name, getattr(old, name))
    return new
