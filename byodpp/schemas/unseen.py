"""Which faults of a patch no stored row could mend.

In: the faults of a patch that was merged with empty objects, before its row is known. Out: those that
stay whatever the row holds. Rejects nothing by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import marshmallow
from marshmallow.decorators import POST_LOAD, PRE_LOAD, VALIDATES_SCHEMA

from byodpp.exceptions import Detail

__all__ = ["certain", "certain_of_own", "keeps_names"]

#: Faults that no stored value mends, whoever judges.
_CERTAIN: Final = frozenset({"unknown_field", "type"})


def certain(
    details: Iterable[Detail], data: dict[str, Any], prefix: str, merged: Collection[str]
) -> list[Detail]:
    """Return the faults of generated fields that stay.

    Args:
        details: all of them.
        data: the patch.
        prefix: path of the patch in the request.
        merged: names of the objects in it that are merged with stored ones.
    """
    return [
        one
        for one in details
        if _root(one, prefix) not in merged or not _may_be_stored(one.code, data, _path(one, prefix))
    ]


def certain_of_own(
    details: Iterable[Detail],
    schema: marshmallow.Schema,
    prefix: str,
    merged: Collection[str],
    nested: Collection[str],
) -> list[Detail]:
    """Return the faults that stay of those that a class of the application found.

    A fault of its own about a merged object may depend on what is stored. So may any of a class that
    looks at the body as a whole.

    Args:
        details: as `certain` returns them.
        schema: of the application.
        prefix: path of the patch in the request.
        merged: names of the objects that are merged with stored ones.
        nested: names of relations whose rows came with the patch, and were judged by their own.
    """
    whole = any(schema._hooks.get(tag) for tag in (PRE_LOAD, POST_LOAD, VALIDATES_SCHEMA))
    return [
        one
        for one in details
        if one.code in _CERTAIN
        or (root := _root(one, prefix)) in nested
        or (root != "" and root not in merged and not whole)
    ]


def keeps_names(schema: marshmallow.Schema) -> bool:
    """Whether what a body calls a field reaches the field of that name as it is."""
    return not schema._hooks.get(PRE_LOAD)


def _path(detail: Detail, prefix: str) -> str:
    return detail.field.removeprefix(prefix).removeprefix(".") if prefix else detail.field


def _root(detail: Detail, prefix: str) -> str:
    return _path(detail, prefix).partition(".")[0]


def _may_be_stored(code: str, data: Any, path: str) -> bool:
    """Whether what a patch lacks may be there already: what it sets to null is not there afterwards."""
    for name in path.split("."):
        if not isinstance(data, dict) or name not in data:
            return code == "required"
        data = data[name]
    return code == "too_few" and isinstance(data, dict)
