"""Who may do what, and why: the answers behind `byodpp access`, `byodpp explain`, and their routes.

In: a tenant and a question in the words in which people write it. Out: the permission matrix, or an
Explanation. Every answer is a decision of the `Authorizer` that requests ask; about a row it asks
the statement by which rows are read. May reject: ValidationFailed (the question names what does not
exist, or goes together with nothing), NotFound (a row that the asker may not read), Forbidden (what would
tell him a hidden value), QueryTooComplex.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from byodpp.access_questions import Asked, FindRoute, Question, Questions
from byodpp.authentication import Principal
from byodpp.authorization import Authorizer
from byodpp.authorization.algebra import left_by_scope
from byodpp.authorization.decisions import caller_of
from byodpp.authorization.delegation import Author, Rights, shown
from byodpp.authorization.explanation import Explanation, Voice, fields_json, held_by, voices_of
from byodpp.authorization.matrix import Cell, matrix, roles_of
from byodpp.authorization.policies import Policy, operation_keys
from byodpp.authorization.policy_check import key_faults
from byodpp.conditions import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Negation,
    Query,
    Refusal,
    Shape,
    Visibility,
    all_of,
)
from byodpp.database import PLATFORM_TENANT, Transaction
from byodpp.definitions import READ_OPERATIONS, ResourceDefinition
from byodpp.exceptions import Detail, Forbidden, NotFound, QueryTooComplex, ValidationFailed
from byodpp.registry import Registry
from byodpp.repository.stores import Store
from byodpp.suggestion import nearest

__all__ = ["AccessGuide"]

#: Cells of one matrix; each is a decision.
_MOST_CELLS: Final = 10_000
#: Cells before others get their turn on the event loop.
_TURN: Final = 100
_KEY: Final = Query(shape=Shape(fields=("id",)))
_ROLES: Final = "select name from roles where tenant_id in (0, $1) order by name"
_USER: Final = (
    "select id, subject from users where tenant_id = $1"
    " and (id::text = $2 or user_name = $2 or subject = $2) order by id limit 1"
)


class AccessGuide:
    """Answers for every tenant of one application."""

    def __init__(
        self, registry: Registry, authorizer: Authorizer, store: Store, find_route: FindRoute
    ) -> None:
        """Args:
        registry: what is asked about.
        authorizer: of the same application.
        store: of the same, for looking at rows.
        find_route: finds what an address leads to.
        """
        self._registry = registry
        self._authorizer = authorizer
        self._store = store
        self._questions = Questions(registry, find_route)

    def knows_all(self, asker: Principal) -> bool:
        """Whether somebody may read every rule, and so hear everything that they say."""
        policies = self._registry.get("Policies")
        seen = self._authorizer.visibility(asker, policies, "list")
        shown = [name for name, one in policies.fields.items() if not one.write_only]
        return seen is not None and seen.rows is None and dict(seen.fields) == dict.fromkeys(shown)

    def key_faults(self, operations: Sequence[str]) -> list[Detail]:
        """Return what names nothing among the operations that an API key shall have."""
        return list(key_faults(operations, self._registry))

    async def withheld(
        self, transaction: Transaction, user: Principal, resource: ResourceDefinition, id: str
    ) -> list[str]:
        """Return the fields that somebody does not read of a row, whomever they are meant for.

        Args:
            transaction: of the user.
            user: who asks for himself.
            resource: what of.
            id: of the row.
        """
        rules, key = self._authorizer.rules(user.tenant_id), self._store.key(resource, id)
        author = Author(caller=caller_of(rules, user), rules=rules, operations=user.operations)
        fields = shown(Rights(author), resource)
        hidden = {
            when
            for when in set(fields.values()) - {None}
            if not await self._matches(transaction, user, resource, key, [when])
        }
        return [
            name
            for name, field in resource.fields.items()
            if not field.write_only and (name not in fields or fields[name] in hidden)
        ]

    def given_roles(self, user: Principal) -> frozenset[str]:
        """Return the roles that the tenant's own rows give to a user, besides those of the token."""
        if user.visiting_from is not None:
            return frozenset()
        links = self._authorizer.rules(user.tenant_id).links
        return frozenset(link.inherits for link in links if link.user_id == user.user_id)

    # --- the matrix -------------------------------------------------------------------

    async def cells(
        self, transaction: Transaction, tenant_id: int, resource: str = "", only: Sequence[str] = ()
    ) -> list[Cell]:
        """Return the permission matrix of a tenant.

        Args:
            transaction: that may read the tenant's roles.
            tenant_id: whose rules.
            resource: only this one, in every version; empty is all that have routes.
            only: roles, `*` and `public` among them; empty is every column.

        Raises:
            ValidationFailed: there is no such resource or role.
            QueryTooComplex: it would be too large.
        """
        rules = self._authorizer.rules(tenant_id)
        stored = [record["name"] for record in await transaction.fetch(_ROLES, tenant_id)]
        roles = _chosen(roles_of(rules, stored), only)
        lines: Iterable[ResourceDefinition] = self._questions.named(resource) if resource else self._registry
        wanted = [one for one in lines if one.routed]
        if len(roles) * sum(len(operation_keys(one)) for one in wanted) > _MOST_CELLS:
            told = f"The matrix would have more than {_MOST_CELLS} cells: name a resource, or roles."
            raise QueryTooComplex(details=[Detail("resource", "too_complex", told)])
        found = []
        for index, cell in enumerate(matrix(rules, tenant_id, roles, wanted)):
            found.append(cell)
            if index % _TURN == _TURN - 1:
                await asyncio.sleep(0)
        return found

    # --- an explanation ---------------------------------------------------------------

    async def explain(
        self, transaction: Transaction, tenant_id: int, question: Question, asker: Principal | None
    ) -> Explanation:
        """Return why somebody of a tenant may do something, or may not.

        Args:
            transaction: of the tenant; of rows that belong to a user it must be the user's.
            tenant_id: whose rules.
            question: what is asked.
            asker: about himself where the question names nobody, and bounded to rows that he may read;
                None: somebody who may know everything, and says of whom he speaks.

        Raises:
            ValidationFailed: the question names what does not exist, or two things that exclude each other.
            NotFound: about a row that the asker may not read.
            Forbidden: a rule compares what the asker may not read of it.
        """
        asked = self._questions.asked(question)
        principal = await self.caller(transaction, tenant_id, question, asker)
        told = self._without_row(asked, tenant_id, principal)
        if asked.id is None:
            return told
        if asked.restores and asker is not None:
            # Who restores no rows cannot know that a deleted one is there, not even by trying.
            if not self._authorizer.decide(asker, asked.resource, asked.operation).allowed:
                if asker is principal:
                    return told
                raise NotFound(f"{asked.resource.name} {asked.id!r} does not exist.")
        seen = None if asker is None else self._shown_to(asker, asked.resource)
        if asker is not None and asker is not principal:
            await self._refuse_unreadable(transaction, asker, asked)
            read = self._authorizer.decide(principal, asked.resource, "read")
            if not all(_is_about(rule, seen) for rule in (*told.decision.rules, *read.rules)):
                raise Forbidden("A rule compares what you may not read: its answer would tell you.")
        return await self._over_row(transaction, told, principal, asked, seen)

    def _shown_to(self, asker: Principal, resource: ResourceDefinition) -> frozenset[str]:
        """Return the fields that somebody may read of every row."""
        visible = self._authorizer.visibility(asker, resource)
        return (
            frozenset(name for name, when in visible.fields.items() if when is None)
            if visible
            else frozenset()
        )

    def _without_row(self, asked: Asked, tenant_id: int, principal: Principal) -> Explanation:
        resource, operation = asked.resource, asked.operation
        decision = self._authorizer.decide(principal, resource, operation)
        rules = self._authorizer.rules(tenant_id)
        return Explanation(
            resource=resource,
            operation=operation,
            decision=decision,
            allowed=False if not decision.allowed else None if decision.rows is not None else True,
            status=None if decision.allowed else 401 if principal.anonymous else 403,
            reason=decision.reason,
            held=held_by(rules, principal),
            voices=voices_of(decision, rules, principal),
            fields=fields_json(decision, resource, operation),
        )

    async def _refuse_unreadable(self, transaction: Transaction, asker: Principal, asked: Asked) -> None:
        """Refuse to speak about a row that whoever asks may not know to be there."""
        visible = self._authorizer.visibility(asker, asked.resource)
        key = self._store.key(asked.resource, asked.id)
        if visible is None or not await self._matches(
            transaction, asker, asked.resource, key, [visible.rows], deleted=asked.restores
        ):
            raise NotFound(f"{asked.resource.name} {asked.id!r} does not exist.")

    async def _over_row(
        self,
        transaction: Transaction,
        told: Explanation,
        principal: Principal,
        asked: Asked,
        seen: frozenset[str] | None,
    ) -> Explanation:
        """Let PostgreSQL judge the decision, and each rule of it, over one row.

        Of a rule that compares other fields than those `seen` nothing is told; None is all.
        """
        resource, decision = told.resource, told.decision
        key, deleted = self._store.key(resource, asked.id), asked.restores

        async def matches(*conditions: Condition | None) -> bool:
            return await self._matches(transaction, principal, resource, key, conditions, deleted=deleted)

        voices = [
            replace(one, matches=await self._has_say(one, matches)) if _is_about(one.rule, seen) else one
            for one in told.voices
        ]
        told = replace(told, voices=tuple(voices))
        if not decision.allowed:
            return told
        readable = self._authorizer.visibility(principal, resource)
        if readable is None or not await matches(readable.rows):
            reason = "there is no such row that this caller may read"
            return _refused(told, 404, reason)
        if not await matches(left_by_scope(resource, told.operation)):
            return _refused(told, 403, "rows of the platform's library are written from the platform only")
        if not await matches(decision.rows):
            return _refused(told, 404 if told.operation in READ_OPERATIONS else 403, _who_refuses(voices))
        if not await self._fits_afterwards(transaction, principal, told, key):
            return _refused(told, 403, "the row as the step would leave it is none that the rules allow")
        fields = {}
        for name, state in told.fields.items():
            when = None if decision.fields is None else decision.fields.get(name)
            open = state != "no" and (when is None or await matches(when))
            fields[name] = "yes" if open else "no"
        return replace(told, allowed=True, fields=fields)

    async def _fits_afterwards(
        self, transaction: Transaction, principal: Principal, told: Explanation, key: Any
    ) -> bool:
        """Whether the caller may have the row as a step leaves it; what else is written is not known yet."""
        resource, rows = told.resource, told.decision.rows
        action = next((one for one in resource.actions if one.key == told.operation), None)
        if rows is None or action is None or action.transition is None:
            return True
        compiled = self._store.writes.keys.left_by_step(resource, rows)
        arguments = compiled.arguments(
            (),
            principal.variables,
            principal.session,
            scope_tenant_id=principal.tenant_id,
            named={"id": key, "state": action.transition.target},
        )
        return await transaction.fetchrow(compiled.sql, *arguments) is not None

    @staticmethod
    async def _has_say(voice: Voice, matches: Callable[..., Any]) -> bool:
        """Whether a rule is about the row: an allow that matches, a deny that is not known not to."""
        rule = voice.rule
        if rule.deny:
            return rule.rows is None or not await matches(Refusal(rule.rows))
        return bool(await matches(rule.rows))

    async def _matches(
        self,
        transaction: Transaction,
        principal: Principal,
        resource: ResourceDefinition,
        key: Any,
        conditions: Iterable[Condition | None],
        *,
        deleted: bool = False,
    ) -> bool:
        """Whether a caller who may read rows of these conditions, and no others, would find the row.

        Args:
            transaction: looks.
            principal: the caller.
            resource: of the row.
            key: of the same; None can be no row's.
            conditions: None is every row.
            deleted: also where it is deleted softly, as who restores it would.
        """
        if key is None:
            return False
        visible = Visibility(all_of(list(conditions)), MappingProxyType({"id": None}))
        if deleted:
            compiled = self._store.writes.keys.visible(resource, visible, deleted=True)
            arguments = compiled.arguments(
                (),
                principal.variables,
                principal.session,
                scope_tenant_id=principal.tenant_id,
                named={"ids": [key]},
            )
            return await transaction.fetchrow(compiled.sql, *arguments) is not None

        def lookup(other: ResourceDefinition) -> Visibility | None:
            return visible if other.id == resource.id else self._authorizer.visibility(principal, other)

        compiled = self._store.statements.row(
            resource, _KEY, lookup, context_in_statement=False, anywhere=principal.anywhere
        )
        arguments = compiled.arguments(
            (),
            principal.variables,
            principal.session,
            scope_tenant_id=principal.tenant_id,
            named={"id": key},
        )
        record = await transaction.fetchrow(compiled.sql, *arguments)
        return record is not None and record["data"] is not None

    # --- people -----------------------------------------------------------------------

    async def caller(
        self,
        transaction: Transaction,
        tenant_id: int,
        question: Question,
        asker: Principal | None = None,
    ) -> Principal:
        """Return of whom a question speaks.

        Args:
            transaction: that may read the tenant's users.
            tenant_id: at which he is at home.
            question: what is asked.
            asker: who asks, and is meant where nobody is named; None: somebody outside.

        Raises:
            ValidationFailed: there is no such user, or not for the asker; or the words exclude each other.
        """
        if question.anonymous and (question.roles or question.user is not None):
            told = "Who is not signed in has no roles and is no user."
            raise ValidationFailed(details=[Detail("anonymous", "conflict", told)])
        if question.anonymous:
            return Principal(tenant_id=tenant_id)
        if asker is not None and not question.about_another:
            return asker
        user: Mapping[str, Any] | None = None
        if question.user is not None:
            user = await self._user(transaction, tenant_id, question.user, asker)
        return Principal(
            user_id=user["id"] if user else 0,
            subject=user["subject"] if user else None,
            tenant_id=tenant_id,
            session_tenant_id=tenant_id,
            home_tenant_id=tenant_id,
            roles=frozenset(question.roles),
            anonymous=False,
            platform=tenant_id == PLATFORM_TENANT,
        )

    async def _user(
        self, transaction: Transaction, tenant_id: int, name: str, asker: Principal | None
    ) -> Mapping[str, Any]:
        record: Mapping[str, Any] | None = await transaction.fetchrow(_USER, tenant_id, name)
        if record is not None and asker is not None:
            users = self._registry.get("Users")
            visible = self._authorizer.visibility(asker, users)
            if visible is None or not await self._matches(
                transaction, asker, users, record["id"], [visible.rows]
            ):
                record = None
        if record is None:
            raise ValidationFailed(details=[Detail("user", "reference", "There is no such user.")])
        return record


