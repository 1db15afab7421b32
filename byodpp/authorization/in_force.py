"""The rules in force: what the manifest says everywhere, and what each tenant has added.

A value that is replaced as a whole when something has changed, so that no decision mixes two
states. A tenant's rows are compiled when somebody of that tenant first asks: a thousand tenants
that sleep cost nothing, and a change in one of them leaves the others' rules alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import count

from byodpp.authorization.policies import (
    EVERYWHERE,
    Policy,
    PolicyRow,
    PolicySet,
    RoleLink,
    row_policies,
)
from byodpp.definitions import ResourceDefinition
from byodpp.registry import Registry

__all__ = ["RulesInForce", "TenantRows", "TenantRules", "rows_by_tenant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRows:
    """Everything that one tenant has stored about access."""

    policies: tuple[PolicyRow, ...] = ()
    links: tuple[RoleLink, ...] = ()


class TenantRules:
    """The rules of one tenant, compiled at first use."""

    __slots__ = (
        "_base",
        "_compiled",
        "_former",
        "_registry",
        "_set",
        "domain",
        "links",
        "number",
        "platform",
        "rows",
        "state",
        "users",
    )

    def __init__(
        self,
        domain: str,
        rows: TenantRows,
        platform: Sequence[RoleLink],
        base: PolicySet,
        registry: Registry,
        *,
        number: int,
        former: TenantRules | None = None,
    ) -> None:
        """Args:
        domain: of the tenant, or EVERYWHERE for those that have stored nothing.
        rows: what it has stored.
        platform: role inheritance that holds in every tenant.
        base: the manifest's rules.
        registry: what the rows are about.
        number: tells this state of the tenant's rules from every other.
        former: the tenant's rules before a change: what is the same is not compiled again.
        """
        self.domain = domain
        self.rows = rows
        self.number = number
        #: Stands for this state of the rules with those who must not keep the rules alive.
        self.state = object()
        found: list[PolicyRow | RoleLink] = [*rows.policies, *rows.links]
        #: Users who have rules or roles by themselves.
        self.users = frozenset(one.user_id for one in found if one.user_id is not None)
        self.platform = tuple(platform)
        self.links = (*self.platform, *rows.links)
        self._base = base
        self._registry = registry
        self._former = former
        self._compiled: list[tuple[PolicyRow, tuple[Policy, ...]]] = []
        self._set: PolicySet | None = None

    def held(self, subjects: Iterable[str]) -> frozenset[str]:
        """Return the subjects and all whose rights they have here."""
        return self._own().inherited(subjects, self.domain)

    def select(self, held: Sequence[str], resource: ResourceDefinition, operation: str) -> tuple[Policy, ...]:
        """Return the policies that hold: the manifest's, then the tenant's own in the order of their ids."""
        everywhere = self._base.select(held, EVERYWHERE, resource, operation)
        if not self.rows.policies:
            return everywhere
        return (*everywhere, *self._own().select(held, self.domain, resource, operation))

    def compiled(self) -> Sequence[tuple[PolicyRow, tuple[Policy, ...]]]:
        """Return the tenant's own rows, each with what it means."""
        self._own()
        return self._compiled

    def policies(self) -> Iterator[Policy]:
        """Yield all policies: the manifest's, then the tenant's own."""
        yield from self._base
        yield from self._own()

    def compiling(self) -> Iterator[None]:
        """Compile, unless it is done; yields after every row, to tell that time passes."""
        # Two threads may do this at once (large bodies are judged aside): each then makes the same.
        if self._set is not None:
            return
        former = self._former  # read once: the other one may have taken it away by the next look
        known = {row.id: (row, policies) for row, policies in former._compiled} if former else {}
        compiled: list[tuple[PolicyRow, tuple[Policy, ...]]] = []
        for row in self.rows.policies:
            found = known.get(row.id)
            if found is None or found[0] != row:
                found = (row, tuple(row_policies([row], self._registry)))
            compiled.append(found)
            yield
        own = (policy for _, policies in compiled for policy in policies)
        links = [(link.subject, link.inherited, self.domain) for link in self.links]
        made = PolicySet(own, links, registry=self._registry, former=former._set if former else None)
        self._compiled, self._set, self._former = compiled, made, None

    def _own(self) -> PolicySet:
        if self._set is None:
            for _ in self.compiling():
                pass
        assert self._set is not None
        return self._set


class RulesInForce:
    """One state of all rules."""

    def __init__(
        self,
        base: PolicySet,
        registry: Registry,
        tenants: Mapping[int, TenantRows] | None = None,
        platform: Iterable[RoleLink] = (),
        *,
        numbers: Iterator[int] | None = None,
    ) -> None:
        """Args:
        base: the manifest's rules, which hold everywhere.
        registry: what the rules are about.
        tenants: what each tenant has stored.
        platform: role inheritance that holds in every tenant.
        numbers: of the states of tenants' rules; from 1 on when omitted.
        """
        self._numbers = numbers or count(1)
        self._base = base
        self._registry = registry
        self._platform = tuple(platform)
        self._tenants: dict[int, TenantRules] = {}
        self._everywhere = self._rules(EVERYWHERE, TenantRows())
        self._put(tenants or {})

    def changed(
        self, tenants: Mapping[int, TenantRows], platform: Iterable[RoleLink] | None = None
    ) -> RulesInForce:
        """Return the state after a change.

        Args:
            tenants: what these tenants store now; the others' rules stay.
            platform: role inheritance that holds in every tenant from now on; None: as before.
        """
        links = self._platform if platform is None else platform
        made = RulesInForce(self._base, self._registry, platform=links, numbers=self._numbers)
        if made._platform == self._platform:
            made._everywhere = self._everywhere
            made._tenants = dict(self._tenants)
        else:
            tenants = {**{id: one.rows for id, one in self._tenants.items()}, **tenants}
        made._put(tenants, self._tenants)
        return made

    @property
    def tenants(self) -> Set[int]:
        """Tenants with rows of their own."""
        return self._tenants.keys()

    def of(self, tenant_id: int) -> TenantRules:
        """Return the rules that hold in a tenant; all without rows of their own share one value."""
        return self._tenants.get(tenant_id, self._everywhere)

    def _put(
        self, tenants: Mapping[int, TenantRows], former: Mapping[int, TenantRules] | None = None
    ) -> None:
        for id, rows in tenants.items():
            if rows.policies or rows.links:
                self._tenants[id] = self._rules(str(id), rows, (former or {}).get(id))
            else:
                self._tenants.pop(id, None)

    def _rules(self, domain: str, rows: TenantRows, former: TenantRules | None = None) -> TenantRules:
        return TenantRules(
            domain,
            rows,
            self._platform,
            self._base,
            self._registry,
            number=next(self._numbers),
            former=former,
        )


def rows_by_tenant(rows: Iterable[PolicyRow], links: Iterable[RoleLink]) -> dict[int, TenantRows]:
    """Put rows of many tenants in order, each tenant's by their ids."""
    policies: dict[int, list[PolicyRow]] = {}
    inheritance: dict[int, list[RoleLink]] = {}
    for row in rows:
        policies.setdefault(row.tenant_id, []).append(row)
    for link in links:
        inheritance.setdefault(link.tenant_id, []).append(link)
    return {
        id: TenantRows(policies=tuple(policies.get(id, ())), links=tuple(inheritance.get(id, ())))
        for id in {**policies, **inheritance}
    }
