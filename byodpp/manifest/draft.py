"""From declared resources to drafts: names, `extends`, and what others need to know of a resource.

A draft knows its name, table, key and field names before any field is judged, so that a mistake in
one resource is told once and not again by everything that refers to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from byodpp.definitions import (
    AccessRule,
    ActionDefinition,
    FieldDefinition,
    Kind,
    RelationDefinition,
    Scope,
    StateMachine,
    UniqueKey,
)
from byodpp.grammar.shapes import Checker
from byodpp.grammar.values import Checked, Items
from byodpp.manifest.source import Declared
from byodpp.registry import version_number
from byodpp.suggestion import nearest

__all__ = ["MAX_NAME_BYTES", "Draft", "Drafts", "kebab_case", "make_drafts", "snake_case"]

#: PostgreSQL cuts longer names off, and two names could become one.
MAX_NAME_BYTES: Final = 63
_KINDS: Final = {"database": Kind.DATABASE, "view": Kind.VIEW}
#: What the parts' authors decided and an application cannot change.
_FIXED: Final = ("type", "scope", "id", "table")
_MERGED_MAPS: Final = ("fields", "relations", "messages")
_MERGED_LISTS: Final = ("unique", "indexes")
#: Keys that need a table.
_TABLE_KEYS: Final = (
    "table",
    "id",
    "states",
    "unique",
    "indexes",
    "search",
    "relations",
    "versioned",
    "softDelete",
    "history",
    "filterable",
)
#: Keys that need a table which is ours to change.
_OWN_TABLE_KEYS: Final = (
    "states",
    "unique",
    "indexes",
    "versioned",
    "softDelete",
    "audit",
    "history",
    "events",
)
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """Return `product_data_sources` for `ProductDataSources`."""
    return _WORDS.sub("_", name).lower()


def kebab_case(name: str) -> str:
    """Return `product-data-sources` for `ProductDataSources`."""
    return snake_case(name).replace("_", "-")


@dataclass(slots=True, kw_only=True)
class Draft:
    """A resource while it is being judged."""

    declared: Declared
    body: Checked
    name: str
    kind: Kind
    scope: Scope
    key: str
    table: str
    schema: str | None
    routed: bool
    part: str | None
    twin: bool = False  # nameless or declared elsewhere, which is reported already
    names: dict[str, str] = field(default_factory=dict)  # every field, broken ones too -> its column
    fields: dict[str, FieldDefinition] = field(default_factory=dict)  # the sound ones
    relations: dict[str, RelationDefinition] = field(default_factory=dict)
    broken_relations: set[str] = field(default_factory=set)
    states: StateMachine | None = None
    unique: tuple[UniqueKey, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    search: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    crud_routes: dict[str, str] = field(default_factory=dict)
    actions: list[ActionDefinition] = field(default_factory=list)
    actions_sound: bool = True
    access: dict[str, tuple[AccessRule, ...]] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Version of its service."""
        return self.declared.version

    @property
    def service(self) -> str:
        """Name of its service."""
        return self.declared.service

    @property
    def path(self) -> str:
        """Where it stands."""
        return self.body.path

    @property
    def segment(self) -> str:
        """Its name in URLs."""
        return kebab_case(self.name)

    @property
    def base_url(self) -> str:
        """Address of the collection."""
        return f"/api/{self.version}/{self.segment}"


class Drafts:
    """All drafts, found by what a name means inside a version."""

    def __init__(self, drafts: Iterable[Draft]) -> None:
        self._drafts = list(drafts)
        self._exact = {(draft.version, draft.name): draft for draft in self._drafts}
        self._by_name: dict[str, list[Draft]] = {}
        for draft in sorted(self._drafts, key=lambda one: -version_number(one.version)):
            self._by_name.setdefault(draft.name, []).append(draft)

    def __iter__(self) -> Iterator[Draft]:
        return iter(self._drafts)

    def find(self, name: str, version: str) -> Draft | None:
        """Look a name up as the registry does: this version, the nearest lower one, a framework part."""
        exact = self._exact.get((version, name))
        if exact is not None:
            return exact
        number = version_number(version)
        lower = (
            one for one in self._by_name.get(name, ()) if version_number(one.version) < number or one.part
        )
        return next(lower, None)

    def suggest(self, name: str) -> str:
        """Return the nearest resource name."""
        return nearest(name, self._by_name, list_up_to=0)


