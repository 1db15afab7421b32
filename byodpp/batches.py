"""Batches: one operation on many items, in one body.

In: JSON, an array (of rows to create) or an object with `operation`, `items` and `atomic`.
Out: a `Batch` whose items a schema has judged one by one. May reject: ValidationFailed with the
faults of all items, each under its index (`3.name`), PayloadTooLarge (too many items), Conflict
(one row twice). A batch that is not atomic is not refused for its items: each carries its fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from byodpp.exceptions import Conflict, Detail, PayloadTooLarge, ValidationFailed
from byodpp.suggestion import nearest

__all__ = ["BATCH_OPERATIONS", "Batch", "BatchItem", "LoadItem", "read_batch"]

#: What a batch may do to its items.
BATCH_OPERATIONS: Final = ("create", "update", "patch", "delete", "upsert")
_MEMBERS: Final = ("operation", "items", "atomic")
_MOST_DETAILS: Final = 100
#: Items judged before others get their turn on the event loop.
_TURN: Final = 50

#: Takes operation, JSON value and prefix of paths (`3.`); returns what the schema makes of it.
LoadItem = Callable[[str, Any, str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """One item: what is to be done to which row, or why it cannot be."""

    index: int  # place in the body
    operation: str  # create, update, patch or delete; of an upsert what the item turned out to be
    key: Any = None  # JSON value of `id`; None when the operation needs none
    document: Any = None  # JSON value without the key
    values: Any = None  # what the schema made of it; None for a delete
    fault: ValidationFailed | None = None  # only in a batch that is not atomic


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch that is well-formed."""

    operation: str  # one of BATCH_OPERATIONS
    items: tuple[BatchItem, ...]
    atomic: bool = True  # all or nothing; otherwise each item has its own result


async def read_batch(document: Any, load_item: LoadItem, *, max_items: int) -> Batch:
    """Judge the body of a batch.

    Args:
        document: JSON value.
        load_item: judges one item.
        max_items: most items of one batch.

    Raises:
        ValidationFailed: it is no batch, or an atomic one with faulty items.
        PayloadTooLarge: it has too many items.
        Conflict: it names one row twice.
    """
    operation, raw, atomic = _unwrapped(document)
    if not raw:
        raise _refused("items", "too_few", "A batch needs at least one item.")
    if len(raw) > max_items:
        raise PayloadTooLarge(f"A batch holds at most {max_items} items.")
    items = []
    for index, value in enumerate(raw):
        items.append(_item(operation, index, value, load_item))
        if index % _TURN == _TURN - 1:
            await asyncio.sleep(0)
    if atomic:
        _refuse_faults(items)
    _refuse_repeats(items)
    return Batch(operation=operation, items=tuple(items), atomic=atomic)


def _unwrapped(document: Any) -> tuple[str, list[Any], bool]:
    """Return operation, items, and whether it is all or nothing."""
    if isinstance(document, list):
        return "create", document, True
    if not isinstance(document, dict):
        raise _refused("", "type", "A batch is an array, or an object with operation and items.")
    details = [
        Detail(name, "unknown_field", f"Unknown field. {nearest(name, _MEMBERS)}".strip())
        for name in document
        if name not in _MEMBERS
    ]
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


def _item(operation: str, index: int, value: Any, load_item: LoadItem) -> BatchItem:
    if operation == "upsert":
        # Keys are made here, never accepted: with one the row is there, without one it is new.
        operation = "update" if isinstance(value, dict) and value.get("id") is not None else "create"
        if operation == "create" and isinstance(value, dict):
            value = {name: inner for name, inner in value.items() if name != "id"}
    try:
        key, rest = _keyed(operation, index, value)
        values = None if operation == "delete" else load_item(operation, rest, f"{index}.")
    except ValidationFailed as fault:
        return BatchItem(index=index, operation=operation, fault=fault)
    return BatchItem(index=index, operation=operation, key=key, document=rest, values=values)


def _keyed(operation: str, index: int, value: Any) -> tuple[Any, Any]:
    """Take the row's key out of an item."""
    if operation == "delete" and not isinstance(value, dict | list):
        value = {"id": value}
    if not isinstance(value, dict):
        raise _refused(str(index), "type", "Must be an object.")
    if operation == "create":
        return None, value
    key = value.get("id")
    if key is None:
        raise _refused(f"{index}.id", "required", "The key of the row is required.")
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise _refused(f"{index}.id", "type", "Must be the key of a row.")
    rest = {name: inner for name, inner in value.items() if name != "id"}
    if operation == "delete" and rest:
        details = [Detail(f"{index}.{name}", "unknown_field", "Unknown field.") for name in rest]
        raise ValidationFailed(details=details[:_MOST_DETAILS])
    return key, rest


def _refuse_faults(items: Sequence[BatchItem]) -> None:
    faults = [detail for item in items if item.fault for detail in item.fault.details]
    if faults:
        message = f"The body is well-formed but not valid: {len(faults)} faults."
        raise ValidationFailed(message, details=faults[:_MOST_DETAILS])


def _refuse_repeats(items: Sequence[BatchItem]) -> None:
    seen: set[str] = set()
    twice = []
    for item in items:
        if item.key is None:
            continue
        if str(item.key) in seen:
            twice.append(Detail(f"{item.index}.id", "duplicate", "This row occurs twice in the batch."))
        seen.add(str(item.key))
    if twice:
        raise Conflict("A row occurs twice in the batch.", details=twice[:_MOST_DETAILS])


def _refused(field: str, code: str, message: str) -> ValidationFailed:
    return ValidationFailed(details=[Detail(field, code, message)])
