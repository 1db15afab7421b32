"""Rows of `Policies` are judged before they are written: a rule that makes no sense is nobody's wish.

In: a write to that resource. Out: nothing. May raise ValidationFailed, with every fault of every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from byodpp.authorization import policy_faults
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import ValidationFailed
from byodpp.registry import Registry
from byodpp.schemas.modifiers import Modifier

__all__ = ["holds_policies", "refuse_senseless", "written_over"]


def holds_policies(resource: ResourceDefinition) -> bool:
    """Whether the rows of a resource are rules."""
    return (resource.part, resource.name) == ("access", "Policies")


def written_over(stored: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as a change leaves it; what a modifier makes of a field is not known yet."""
    return {**stored, **{name: one for name, one in values.items() if not isinstance(one, Modifier)}}


def refuse_senseless(rows: Sequence[Mapping[str, Any]], registry: Registry) -> None:
    """Refuse rules that no resource, operation, or field fits.

    Args:
        rows: all of their values, by field; several are those of a batch.
        registry: of the application.

    Raises:
        ValidationFailed: naming each fault.
    """
    faults = [
        fault if len(rows) == 1 else replace(fault, field=f"{index}.{fault.field}")
        for index, row in enumerate(rows)
        for fault in policy_faults(row, registry)
    ]
    if faults:
        raise ValidationFailed(details=faults[:100])
