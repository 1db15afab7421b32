"""Random sets of policies, and who is judged by them: for the oracle of authorization."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.naive_access import READS, Caller, Rule

__all__ = [
    "AUDIENCES",
    "BASE",
    "FIELDS",
    "MANIFEST",
    "PATHS",
    "RESOURCES",
    "Person",
    "PolicyWorld",
    "random_world",
]

RESOURCES: Final = ("Tasks", "Projects")
PATHS: Final = {"Tasks": "/api/v1/tasks", "Projects": "/api/v1/projects"}
#: What the group `write` stands for, the step of the tasks' states too.
_WRITES: Final = frozenset({"create", "update", "patch", "delete", "batch", "go:post"})
_ROLES: Final = ("Reader", "Writer", "Chief")
#: Fields that conditions are about, and values for them.
_VALUES: Final[Mapping[str, Sequence[Any]]] = {
    "title": ("alpha", "beta", "gamma"),
    "state": ("new", "open", "done"),
    "points": (0, 1, 2, 3, 4),
    "makerId": (1, 2, 3),
}
FIELDS: Final[Mapping[str, Sequence[str]]] = {
    "Tasks": ("title", "state", "points", "makerId", "note", "report", "projectId"),
    "Projects": ("title", "state", "points", "makerId", "note"),
}
AUDIENCES: Final = {("Tasks", "report"): frozenset({"Chief"})}
_COMMON: Final[dict[str, Any]] = {
    "title": {"type": "string", "required": True, "maxLength": 40},
    "state": {"type": "string", "enum": list(_VALUES["state"]), "default": "new"},
    "points": {"type": "integer"},
    "makerId": {"type": "bigint"},
    "note": {"type": "string", "maxLength": 40},
}
#: What the manifest gives besides everything to the Admin.
BASE: Final = (
    Rule(subject="Admin", object="*", actions=None),
    Rule(
        subject="public",
        object="Projects",
        actions=frozenset(READS),
        condition={"state": "open"},
        fields=("title", "points"),
    ),
    Rule(
        subject="Writer",
        object="Tasks",
        actions=_WRITES,
        condition={"points": {"lt": 3}},
    ),
    Rule(subject="Chief", object="Tasks", actions=frozenset(READS), condition={"state": {"ne": "done"}}),
)
MANIFEST: Final[dict[str, Any]] = {
    "resources": [
        {
            "name": "Projects",
            "filterable": True,
            "fields": _COMMON,
            "relations": {"tasks": {"resource": "Tasks", "foreignField": "projectId"}},
            "search": ["title", "note"],
            "access": {
                "read": [
                    "Admin",
                    {"roles": ["public"], "filter": {"state": "open"}, "fields": ["title", "points"]},
                ],
                "write": ["Admin"],
            },
        },
        {
            "name": "Tasks",
            "filterable": True,
            "history": True,
            "audit": True,
            "fields": {
                **_COMMON,
                "code": {"type": "string", "maxLength": 40, "unique": True},
                "report": {"type": "string", "audience": ["Chief"]},
                "projectId": {"references": "Projects", "onDelete": "setNull"},
            },
            "states": {
                "field": "step",
                "initial": "a",
                "transitions": {"go": {"from": ["a", "b"], "to": "b"}},
            },
            "search": ["title", "note"],
            "access": {
                "read": ["Admin", {"roles": ["Chief"], "filter": {"state": {"ne": "done"}}}],
                "write": ["Admin", {"roles": ["Writer"], "filter": {"points": {"lt": 3}}}],
            },
        },
    ],
    "include": ["byodpp:access", "byodpp:audit"],
}


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody who asks."""

    name: str
    roles: tuple[str, ...]  # of the token
    caller: Caller


@dataclass(frozen=True, kw_only=True)
class PolicyWorld:
    """A set of rules."""

    rows: Sequence[Mapping[str, Any]]  # of `Policies`
    rules: Sequence[Rule]  # the same, after those of the manifest
    people: Sequence[Person]


