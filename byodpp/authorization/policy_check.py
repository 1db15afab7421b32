"""What a stored rule must be like: rows of `Policies` and `Roles`, judged before they are committed.

In: rows as the database returns them, and what may be named. Out: everything that is wrong, each
with the path of the field that says so and a suggestion. Nothing is refused here, and no text of
a rule is ever evaluated: it is compared with names, and its condition is read by the query
language.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from byodpp import wire
from byodpp.authorization.policies import ADMIN, PUBLIC, RoleLink, operation_keys
from byodpp.definitions import ResourceDefinition, unfit_for_preset
from byodpp.exceptions import ApiError, Detail
from byodpp.query import condition_from_json
from byodpp.registry import Registry
from byodpp.suggestion import nearest

__all__ = ["Known", "circles", "key_faults", "manifest_roles", "policy_faults"]

_USER: Final = re.compile(r"user:([1-9][0-9]{0,17})")
_GROUPS: Final = ("read", "write", "*")
#: `filter[price][gt]`, as the query language names the places of its faults.
_STEP: Final = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a rule may name."""

    registry: Registry
    roles: Collection[str]  # of the manifest, of the platform's library, and of the tenant
    users: Collection[int]  # of the tenant, as far as rules name them


def manifest_roles(registry: Registry) -> frozenset[str]:
    """Return the roles that the manifest names."""
    rules = (rule for resource in registry for rules in resource.access.values() for rule in rules)
    steps = (
        action.transition.roles for resource in registry for action in resource.actions if action.transition
    )
    named = {role for rule in rules for role in rule.roles} | {role for roles in steps for role in roles}
    return frozenset(named | {ADMIN}) - {PUBLIC, "*"}


def policy_faults(record: Mapping[str, Any], known: Known) -> Iterator[Detail | None]:
    """Yield what is wrong with a row of `Policies`; None now and then, to tell that time passes.

    Args:
        record: its columns; json as text.
        known: what it may name.
    """
    yield from _subject_faults(record["subject"], known)
    yield from _meaning_faults(record, known)
    yield None


def _subject_faults(subject: str, known: Known) -> Iterator[Detail]:
    user = _USER.fullmatch(subject)
    if user is not None:
        if int(user[1]) not in known.users:
            yield Detail("subject", "reference", "There is no such user.")
    elif subject.startswith("user:"):
        yield Detail("subject", "pattern", "Must be a role, *, or a user written as user:7.")
    elif subject == PUBLIC:
        yield Detail(
            "subject", "enum", "What everybody may read, the manifest says. Write `*` for who is signed in."
        )
    elif subject != "*" and subject not in known.roles:
        hint = nearest(subject, sorted(known.roles))
        yield Detail("subject", "unknown_role", f"There is no role {subject[:64]!r}. {hint}".rstrip())


def _meaning_faults(record: Mapping[str, Any], known: Known) -> Iterator[Detail | None]:
    if record["ptype"] == "g":
        yield from _link_faults(record, known)
        return
    named = record["object"]
    resources = _resources(named, known.registry)
    if not resources:
        yield Detail("object", "unknown_resource", _no_resource(named, known.registry))
        return
    deny = record["effect"] != "allow"
    yield from _operation_faults(record["action"], resources)
    yield from _condition_faults(_value(record["condition"]), resources, known.registry, deny=deny)
    yield from _field_faults(_value(record["fields"]), resources, deny=deny)
    yield from _preset_faults(record, resources, known.registry)


def _link_faults(record: Mapping[str, Any], known: Known) -> Iterator[Detail]:
    role = record["object"]
    if role not in known.roles:
        hint = nearest(role, sorted(known.roles))
        yield Detail("object", "unknown_role", f"There is no role {role[:64]!r}. {hint}".rstrip())
    for name, usual in (("action", "*"), ("effect", "allow")):
        if record[name] != usual:
            yield Detail(name, "unsupported", "Says nothing of a role that inherits: leave it out.")
    for name in ("condition", "fields", "preset"):
        if _value(record[name]) is not None:
            yield Detail(name, "unsupported", "Says nothing of a role that inherits: leave it out.")


def _resources(named: str, registry: Registry) -> Sequence[ResourceDefinition]:
    return tuple(registry) if named == "*" else registry.named(named)


def _no_resource(named: str, registry: Registry) -> str:
    hint = nearest(named, sorted({resource.name for resource in registry}), list_up_to=0)
    return f"There is no resource {named[:64]!r}. {hint}".rstrip()


def _operation_faults(
    word: str, resources: Sequence[ResourceDefinition], place: str = "action"
) -> Iterator[Detail]:
    words = dict.fromkeys((*_GROUPS, *(key for one in resources for key in operation_keys(one))))
    if word not in words:
        told = f"There is no operation or action {word[:64]!r} here. {nearest(word, words, list_up_to=20)}"
        yield Detail(place, "enum", told.rstrip())