def _chosen(roles: Sequence[str], only: Sequence[str]) -> list[str]:
    """Return the roles that are asked for, in the order of the matrix."""
    for name in only:
        if name not in roles:
            told = f"There is no role {name[:64]!r} here. {nearest(name, roles, list_up_to=0)}".rstrip()
            raise ValidationFailed(details=[Detail("role", "reference", told)])
    return [role for role in roles if not only or role in only]


def _is_about(rule: Policy, seen: frozenset[str] | None) -> bool:
    """Whether the rows of a rule are told by these fields alone; None is all."""
    return seen is None or rule.rows is None or _compares(rule.rows, seen)


def _compares(condition: Condition, seen: frozenset[str]) -> bool:
    """Whether a condition compares these fields of the row itself and nothing else."""
    match condition:
        case Comparison():
            return not condition.path and condition.field in seen
        case AllOf() | AnyOf():
            return all(_compares(part, seen) for part in condition.parts)
        case Negation() | Refusal():
            return _compares(condition.part, seen)
    return False


def _refused(told: Explanation, status: int, reason: str) -> Explanation:
    return replace(told, allowed=False, status=status, reason=reason, fields=dict.fromkeys(told.fields, "no"))


def _who_refuses(voices: Iterable[Voice]) -> str:
    for voice in voices:
        if voice.rule.deny and voice.matches and voice.rule.fields is None:
            return f"denied by {voice.rule.source}"
    return "no rule that allows it matches the row"
