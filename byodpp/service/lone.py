"""Which calls are one statement: those need no transaction around it.

In: a call that is authorised and validated. Out: whether its work is a single statement that nothing
could have to undo. Rejects nothing; what is not certain to be one has its transaction. Rules may change
until the statement is sent: who sends it looks again (`Transaction.needs_more`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from byodpp.calls import Call
from byodpp.definitions import Kind, Scope
from byodpp.events import emits, past_tense
from byodpp.repository.references import needs_look, references_of

if TYPE_CHECKING:
    from byodpp.authorization import Decision
    from byodpp.batches.reading import Batch
    from byodpp.service.units import UnitParts

__all__ = ["is_lone", "is_single"]


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
    """Whether a call that `is_lone` creates one row that nobody asks for but the caller.

    Of the other scopes some are written by few; events that a handler of this process wants are made of
    the row.
    """
    resource = call.resource
    if call.operation != "create" or resource.scope is not Scope.TENANT:
        return False
    return not (emits(resource, "create") and parts.hears(past_tense(resource.segment, "create")))


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
    if decision.fields is not None and any(decision.fields.get(name) is not None for name in sent):
        return False
    return not any(
        needs_look(parts.authorizer.visibility(call.principal, target), target)
        for _, target in references_of(parts.registry, call.resource, items)
    )
