"""What a caller may do: principal, resource and operation in, a Decision out, remembered.

The rules in force are replaced as a whole; what was decided by former ones is never found again,
since each state of a tenant's rules has a number of its own. Nothing here raises: what cannot be
decided is refused.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

from byodpp.authentication import Principal
from byodpp.authorization.algebra import Caller, Decision, decided, within
from byodpp.authorization.guests import fields_before_guests, rows_before_guests
from byodpp.authorization.in_force import RulesInForce, TenantRows, TenantRules, rows_by_tenant
from byodpp.authorization.policies import (
    PUBLIC,
    Policy,
    PolicyRow,
    PolicySet,
    RoleLink,
    base_policies,
    subject_of,
)
from byodpp.authorization.presets import Presets, preset_values
from byodpp.conditions import Condition, Lookup, Opened, Visibility, all_of
from byodpp.definitions import READ_OPERATIONS, ResourceDefinition
from byodpp.registry import Registry

__all__ = ["Authorizer", "Decision", "caller_of", "makers_subjects", "own_subjects", "within"]

_log = logging.getLogger(__name__)

V = TypeVar("V")

_EVERYBODY: Final = subject_of(PUBLIC)
_SIGNED_IN: Final = subject_of("*")
_NO_FIELDS: Final[Mapping[str, Condition | None]] = MappingProxyType({})


class Authorizer:
    """Decides. Lives on the event loop; a decision that was taken once is a lookup."""

    def __init__(
        self, registry: Registry, *, base: Sequence[Policy] | None = None, max_decisions: int = 20_000
    ) -> None:
        """Args:
        registry: whose `access` is the base policy of every tenant.
        base: its `base_policies`, where they are known already.
        max_decisions: how many decisions are remembered.

        Raises:
            ManifestError: a filter or field list of `access` that makes no sense.
        """
        #: For what is remembered: large bodies are judged in threads, and ask what is preset.
        self._lock = threading.RLock()
        self._max_decisions = max_decisions
        self._registry = registry
        policies = base_policies(registry) if base is None else base
        self._in_force = RulesInForce(PolicySet(policies, registry=registry), registry)
        #: Of the stored rows in force; 0 before any were loaded.
        self.version: Hashable = 0
        self._callers: OrderedDict[Hashable, Caller] = OrderedDict()
        self._decisions: OrderedDict[Hashable, Decision] = OrderedDict()
        self._visibilities: OrderedDict[Hashable, Visibility | None] = OrderedDict()

    def load_policies(
        self,
        rows: Iterable[PolicyRow],
        links: Iterable[RoleLink] = (),
        *,
        version: Hashable,
        platform: Iterable[RoleLink] = (),
    ) -> None:
        """Put these rows in force, all at once and in place of those before.

        Everything is built before anything is replaced: when this raises, nothing has changed.

        Args:
            rows: all rows of all tenants.
            links: role inheritance of all tenants.
            version: of the rows.
            platform: role inheritance that holds in every tenant.
        """
        tenants = rows_by_tenant(rows, links)
        gone = self._in_force.tenants - tenants.keys()
        self.change_policies({**dict.fromkeys(gone, TenantRows()), **tenants}, platform, version=version)

    def change_policies(
        self,
        tenants: Mapping[int, TenantRows],
        platform: Iterable[RoleLink] | None = None,
        *,
        version: Hashable,
    ) -> None:
        """Put the rows of some tenants in force, all at once; the others' rules stay.

        Args:
            tenants: everything that each of them has stored.
            platform: role inheritance that holds in every tenant; None: as before.
            version: of all rows.
        """
        self._in_force = self._in_force.changed(tenants, platform)
        self.version = version

    def rules(self, tenant_id: int) -> TenantRules:
        """Return the rules in force in a tenant."""
        return self._in_force.of(tenant_id)

    def trial(
        self, tenant_id: int, rows: TenantRows, platform: Iterable[RoleLink] | None = None
    ) -> TenantRules:
        """Return the rules of a tenant as they would be with other rows; nothing is put in force."""
        return self._in_force.changed({tenant_id: rows}, platform).of(tenant_id)

    def decide(self, principal: Principal, resource: ResourceDefinition, operation_key: str) -> Decision:
        """Return what the caller may do.

        Args:
            principal: who calls.
            resource: what of.
            operation_key: one of the seven, or an action's key.
        """
        if principal.operations is not None and not within(principal.operations, resource, operation_key):
            return Decision(allowed=False, reason="the operations of the API key leave it out")
        if principal.guest and operation_key not in READ_OPERATIONS:
            return Decision(allowed=False, reason="another tenant's rows are opened to be read only")
        try:
            rules = self._in_force.of(principal.tenant_id)
            caller = self._caller(rules, principal)
            key = (caller, resource.version, resource.name, operation_key)
            decision = self._decisions.get(key)
            if decision is None:
                with self._lock:
                    decision = decided(rules, caller, resource, operation_key)
                    _remember(self._decisions, key, decision, self._max_decisions)
        except Exception:
            _log.exception("no decision on %s of %s: refused", operation_key, resource.name)
            return Decision(allowed=False, reason="the policies could not be evaluated")
        return self._for_guest(decision, resource) if principal.guest else decision

    def _for_guest(self, decision: Decision, resource: ResourceDefinition) -> Decision:
        """Leave of a decision what was opened: what is published is shown to a guest as to everybody else."""
        if not decision.allowed:
            return decision
        rows = rows_before_guests(decision.rows, resource, self._registry)
        fields = decision.fields
        if fields is not None:
            fields = fields_before_guests(fields, resource, self._registry)
        return replace(decision, rows=all_of([rows, Opened()]), fields=fields)

    def visibility(
        self, principal: Principal, resource: ResourceDefinition, operation: str = "read"
    ) -> Visibility | None:
        """Return what the caller may see of a resource by an operation; None is nothing at all."""
        if principal.operations is not None and not within(principal.operations, resource, operation):
            return None
        try:
            caller = self._caller(self._in_force.of(principal.tenant_id), principal)
        except Exception:
            _log.exception("no decision on %s of %s: refused", operation, resource.name)
            return None
        if principal.guest:
            decision = self.decide(principal, resource, operation)
            return _visibility(decision, resource) if decision.allowed else None
        key = (caller, resource.version, resource.name, operation)
        try:
            return self._visibilities[key]
        except KeyError:
            decision = self.decide(principal, resource, operation)
        visible = _visibility(decision, resource) if decision.allowed else None
        with self._lock:
            _remember(self._visibilities, key, visible, self._max_decisions)
        return visible

    def lookup(self, principal: Principal, listed: ResourceDefinition | None = None) -> Lookup:
        """Return `visibility` for one caller, as the query judge and the statements take it.

        Args:
            principal: who reads.
            listed: the resource whose list is asked for. Of its rows the right to list decides, of
                all others the right to read.
        """
        if listed is None:
            return lambda resource: self.visibility(principal, resource)
        root = listed.id
        return lambda resource: self.visibility(
            principal, resource, "list" if resource.id == root else "read"
        )

    def presets(self, principal: Principal) -> Presets:
        """Return what a caller's creations of rows get where their bodies say nothing.

        For one body: of each resource in it, the rules are asked once.
        """
        known: dict[Hashable, Mapping[str, Any]] = {}

        def found(resource: ResourceDefinition) -> Mapping[str, Any]:
            values = known.get(resource.id)
            if values is None:
                presets = self.decide(principal, resource, "create").presets
                values = preset_values(presets, resource, principal.variables) if presets else presets
                known[resource.id] = values
            return values

        return found

    def standing(self, principal: Principal) -> Hashable:
        """Return what all callers share who may do and see the same; another one after a change of the rules.

        Which rows are theirs, their own tenant and their own variables decide beside it.
        """
        caller = self._caller(self._in_force.of(principal.tenant_id), principal)
        if principal.operations is None and not principal.guest and not principal.anywhere:
            return caller
        return caller, principal.operations, principal.guest, principal.anywhere

    def _caller(self, rules: TenantRules, principal: Principal) -> Caller:
        known: Caller | None = principal.standing
        if known is not None and known.state is rules.state:
            return known
        found = self._shared_caller(rules, principal)
        object.__setattr__(principal, "standing", found)
        return found

    def _shared_caller(self, rules: TenantRules, principal: Principal) -> Caller:
        """Return the one object for all callers who are the same to these rules."""
        user = principal.user_id if principal.user_id in rules.users else 0
        at_home = principal.home_tenant_id == principal.tenant_id
        key = (
            rules.number, principal.roles, principal.maker_roles, principal.key_id is None, user,
            principal.anonymous, at_home, principal.platform,
        )  # fmt: skip
        found = self._callers.get(key)
        if found is None:
            with self._lock:
                found = caller_of(rules, principal)
                _remember(self._callers, key, found, self._max_decisions)
        return found


def caller_of(rules: TenantRules, principal: Principal) -> Caller:
    """Return what decisions depend on: who somebody is, and every role that he has in a tenant."""
    if principal.anonymous:
        held = rules.held(own_subjects(rules, principal))
        return Caller(held=held, anonymous=True, at_home=False, state=rules.state)
    at_home = principal.home_tenant_id == principal.tenant_id
    held = rules.held(own_subjects(rules, principal))
    barred = rules.held(makers_subjects(rules, principal)) - held
    return Caller(
        held=held,
        barred=barred,
        at_home=at_home,
        on_platform=principal.at_home_on_platform,
        state=rules.state,
    )


def own_subjects(rules: TenantRules, principal: Principal) -> frozenset[str]:
    """Return what a caller is by itself, without what its roles inherit."""
    if principal.anonymous:
        return frozenset((_EVERYBODY,))
    everybody = {_SIGNED_IN, _EVERYBODY}
    himself = _himself(rules, principal)
    if principal.key_id is not None:
        return frozenset({*everybody, *_roles_of_key(rules, principal, himself)})
    return frozenset({*everybody, *himself, *map(subject_of, principal.roles)})


def _himself(rules: TenantRules, principal: Principal) -> frozenset[str]:
    """Return the user as a subject of rules, where some are about him."""
    # A user of another tenant (an operator) may have the number of one of this tenant's.
    if principal.home_tenant_id == principal.tenant_id and principal.user_id in rules.users:
        return frozenset((f"user:{principal.user_id}",))
    return frozenset()


def _roles_of_key(rules: TenantRules, principal: Principal, himself: frozenset[str]) -> Iterator[str]:
    """Yield the roles of a key: those of its maker's token, and of others those that he holds today."""
    given = {link.inherited for link in rules.links if link.subject in himself}
    by_token = principal.maker_roles
    for role in principal.roles:
        if by_token is None or role in by_token or subject_of(role) in given:
            yield subject_of(role)


def makers_subjects(rules: TenantRules, principal: Principal) -> frozenset[str]:
    """Return what the maker of a key is, whose denies bind the key whatever roles it was given."""
    if principal.key_id is None:
        return frozenset()
    return frozenset({*_himself(rules, principal), *map(subject_of, principal.maker_roles or ())})


def _visibility(decision: Decision, resource: ResourceDefinition) -> Visibility:
    fields = dict.fromkeys(resource.fields) if decision.fields is None else decision.fields
    readable = {name: when for name, when in fields.items() if not resource.fields[name].write_only}
    return Visibility(decision.rows, MappingProxyType(readable) if readable else _NO_FIELDS)


def _remember(cache: OrderedDict[Hashable, V], key: Hashable, value: V, limit: int) -> None:
    if len(cache) >= limit:
        cache.popitem(last=False)
    cache[key] = value
