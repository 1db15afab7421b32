"""Parameters of an action's own: a query string, judged by the marshmallow schema of its class.

In: `?representation=full&date=2026-01-31`, or texts by name, and the schema that the logic class
declares as `query`. Out: what the schema makes of them. A name that is given several times is a
list where the schema has one, and a mistake elsewhere. May reject: InvalidEncoding, and
InvalidQuery with every fault, each under the parameter's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import marshmallow
from marshmallow import fields

from byodpp.exceptions import Detail, InvalidQuery
from byodpp.query.text import pairs
from byodpp.schemas.faults import MAX_DETAILS, details_of
from byodpp.suggestion import nearest

__all__ = ["judge_parameters", "parameter_fields", "read_parameters"]


def parameter_fields(schema: marshmallow.Schema) -> dict[str, fields.Field[Any]]:
    """Return the parameters that a schema knows, by the names that clients use."""
    return {
        field.data_key or name: field for name, field in schema.load_fields.items() if not field.dump_only
    }


def read_parameters(query_string: bytes, schema_class: type[marshmallow.Schema]) -> Mapping[str, Any]:
    """Judge a query string.

    Args:
        query_string: as it was sent.
        schema_class: of the logic class.

    Raises:
        InvalidEncoding: it is not UTF-8.
        InvalidQuery: it cannot be read, or is not valid.
    """
    return judge_parameters(pairs(query_string), schema_class)


def judge_parameters(
    given: Iterable[tuple[str, str]], schema_class: type[marshmallow.Schema]
) -> Mapping[str, Any]:
    """Judge parameters that are decoded already.

    Args:
        given: name and text of each, in order.
        schema_class: of the logic class.

    Raises:
        InvalidQuery: with every fault.
    """
    schema = schema_class()
    known = parameter_fields(schema)
    found: dict[str, Any] = {}
    faults: list[Detail] = []
    for name, text in given:
        field = known.get(name)
        if "\0" in name or "\0" in text:
            faults.append(Detail(name.replace("\0", "")[:200], "format", "U+0000 is not text."))
        elif field is None and schema.unknown == marshmallow.RAISE:
            told = f"There is no parameter {name[:100]!r} here. {nearest(name, known)}".rstrip()
            faults.append(Detail(name[:200], "unknown_parameter", told))
        elif isinstance(field, fields.List):
            found.setdefault(name, []).append(text)
        elif name in found:
            faults.append(Detail(name[:200], "repeated", "Given more than once."))
        else:
            found[name] = text
    try:
        loaded: Mapping[str, Any] = schema.load(found)
    except marshmallow.ValidationError as error:
        faults += details_of(error.messages_dict, "", list(found), list(known))
        error.__traceback__ = None  # marshmallow's frames hold the error, which would hold itself
    if faults:
        raise InvalidQuery(details=faults[:MAX_DETAILS])
    return loaded
