"""The rules of access, evaluated slowly and plainly, over rows of `Policies` as they are written.

Knows nothing of the product but what docs/tenancy-and-access.md says: a row, a field, an operation is
allowed when some allow of a held role matches row and field, and no deny does. A condition is true,
false, or unknown (None); an allow needs true, a deny bars whatever is not known to be false.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["READS", "Access", "Caller", "Rule", "holds"]

Row = Mapping[str, Any]
READS: Final = ("list", "read")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A row of `Policies`, or one rule of the manifest."""

    subject: str
    object: str
    actions: frozenset[str] | None  # None is every one
    deny: bool = False
    condition: Mapping[str, Any] | None = None
    fields: tuple[str, ...] | None = None
    preset: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks."""

    held: frozenset[str]  # `user:7`, roles, those that they inherit, `*`, `public`
    user: int | None  # None: nobody
    anonymous: bool = False


def holds(condition: Mapping[str, Any] | None, row: Row, caller: Caller, *, strict: bool) -> bool | None:
    """Evaluate a condition; strictly, what is null is unknown."""
    if condition is None:
        return True
    found = []
    for name, value in condition.items():
        if name == "and":
            found.append(_all(holds(part, row, caller, strict=strict) for part in value))
        elif name == "or":
            found.append(_any(holds(part, row, caller, strict=strict) for part in value))
        elif name == "not":
            found.append(_not(holds(value, row, caller, strict=strict)))
        else:
            tests = value if isinstance(value, Mapping) else {"eq": value}
            found += [_compared(row[name], word, given, caller, strict) for word, given in tests.items()]
    return _all(found)


def _compared(value: Any, word: str, given: Any, caller: Caller, strict: bool) -> bool | None:
    if word == "isNull":
        return bool((value is None) == given)
    if given == "$user.id":
        given = caller.user
        if given is None:
            return None
    if value is None:
        return None if strict else word in ("ne", "nin")
    match word:
        case "eq":
            return bool(value == given)
        case "ne":
            return bool(value != given)
        case "gt":
            return bool(value > given)
        case "lt":
            return bool(value < given)
        case "in":
            return bool(value in given)
        case "nin":
            return bool(value not in given)
    raise AssertionError(word)


def _all(parts: Iterable[bool | None]) -> bool | None:
    found = list(parts)
    return False if False in found else None if None in found else True


def _any(parts: Iterable[bool | None]) -> bool | None:
    found = list(parts)
    return True if True in found else None if None in found else False


def _not(part: bool | None) -> bool | None:
    return None if part is None else not part


@dataclass(frozen=True, kw_only=True)
class Access:
    """Everything that one caller may do, by the rules of one tenant."""

    rules: Sequence[Rule]
    caller: Caller
    audiences: Mapping[tuple[str, str], frozenset[str]]  # of a resource and a field

    def _of(self, resource: str, action: str) -> tuple[list[Rule], list[Rule]]:
        """Return the allows and the denies that have a say."""
        found = [
            rule
            for rule in self.rules
            if rule.subject in self.caller.held
            and rule.object in (resource, "*")
            and (rule.actions is None or action in rule.actions)
        ]
        return [rule for rule in found if not rule.deny], [rule for rule in found if rule.deny]

    def at_all(self, resource: str, action: str) -> bool:
        """Whether the operation is open on some row."""
        if self.caller.anonymous and action not in READS:
            return False
        allows, denies = self._of(resource, action)
        return bool(allows) and not any(_whole(rule) and rule.condition is None for rule in denies)

    def row(self, resource: str, action: str, row: Row) -> bool:
        """Whether the operation is open on this row."""
        allows, denies = self._of(resource, action)
        open_to = any(self._matches(rule, action, row) for rule in allows)
        return self.at_all(resource, action) and open_to and not self._barred(denies, row)

    def field(self, resource: str, action: str, row: Row, name: str) -> bool:
        """Whether the operation may use this field of this row."""
        allows, denies = self._of(resource, action)
        granted = any(self._matches(rule, action, row) and _grants(rule, name, action) for rule in allows)
        barred = self._barred([rule for rule in denies if not _whole(rule)], row, name)
        return granted and not barred and self._meant(resource, action, name)

    def known(self, resource: str, action: str, name: str) -> bool:
        """Whether the field may be named: whether it is open on any row that one could think of."""
        allows, denies = self._of(resource, action)
        granted = any(_grants(rule, name, action) for rule in allows)
        closed = any(
            rule.condition is None and not _whole(rule) and name in (rule.fields or ()) for rule in denies
        )
        return (
            self.at_all(resource, action) and granted and not closed and self._meant(resource, action, name)
        )

    def presets(self, resource: str) -> dict[str, Any]:
        """Return what a created row gets where the body says nothing."""
        found: dict[str, Any] = {}
        for rule in self._of(resource, "create")[0]:
            for name, value in rule.preset.items():
                found.setdefault(name, value)
        known = {name: self._value(value) for name, value in found.items()}
        return {name: value for name, value in known.items() if value is not None}

    def _value(self, value: Any) -> Any:
        return self.caller.user if value == "$user.id" else value

    def _matches(self, rule: Rule, action: str, row: Row) -> bool:
        if holds(rule.condition, row, self.caller, strict=False) is not True:
            return False
        if action != "create":
            return True
        wanted = {name: self._value(value) for name, value in rule.preset.items()}
        return all(value is not None and row[name] == value for name, value in wanted.items())

    def _barred(self, denies: Sequence[Rule], row: Row, name: str = "") -> bool:
        """Whether a deny of the whole row, or of this field, is not known to pass over the row."""
        return any(
            holds(rule.condition, row, self.caller, strict=True) is not False
            for rule in denies
            if (name in (rule.fields or ()) if name else _whole(rule))
        )

    def _meant(self, resource: str, action: str, name: str) -> bool:
        audience = self.audiences.get((resource, name))
        return action not in READS or audience is None or bool(audience & self.caller.held)


def _whole(rule: Rule) -> bool:
    """Whether a deny is about rows, and not about some fields of them."""
    return rule.fields is None or not rule.fields


def _grants(rule: Rule, name: str, action: str) -> bool:
    if rule.fields is None or name in rule.fields or (name == "id" and action in READS):
        return True
    return action == "create" and name in rule.preset
