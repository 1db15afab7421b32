"""The registry as SQLAlchemy tables: columns, keys, references, unique indexes, checks, names.

Comes from `registry`, pure: no database is asked. Goes to `statements` (which compiles over
the tables), `row_security` and `migrations` (which make them). Rejects, as a ManifestError,
only what several resources say differently about one table, and names PostgreSQL would cut.

Every name of a constraint or index ends in a hash of what it means. A changed meaning is a
changed name, so that comparing names compares definitions, and an error that names a
constraint finds its fields through `Tables.constraint`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import quoted_name

from byodpp.definitions import FieldDefinition, Kind, OnDelete, ResourceDefinition, Scope, Within
from byodpp.dependents import guarded
from byodpp.exceptions import ManifestError, Problem
from byodpp.manifest.draft import snake_case
from byodpp.registry import Registry
from byodpp.sql_text import MAX_NAME_BYTES, bounded_name, literal, quote
from byodpp.tables.framework import framework_tables, hidden_columns, kept_as_written
from byodpp.tables.roles import FRAMEWORK_SCHEMA
from byodpp.tables.search_text import search_document
from byodpp.tables.words import enumerated, is_checked_by_policy, one_of

__all__ = ["ConstraintUse", "StoredTable", "Tables", "whose_columns"]

#: Columns that say whose a row is; they are in keys and indexes, never in messages.
_WHOSE: Final = frozenset({"tenant_id", "owner_id"})
#: NO ACTION refuses like RESTRICT but after the statement, so that one DELETE may take a whole tree.
_ON_DELETE: Final = MappingProxyType({OnDelete.RESTRICT: None, OnDelete.CASCADE: "CASCADE"})

#: Extension that indexes of parts of texts need; such an index is made where the server has it.
TRIGRAM: Final = "pg_trgm"

ConstraintKind = Literal["primary", "unique", "reference", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintUse:
    """What a constraint's name in an error stands for."""

    name: str
    kind: ConstraintKind
    table: str
    columns: tuple[str, ...]  # without those that say whose the row is
    resources: tuple[ResourceDefinition, ...]  # those that share the table, first declared first
    target: str | None = None  # table that a reference leads to

    @property
    def resource(self) -> ResourceDefinition:
        """The first resource of the table."""
        return self.resources[0]

    @property
    def fields(self) -> tuple[str, ...]:
        """JSON names of the columns in the first resource."""
        return self.fields_of(self.resource)

    def fields_of(self, resource: ResourceDefinition) -> tuple[str, ...]:
        """Return the JSON names of the columns in one of the resources that share the table."""
        names = {column: name for name, column in resource.columns.items()}
        return tuple(names.get(column, column) for column in self.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTable:
    """One table in the database and the resources that live in it."""

    table: sa.Table
    resources: tuple[ResourceDefinition, ...]  # of several versions; none for the framework's own
    renames: tuple[tuple[str, str], ...] = ()  # (column, its former name)
    library_references: tuple[tuple[str, str], ...] = ()  # (column, table of library scope)
    policy_checks: tuple[str, ...] = ()  # conditions of a new row that its policy checks

    @property
    def resource(self) -> ResourceDefinition:
        """The first resource; all of them agree on scope and key."""
        return self.resources[0]

    @property
    def soft_delete(self) -> bool:
        """Whether some rows are deleted but kept."""
        return any(resource.soft_delete for resource in self.resources)


class Tables:
    """Every table of an application, found by resource."""

    def __init__(
        self,
        metadata: sa.MetaData,
        by_resource: Mapping[tuple[str, str], sa.Table],
        stored: Sequence[StoredTable],
        constraints: Mapping[str, ConstraintUse],
    ) -> None:
        """Args:
        metadata: what migrations make; views are not in it.
        by_resource: (version, name) -> table, views included.
        stored: the resources' tables in declared order, then the framework's own.
        constraints: name -> use.
        """
        self.metadata = metadata
        self.stored = tuple(stored)
        self._by_resource = MappingProxyType(dict(by_resource))
        self._constraints = MappingProxyType(dict(constraints))

    @classmethod
    def build(cls, registry: Registry) -> Tables:
        """Build the tables of every resource.

        Raises:
            ManifestError: resources that share a table contradict each other, or a name is too long.
        """
        return _Builder(registry).build()

    def __getitem__(self, resource: ResourceDefinition) -> sa.Table:
        found: sa.Table = self._by_resource[resource.id]
        return found

    def __contains__(self, resource: ResourceDefinition) -> bool:
        return resource.id in self._by_resource

    def framework(self, name: str) -> sa.Table:
        """Return a table of the framework's own schema, e.g. `outbox`."""
        found: sa.Table = self.metadata.tables[f"{FRAMEWORK_SCHEMA}.{name}"]
        return found

    def constraint(self, name: str | None) -> ConstraintUse | None:
        """Return what a constraint or unique index in a database error stands for, None when unknown."""
        return self._constraints.get(name or "")


class _Builder:
    """Collects the tables of one registry."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.guarded = guarded(registry)
        self.metadata = sa.MetaData()
        self.by_resource: dict[tuple[str, str], sa.Table] = {}
        self.constraints: dict[str, ConstraintUse] = {}
        self.problems: list[Problem] = []

    def build(self) -> Tables:
        groups: dict[str, list[ResourceDefinition]] = {}
        for resource in self.registry:
            if resource.kind is Kind.DATABASE:
                groups.setdefault(resource.table, []).append(resource)
            elif resource.kind is Kind.VIEW:
                self.by_resource[resource.id] = self._view(resource)
        for name, resources in groups.items():
            self._check_agreement(resources)
            table = sa.Table(quoted_name(name, True), self.metadata, *self._columns(resources))
            self.by_resource.update((resource.id, table) for resource in resources)
        if not self.problems:
            stored = [self._complete(resources) for resources in groups.values()]
        if self.problems:
            raise ManifestError(self.problems)
        stored += [StoredTable(table=table, resources=()) for table in framework_tables(self.metadata)]
        return Tables(self.metadata, self.by_resource, stored, self.constraints)

    # --- columns ----------------------------------------------------------------------

    def _check_agreement(self, resources: Sequence[ResourceDefinition]) -> None:
        """Collect what the versions of one table must not say differently."""
        first, *others = resources
        self._check_name(first.table, f"{first.path}.table")
        for other in others:
            for word in ("scope", "key"):
                ours = getattr(first, word)
                if ours != getattr(other, word):
                    reason = f"shares the table {first.table!r} with {first.version}, where {word} is {ours}"
                    self.problems.append(Problem(f"{other.path}.{word}", reason, "Name another `table`."))

    def _check_name(self, name: str, path: str) -> None:
        if len(name.encode()) > MAX_NAME_BYTES:
            reason = f"the name {name!r} is longer than {MAX_NAME_BYTES} bytes in the database"
            self.problems.append(Problem(path, reason, "Choose a shorter one."))

    def _columns(self, resources: Sequence[ResourceDefinition]) -> list[sa.Column[Any]]:
        """Return the union of the columns of all versions."""
        whose = whose_columns(resources[0])
        columns = {name: sa.Column(quoted_name(name, True), sa.BigInteger, nullable=False) for name in whose}
        for resource in resources:
            for field in resource.fields.values():
                if field.column in whose:
                    continue
                if field.column in columns:
                    self._check_type(columns[field.column], field, resource)
                    continue
                self._check_name(field.column, field.path)
                columns[field.column] = self._column(field, resource, resources)
        columns |= {hidden.name: hidden for hidden in hidden_columns(resources[0].part, resources[0].name)}
        return list(columns.values())

    def _column(
        self, field: FieldDefinition, resource: ResourceDefinition, resources: Sequence[ResourceDefinition]
    ) -> sa.Column[Any]:
        name, kind = quoted_name(field.column, True), self._type(field, resource)
        if field.column == "id":
            # BY DEFAULT, so that a tenant that moves keeps its ids; requests never name the column.
            identity = (sa.Identity(always=False),) if resource.key == "bigint" else ()
            return sa.Column(name, kind, *identity, nullable=False)
        default = _server_default(field)
        nullable = _is_nullable(field.column, resources, default is not None)
        info = {
            "array": field.type.name == "array"
        }  # for migrations: to the database it is jsonb like any other
        return sa.Column(name, kind, nullable=nullable, server_default=default, info=info)

    def _type(self, field: FieldDefinition, resource: ResourceDefinition) -> sa.types.TypeEngine[Any]:
        if field.references is not None:
            # A reference takes the type of its target.
            field = self.registry.target(resource, field.references).fields.get("id", field)
        if field.column in kept_as_written(resource.part, resource.name):
            return postgresql.JSON(none_as_null=True)
        kind: sa.types.TypeEngine[Any] = field.type.column_type(field)
        if isinstance(kind, sa.String) and kind.collation is None:
            kind.collation = field.locale or "C"
        return kind

    def _check_type(
        self, column: sa.Column[Any], field: FieldDefinition, resource: ResourceDefinition
    ) -> None:
        ours, theirs = repr(column.type), repr(self._type(field, resource))
        if ours != theirs:
            reason = f"the column {field.column!r} is {ours} in another version, {theirs} here"
            self.problems.append(Problem(field.path, reason, "Give the field another `column`."))

    def _view(self, resource: ResourceDefinition) -> sa.Table:
        names = {field.column: self._type(field, resource) for field in resource.fields.values()}
        for whose in whose_columns(resource):
            names.setdefault(whose, sa.BigInteger())
        columns = [sa.Column(quoted_name(name, True), kind) for name, kind in names.items()]
        schema = quoted_name(resource.schema, True) if resource.schema else None
        return sa.Table(quoted_name(resource.table, True), sa.MetaData(), *columns, schema=schema)

    # --- keys, references, indexes, checks --------------------------------------------

    def _complete(self, resources: list[ResourceDefinition]) -> StoredTable:
        first = resources[0]
        table = self.by_resource[first.id]
        key = ("tenant_id", "id") if first.tenant_bound else ("id",)
        name = self._name(table, key, "pkey", "")
        table.append_constraint(sa.PrimaryKeyConstraint(*(table.c[column] for column in key), name=name))
        self._remember(name, "primary", key, resources)
        covered = self._uniques(table, resources)
        libraries = self._references(table, resources, covered)
        for columns in self._plain_indexes(table, resources):
            self._index(table, columns, covered)
        self._inner_indexes(table, resources)
        for hidden in hidden_columns(first.part, first.name)[:1]:
            sa.Index(self._name(table, (hidden.name.strip("_"),), "idx", ""), table.c[hidden.name])
        policy_checks = self._checks(table, resources)
        return StoredTable(
            table=table,
            resources=tuple(resources),
            renames=tuple(_renames(resources).items()),
            library_references=libraries,
            policy_checks=policy_checks,
        )

    def _name(self, table: sa.Table, columns: Sequence[str], kind: str, meaning: str) -> str:
        stem = (table.name, *(column for column in columns if column not in _WHOSE))
        return bounded_name(stem, kind, "\0".join((table.name, kind, *columns, "", meaning)))

    def _remember(
        self,
        name: str,
        kind: ConstraintKind,
        columns: Iterable[str],
        resources: Sequence[ResourceDefinition],
        target: str | None = None,
    ) -> None:
        self.constraints[name] = ConstraintUse(
            name=name,
            kind=kind,
            table=resources[0].table,
            columns=tuple(column for column in columns if column not in _WHOSE),
            resources=tuple(resources),
            target=target,
        )

    def _uniques(self, table: sa.Table, resources: list[ResourceDefinition]) -> set[tuple[str, ...]]:
        """Add the unique indexes; return the column tuples that some full index covers."""
        live = "deleted_at IS NULL" if any(resource.soft_delete for resource in resources) else ""
        covered: set[tuple[str, ...]] = {tuple(column.name for column in table.primary_key)}
        for columns, within in _unique_keys(resources):
            whose = whose_columns(resources[0]) if within is Within.SCOPE else ()
            full = (*whose, *columns)
            predicate = "" if within is Within.EVER else live
            name = self._name(table, full, "key", f"{within} {predicate}")
            if name in self.constraints:
                continue
            where: Any = sa.literal_column(predicate) if predicate else None
            sa.Index(name, *(table.c[column] for column in full), unique=True, postgresql_where=where)
            self._remember(name, "unique", full, resources)
            if not predicate:
                covered.add(full)
        return covered

    def _references(
        self, table: sa.Table, resources: list[ResourceDefinition], covered: set[tuple[str, ...]]
    ) -> tuple[tuple[str, str], ...]:
        """Add the foreign keys and their indexes; return the references to library rows."""
        libraries: dict[str, str] = {}
        done: set[str] = set()
        for resource in resources:
            for field in resource.fields.values():
                if field.references is None or field.column in done:
                    continue
                target = self.registry.target(resource, field.references)
                if target.kind is not Kind.DATABASE:
                    continue
                done.add(field.column)
                self._reference(table, resources, field, target)
                composite = target.tenant_bound and "tenant_id" in table.c
                # The key's own columns first: deleting a target looks for the rows that hold it.
                lead = ("tenant_id", field.column) if composite else (field.column, "tenant_id")
                self._index(table, [column for column in lead if column in table.c], covered)
                if target.scope is Scope.LIBRARY:
                    libraries[field.column] = target.table
        return tuple(libraries.items())

    def _reference(
        self,
        table: sa.Table,
        resources: Sequence[ResourceDefinition],
        field: FieldDefinition,
        target: ResourceDefinition,
    ) -> None:
        assert field.references is not None
        other = self.by_resource[target.id]
        ours, theirs = [field.column], ["id"]
        if target.tenant_bound:
            # The tenant's own record carries the tenant in its key.
            ours.insert(0, "tenant_id" if "tenant_id" in table.c else "id")
            theirs.insert(0, "tenant_id")
        kind = field.references.on_delete
        if (resources[0].table, field.column) in self.guarded:
            kind = OnDelete.RESTRICT
        on_delete = _ON_DELETE.get(kind, f"SET NULL ({quote(field.column)})")
        meaning = f"{other.fullname} {theirs} {on_delete}"
        name = self._name(table, ours, "fkey", meaning)
        table.append_constraint(
            sa.ForeignKeyConstraint(
                [table.c[column] for column in ours],
                [other.c[column] for column in theirs],
                name=name,
                ondelete=on_delete,
                use_alter=True,
            )
        )
        self._remember(name, "reference", ours if len(ours) == 1 else ours[1:], resources, target.table)

    def _plain_indexes(self, table: sa.Table, resources: list[ResourceDefinition]) -> Iterator[list[str]]:
        whose = [column for column in whose_columns(resources[0]) if column != "owner_id"]
        if "owner_id" in table.c:
            yield [*whose, "owner_id"]
        for resource in resources:
            for field in resource.fields.values():
                if field.index and field.column in table.c and not field.type.document:
                    yield [*whose, field.column]
            for fields in resource.indexes:
                yield [*whose, *(resource.columns[name] for name in fields)]

    def _index(self, table: sa.Table, columns: Sequence[str], covered: set[tuple[str, ...]]) -> None:
        """Add an index that ends in the key, as every sort order does, unless one covers it."""
        columns = list(dict.fromkeys(columns))
        if any(known[: len(columns)] == tuple(columns) for known in covered):
            return
        full = (*columns, *(("id",) if "id" in table.c and "id" not in columns else ()))
        covered.add(full)
        sa.Index(self._name(table, full, "idx", ""), *(table.c[column] for column in full))

    def _inner_indexes(self, table: sa.Table, resources: list[ResourceDefinition]) -> None:
        """Add an index of members for each indexed document, and one of words for each list of
        fields that some version searches.
        """
        documents = (
            field.column
            for resource in resources
            for field in resource.fields.values()
            if field.index and field.type.document and field.column in table.c
        )
        for column in dict.fromkeys(documents):
            # A document is no key of an ordinary index: it may be larger than one holds.
            name = self._name(table, (column,), "members", "")
            sa.Index(name, table.c[column], postgresql_using="gin")
        parts = (
            field.column for resource in resources for field in resource.fields.values() if field.trigram
        )
        for column in dict.fromkeys(parts):
            name = self._name(table, (column,), "trigram", "")
            sa.Index(name, table.c[column], postgresql_using="gin", info={"extension": TRIGRAM})
        for columns in dict.fromkeys(
            tuple(resource.columns[name] for name in resource.search)
            for resource in resources
            if resource.search
        ):
            words = search_document([table.c[column] for column in columns])
            name = self._name(table, columns, "search", str(words))
            sa.Index(name, words, postgresql_using="gin", _table=table)

    def _checks(self, table: sa.Table, resources: list[ResourceDefinition]) -> tuple[str, ...]:
        """Add a CHECK for every column whose values all versions enumerate; return those for its policy."""
        left = []
        for column in table.c:
            values = enumerated(column.name, resources)
            if values:
                sql = one_of(column, values)
                if is_checked_by_policy(resources[0]):
                    left.append(sql)
                    continue
                name = self._name(table, (column.name,), "check", sql)
                table.append_constraint(sa.CheckConstraint(sa.literal_column(sql), name=name))
                self._remember(name, "check", (column.name,), resources)
        return tuple(left)


def _is_nullable(column: str, resources: Sequence[ResourceDefinition], has_default: bool) -> bool:
    """Whether some version may leave the column empty."""
    found = [field for resource in resources for field in resource.fields.values() if field.column == column]
    if found[0].implied and column != "deleted_at":
        return False
    if len(found) < len(resources) and not has_default:
        return True  # a version that does not know the column inserts rows without it
    return any(field.nullable for field in found)


def _server_default(field: FieldDefinition) -> sa.TextClause | sa.ColumnElement[Any] | None:
    """Return the column's default; it serves rows written by a version that does not know the field."""
    if field.implied and field.column in ("created_at", "updated_at"):
        return sa.literal_column("now()")
    if field.implied and field.column == "version":
        return sa.literal_column("1")
    if not field.has_default or field.default is None or field.references is not None:
        return None
    value = field.type.bind(field.default, field)
    array = isinstance(field.type.column_type(field), postgresql.ARRAY | sa.ARRAY)
    return sa.literal_column(literal(value, array=array))


def whose_columns(resource: ResourceDefinition) -> tuple[str, ...]:
    """Return the columns that say whose a row of this scope is."""
    if resource.scope is Scope.USER:
        return ("tenant_id", "owner_id")
    return ("tenant_id",) if resource.scope in (Scope.TENANT, Scope.LIBRARY) else ()


def _unique_keys(resources: Iterable[ResourceDefinition]) -> Iterator[tuple[tuple[str, ...], Within]]:
    for resource in resources:
        for field in resource.fields.values():
            if field.unique is not None:
                yield (field.column,), field.unique
        for key in resource.unique:
            columns = (resource.columns[name] for name in key.fields)
            yield tuple(column for column in columns if column not in _WHOSE), key.within


def _renames(resources: Iterable[ResourceDefinition]) -> dict[str, str]:
    """Return column -> former column, from `renamedFrom`."""
    found: dict[str, str] = {}
    for resource in resources:
        for field in resource.fields.values():
            if field.renamed_from:
                found[field.column] = snake_case(field.renamed_from)
    return found
