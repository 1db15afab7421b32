"""Why somebody may do something, or may not: a decision in words, with every rule that has a say.

The rules of a tenant, a caller, and the Decision that his request would get in; an Explanation out, as
JSON and as lines for people. It decides nothing: what it tells was decided by `algebra`, and over a row
by PostgreSQL. Nothing is refused here; who may ask is the affair of those who serve it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from byodpp.authentication import Principal
from byodpp.authorization.algebra import Decision
from byodpp.authorization.decisions import caller_of, makers_subjects, own_subjects
from byodpp.authorization.in_force import TenantRules
from byodpp.authorization.policies import Policy
from byodpp.definitions import READ_OPERATIONS, ResourceDefinition

__all__ = ["Explanation", "Voice", "explanation_lines", "fields_json", "held_by", "rows_json", "voices_of"]

_YES, _NO, _SOME = "yes", "no", "on some rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """One rule that has a say."""

    rule: Policy
    way: tuple[str, ...]  # from what the caller is to what the rule is about, over inherited roles
    of_maker: bool = False  # the way begins with what the maker of the API key is, and the key is not
    matches: bool | None = None  # the row; of a deny also where that is unknown. None: no row was asked about

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        rule = self.rule
        found: dict[str, Any] = {
            "effect": "deny" if rule.deny else "allow",
            "subject": _shown(rule.subject),
            "rule": rule.source,
            "condition": rule.filter,
            "fields": None if rule.fields is None else sorted(rule.fields),
        }
        if rule.presets:
            found["preset"] = dict(rule.presets)
        if len(self.way) > 1 or self.of_maker:
            found["heldBy"] = [_shown(one) for one in self.way]
        if self.of_maker:
            found["ofMaker"] = True
        if self.matches is not None:
            found["matches"] = self.matches
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer, and everything that led to it."""

    resource: ResourceDefinition
    operation: str
    decision: Decision
    allowed: bool | None  # None: on some rows, and no row was asked about
    status: int | None  # with which a request is refused; None: it is not, or only over some rows
    reason: str
    held: tuple[str, ...]  # everything that the caller is, inherited roles included
    voices: tuple[Voice, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)  # of the resource: yes, no, on some rows

    def as_json(self, *, whole: bool = True) -> dict[str, Any]:
        """Return it as JSON.

        Args:
            whole: False leaves out the rules, and whatever else tells what they say.
        """
        found: dict[str, Any] = {
            "resource": self.resource.name,
            "version": self.resource.version,
            "operation": self.operation,
            "allowed": {True: _YES, False: _NO, None: _SOME}[self.allowed],
            "status": self.status,
            "reason": self.reason if whole else _told_plainly(self),
            "fields": dict(self.fields),
            "preset": dict(self.decision.presets) or None,
            "roles": None,
            "rows": None,
            "rules": None,
        }
        if whole:
            found["roles"] = [_shown(one) for one in self.held]
            found["rows"] = rows_json(self.decision) if self.decision.allowed else None
            found["rules"] = [voice.as_json() for voice in self.voices]
        return found


def voices_of(decision: Decision, rules: TenantRules, principal: Principal) -> tuple[Voice, ...]:
    """Return the rules of a decision, each with the way on which the caller came to it."""
    held = caller_of(rules, principal).held
    before = _walked(rules, (own_subjects(rules, principal), makers_subjects(rules, principal)))
    return tuple(
        Voice(rule=rule, way=_way(before, rule.subject), of_maker=rule.subject not in held)
        for rule in decision.rules
    )


def held_by(rules: TenantRules, principal: Principal) -> tuple[str, ...]:
    """Return everything that a caller is, sorted."""
    return tuple(sorted(caller_of(rules, principal).held))


def rows_json(decision: Decision) -> dict[str, Any] | None:
    """Return the rows of a decision as they were written; None is every row.

    A row must match one of `anyOf`, where that is given, and must be known not to match any of `noneOf`.
    """
    if decision.rows is None:
        return None
    allows = [rule for rule in decision.rules if not rule.deny]
    denies = [rule for rule in decision.rules if rule.deny and rule.fields is None]
    bounded = all(rule.rows is not None or (decision.presets and rule.presets) for rule in allows)
    any_of = [_meant(rule, decision) for rule in allows] if bounded else None
    return {"anyOf": any_of, "noneOf": [rule.filter for rule in denies]}


