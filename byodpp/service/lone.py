"""Which calls are one statement: those need no transaction around it.

In: a call that is authorised and validated. Out: whether its work is a single statement that nothing
could have to undo. Rejects nothing; what is not certain to be one has its transaction. Rules may change
until the statement is sent: who sends it looks again (`Transaction.needs_more`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from byodpp.calls import Call
from byodpp.conditions import Shape
from byodpp.definitions import Kind, Scope
from byodpp.repository.references import needs_look, references_of
from byodpp.schemas.modifiers import Modifier

if TYPE_CHECKING:
    from byodpp.authorization import Decision
    from byodpp.batches.reading import Batch
    from byodpp.service.units import UnitParts

__all__ = ["is_lone", "is_single"]

#: What the answer of a write shows.
_WHOLE_ROW: Final = Shape()


def is_lone(parts: UnitParts, call: Call) -> bool:
    """Whether a call creates rows by one statement and can have no second thoughts about it."""
    resource = call.resource
    if resource.kind is not Kind.DATABASE or resource.part is not None:
        return False
    if parts.logics.get(resource, call.operation) is not None:
        return False
    if call.operation == "create":
        return not call.nested and _is_certain(parts, call, call.decision, [call.body], call.sent)
    return call.operation == "batch" and _is_lone_batch(parts, call, call.body)


def is_single(parts: UnitParts, call: Call) -> bool:
    """Whether a call creates or changes a row by one statement, with nothing else to find out.

    Of the other scopes some are written by few; what a modifier makes of a value may have to be looked at,
    and read-only values that come along, or several versions, are compared with what is stored.
    """
    resource, operation = call.resource, call.operation
    if operation not in ("create", "update", "patch") or resource.scope is not Scope.TENANT:
        return False
    if operation == "create":
        return is_lone(parts, call)
    if resource.kind is not Kind.DATABASE or resource.part is not None or call.nested or not call.body:
        return False
    if call.or_versions or call.read_only or parts.store.sealed.concern(resource):
        return False  # a value that cannot be opened again must undo the change
    if parts.logics.get(resource, operation) is not None or parts.trail.watches(resource, _WHOLE_ROW):
        return False
    if any(isinstance(value, Modifier) for value in call.body.values()):
        return False
    return _is_certain(parts, call, call.decision, [call.body], call.sent)


def _is_lone_batch(parts: UnitParts, call: Call, batch: Batch) -> bool:
    if batch.operation != "create" or not batch.atomic or batch.on or batch.selection is not None:
        return False
    if parts.logics.get(call.resource, "create") is not None:
        return False
    # The right to a batch is not the right to what it repeats.
    decision = parts.authorizer.decide(call.principal, call.resource, "create")
    bodies = [item.values for item in batch.items]
    if not decision.allowed or any(body.nested for body in bodies):
        return False
    sent = frozenset[str]().union(*(body.sent for body in bodies))
    return _is_certain(parts, call, decision, [body.values for body in bodies], sent)


def _is_certain(
    parts: UnitParts,
    call: Call,
    decision: Decision,
    items: Sequence[Mapping[str, Any]],
    sent: Iterable[str],
) -> bool:
    """Whether rows with these values may be written whatever else they will hold."""
    if decision.rows is not None:
        return False
    seen = parts.authorizer.visibility(call.principal, call.resource)
    if seen is not None and seen.depends_on_time:
        return False  # the row is made a moment later than its arguments, and would not be there yet
    if decision.fields is not None and any(decision.fields.get(name) is not None for name in sent):
        return False
    return not any(
        needs_look(parts.authorizer.visibility(call.principal, target), target)
        for _, target in references_of(parts.registry, call.resource, items)
    )
