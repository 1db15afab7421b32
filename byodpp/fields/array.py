"""Lists of values of one type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import marshmallow

from byodpp.fields.document import DocumentType, check_json, count_problems, counts_schema, identity_of
from byodpp.fields.field_type import FieldFault
from byodpp.fields.strict_field import MOST_TOLD, Fault, count_faults, counted, kind_of

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["ArrayType"]

#: `maxItems` where the field declares none.
_MOST_ITEMS: Final = 1_000


class ArrayType(DocumentType):
    """`array`: items of one type, kept in order as jsonb; 1,000 at most unless declared.

    Without `items` an item may be any JSON value. An item is never null.
    """

    name = "array"
    constraint_keys = frozenset({"minItems", "maxItems", "uniqueItems"})

    def from_json(self, value: Any, definition: FieldDefinition) -> list[Any]:
        """Turn every item into a Python value."""
        if not isinstance(value, list | tuple):
            raise FieldFault("type", f"Must be an array, not {kind_of(value)}.")
        items = definition.items
        if items is None:
            return list(value)
        return [None if item is None else items.type.from_json(item, items) for item in value]

    def from_text(self, text: str, definition: FieldDefinition) -> Any:
        """Refuse: the operators of arrays compare with items, which have types of their own.

        Raises:
            FieldFault: always.
        """
        raise FieldFault("type", "Must be an array, not a text.")

    def loader(
        self, definition: FieldDefinition, *, from_wire: bool = True, max_bytes: int | None = None
    ) -> Callable[[Any], Any]:
        """Return the loader; the number of items is judged before the items are."""
        words, items = definition.constraints, definition.items
        fewest, most = words.get("minItems", 0), words.get("maxItems", _MOST_ITEMS)
        unique = bool(words.get("uniqueItems"))
        load_item = _checked_json if items is None else items.type.loader(items, from_wire=from_wire)

        def load(value: Any) -> list[Any]:
            if not isinstance(value, list | tuple):
                raise FieldFault("type", f"Must be an array, not {kind_of(value)}.")
            if len(value) < fewest:
                raise FieldFault("too_few", f"Must have at least {counted(fewest, 'item')}.")
            if len(value) > most:
                raise FieldFault("too_many", f"Must have at most {counted(most, 'item')}.")
            found = _load_items(value, load_item)
            if unique and len({identity_of(self._plain(item, definition)) for item in found}) < len(found):
                raise FieldFault("unique_items", "Must not hold the same item twice.")
            return found

        return load

    def _plain(self, item: Any, definition: FieldDefinition) -> Any:
        items = definition.items
        return item if items is None else items.type.to_json(item, items)

    def to_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Turn every item into its JSON value."""
        return [None if item is None else self._plain(item, definition) for item in value]

    def check(self, definition: FieldDefinition) -> list[str]:
        """Return what is wrong with the counts and the items' own constraints."""
        problems = count_problems(definition, "minItems", "maxItems")
        if definition.items is not None:
            problems.extend(f"items: {problem}" for problem in definition.items.type.check(definition.items))
        return problems

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return an array's schema."""
        items = definition.items
        schema: dict[str, Any] = {
            "type": "array",
            "items": {} if items is None else items.type.json_schema(items),
        }
        if items is not None and items.enum is not None:
            schema["items"]["enum"] = [
                self._plain(items.type.from_json(v, items), definition) for v in items.enum
            ]
        schema["maxItems"] = definition.constraints.get("maxItems", _MOST_ITEMS)
        keys = ("minItems", "uniqueItems")
        return schema | {key: definition.constraints[key] for key in keys if key in definition.constraints}

    def example(self, definition: FieldDefinition) -> Any:
        """Return an array of as few items as it may have."""
        items = definition.items
        item = "item" if items is None else items.enum[0] if items.enum else items.type.example(items)
        return [item] * max(1, int(definition.constraints.get("minItems", 1)))

    def constraints_schema(self) -> Mapping[str, Any]:
        """Return the schema of the counts and the switch."""
        return {
            **counts_schema("minItems", "maxItems"),
            "uniqueItems": {"type": "boolean", "default": False},
        }


def _checked_json(value: Any) -> Any:
    check_json(value)
    return value


def _load_items(value: list[Any] | tuple[Any, ...], load_item: Callable[[Any], Any]) -> list[Any]:
    """Judge every item; raise the faults of all of them by position."""
    found: list[Any] = []
    faults: dict[int, Any] = {}
    messages: Any
    more, first_more = 0, 0
    for position, item in enumerate(value):
        try:
            if item is None:
                raise FieldFault("null", "Must not be null.")
            found.append(load_item(item))
        except FieldFault as fault:
            messages = [Fault(fault.code, str(fault))]
        except marshmallow.ValidationError as error:
            messages = error.messages
        else:
            continue
        if len(faults) < MOST_TOLD:
            faults[position] = messages  # of further ones only their number
        else:
            more, first_more = more + count_faults(messages), first_more or position
    if more:
        faults[first_more] = [Fault("invalid", "Is not valid.", times=more)]
    if faults:
        raise marshmallow.ValidationError(faults)
    return found