def _meant(rule: Policy, decision: Decision) -> Any:
    """Return the rows of an allow; what it presets, a created row must have."""
    parts = [part for part in (rule.filter, dict(rule.presets) if decision.presets else None) if part]
    return parts[0] if len(parts) == 1 else {"and": parts}


def fields_json(decision: Decision, resource: ResourceDefinition, operation: str) -> dict[str, str]:
    """Return of each field whether the operation shows it, or takes it from a body."""
    return {
        name: _NO if _closed(resource, name, operation) or not decision.allowed else _field(decision, name)
        for name in resource.fields
        if name != "tenantId"
    }


def _closed(resource: ResourceDefinition, name: str, operation: str) -> bool:
    """Whether a field is closed to everybody: never shown, or never taken."""
    definition = resource.fields[name]
    return definition.write_only if operation in READ_OPERATIONS else definition.read_only


def _field(decision: Decision, name: str) -> str:
    if not decision.permits(name):
        return _NO
    when = None if decision.fields is None else decision.fields[name]
    return _YES if when is None and decision.rows is None else _SOME


def _told_plainly(told: Explanation) -> str:
    what = f"{told.operation} {told.resource.name}"
    if told.status == 404:
        return "There is no such row."
    if told.allowed is False:
        return f"You have no right to {what}."
    return f"You may {what}{' on some rows' if told.allowed is None else ''}."


def _walked(rules: TenantRules, starts: Iterable[Collection[str]]) -> Mapping[str, str | None]:
    """Return of each subject that is reached over inherited roles the one before it; None of a start.

    Args:
        rules: whose roles inherit.
        starts: groups of subjects; what is reached from a former group is not reached from a later one.
    """
    inherited: dict[str, list[str]] = {}
    for link in rules.links:
        inherited.setdefault(link.subject, []).append(link.inherited)
    before: dict[str, str | None] = {}
    for group in starts:
        waiting = [one for one in sorted(group) if one not in before]
        before |= dict.fromkeys(waiting)
        for subject in waiting:  # grows while it is walked over: the shorter ways come first
            for other in inherited.get(subject, ()):
                if other not in before:
                    before[other] = subject
                    waiting.append(other)
    return before


def _way(before: Mapping[str, str | None], subject: str) -> tuple[str, ...]:
    """Return the shortest way to a subject."""
    way = [subject]
    while (former := before.get(way[-1])) is not None:
        way.append(former)
    return tuple(reversed(way))


def _shown(subject: str) -> str:
    return subject.removeprefix("role:")


def explanation_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that people read.

    Args:
        told: `Explanation.as_json`, whole.
    """
    answer = told["allowed"] if told["status"] is None else f"{told['allowed']}, answered {told['status']}"
    yield f"{told['operation']} {told['resource']} ({told['version']}): {answer}"
    yield f"  because  {told['reason']}"
    yield f"  caller   {', '.join(told['roles'])}"
    yield f"  rows     {_written(told['rows'])}"
    for answer, word in ((_YES, "fields"), (_SOME, "some rows"), (_NO, "hidden")):
        names = [name for name, state in told["fields"].items() if state == answer]
        if names:
            yield f"  {word:<8} {', '.join(names)}"
    if told["preset"]:
        yield f"  preset   {json.dumps(told['preset'], ensure_ascii=False)}"
    for rule in told["rules"]:
        yield from _rule_lines(rule)


def _rule_lines(rule: Mapping[str, Any]) -> Iterator[str]:
    matches = {True: ", matches the row", False: ", does not match the row", None: ""}[rule.get("matches")]
    yield f"  {rule['effect']:<8} {rule['subject']}: {rule['rule']}{matches}"
    if rule["condition"] is not None:
        yield f"           rows {json.dumps(rule['condition'], ensure_ascii=False)}"
    if rule["fields"] is not None:
        yield f"           fields {', '.join(rule['fields']) or 'none but the key'}"
    if rule.get("heldBy"):
        whose = "by the key's maker " if rule.get("ofMaker") else ""
        yield f"           held {whose}over {' > '.join(rule['heldBy'])}"


def _written(rows: Mapping[str, Any] | None) -> str:
    if rows is None:
        return "every one of the scope"
    parts = []
    if rows["anyOf"] is not None:
        parts.append(" or ".join(json.dumps(one, ensure_ascii=False) for one in rows["anyOf"]))
    parts += (f"never {json.dumps(one, ensure_ascii=False)}" for one in rows["noneOf"])
    return "; ".join(parts) or "every one of the scope"