def make_drafts(declared: list[Declared], included_parts: set[str], checker: Checker) -> Drafts:
    """Name every resource, join those that extend a part's, and refuse names that collide."""
    of_parts = {one.body["name"]: one for one in declared if one.part is not None}
    drafts: list[Draft] = []
    extended: set[tuple[str, str]] = set()
    for one in declared:
        if one.part is None:
            base = _base_of(one, of_parts, checker)
            body = one.body if base is None else _extended(one, base, checker)
            draft = _draft(one, body, base.part if base else None, True, checker)
            draft.twin = draft.twin or (base is None and "extends" in one.body)
            extended.add((draft.version, draft.name))
            drafts.append(draft)
    for one in of_parts.values():
        draft = _draft(one, one.body, one.part, one.part in included_parts, checker)
        if (draft.version, draft.name) not in extended:
            drafts.append(draft)
    _report_name_collisions(drafts, checker)
    return Drafts(drafts)


def _base_of(one: Declared, of_parts: Mapping[str, Declared], checker: Checker) -> Declared | None:
    """Return the part's resource that this one adds to."""
    wanted = one.body.get("extends")
    if wanted is not None:
        names = {f"byodpp:{base.part}/{name}": base for name, base in of_parts.items()}
        if wanted not in names:
            checker.report(one.body.at("extends"), f"no part declares {wanted!r}", nearest(wanted, names))
        elif one.body.get("name", names[wanted].body["name"]) != names[wanted].body["name"]:
            real = names[wanted].body["name"]
            checker.report(
                one.body.at("name"),
                f"a resource that extends {wanted} keeps its name {real}",
                "Leave `name` out.",
            )
        return names.get(wanted)
    base = of_parts.get(one.body.get("name", ""))
    if base is not None and ("fields" in one.body or "fields" in one.body.broken):
        checker.report(
            one.body.at("name"),
            f"the framework declares {one.body['name']} itself, in its part byodpp:{base.part}",
            f'Add "extends": "byodpp:{base.part}/{one.body["name"]}" and only your own fields, or '
            "choose another name.",
        )
    return base


def _extended(one: Declared, base: Declared, checker: Checker) -> Checked:
    """Join an application's resource with the part's that it extends."""
    merged: dict[str, Any] = {**base.body, **one.body}
    # Without `extends` the whole resource is refused already: what its fields are called adds nothing.
    told = "extends" in one.body
    for key in _FIXED:
        if (
            told
            and key in one.body
            and one.body[key] != base.body.get(key, one.body[key] if key == "table" else None)
        ):
            checker.report(
                one.body.at(key), f"{key!r} of {base.body['name']} is the framework's to say", "Leave it out."
            )
        if key in base.body:
            merged[key] = base.body[key]
    if one.body.get("softDelete"):
        checker.report(
            one.body.at("softDelete"),
            f"a row of {base.body['name']} holds while it is there, and would do so when it is only hidden",
            'Leave it out: "audit" keeps what a deleted row said, and "history" all its versions.',
        )
    for key in _MERGED_MAPS:
        for name in base.body.get(key, {}).keys() & one.body.get(key, {}).keys() if told else ():
            if key != "messages":
                path = one.body[key].at(name)
                checker.report(
                    path,
                    f"{name!r} is declared by byodpp:{base.part} already",
                    "Leave it out, or choose another name.",
                )
        if key in base.body or key in one.body:
            own, theirs = one.body.get(key, {}), base.body.get(key, {})
            broken: frozenset[str] = getattr(own, "broken", frozenset())
            joined = {**own, **theirs} if key != "messages" else {**theirs, **own}
            ordered = {
                name: joined[name] for name in (*theirs, *(name for name in own if name not in theirs))
            }
            merged[key] = Checked(ordered, one.body.at(key), broken)
    for key in _MERGED_LISTS:
        if key in base.body and key in one.body:
            merged[key] = _joined(base.body[key], one.body[key])
    merged["name"] = base.body["name"]
    return Checked(merged, one.path, one.body.broken - {"name"})


def _joined(theirs: Items, own: Items) -> Items:
    """Put a part's list before an application's; paths point into the application's."""
    positions = (*(-1 for _ in theirs), *own.positions)
    return Items(zip(positions, (*theirs, *own), strict=True), own.path)