def key_faults(operations: Sequence[str], registry: Registry) -> Iterator[Detail]:
    """Yield what names nothing among the operations of an API key, each written `Resource:operation`."""
    for index, written in enumerate(operations):
        named, _, word = written.partition(":")
        if resources := _resources(named, registry):
            yield from _operation_faults(word, resources, f"operations.{index}")
        else:
            yield Detail(f"operations.{index}", "unknown_resource", _no_resource(named, registry))


def _condition_faults(
    tree: Any, resources: Sequence[ResourceDefinition], registry: Registry, *, deny: bool
) -> Iterator[Detail | None]:
    """Yield what is wrong with a condition: an allow must fit somewhere, a deny wherever it reaches."""
    if tree is None:
        return
    found = []
    for resource in resources:
        found.append(_unfit(tree, resource, registry))
        yield None
    broken = [faults for faults in found if faults]
    if not broken or (not deny and len(broken) < len(found)):
        return
    if len(broken) == len(found):
        yield from broken[0]
        return
    unfit = next(one for one, faults in zip(resources, found, strict=True) if faults)
    told = f"A deny must fit wherever it reaches, and this does not fit {unfit.name} ({unfit.version})."
    yield Detail("condition", "unfit", told)


def _unfit(tree: Any, resource: ResourceDefinition, registry: Registry) -> list[Detail]:
    try:
        condition_from_json(tree, resource, registry, None)
    except ApiError as error:
        told = error.details or (Detail("filter", error.error_code, error.message),)
        return [Detail(_path("condition", one.field), one.code, one.message) for one in told]
    return []


def _field_faults(names: Any, resources: Sequence[ResourceDefinition], *, deny: bool) -> Iterator[Detail]:
    fields = {name for resource in resources for name in resource.fields if name != "tenantId"}
    for index, name in enumerate(names or ()):
        if name not in fields:
            told = f"There is no field {str(name)[:64]!r} here. {nearest(str(name), sorted(fields))}".rstrip()
            yield Detail(f"fields.{index}", "unknown_field", told)
    if deny and names == []:
        yield Detail("fields", "too_few", "Name a field, or leave it out to deny all.")


def _preset_faults(
    record: Mapping[str, Any], resources: Sequence[ResourceDefinition], registry: Registry
) -> Iterator[Detail]:
    presets = _value(record["preset"])
    if presets is None:
        return
    if not isinstance(presets, Mapping) or not presets:
        yield Detail("preset", "type", "Must be an object of fields and values.")
        return
    if record["effect"] != "allow" or record["action"] not in ("create", "write", "*"):
        yield Detail("preset", "unsupported", "Only an allow of `create` or `write` presets values.")
    for name, value in presets.items():
        owners = [resource for resource in resources if name in resource.fields]
        if not owners:
            names = sorted({one for resource in resources for one in resource.fields} - {"tenantId"})
            told = f"There is no field {name[:64]!r} here. {nearest(name, names)}".rstrip()
            yield Detail(f"preset.{name[:64]}", "unknown_field", told)
            continue
        if (reason := unfit_for_preset(owners[0].fields[name])) is not None:
            yield Detail(f"preset.{name}", "unsupported", f"{name!r} {reason}.")
            continue
        tree = {name: {"isNull": True} if value is None else {"eq": value}}
        for fault in _unfit(tree, owners[0], registry):
            yield Detail(f"preset.{name}", fault.code, fault.message)


def circles(links: Iterable[RoleLink]) -> list[str]:
    """Return the roles that inherit from themselves, in some number of steps, or lie between such; sorted."""
    found = {(link.subject, link.inherited) for link in links}
    # Who inherits nothing is in no circle, nor is who is inherited by nobody: what is left, when all such
    # are taken away, is. Each link is looked at a few times, however many there are.
    found = _within_circles(found)
    turned = _within_circles({(inherited, subject) for subject, inherited in found})
    return sorted({name.removeprefix("role:") for link in turned for name in link})


def _within_circles(links: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the links whose ends lead on without end."""
    above: dict[str, list[str]] = {}
    below: dict[str, int] = {}
    for subject, inherited in links:
        above.setdefault(inherited, []).append(subject)
        below[subject] = below.get(subject, 0) + 1
    waiting = [name for name in above if name not in below]
    while waiting:
        for subject in above.pop(waiting.pop(), ()):
            below[subject] -= 1
            if not below[subject]:
                del below[subject]
                waiting.append(subject)
    return {link for link in links if link[0] in below and link[1] in below}


def _value(text: Any) -> Any:
    return wire.loads(text.encode()) if isinstance(text, str) else text


def _path(first: str, place: str) -> str:
    """Return `condition.price.gt` for `filter[price][gt]`."""
    return ".".join((first, *_STEP.findall(place)))
