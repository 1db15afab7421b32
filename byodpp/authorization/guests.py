"""Rules as they hold for a guest, before whom related rows are hidden that were not opened to him.

In: a condition over the rows of another tenant. Out: one that takes a related row which cannot be
seen for unknown, and so never allows by it, and denies by it where the rule denies. Row-level
security hides such rows from every statement of a guest, those inside of rules included, and what
is not there would make `ne`, `none`, and `not` true, and a deny about `some` false.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from byodpp.conditions import (
    EVERYTHING,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Negation,
    Opened,
    Quantified,
    Refusal,
    Search,
)
from byodpp.definitions import ResourceDefinition, Scope
from byodpp.registry import Registry

__all__ = ["fields_before_guests", "rows_before_guests"]


def rows_before_guests(
    condition: Condition | None, resource: ResourceDefinition, registry: Registry
) -> Condition | None:
    """Return a condition as it holds for a guest; None stays "every row"."""
    return None if condition is None else _seen(condition, resource, registry, unknown=False)


def fields_before_guests(
    fields: Mapping[str, Condition | None], resource: ResourceDefinition, registry: Registry
) -> dict[str, Condition | None]:
    """Return when each field is shown to a guest."""
    return {name: rows_before_guests(when, resource, registry) for name, when in fields.items()}


def _seen(
    condition: Condition, resource: ResourceDefinition, registry: Registry, *, unknown: bool
) -> Condition:
    """Return the condition with what is hidden taken for true or false.

    Args:
        condition: of a rule.
        resource: what it is about.
        registry: knows where relations lead.
        unknown: what an unknown comparison counts as here.
    """
    match condition:
        case AllOf(parts):
            return AllOf(tuple(_seen(part, resource, registry, unknown=unknown) for part in parts))
        case AnyOf(parts):
            return AnyOf(tuple(_seen(part, resource, registry, unknown=unknown) for part in parts))
        case Negation(part):
            return Negation(_seen(part, resource, registry, unknown=not unknown))
        case Refusal(part):
            return Refusal(_seen(part, resource, registry, unknown=not unknown))
        case Comparison():
            return _compared(condition, resource, registry, unknown=unknown)
        case Quantified():
            return _quantified(condition, resource, registry, unknown=unknown)
        case Search() | Opened():
            return condition


def _compared(
    comparison: Comparison, resource: ResourceDefinition, registry: Registry, *, unknown: bool
) -> Condition:
    if not _may_hide(comparison.path, resource, registry):
        return comparison
    return _where_opened(comparison.path, comparison, unknown=unknown)


def _quantified(
    condition: Quantified, resource: ResourceDefinition, registry: Registry, *, unknown: bool
) -> Condition:
    """Return what may be said of many rows of which some are hidden: those that are seen prove or refute."""
    some, target = condition.quantifier == "some", _end(condition.path, resource, registry)
    hidden = _may_hide(condition.path, resource, registry)
    if hidden and some is unknown:
        return EVERYTHING if unknown else AnyOf(())
    inner = unknown if condition.quantifier != "none" else not unknown
    part = _seen(condition.part, target, registry, unknown=inner)
    if not hidden:
        return replace(condition, part=part)
    every = condition.quantifier == "every"
    part = AnyOf((Negation(Opened()), part)) if every else AllOf((Opened(), part))
    return _where_opened(condition.path[:-1], replace(condition, part=part), unknown=unknown)


def _where_opened(path: tuple[str, ...], condition: Condition, *, unknown: bool) -> Condition:
    """Return the condition where each row on the way was opened, and elsewhere what is unknown.

    What is published is not hidden from a guest, but of such a row he may see some fields only.
    """
    opened = [Quantified(path[:place], "some", Opened()) for place in range(1, len(path) + 1)]
    if unknown:
        return AnyOf((*map(Negation, opened), condition))
    return AllOf((*opened, condition))


def _may_hide(path: Sequence[str], resource: ResourceDefinition, registry: Registry) -> bool:
    """Whether a row on the way may be hidden; what all tenants share never is."""
    for name in path:
        resource = registry.target(resource, resource.relations[name])
        if resource.scope is not Scope.SHARED:
            return True
    return False


def _end(path: Sequence[str], resource: ResourceDefinition, registry: Registry) -> ResourceDefinition:
    for name in path:
        resource = registry.target(resource, resource.relations[name])
    return resource