def random_world(dice: random.Random, users: Mapping[str, int]) -> PolicyWorld:
    """Return a set of rules, and everybody by whom it is looked at.

    Args:
        dice: decides.
        users: numbers of the users `ada`, `bob`, `cyd`.
    """
    rows = [_policy(dice, users) for _ in range(dice.randint(6, 16))]
    links = [("Chief", "Reader")] if dice.random() < 0.5 else []
    links += [(f"user:{users['cyd']}", "Writer")] if dice.random() < 0.7 else []
    written = [
        {"ptype": "g", "subject": who, "object": role, "action": "*", "effect": "allow"}
        for who, role in links
    ]
    named = {"ada": ("Reader",), "bob": ("Writer",), "cyd": ("Chief",)}
    people = [_person(name, named[name], users, links) for name in users]
    people += [
        _person("ada", ("Reader", "Writer"), users, links),
        _person("bob", ("Nobody",), users, links),
        Person(
            name="",
            roles=(),
            caller=Caller(held=frozenset({"public"}), user=None, anonymous=True),
        ),
    ]
    return PolicyWorld(rows=[*rows, *written], rules=[*BASE, *map(_rule, rows)], people=people)


def _person(
    name: str, roles: tuple[str, ...], users: Mapping[str, int], links: Sequence[tuple[str, str]]
) -> Person:
    held = {*roles, "*", "public", f"user:{users[name]}"}
    while more := {role for who, role in links if who in held} - held:
        held |= more
    return Person(name=name, roles=roles, caller=Caller(held=frozenset(held), user=users[name]))


def _rule(row: Mapping[str, Any]) -> Rule:
    action = row["action"]
    actions = {"*": None, "read": frozenset(READS), "write": _WRITES}.get(action, frozenset({action}))
    return Rule(
        subject=row["subject"],
        object=row["object"],
        actions=actions,
        deny=row["effect"] == "deny",
        condition=row.get("condition"),
        fields=None if row.get("fields") is None else tuple(row["fields"]),
        preset=row.get("preset") or {},
    )


def _policy(dice: random.Random, users: Mapping[str, int]) -> dict[str, Any]:
    deny = dice.random() < 0.3
    row: dict[str, Any] = {
        "ptype": "p",
        "subject": dice.choice([*_ROLES, "*", f"user:{users['bob']}"]),
        "object": dice.choice([*RESOURCES, "Tasks", "*"]),
        "action": dice.choice(
            [
                "read",
                "read",
                "read",
                "list",
                "write",
                "write",
                "go:post",
                "create",
                "patch",
                "update",
                "delete",
                "*",
            ]
        ),
        "effect": "deny" if deny else "allow",
    }
    if row["action"] == "go:post":
        row["object"] = "Tasks"
    # A deny of everything to everybody would leave little to look at.
    if dice.random() < (0.9 if deny else 0.6):
        row["condition"] = _condition(dice, 2)
    if dice.random() < 0.4:
        names = list(FIELDS["Projects" if row["object"] != "Tasks" else "Tasks"])
        row["fields"] = dice.sample(names, dice.randint(1, 4))
        if not deny and dice.random() < 0.7:
            row["fields"] = sorted({*row["fields"], "title"})
    if not deny and row["action"] in ("create", "write") and dice.random() < 0.6:
        row["preset"] = dice.choice(
            [{"state": "open"}, {"makerId": "$user.id"}, {"state": "new", "points": 2}, {"note": "made"}]
        )
    return row


def _condition(dice: random.Random, depth: int) -> dict[str, Any]:
    kind = dice.choice(["and", "or", "not", "", "", "", ""]) if depth else ""
    if kind == "not":
        return {"not": _condition(dice, depth - 1)}
    if kind:
        return {kind: [_condition(dice, depth - 1) for _ in range(2)]}
    name = dice.choice(list(_VALUES))
    if name == "makerId" and dice.random() < 0.7:
        return {name: dice.choice(["$user.id", {"ne": "$user.id"}])}
    values = _VALUES[name]
    word = dice.choice(["eq", "ne", "in", "nin", "isNull", *(("gt", "lt") if name == "points" else ())])
    match word:
        case "isNull":
            return {name: {word: dice.random() < 0.5}}
        case "in" | "nin":
            return {name: {word: dice.sample(list(values), 2)}}
    return {name: {word: dice.choice(list(values))}}
