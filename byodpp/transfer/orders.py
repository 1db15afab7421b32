"""Orders: what an import is to do, made of its options and of the file that has arrived.

In: options, the file's hash, and who asks with which rights. Out: an `Order`. Rejects nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from byodpp.authentication import Principal
from byodpp.authorization import Decision
from byodpp.calls import Origin
from byodpp.definitions import ResourceDefinition, Scope
from byodpp.idempotency import fingerprint
from byodpp.schemas.nested import nestable
from byodpp.service.units import UnitParts
from byodpp.transfer.formats import Format
from byodpp.transfer.imports import Order
from byodpp.transfer.judging import Reading
from byodpp.transfer.options import ImportOptions
from byodpp.transfer.progress import Identity

__all__ = ["Asked", "identity_of", "order_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who asks for an import, of what, and under which bounds."""

    principal: Principal
    decision: Decision  # on the creation of rows
    origin: Origin
    resource: ResourceDefinition
    record_bytes: int
    json_depth: int
    parts: UnitParts


def order_of(
    asked: Asked,
    options: ImportOptions,
    format: Format,
    *,
    file_hash: str,
    key: str | None = None,
    kept: bool = True,
) -> Order:
    """Return the order.

    Args:
        asked: who asks, and for what.
        options: judged.
        format: of the file.
        file_hash: of the file's bytes.
        key: by which the caller calls the import; None: the file itself is its key, everybody's of the
            tenant where it means the same rows to all who may write every one of them.
        kept: False undoes everything in the end.
    """
    resource = asked.resource
    meaning = fingerprint((file_hash.encode(), format.encode(), options.meaning.encode()))
    shared = key is None and _same_for_all(asked, options.operation)
    identity = identity_of(
        asked.principal,
        resource,
        key or _key_of_file(asked.principal, meaning, shared=shared),
        shared=shared,
        file_hash=meaning,
        operation=options.operation,
    )
    versions = options.operation == "upsert" and resource.versioned
    reading = Reading(
        version=resource.version,
        resource=resource.name,
        format=format,
        separator=options.separator,
        ignored=options.ignore,
        empty_is_default=options.empty_is_default,
        escaped=options.escaped,
        barred=tuple(
            name
            for name in resource.fields
            if not (asked.decision.permits(name) or (versions and name == "version"))
        ),
        preset=tuple(asked.parts.authorizer.presets(asked.principal)(resource)),
        versions=versions,
        most_bytes=asked.record_bytes,
        max_depth=asked.json_depth,
    )
    return Order(
        principal=asked.principal,
        origin=asked.origin,
        resource=resource,
        identity=identity,
        reading=reading,
        on=options.on,
        atomic=options.atomic,
        kept=kept,
        again=options.again,
    )


def _key_of_file(principal: Principal, meaning: str, *, shared: bool) -> str:
    """Return the key of an import that has none: its file, and of no user in particular his roles, too.

    Whoever acts by command line is no user, so that his roles say whose file it is.
    """
    if not shared and not principal.user_id:
        meaning = fingerprint((meaning.encode(), *(role.encode() for role in sorted(principal.roles))))
    return f"sha256:{meaning}"


def _same_for_all(asked: Asked, operation: str) -> bool:
    """Whether the file means the same rows to whoever sends it with rights like the caller's.

    Not where rows are a user's own, nor where a rule, a preset, or a logic class could make another row,
    or none, of what somebody else sends: his import would then be told done, and his rows not be there.
    """
    parts = asked.parts
    operations = ("create", "update") if operation == "upsert" else ("create",)
    left, seen = [asked.resource], set[object]()
    while left:
        resource = left.pop()
        if resource.id in seen:
            continue
        seen.add(resource.id)
        if resource.scope is Scope.USER or not all(_free(asked, resource, one) for one in operations):
            return False
        for _, target in parts.registry.references(resource):
            # Which rows may be referred to depends on who may read them.
            if target.scope is Scope.USER or not _free(asked, target, "read"):
                return False
        left += nestable(resource, parts.registry).values()
    return True


def _free(asked: Asked, resource: ResourceDefinition, operation: str) -> bool:
    """Whether the caller has the right to an operation on all rows and fields, and nothing changes them."""
    decision = asked.parts.authorizer.decide(asked.principal, resource, operation)
    whole = decision.rows is None and decision.fields is None and not decision.presets
    served = operation != "read" and asked.parts.logics.get(resource, operation) is not None
    return decision.allowed and whole and not served


def identity_of(
    principal: Principal,
    resource: ResourceDefinition,
    key: str,
    *,
    shared: bool,
    file_hash: str = "",
    operation: str = "",
) -> Identity:
    """Return what makes an import the same import.

    Args:
        principal: who asks.
        resource: of the rows.
        key: of the import.
        shared: the key is the file's own, and so everybody's of the tenant.
        file_hash: of the file and of everything that says how it is read; no part of the key.
        operation: what is done; no part of the key.
    """
    name = f"{resource.version}.{resource.name}"
    apart = "" if shared and principal.visiting_from is not None else principal.apart
    # A key may do less than its user, and others of his keys: what they have met is not told to it.
    name = " ".join(one for one in (None if shared else principal.key_id, apart, name) if one)
    return Identity(
        tenant_id=principal.session_tenant_id,
        user_id=0 if shared else principal.user_id,
        resource=name,
        key=key,
        file_hash=file_hash,
        operation=operation,
    )
