"""From the `access` of a draft to access rules, and the form of the conditions in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from byodpp.definitions import (
    OPERATIONS,
    READ_OPERATIONS,
    VARIABLES,
    AccessRule,
    FieldDefinition,
    Kind,
    Scope,
    unfit_for_preset,
)
from byodpp.fields import FIELD_TYPES, FieldFault
from byodpp.grammar.shapes import Checker
from byodpp.grammar.values import Checked, Items, step
from byodpp.manifest.draft import Draft, Drafts
from byodpp.suggestion import nearest

__all__ = ["read_access"]

_GROUPS: Final = ("and", "or")
_QUANTIFIERS: Final = ("some", "every", "none")
_LISTS: Final = frozenset({"in", "nin", "between"})
#: Operators whose operands are values of the field's type.
_VALUES: Final = frozenset({"eq", "ne", "gt", "gte", "lt", "lte"}) | _LISTS
#: Every operator of the language.
_OPERATORS: Final = frozenset(word for kind in FIELD_TYPES.values() for word in kind.operators)
#: Types whose values are compared by what lies inside.
_WITHIN: Final = frozenset({"json", "object", "array"})


def read_access(draft: Draft, drafts: Drafts, checker: Checker) -> None:
    """Fill `Draft.access`; an action that `public` may call is public."""
    access: Checked = draft.body.get("access") or Checked({}, "")
    known = ["read", "write", *OPERATIONS, *(action.key for action in draft.actions)]
    for key, value, path in access.located():
        if key not in known and _is_certain(key, draft):
            hint = (
                'Write {"read": [{"roles": ["public"], "filter": {…}}]}.'
                if key == "public"
                else nearest(key, known)
            )
            checker.report(path, f"{draft.name} has no operation or action {key!r}", hint)
        rules = tuple(_rules(value, path))
        for rule in rules:
            _check_rule(rule, key, draft, drafts, checker)
        draft.access[key] = rules
    for keyed in ("messages", "rateLimits"):
        _check_keys(draft.body.get(keyed) or Checked({}, ""), known[2:], draft, checker)
    draft.actions = [
        replace(action, public=True) if _opens(draft.access.get(action.key, ())) else action
        for action in draft.actions
    ]


def _is_certain(key: str, draft: Draft) -> bool:
    """Whether a key that is unknown is a mistake of its own: it may be that of an action which is broken."""
    return draft.actions_sound or ":" not in key


def _opens(rules: tuple[AccessRule, ...]) -> bool:
    return any("public" in rule.roles for rule in rules)


def _rules(value: Any, path: str) -> Iterator[AccessRule]:
    """Yield the rules of a role, a rule, or a list of both; plain roles make one rule together."""
    if isinstance(value, Items):
        plain = tuple(one for one in value if isinstance(one, str))
        if plain:
            yield AccessRule(roles=plain, path=path)
        for one, where in value.located():
            if not isinstance(one, str):
                yield from _rules(one, where)
    elif isinstance(value, str):
        yield AccessRule(roles=(value,), path=path)
    elif "roles" in value:
        fields = value.get("fields")
        yield AccessRule(
            roles=tuple(value["roles"]),
            filter=value.get("filter"),
            fields=None if fields is None else tuple(fields),
            preset=MappingProxyType(dict(value.get("preset") or {})),
            path=value.path,
        )


def _check_rule(rule: AccessRule, key: str, draft: Draft, drafts: Drafts, checker: Checker) -> None:
    for role in rule.roles:
        if not role.strip():
            checker.report(rule.path, "a role has a name", "Remove the empty text.")
        elif role.casefold() == "public" and role != "public":
            checker.report(rule.path, f"{role!r} is not the word for everybody", "Write 'public'.")
    if "public" in rule.roles:
        _check_public(rule, key, draft, checker)
    for name in rule.fields or ():
        if name not in draft.names:
            checker.report(
                f"{rule.path}.fields", f"{draft.name} has no field {name!r}", nearest(name, draft.names)
            )
    _check_preset(rule, key, draft, checker)
    if rule.filter is not None:
        _Conditions(drafts, checker, public="public" in rule.roles).check(
            rule.filter, draft, f"{rule.path}.filter"
        )


def _check_preset(rule: AccessRule, key: str, draft: Draft, checker: Checker) -> None:
    path = f"{rule.path}.preset"
    if rule.preset and key not in ("write", "create"):
        reason = f"{key!r} creates no rows, so there is nothing to preset"
        checker.report(path, reason, 'Write it under "create" or "write".')
    for name in rule.preset:
        field = draft.fields.get(name)
        unfit = None if field is None else unfit_for_preset(field)
        if unfit is not None:
            checker.report(step(path, name), f"{name!r} {unfit}", "Choose a field that clients may write.")
        elif name not in draft.names:
            checker.report(path, f"{draft.name} has no field {name!r}", nearest(name, draft.names))


def _check_public(rule: AccessRule, key: str, draft: Draft, checker: Checker) -> None:
    if draft.scope is Scope.USER and draft.kind is not Kind.LOGIC:
        reason = f"rows of {draft.name} belong to one user each, so they cannot be public"
        checker.report(rule.path, reason, 'Choose another scope, or remove "public".')
    elif key == "write" or (
        key in OPERATIONS and key not in READ_OPERATIONS and draft.kind is not Kind.LOGIC
    ):
        checker.report(
            rule.path,
            f"{key!r} cannot be public: anonymous callers only read",
            'An action may be: "public": true.',
        )


def _check_keys(keyed: Checked, known: list[str], draft: Draft, checker: Checker) -> None:
    """Check what is told by operation or action key."""
    for key, _, path in keyed.located():
        if key not in known and _is_certain(key, draft):
            checker.report(path, f"{draft.name} has no operation or action {key!r}", nearest(key, known))


@dataclass(frozen=True, slots=True)
class _Conditions:
    """Checks a condition: names, relations, operators, and values, as far as the field's type tells them.

    Who compiles it judges patterns, lengths of lists, and what lies inside json.
    """

    drafts: Drafts
    checker: Checker
    public: bool

    def check(self, tree: Any, draft: Draft, path: str) -> None:
        """Check one object of the query language in JSON."""
        if not isinstance(tree, Mapping):
            self.checker.report(path, "a filter is an object", 'Example: {"status": "published"}')
            return
        for name, value in tree.items():
            where = step(path, name)
            if name in _GROUPS:
                self._group(value, draft, where)
            elif name == "not":
                self.check(value, draft, where)
            else:
                self._term(name.split("."), value, draft, where)

    def _group(self, value: Any, draft: Draft, path: str) -> None:
        if not isinstance(value, list) or not value:
            self.checker.report(
                path, "expected a list of conditions", 'Example: {"or": [{"a": 1}, {"b": 2}]}'
            )
            return
        for index, one in enumerate(value):
            self.check(one, draft, step(path, index))

    def _term(self, names: list[str], value: Any, draft: Draft, path: str) -> None:
        """Follow a dotted path through relations down to a field."""
        head, *rest = names
        if head in draft.broken_relations:
            return
        relation = draft.relations.get(head)
        if relation is not None:
            target = self.drafts.find(relation.resource, draft.version)
            if target is not None:
                self._through(rest, value, target, path, many=relation.many)
        elif head not in draft.names:
            known = [*(name for name in draft.names if name != "tenantId"), *draft.relations]
            if not _makes_relation(draft, head):
                self.checker.report(path, f"{draft.name} has no field {head!r}", nearest(head, known))
        elif (field := draft.fields.get(head)) is not None:
            if rest and not field.type.document:
                self.checker.report(
                    path,
                    f"{head!r} is of type {field.type.name} and has nothing inside",
                    "Compare the field itself.",
                )
            elif not rest:
                self._comparison(field, value, path)

    def _through(self, rest: list[str], value: Any, target: Draft, path: str, *, many: bool) -> None:
        if rest and rest[0] in _QUANTIFIERS and many:
            value, rest = {rest[0]: _nested(rest[1:], value)}, []
        if not many:
            inner = _nested(rest, value)
            self.check(inner, target, path)
        elif rest or not isinstance(value, Mapping) or not value or value.keys() - set(_QUANTIFIERS):
            self.checker.report(
                path,
                "a relation to many rows needs some, every or none",
                'Example: {"some": {"status": "draft"}}',
            )
        else:
            for word, inner in value.items():
                self.check(inner, target, step(path, word))

    def _comparison(self, field: FieldDefinition, value: Any, path: str) -> None:
        if isinstance(value, Mapping):
            for operator, operand in value.items():
                if operator not in _OPERATORS and field.type.document:
                    continue  # a name of what lies inside
                if operator not in field.type.operators:
                    reason = f"the type {field.type.name} has no operator {operator!r}"
                    self.checker.report(
                        step(path, operator),
                        reason,
                        nearest(operator, sorted(field.type.operators), list_up_to=20),
                    )
                else:
                    self._operand(operand, step(path, operator))
                    self._value(field, operator, operand, step(path, operator))
        elif field.encrypted:
            reason = f"{field.name!r} is encrypted: the database can only tell whether it is empty"
            self.checker.report(path, reason, 'Write {"isNull": true}, or compare another field.')
        else:
            self._operand(value, path)
            self._value(field, "eq", value, path)

    def _value(self, field: FieldDefinition, operator: str, value: Any, path: str) -> None:
        """Report what the type of a field does not take."""
        if operator not in _VALUES or field.properties or field.type.name in _WITHIN:
            return
        if isinstance(value, str) and value.startswith("$") and not value.startswith("$$"):
            return  # a variable, also one that is a list: it is checked as such
        if operator in _LISTS and not isinstance(value, list):
            self.checker.report(path, f"{operator!r} expects a list", 'Example: {"in": ["a", "b"]}')
            return
        for one in value if operator in _LISTS else [value]:
            if one is None or (isinstance(one, str) and one.startswith("$")):
                continue  # null is a question of its own, and variables are checked as such
            try:
                field.type.from_json(one, field)
            except FieldFault as fault:
                self.checker.report(path, f"{field.name!r} is of type {field.type.name}: {fault}")

    def _operand(self, value: Any, path: str) -> None:
        """Check the variables of a value; a text that only begins with $ is one when it looks like one."""
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, str) or not one.startswith("$") or one.startswith("$$"):
                continue
            if one not in ("$user", *VARIABLES):
                told = f'{nearest(one, VARIABLES, prefix="$user.")} A text that begins so is "$$…".'
                self.checker.report(path, f"{one!r} is not a variable", told)
            elif self.public and one.startswith("$user"):
                self.checker.report(
                    path, "an anonymous caller is no user", "Make a rule of its own for `public`."
                )


def _nested(names: list[str], value: Any) -> Any:
    """Turn `["a", "b"]` and a value into `{"a.b": value}`; the value itself when there is no name."""
    return {".".join(names): value} if names else value


def _makes_relation(draft: Draft, name: str) -> bool:
    """Whether a field that is broken would have made this relation."""
    fields: Mapping[str, Any] = draft.body.get("fields") or {}
    broken = set(fields) | set(getattr(fields, "broken", ()))
    return any(
        one not in draft.fields and name in (one.removesuffix("Id"), fields.get(one, {}).get("as"))
        for one in broken
    )
