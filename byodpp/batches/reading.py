"""Batches: one operation on many items, in one body.

In: JSON, an array (of rows to create) or an object with `operation`, `items` and `atomic`; an
upsert may name the unique key it goes by in `on`. Instead of `items`, a patch or delete may
have a `filter` with a mandatory `max`, and the patch its `data`. An item of a patch, a delete, or an
upsert by key may name the `version` that its row must have. Out: a `Batch` whose items a
schema has judged one by one. May reject: ValidationFailed with the faults of all items, each
under its index (`3.name`), PayloadTooLarge (too many items), Conflict (one row twice),
PreconditionRequired (a filter, where each row is written with its version only). A batch
that is not atomic is not refused for its items: each carries its fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from byodpp.aside import Aside
from byodpp.definitions import ResourceDefinition, Within
from byodpp.exceptions import (
    ApiError,
    Conflict,
    Detail,
    PayloadTooLarge,
    PreconditionRequired,
    ValidationFailed,
)
from byodpp.schemas import row_version, spelled
from byodpp.suggestion import nearest
from byodpp.wire import whole

__all__ = [
    "BATCH_OPERATIONS",
    "Batch",
    "BatchItem",
    "LoadItem",
    "Selection",
    "read_batch",
    "read_item",
    "scoped_keys",
    "upsert_keys",
]

#: What a batch may do to its items.
BATCH_OPERATIONS: Final = ("create", "update", "patch", "delete", "upsert")
_MEMBERS: Final = ("operation", "items", "atomic")
#: What a batch by filter has instead of items.
_SELECTING: Final = {
    "patch": ("operation", "filter", "data", "max"),
    "delete": ("operation", "filter", "max"),
}
_MOST_DETAILS: Final = 100
#: Items judged before others get their turn on the event loop.
_TURN: Final = 50

#: Takes operation, JSON value and prefix of paths (`3.`); returns what the schema makes of it.
LoadItem = Callable[[str, Any, str], Any]
#: Takes the items of a batch that will be refused.
Look: TypeAlias = "Callable[[Sequence[BatchItem]], Awaitable[None]]"


@dataclass(slots=True, kw_only=True)
class BatchItem:
    """One item: what is to be done to which row, or why it cannot be. Not frozen: that takes time."""

    index: int  # place in the body
    operation: str  # create, update, patch, delete; of an item with a key `update`, else `upsert`
    key: Any = None  # JSON value of `id`; None when the operation needs none, or it is missing
    version: int | None = None  # that the row must have; None is any
    document: Any = None  # JSON value without the key
    values: Any = None  # what the schema made of it; None for a delete
    fault: ApiError | None = None  # only in a batch that is not atomic


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The rows that a batch by filter is about."""

    filter: Any  # JSON value; the caller's rights decide what may be asked
    most: int  # more rows than this, and nothing happens
    data: Any = None  # JSON value of the patch that each row gets


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch that is well-formed."""

    operation: str  # one of BATCH_OPERATIONS
    items: tuple[BatchItem, ...] = ()
    atomic: bool = True  # all or nothing; otherwise each item has its own result
    on: tuple[str, ...] = ()  # fields of the unique key by which an upsert finds its rows
    selection: Selection | None = None  # instead of items


async def read_batch(
    document: Any, load_item: LoadItem, resource: ResourceDefinition, aside: Aside, look: Look
) -> Batch:
    """Judge the body of a batch.

    Args:
        document: JSON value.
        load_item: judges one item.
        resource: what the items are of; its bounds hold.
        aside: runs what may take long.
        look: refuses items of an atomic batch for the rows that they name, before their faults are told.

    Raises:
        ValidationFailed: it is no batch, or an atomic one with faulty items.
        PayloadTooLarge: it has too many items.
        Conflict: it names one row twice.
    """
    most = resource.bounds.max_batch
    if isinstance(document, dict) and "filter" in document and document.get("operation") in tuple(_SELECTING):
        selecting: Batch = await aside(partial(_selecting, document, load_item, resource))
        return selecting
    operation, raw, atomic = _unwrapped(document)
    if not raw:
        raise _refused("items", "too_few", "A batch needs at least one item.")
    if len(raw) > most:
        raise PayloadTooLarge(f"A batch holds at most {most} items.")
    on = _chosen_key(document, raw, resource) if operation == "upsert" else ()
    items: list[BatchItem] = []
    for start in range(0, len(raw), _TURN):
        some = list(enumerate(raw[start : start + _TURN], start))
        items += await aside(partial(_read_items, operation, some, load_item, resource, on))
        await asyncio.sleep(0)
    if atomic and any(item.fault is not None for item in items):
        await look(items)
        _refuse_faults(items)
    _refuse_repeats(items, atomic=atomic)
    return Batch(operation=operation, items=tuple(items), atomic=atomic, on=on)


def upsert_keys(resource: ResourceDefinition) -> tuple[tuple[str, ...], ...]:
    """Return the unique keys by which an upsert may find a row, those that count within the scope first.

    By the others (unique on the platform, or for ever) a row is found all the same, if it is a living one of
    the scope; where some other row has the key, a creation is refused as it always is.
    """
    others: list[tuple[str, ...]] = [
        (name,) for name, one in resource.fields.items() if one.unique not in (None, Within.SCOPE)
    ]
    others += [key.fields for key in resource.unique if key.within is not Within.SCOPE]
    return (*scoped_keys(resource), *others)


def scoped_keys(resource: ResourceDefinition) -> tuple[tuple[str, ...], ...]:
    """Return the unique keys that count within the scope; the only one is meant where none is named."""
    fields = [(name,) for name, one in resource.fields.items() if one.unique is Within.SCOPE]
    return (*fields, *(key.fields for key in resource.unique if key.within is Within.SCOPE))


def _chosen_key(document: Any, items: list[Any], resource: ResourceDefinition) -> tuple[str, ...]:
    """Return the fields by which rows are found; none when every item names its row by `id`."""
    keys = upsert_keys(resource)
    words = "; ".join(", ".join(key) for key in keys)
    if "on" in document:
        on = document["on"]
        if not isinstance(on, list) or not all(isinstance(name, str) for name in on):
            raise _refused("on", "type", "Must be an array of field names.")
        found = next((key for key in keys if set(key) == set(on) and len(key) == len(on)), None)
        if found is None:
            told = f"Must be the fields of a unique key: {words}." if keys else "There is no unique key."
            raise _refused("on", "enum", told)
        return found
    scoped = scoped_keys(resource)
    if len(scoped) == 1:
        return scoped[0]
    if scoped and any(isinstance(item, dict) and item.get("id") is None for item in items):
        raise _refused("on", "required", f"Name the unique key that rows are found by: {words}.")
    return ()


def _selecting(document: dict[str, Any], load_item: LoadItem, resource: ResourceDefinition) -> Batch:
    """Judge a batch by filter."""
    if resource.version_required:
        told = "a filter names none; name rows by `id` and `version` in `items`."
        raise PreconditionRequired(f"{resource.name} is written with a version only: {told}")
    most = resource.bounds.max_batch
    operation = document["operation"]
    members, data, number = _SELECTING[operation], document.get("data"), whole(document.get("max"))
    details = _unknown(document, members)
    details += [Detail(name, "required", "A value is required.") for name in members if name not in document]
    if "max" in document and (isinstance(number, bool) or not isinstance(number, int)):
        details.append(Detail("max", "type", "Must be an integer."))
    elif isinstance(number, int) and not 1 <= number <= most:
        details.append(Detail("max", "out_of_range", f"Must be between 1 and {most}."))
    if not isinstance(document["filter"], dict) or not document["filter"]:
        details.append(Detail("filter", "type", "Must be an object with at least one condition."))
    if "data" in document and "data" in members:
        try:
            load_item(operation, data, "data.")
        except ValidationFailed as fault:
            details.extend(fault.details)
    if details:
        raise ValidationFailed(details=details[:_MOST_DETAILS])
    assert isinstance(number, int)
    return Batch(operation=operation, selection=Selection(filter=document["filter"], most=number, data=data))


def _unknown(document: dict[str, Any], members: Sequence[str]) -> list[Detail]:
    return [
        Detail(name, "unknown_field", f"Unknown field. {nearest(name, members)}".strip())
        for name in document
        if name not in members
    ]


def _unwrapped(document: Any) -> tuple[str, list[Any], bool]:
    """Return operation, items, and whether it is all or nothing."""
    if isinstance(document, list):
        return "create", document, True
    if not isinstance(document, dict):
        raise _refused("", "type", "A batch is an array, or an object with operation and items.")
    members = (*_MEMBERS, "on") if document.get("operation") == "upsert" else _MEMBERS
    details = _unknown(document, members)
    operation, items, atomic = document.get("operation"), document.get("items"), document.get("atomic", True)
    if operation not in BATCH_OPERATIONS:
        words = ", ".join(BATCH_OPERATIONS)
        details.append(
            Detail("operation", "required" if operation is None else "enum", f"Must be one of {words}.")
        )
    if not isinstance(items, list):
        details.append(Detail("items", "required" if items is None else "type", "Must be an array."))
    if not isinstance(atomic, bool):
        details.append(Detail("atomic", "type", "Must be true or false."))
    if details:
        raise ValidationFailed(details=details[:_MOST_DETAILS])
    return str(operation), list(items or ()), atomic is True


def _read_items(
    operation: str,
    numbered: list[tuple[int, Any]],
    load_item: LoadItem,
    resource: ResourceDefinition,
    on: tuple[str, ...],
) -> list[BatchItem]:
    return [read_item(operation, index, value, load_item, resource, on) for index, value in numbered]


def read_item(
    operation: str,
    index: int,
    value: Any,
    load_item: LoadItem,
    resource: ResourceDefinition,
    on: tuple[str, ...] = (),
) -> BatchItem:
    """Judge one item; what is wrong with it is its fault.

    Args:
        operation: one of BATCH_OPERATIONS.
        index: place among the items.
        value: JSON value.
        load_item: judges its fields.
        resource: of the row.
        on: of an upsert, the fields of the unique key by which rows are found.
    """
    if operation == "upsert":
        # Keys are made here, never accepted: with one the row is there, without one its unique key
        # tells; where there is no such key, it is new.
        keyed = isinstance(value, dict) and value.get("id") is not None
        operation = "update" if keyed else "upsert" if on else "create"
        if not keyed and isinstance(value, dict):
            value = {name: inner for name, inner in value.items() if name != "id"}
    judged = "create" if operation == "upsert" else operation
    key = version = rest = None
    try:
        if operation == "create" and isinstance(value, dict):  # most items of all
            values = load_item(operation, value, f"{index}.")
            return BatchItem(index=index, operation=operation, document=value, values=values)
        key, rest = _keyed(judged, index, value)
        key = None if key is None else spelled(resource, key)
        if resource.versioned and operation in ("patch", "delete", "upsert"):
            version = row_version(rest.pop("version", None), f"{index}.version")
        values = None
        if operation == "delete":
            _refuse_rest(rest, index)
        else:
            values = load_item(judged, rest, f"{index}.")
        if operation == "upsert" and values is not None:
            _refuse_empty_key(values.values, index, on)
    except ValidationFailed as fault:
        # Kept until the answer is out: without the frames it went through, of which each item has some.
        fault.with_traceback(None)
        return BatchItem(index=index, operation=operation, key=key, document=rest, fault=fault)
    return BatchItem(index=index, operation=operation, key=key, version=version, document=rest, values=values)


def _refuse_empty_key(values: Mapping[str, Any], index: int, on: tuple[str, ...]) -> None:
    empty = [name for name in on if values.get(name) is None]
    if empty:
        told = "A row is found by this field: it cannot be empty."
        raise ValidationFailed(details=[Detail(f"{index}.{name}", "required", told) for name in empty])


def _keyed(operation: str, index: int, value: Any) -> tuple[Any, Any]:
    """Take the row's key out of an item."""
    if operation == "delete" and not isinstance(value, dict | list):
        value = {"id": value}
    if not isinstance(value, dict):
        raise _refused(str(index), "type", "Must be an object.")
    if operation == "create":
        return None, dict(value)
    key = whole(value.get("id"))
    if key is None:
        raise _refused(f"{index}.id", "required", "The key of the row is required.")
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise _refused(f"{index}.id", "type", "Must be the key of a row.")
    return key, {name: inner for name, inner in value.items() if name != "id"}


