"""Modifiers: what a patch does to a value without knowing it.

In: `{"$increment": 1}` for a number, `{"$append": [...]}` or `{"$remove": [...]}` for an array,
where a patch has the value of a field. Out: a Modifier, which `modifier_statements` makes part
of the one UPDATE: no other request comes between reading and writing. Whether the result is a
value of the field is decided there, by the stored row; since the answer tells something of it,
only who may read a field may modify it. May reject: FieldFault (a modifier that is none, an
operand of the wrong type), Forbidden. A json field has no modifiers: there such an object is data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import localcontext
from typing import Any, Final, Literal

import marshmallow

from byodpp.conditions import Condition, Visibility
from byodpp.definitions import FieldDefinition, ResourceDefinition
from byodpp.exceptions import Detail, Forbidden
from byodpp.fields.strict_field import FieldFault
from byodpp.schemas.faults import details_of, join_path

__all__ = [
    "KINDS",
    "Modifier",
    "ModifierKind",
    "applied",
    "modifiers_of",
    "operand_of",
    "part_modifiers",
    "readable",
]

ModifierKind = Literal["increment", "append", "remove"]

#: Name of a field's type -> its modifiers.
KINDS: Final[Mapping[str, tuple[ModifierKind, ...]]] = {
    **dict.fromkeys(("integer", "bigint", "decimal", "float"), ("increment",)),
    "array": ("append", "remove"),
}
#: More than a number of any field has.
_DIGITS: Final = 2_000
#: Constraints that say how an operand is written; the others are about the result.
_FORM: Final = frozenset({"precision", "scale", "asString"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Modifier:
    """A change of one value. Logic classes may write it, too: `patch(id, {"stock": Modifier(...)})`."""

    kind: ModifierKind
    operand: Any  # a number, or a list of items; Python values


def modifiers_of(definition: FieldDefinition) -> tuple[ModifierKind, ...]:
    """Return what a patch may do to a field's value without knowing it."""
    if definition.read_only or definition.references is not None or definition.encrypted:
        return ()
    return KINDS.get(definition.type.name, ())


def operand_of(definition: FieldDefinition) -> FieldDefinition:
    """Return the field that a modifier's operand is a value of: bounds are about the result."""
    form = {key: word for key, word in definition.constraints.items() if key in _FORM}
    return replace(definition, constraints=form, enum=None)


def part_modifiers(
    resource: ResourceDefinition, data: dict[str, Any], prefix: str, generated: Callable[[str], bool]
) -> tuple[dict[str, Any], dict[str, Modifier], list[Detail]]:
    """Take the modifiers out of a patch.

    Args:
        resource: of the row.
        data: the body; not changed.
        prefix: path of the body in the request.
        generated: whether a field is judged as the manifest says, not by a class of the application.

    Returns:
        What is left of the body, the modifiers by field, and the faults of others.
    """
    found: dict[str, Modifier] = {}
    details: list[Detail] = []
    rest = {}
    for name, value in data.items():
        definition = resource.fields.get(name)
        if definition is None or not (_is_modifier(value, definition) and generated(name)):
            rest[name] = value
            continue
        try:
            found[name] = _read(value, definition)
        except FieldFault as fault:
            details.append(Detail(join_path(prefix, name), fault.code, str(fault)))
        except marshmallow.ValidationError as error:
            details.extend(details_of({name: error.messages}, prefix, [name], [name]))
    return rest, found, details


def applied(modifier: Modifier, stored: Any, definition: FieldDefinition) -> Any:
    """Return what a modifier makes of a value, as the statements do; for classes that look at the result.

    Args:
        modifier: what is done.
        stored: the Python value that is there, of a row that is locked.
        definition: of the field.

    Raises:
        FieldFault: the result is no value of the field.
        marshmallow.ValidationError: the same, of an item of an array.
    """
    if modifier.kind == "increment":
        if stored is None:
            raise FieldFault("null", "There is no number to change.")
        with localcontext() as context:
            context.prec = _DIGITS
            new = stored + modifier.operand
    elif modifier.kind == "append":
        new = [*(stored or ()), *modifier.operand]
    elif stored is None:
        return None
    else:
        new = [item for item in stored if not any(_same(item, gone) for gone in modifier.operand)]
    return definition.type.loader(definition, from_wire=False)(new)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one JSON value: true is not 1."""
    return bool(one == other and isinstance(one, bool) is isinstance(other, bool))


def readable(modifiers: Sequence[tuple[str, ModifierKind]], visibility: Visibility) -> list[Condition | None]:
    """Return the conditions under which the caller may read what he modifies.

    Raises:
        Forbidden: naming each field that he may read on no row.
    """
    told = "You may not read this field: give it a value instead of changing the one it has."
    hidden = [Detail(name, "forbidden", told) for name, _ in modifiers if name not in visibility.fields]
    if hidden:
        raise Forbidden("You may not modify these fields.", details=hidden)
    return [visibility.fields[name] for name, _ in modifiers]


def _is_modifier(value: Any, definition: FieldDefinition) -> bool:
    return (
        isinstance(value, dict)
        and any(key.startswith("$") for key in value)
        and bool(modifiers_of(definition))
    )


def _read(value: dict[str, Any], definition: FieldDefinition) -> Modifier:
    known = KINDS[definition.type.name]
    kind = next((one for one in known if set(value) == {f"${one}"}), None)
    if kind is None:
        words = " or ".join(f"${one}" for one in known)
        raise FieldFault("modifier", f"Must be a value, or an object with {words} alone.")
    [operand] = value.values()
    if operand is None:
        raise FieldFault("null", "Must not be null.")
    return Modifier(kind=kind, operand=definition.type.loader(operand_of(definition))(operand))