def _draft(one: Declared, body: Checked, part: str | None, routed: bool, checker: Checker) -> Draft:
    """Make the draft of a resource; one without a usable name gets a name that nobody can write."""
    if "name" not in body:
        if not body.broken & {"name", "extends"} and "extends" not in body:
            checker.report(body.path, "'name' is missing", 'Example: {"name": "Products"}')
        body = Checked({**body, "name": f"?{one.path}", "table": "?"}, body.path, body.broken | {"name"})
    kind = _KINDS.get(body.get("type", "database"), Kind.LOGIC)
    schema, _, table = body.get("table", snake_case(body["name"])).rpartition(".")
    draft = Draft(
        declared=one,
        body=body,
        name=body["name"],
        kind=kind,
        scope=Scope(body.get("scope", "tenant")),
        key=body.get("id", "bigint"),
        table=table,
        schema=schema or None,
        routed=routed,
        part=part,
    )
    _check_kind(draft, checker)
    if "name" in body.broken:
        draft.twin = True
    else:
        _check_name(draft, checker)
    return draft


def _check_kind(draft: Draft, checker: Checker) -> None:
    """Refuse keys that mean nothing for this kind of resource."""
    body = draft.body
    if draft.scope is Scope.SELF and draft.kind is Kind.DATABASE and draft.part is None:
        checker.report(
            body.at("scope"),
            "the tenant's own record lies in Tenants; a row here would be the tenant's whose number it gets",
            'Add fields to it with "extends": "byodpp:tenancy/Tenants", or write "tenant".',
        )
    if draft.kind is Kind.LOGIC:
        for key in _TABLE_KEYS:
            if key in body and body[key] is not False:
                checker.report(
                    body.at(key),
                    f"a {body['type']} resource has no table, so {key!r} means nothing",
                    "Leave it out.",
                )
    elif draft.kind is Kind.VIEW:
        if "table" not in body and "table" not in body.broken:
            checker.report(
                body.path,
                "a view needs `table`: what it reads",
                'Example: "table": "reporting.product_totals"',
            )
        for key in _OWN_TABLE_KEYS:
            if key in body and body[key] is not False:
                checker.report(
                    body.at(key), f"a view is read-only, so {key!r} means nothing", "Leave it out."
                )
    elif draft.schema is not None:
        checker.report(body.at("table"), "only a view may name a database schema", f'Write "{draft.table}".')


def _check_name(draft: Draft, checker: Checker) -> None:
    path = draft.body.at("table" if "table" in draft.body else "name")
    if len(draft.table.encode()) > MAX_NAME_BYTES:
        reason = (
            f"the table's name {draft.table!r} is longer than {MAX_NAME_BYTES} bytes; the database "
            "would cut it off"
        )
        checker.report(path, reason, 'Give a shorter name, or a shorter "table".')
    if draft.table.startswith("pg_") or draft.table == "alembic_version":
        checker.report(path, f"the table's name {draft.table!r} is reserved", 'Give another "table".')
    if draft.segment == "batch" or re.fullmatch(r"v[0-9]+", draft.segment):
        checker.report(draft.body.at("name"), f"/api/…/{draft.segment} is reserved", "Choose another name.")


def _report_name_collisions(drafts: list[Draft], checker: Checker) -> None:
    """Refuse two resources of one version that are one, or look like one, and tables of two resources."""
    seen: dict[tuple[str, str], Draft] = {}
    tables: dict[str, Draft] = {}
    for draft in drafts:
        if draft.twin:
            continue
        first = seen.setdefault((draft.version, draft.segment.replace("-", "")), draft)
        if first is not draft:
            _report_twin(first, draft, checker)
            continue
        if draft.kind is not Kind.DATABASE:
            continue
        owner = tables.setdefault(draft.table.lower(), draft)
        if owner is not draft and (owner.name != draft.name or owner.version == draft.version):
            if draft.part is not None and owner.part is None:
                draft, owner = owner, draft  # the framework's own table is not the one to change
            path = draft.body.at("table") if "table" in draft.body else draft.path
            reason = f"the table {draft.table!r} belongs to {owner.name} ({owner.path}) already"
            checker.report(path, reason, 'Give another "table".')


def _report_twin(first: Draft, draft: Draft, checker: Checker) -> None:
    draft.twin = True
    path = draft.body.at("name") if draft.part is None else draft.path
    if first.name == draft.name:
        reason = f"{draft.name} is declared in this version already, at {first.path}"
        checker.report(path, reason, "Join the two, or put one into another version.")
    else:
        reason = f"{draft.name!r} and {first.name!r} ({first.path}) cannot be told apart in URLs and tables"
        checker.report(path, reason, "Choose names that differ by more than capitals and underscores.")
