"""Faults of a row of `Policies`, told to whoever writes it.

In: the row's values, by field. Out: details. A row that is written past this (by an older program, or
before its resource went) is judged by `policies`, which lets it grant nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from byodpp.authorization.policies import operation_keys, policy_condition
from byodpp.authorization.rows import is_user
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import ApiError, Detail
from byodpp.registry import Registry
from byodpp.suggestion import nearest

__all__ = ["policy_faults"]

_EVERY: Final = "*"
_GROUPS: Final = ("read", "write")
_MOST_SHOWN: Final = 100


def policy_faults(values: Mapping[str, Any], registry: Registry) -> Iterator[Detail]:
    """Yield what makes no sense of a rule; each under the field's name.

    Args:
        values: validated, all of the row's.
        registry: whose resources and operations it may name.
    """
    subject, named = values["subject"], values["object"]
    if subject.startswith("user:") and not is_user(subject):
        yield Detail("subject", "pattern", "Must be a role, *, or a user written as user:7.")
    if values.get("ptype") == "g":
        return  # the object is a role
    meant = [one for one in registry if named in (one.name, _EVERY)]
    if not meant:
        names = sorted({one.name for one in registry})
        told = f"There is no resource {named[:_MOST_SHOWN]!r}."
        yield Detail("object", "unknown_resource", f"{told} {nearest(named, names)}".rstrip())
        return
    yield from _action(values.get("action"), meant)
    yield from _fields(values.get("fields") or (), meant)
    yield from _condition(values.get("condition"), meant, registry)


def _action(action: Any, meant: Sequence[ResourceDefinition]) -> Iterator[Detail]:
    words = dict.fromkeys((_EVERY, *_GROUPS, *(key for one in meant for key in operation_keys(one))))
    if action is not None and action not in words:
        told = f"There is no operation or action {str(action)[:_MOST_SHOWN]!r}."
        yield Detail("action", "enum", f"{told} {nearest(str(action), list(words))}".rstrip())


def _fields(names: Sequence[str], meant: Sequence[ResourceDefinition]) -> Iterator[Detail]:
    known = {name for one in meant for name in one.fields}
    for index, name in enumerate(names):
        if name not in known:
            yield Detail(f"fields.{index}", "unknown_field", f"There is no field {name[:_MOST_SHOWN]!r}.")


def _condition(tree: Any, meant: Sequence[ResourceDefinition], registry: Registry) -> Iterator[Detail]:
    if tree in (None, {}):
        return
    if not isinstance(tree, Mapping):
        yield Detail("condition", "type", "Must be an object in the query language.")
        return
    refused = []
    for resource in meant:
        try:
            policy_condition(tree, resource, registry)
        except (ApiError, ValueError, TypeError, RecursionError) as error:
            refused.append(error)
    # One that holds for every resource grants nothing where it does not fit.
    if refused and len(refused) == len(meant):
        told = refused[0].details if isinstance(refused[0], ApiError) else ()
        for one in told or (Detail("", "invalid", "It cannot be understood."),):
            yield Detail("condition", one.code, f"{one.field}: {one.message}".removeprefix(": "))
