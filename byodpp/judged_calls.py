"""Calls whose bodies a schema has judged: what of them the caller may write, and on which version.

In: a call and what a schema made of its body. Out: the call, ready for `units`. May reject:
Forbidden (naming each field), PreconditionRequired, ValidationFailed (what takes nothing is sent
something). Also the place of an error in a batch, and the copy of a call that a logic class may change.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from byodpp.aside import by_size
from byodpp.authorization import Decision
from byodpp.calls import Call
from byodpp.conditions import NOTHING
from byodpp.exceptions import ApiError, Detail, PreconditionRequired, ValidationFailed
from byodpp.fields.strict_field import kind_of
from byodpp.repository.acting import refuse_fields
from byodpp.schemas import LoadedBody

__all__ = [
    "at_index",
    "below",
    "owned",
    "refuse_input",
    "versioned",
    "writing",
]


def writing(call: Call, loaded: LoadedBody, prefix: str = "") -> Call:
    """Return the call with a body that a schema has judged, as far as the caller may write it.

    To an update, a field that the caller may not write is like a read-only one: it may be sent
    as it is stored, and it keeps its value when it is left out.

    Raises:
        Forbidden: naming each field that the caller may write on no row.
    """
    rights: Decision = call.decision
    if rights.fields is None:
        sent = loaded.sent - loaded.read_only.keys()
        return call.having(body=loaded.values, read_only=loaded.read_only, sent=sent, nested=loaded.nested)
    if call.operation != "update":
        refuse_fields(rights, loaded.sent, prefix)
        return call.having(
            body=loaded.values, read_only=loaded.read_only, sent=loaded.sent, nested=loaded.nested
        )
    sent = frozenset(name for name in loaded.sent if rights.permits(name)) - loaded.read_only.keys()
    body = {
        name: value
        for name, value in loaded.values.items()
        if name in sent or rights.fields.get(name, NOTHING) is None
    }
    kept = {
        name: value
        for name, value in loaded.values.items()
        if name in loaded.sent and not rights.permits(name)
    }
    return call.having(body=body, read_only={**loaded.read_only, **kept}, sent=sent, nested=loaded.nested)


def versioned(call: Call) -> Call:
    """Return the call with the version it expects, which stands beside its row's key or in its body.

    Raises:
        PreconditionRequired: the resource is written with a version only, and there is none.
    """
    if call.expected_version is not None:
        return call
    writes = call.operation in ("update", "patch", "delete")
    if not call.resource.version_required or not (writes or (call.action and call.action.transition)):
        return call
    version = call.read_only.get("version")
    if version is None:
        told = "send it as `version` beside the row's `id`."
        raise PreconditionRequired(f"{call.resource.name} is written with a version only: {told}")
    rest = {name: value for name, value in call.read_only.items() if name != "version"}
    return call.having(expected_version=version, read_only=rest)


def refuse_input(document: Any) -> None:
    """Refuse a body of what takes nothing: a deletion, a step, an action whose class has no `input`.

    Args:
        document: JSON value; none, or an empty object, is nothing.

    Raises:
        ValidationFailed: naming each member.
    """
    if document is None:
        return
    if not isinstance(document, dict):
        raise ValidationFailed(details=[Detail("", "type", f"Must be an object, not {kind_of(document)}.")])
    if document:
        told = "Unknown field: nothing is read here."
        details = [Detail(name[:100], "unknown_field", told) for name in islice(document, 100)]
        raise ValidationFailed(details=details)


async def owned(call: Call) -> Call:
    """Return the call with a body of its own: a logic class may change it, and the call may run again.

    Its objects and arrays are copied, however deep; what an action's schema makes beside those is shared.
    """
    if not isinstance(call.body, dict | list):
        return call
    return call.having(body=await by_size(partial(_copied, call.body), call.body))


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(inner) for name, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def at_index(error: ApiError, index: int) -> ApiError:
    """Return the error with its details under the index of the item that caused it."""
    return below(error, str(index))


def below(error: ApiError, path: str) -> ApiError:
    """Return the error with its details under a path of the body."""
    details = error.details or (Detail("", error.error_code, error.message),)
    error.details = tuple(replace(one, field=f"{path}.{one.field}".rstrip(".")) for one in details)
    return error
