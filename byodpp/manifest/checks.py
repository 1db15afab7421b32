"""What only all drafts together can show: shared tables, tables too wide, rows that could never begin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from byodpp.definitions import AccessRule, FieldDefinition, Kind, Scope
from byodpp.grammar.shapes import Checker
from byodpp.manifest.draft import Draft, Drafts

__all__ = ["check_public_filters", "check_reference_cycles", "check_tables"]

#: PostgreSQL stops at 1,600, and the framework's own columns and later fields need room.
_MAX_COLUMNS: Final = 1_500


def check_tables(drafts: Drafts, checker: Checker) -> None:
    """Check every table with all resources that share it."""
    tables: dict[str, list[Draft]] = {}
    for draft in drafts:
        if draft.kind is Kind.DATABASE and not draft.twin:
            tables.setdefault(draft.table.lower(), []).append(draft)
    for sharing in tables.values():
        columns = {column.lower() for draft in sharing for column in draft.names.values()}
        if len(columns) > _MAX_COLUMNS:
            reason = (
                f"the table {sharing[0].table!r} would have {len(columns)} columns; {_MAX_COLUMNS} "
                "are possible"
            )
            checker.report(
                sharing[-1].body.at("fields"),
                reason,
                "Split the resource, or gather fields in one of type json or object.",
            )
        for other in sharing[1:]:
            if other.name == sharing[0].name:
                _check_shared(sharing[0], other, checker)


def _check_shared(first: Draft, other: Draft, checker: Checker) -> None:
    """Check that two versions of a resource mean the same table."""
    for key, one, two in (("scope", first.scope, other.scope), ("id", first.key, other.key)):
        if one != two:
            reason = (
                f"{first.name} has {key} {two!s} here and {one!s} in {first.version}, but both use "
                f"the table {first.table!r}"
            )
            checker.report(other.body.at(key), reason, 'Make them equal, or give this one another "table".')
    for key in ("softDelete", "versioned", "history"):
        if bool(first.body.get(key)) != bool(other.body.get(key)):
            reason = f"{key!r} differs from {first.version}, but both use the table {first.table!r}"
            checker.report(other.body.at(key), reason, 'Make them equal, or give this one another "table".')
    columns = {field.column.lower(): field for field in first.fields.values()}
    for field in other.fields.values():
        twin = columns.get(field.column.lower())
        if twin is not None and not field.implied and _column(twin) != _column(field):
            reason = (
                f"the column {field.column!r} is {_shown(twin)} in {first.version} and {_shown(field)} here"
            )
            checker.report(
                field.path,
                reason,
                'Make them equal, or give this one another "column" or the resource another "table".',
            )


def _column(field: FieldDefinition) -> tuple[object, ...]:
    """What decides the type of a column."""
    constraints = field.constraints
    items = field.items.type.name if field.items else None
    return (field.type.name, field.encrypted, constraints.get("precision"), constraints.get("scale"), items)


def _shown(field: FieldDefinition) -> str:
    name = f"encrypted {field.type.name}" if field.encrypted else field.type.name
    precision = field.constraints.get("precision")
    return name if precision is None else f"{name}({precision}, {field.constraints.get('scale', 0)})"


def check_reference_cycles(drafts: Drafts, checker: Checker) -> None:
    """Refuse circles of references that may never be null: no first row could be made."""
    edges = {id(draft): list(_required_references(draft, drafts)) for draft in drafts}
    for circle in _circles(drafts, edges):
        draft, field = circle[0]
        way = " -> ".join([*(f"{one.name}.{name}" for one, name in circle), draft.name])
        path = draft.fields[field].path
        checker.report(
            path,
            f"no first row can be made: {way}, and none of them may be null",
            "Make one of these references optional.",
        )


def _required_references(draft: Draft, drafts: Drafts) -> Iterator[tuple[str, Draft]]:
    for field in draft.fields.values():
        if field.references is not None and not field.nullable:
            target = drafts.find(field.references.resource, draft.version)
            if target is not None:
                yield field.name, target


def _circles(
    drafts: Iterable[Draft], edges: Mapping[int, list[tuple[str, Draft]]]
) -> Iterator[list[tuple[Draft, str]]]:
    """Yield circles, each once, as (draft, field) pairs; found by depth-first search without recursion."""
    done: set[int] = set()
    for root in drafts:
        if id(root) in done:
            continue
        trail: list[tuple[Draft, str]] = []
        on_trail: dict[int, int] = {id(root): 0}
        stack = [(root, iter(edges[id(root)]))]
        while stack:
            draft, rest = stack[-1]
            step = next(rest, None)
            if step is None:
                stack.pop()
                done.add(id(draft))
                del on_trail[id(draft)]
                if trail:
                    trail.pop()
                continue
            field, target = step
            if id(target) in on_trail:
                yield [*trail[on_trail[id(target)] :], (draft, field)]
            elif id(target) not in done:
                trail.append((draft, field))
                on_trail[id(target)] = len(trail)
                stack.append((target, iter(edges[id(target)])))


def check_public_filters(drafts: Drafts, checker: Checker) -> None:
    """Refuse public filters that row-level security cannot evaluate, or would take for true.

    A filter is part of its table's policy, and what it reads elsewhere is under the policy over there: it
    must not lead back, and related rows that are not public do not exist for it. That there is none, or
    that a value over there is another one, would be true of them.
    """
    asked: dict[str, set[str]] = {}
    for draft in drafts:
        for rule in _public_rules(draft):
            asked.setdefault(draft.table, set()).update(_tables_in(rule.filter, draft, drafts))
    for draft in drafts:
        for rule in _public_rules(draft):
            # A policy that writes looks at the library rows it refers to.
            back = {draft.table} | _referring(draft, drafts)
            if back & _reached(_tables_in(rule.filter, draft, drafts), asked):
                reason = (
                    f"the public filter of {draft.name} asks for rows whose visibility depends on "
                    f"{draft.name} again"
                )
                checker.report(f"{rule.path}.filter", reason, "Keep what it asks for in a field of its own.")
                continue
            for target in dict.fromkeys(_gaps(rule.filter, draft, drafts)):
                reason = f"the public filter of {draft.name} would hold where rows of {target} are not public"
                hint = "Ask for what is there, or keep what it asks for in a field of its own."
                checker.report(f"{rule.path}.filter", reason, hint)


def _gaps(
    tree: Any, draft: Draft, drafts: Drafts, *, wanted: bool = True, behind: str | None = None
) -> Iterator[str]:
    """Yield the resources whose hidden rows make a condition what it is wanted to be.

    Args:
        tree: of the query language, in JSON.
        draft: what it is about.
        drafts: where relations lead.
        wanted: what makes the filter hold; another one below `not`.
        behind: resource of a row on the way here that may be hidden.
    """
    for name, value in tree.items() if isinstance(tree, Mapping) else ():
        head, _, rest = str(name).partition(".")
        inner = {rest: value} if rest else value
        relation = draft.relations.get(head)
        if head in ("and", "or"):
            for one in value if isinstance(value, list | tuple) else ():
                yield from _gaps(one, draft, drafts, wanted=wanted, behind=behind)
        elif head == "not":
            yield from _gaps(value, draft, drafts, wanted=not wanted, behind=behind)
        elif relation is None:
            if behind is not None and any(holds is wanted for holds in _of_nothing(inner)):
                yield behind
        elif (target := drafts.find(relation.resource, draft.version)) is not None:
            hidden = behind or (None if _all_public(target) else target.name)
            if relation.many:
                yield from _gaps_of_many(inner, target, drafts, wanted=wanted, hidden=hidden)
            else:
                yield from _gaps(inner, target, drafts, wanted=wanted, behind=hidden)


def _gaps_of_many(
    tree: Any, target: Draft, drafts: Drafts, *, wanted: bool, hidden: str | None
) -> Iterator[str]:
    for name, value in tree.items() if isinstance(tree, Mapping) else ():
        word, _, rest = str(name).partition(".")
        if hidden is not None and (word == "some") is not wanted:
            yield hidden
        inner = {rest: value} if rest else value
        yield from _gaps(inner, target, drafts, wanted=wanted is not (word == "none"))


def _of_nothing(comparison: Any) -> Iterator[bool]:
    """Yield what each comparison of a field makes of a row that is not there."""
    if not isinstance(comparison, Mapping):
        comparison = {"eq": comparison}
    for word, value in comparison.items():
        if isinstance(value, Mapping):
            yield from _of_nothing(value)  # of what lies inside json
        elif word == "isNull":
            yield value is True
        else:
            empty = value is None or (isinstance(value, list | tuple) and None in value)
            yield empty is not (word in ("ne", "nin"))


def _all_public(draft: Draft) -> bool:
    """Whether everybody sees each row of a resource."""
    rules = (rule for key in ("read", "list") for rule in draft.access.get(key, ()))
    whole = any("public" in rule.roles and rule.filter is None for rule in rules)
    return draft.kind is Kind.DATABASE and (draft.scope is Scope.SHARED or whole)


def _public_rules(draft: Draft) -> Iterator[AccessRule]:
    if draft.kind is Kind.DATABASE:
        for key in ("read", "list"):
            for rule in draft.access.get(key, ()):
                if "public" in rule.roles and rule.filter is not None:
                    yield rule


def _referring(draft: Draft, drafts: Drafts) -> set[str]:
    """Return the tables whose rows refer to library rows of this one."""
    if draft.scope is not Scope.LIBRARY:
        return set()
    fields = ((one, field) for one in drafts for field in one.fields.values() if one.kind is Kind.DATABASE)
    return {
        one.table
        for one, field in fields
        if field.references is not None and drafts.find(field.references.resource, one.version) is draft
    }


def _tables_in(tree: Any, draft: Draft, drafts: Drafts) -> set[str]:
    """Return the tables that a condition reads through relations."""
    found: set[str] = set()
    if isinstance(tree, list | tuple):
        return found.union(*(_tables_in(one, draft, drafts) for one in tree))
    for name, value in tree.items() if isinstance(tree, Mapping) else ():
        head, _, rest = str(name).partition(".")
        relation = draft.relations.get(head)
        target = drafts.find(relation.resource, draft.version) if relation is not None else None
        if target is not None:
            found |= {target.table, *_tables_in({rest: value} if rest else value, target, drafts)}
        elif head in ("and", "or", "not", "some", "every", "none"):
            found |= _tables_in({rest: value} if rest else value, draft, drafts)
    return found


def _reached(tables: set[str], asked: Mapping[str, set[str]]) -> set[str]:
    """Return these tables and all that their own filters read."""
    found, waiting = set(tables), list(tables)
    while waiting:
        new = asked.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found