def _refuse_rest(rest: Mapping[str, Any], index: int) -> None:
    """Refuse what a deletion says beside the key."""
    if rest:
        details = [Detail(f"{index}.{name}", "unknown_field", "Unknown field.") for name in rest]
        raise ValidationFailed(details=details[:_MOST_DETAILS])


def _refuse_faults(items: Sequence[BatchItem]) -> None:
    faults = [detail for item in items if item.fault for detail in item.fault.details]
    if faults:
        count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
        message = f"The body is well-formed but not valid: {count}."
        refusal = ValidationFailed(message, details=faults[:_MOST_DETAILS])
        refusal.unlisted = max(len(faults) - _MOST_DETAILS, 0)
        raise refusal


def _refuse_repeats(items: Sequence[BatchItem], *, atomic: bool) -> None:
    """Refuse a row that is named again: which of two items is meant nobody can know.

    Raises:
        Conflict: in an atomic batch; in another one it is the fault of the later item.
    """
    seen: set[str] = set()
    twice = []
    for item in items:
        if item.key is None or item.fault is not None:
            continue
        if str(item.key) in seen:
            detail = Detail(f"{item.index}.id", "duplicate", "This row occurs twice in the batch.")
            item.fault = None if atomic else Conflict("This row occurs twice in the batch.", details=[detail])
            twice.append(detail)
        seen.add(str(item.key))
    if twice and atomic:
        raise Conflict("A row occurs twice in the batch.", details=twice[:_MOST_DETAILS])


def _refused(field: str, code: str, message: str) -> ValidationFailed:
    return ValidationFailed(details=[Detail(field, code, message)])
