"""The steps from one snapshot to another: what changes, in which order, and what it risks.

*Expand* steps leave a running program of the former manifest unharmed: it goes on inserting,
so a removed column first loses its NOT NULL, and a new one is null or has a default.
*Contract* steps narrow or take away. What renames or retypes a column cannot be done beside
a running program, and neither can what changes whose rows they are (`scope`); every step of
that table is then a contract that must not wait.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from byodpp.migrations.conversion import converted, is_widening, keeps_values, loss
from byodpp.migrations.plan import Step, StepKind
from byodpp.migrations.snapshot import (
    ColumnState,
    ConstraintState,
    IndexState,
    Snapshot,
    TableState,
    check_words,
)
from byodpp.migrations.table_sql import collation_sql, grants_sql, indexes_sql, policies_sql, secure_sql
from byodpp.tables.roles import APP, FRAMEWORK_SCHEMA, SYSTEM
from byodpp.row_security import FUNCTIONS
from byodpp.sql_text import quote

__all__ = ["difference"]

# The order of steps within a kind.
_FOUNDATION, _UNSECURE, _LOOSEN, _RESHAPE, _CREATE, _COLUMNS, _TIGHTEN, _REFERENCE, _SECURE, _DROP = range(10)
#: Names that we gave end so; what others have added to our tables is theirs.
_OUR_NAME: Final = re.compile(r"_(pkey|key|idx|fkey|check|search|members)_[0-9a-f]{8}$")
#: Columns that keep rows from being seen, and what comes of it when they go.
_OPENED: Final = {
    "deleted_at": ": rows that were deleted are there again",
    "owner_id": ": rows of every user become their tenant's",
    "tenant_id": ": ROWS OF EVERY TENANT BECOME READABLE BY ALL",
}
#: Columns that say nothing about what a table is.
_IMPLIED: Final = frozenset(
    {"tenant_id", "owner_id", "id", "created_at", "updated_at", "version", "deleted_at"}
)
#: Characters of a default that a listing shows.
_MOST_SHOWN: Final = 60


def difference(wanted: Snapshot, found: Snapshot) -> tuple[Step, ...]:
    """Return the steps that turn `found` into `wanted`, expands first."""
    steps = list(_foundation(wanted, found))
    leaving = [table for key, table in found.tables.items() if key not in wanted.tables]
    for key, table in wanted.tables.items():
        present = found.tables.get(key)
        steps += _created(table, found, leaving) if present is None else _Change(table, present, found).steps()
    for key, table in found.tables.items():
        if key not in wanted.tables:
            steps += _dropped(table)
    return tuple(sorted(steps, key=lambda step: (step.kind == "contract", step.rank)))


def _foundation(wanted: Snapshot, found: Snapshot) -> Iterator[Step]:
    statements = []
    if not found.usage:
        statements.append(f"CREATE SCHEMA IF NOT EXISTS {FRAMEWORK_SCHEMA}")
        statements.append(f"GRANT USAGE ON SCHEMA {FRAMEWORK_SCHEMA} TO {APP}, {SYSTEM}")
    for function in FUNCTIONS:
        if wanted.functions[function.name] != found.functions.get(function.name):
            statements.append(function.create())
    if statements:
        text = "Functions that tell policies who asks"
        yield Step(description=text, kind="expand", statements=tuple(statements), rank=_FOUNDATION)

    for name in sorted(wanted.collations - found.collations):
        text = f"Collation {name}"
        yield Step(description=text, kind="expand", statements=(collation_sql(name),), rank=_FOUNDATION)


def _shown(sql: str) -> str:
    """Return a value for one line of a listing."""
    line = " ".join(sql.split())
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}…"



def _created(table: TableState, found: Snapshot, leaving: Iterable[TableState]) -> Iterator[Step]:
    """Yield the steps of a new table; its references follow when all tables exist."""
    alike = next((other.name for other in leaving if _alike(table, other)), None)
    hint = "" if alike is None else f" (without rows: `\"table\": \"{alike}\"` would keep those of {alike})"
    columns = ",\n    ".join(column.sql for column in table.columns.values())
    rules = [
        f"CONSTRAINT {quote(each.name)} {each.sql}" for each in table.constraints.values() if each.kind != "f"
    ]
    body = ",\n    ".join([columns, *rules])
    statements = [f"CREATE TABLE {table.sql} (\n    {body}\n)"]
    statements += indexes_sql(table, table.indexes)
    if table.key == f"{FRAMEWORK_SCHEMA}.policy_version":
        statements.append(f"INSERT INTO {table.sql} (version) VALUES (1)")
    # The first of many revisions must already leave behind where revisions are noted.
    ours = table.key.startswith(f"{FRAMEWORK_SCHEMA}.")
    yield Step(
        description=f"Create table {table.key}{hint}",
        kind="expand",
        statements=tuple(statements),
        rank=_FOUNDATION if ours else _CREATE,
        table=table.key,
    )
    for constraint in table.constraints.values():
        if constraint.kind == "f":
            yield _reference(table, constraint, found, "expand")
    yield Step(
        description=f"Row-level security and rights of {table.key}",
        kind="expand",
        statements=(*secure_sql(table), *policies_sql(table, table.policies), *grants_sql(table)),
        rank=_FOUNDATION if ours else _SECURE,
        table=table.key,
    )


def _alike(table: TableState, other: TableState) -> bool:
    """Whether a table that goes looks like a new one: somebody has given a resource another name."""
    ours, theirs = table.columns.keys() - _IMPLIED, other.columns.keys() - _IMPLIED
    return table.schema == other.schema and len(ours & theirs) > len(ours ^ theirs)


def _dropped(table: TableState) -> Iterator[Step]:
    """Yield the steps that take a table away; until then a program may still insert into it."""
    ties = [f"DROP POLICY {quote(policy.name)} ON {table.sql}" for policy in table.policies.values()]
    ties += [
        f"ALTER TABLE {table.sql} DROP CONSTRAINT {quote(each.name)}"
        for each in table.constraints.values()
        if each.kind == "f"
    ]
    if ties:
        yield Step(
            description=f"Untie {table.key} from other tables",
            kind="contract",
            statements=tuple(ties),
            rank=_LOOSEN,
            table=table.key,
        )
    yield Step(
        description=f"Drop table {table.key} and its rows",
        kind="contract",
        statements=(f"DROP TABLE {table.sql}",),
        rank=_DROP,
        destructive=True,
        table=table.key,
    )


class _Change:
    """What has become different in one table."""

    def __init__(self, wanted: TableState, found: TableState, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.wanted = wanted
        self.renamed = {
            new: old
            for new, old in wanted.renames
            if new in wanted.columns and new not in found.columns
            if old in found.columns and old not in wanted.columns
        }
        self.former = found
        self.found = _with_renames(found, self.renamed)
        self.retyped = {
            name
            for name, column in wanted.columns.items()
            if (old := self.found.columns.get(name)) is not None
            and (old.type, old.collation) != (column.type, column.collation)
        }
        self.rescoped = "" != _rows_of(found) != _rows_of(wanted)
        rekeyed = "" != _key_of(found) != _key_of(wanted)
        # A shorter text may wait, unless policies or references have to step aside for it.
        kept = all(self._keeps(name) for name in self.retyped)
        widened = all(self._widens(name) for name in self.retyped)
        retyping = not kept or (not widened and self._is_tied())
        self.breaking = self.rescoped or rekeyed or bool(self.renamed) or retyping
        self.added = {name for name in wanted.columns if name not in self.found.columns}

    def steps(self) -> Iterator[Step]:
        """Yield the steps of this table, in any order."""
        yield from self._loosened()
        yield from self._reshaped()
        for name, column in self.wanted.columns.items():
            old = self.found.columns.get(name)
            yield from self._added(column) if old is None else self._altered(column, old)
        yield from self._tightened()
        yield from self._secured()
        yield from self._removed()

    def _step(
        self,
        description: str,
        statements: Iterable[str],
        rank: int,
        *,
        kind: StepKind = "expand",
        destructive: bool = False,
    ) -> Step:
        return Step(
            description=f"{self.wanted.key}: {description}",
            kind="contract" if self.breaking else kind,
            statements=tuple(statements),
            rank=rank,
            destructive=destructive,
            may_wait=not self.breaking,
            table=self.wanted.key,
        )

    def _alter(self, action: str) -> str:
        return f"ALTER TABLE {self.wanted.sql} {action}"

    # --- before the columns change ----------------------------------------------------

    def _loosened(self) -> Iterator[Step]:
        """Yield the removal of rules that no longer hold, and of policies that stand in the way."""
        for name, policy in self.found.policies.items():
            if name not in self.wanted.policies or self._in_the_way(f"{policy.using} {policy.check}"):
                sql = f"DROP POLICY {quote(policy.name)} ON {self.wanted.sql}"
                why = ", for whose rows these are changes" if self.rescoped else ""
                yield self._step(f"drop policy {policy.name}{why}", [sql], _UNSECURE)
        for name, rule in self.found.constraints.items():
            gone = name not in self.wanted.constraints and _OUR_NAME.search(name)
            if gone or self._retypes(rule):
                rank = _LOOSEN if rule.kind == "f" else _RESHAPE
                sql = self._alter(f"DROP CONSTRAINT {quote(name)}")
                kind: StepKind = "contract" if self._has_successor(rule) else "expand"
                yield self._step(f"drop constraint {name}", [sql], rank, kind=kind)
        for name, index in self.found.indexes.items():
            if name not in self.wanted.indexes and _OUR_NAME.search(name):
                schema = f"{quote(self.wanted.schema)}." if self.wanted.schema else ""
                # A plain index may still serve a running program; a unique one would refuse the new one's rows.
                kind = "expand" if index.unique and not self._has_stricter_key(index) else "contract"
                sql = f"DROP INDEX {schema}{quote(name)}"
                yield self._step(f"drop index {name}", [sql], _LOOSEN, kind=kind)

    def _has_successor(self, rule: ConstraintState) -> bool:
        """Whether a rule stays until another takes its place, since no row of the new program is against it.

        So with an enumeration that allows fewer words, and a reference that differs in what a deletion does.
        """
        successors = [
            new
            for name, new in self.wanted.constraints.items()
            if name not in self.found.constraints and (new.kind, new.columns) == (rule.kind, rule.columns)
        ]
        if rule.kind == "c":
            return any(check_words(new.sql) < check_words(rule.sql) for new in successors)
        return rule.kind == "f" and any(new.target == rule.target for new in successors)

    def _has_stricter_key(self, index: IndexState) -> bool:
        """Whether a unique key makes way for one that implies it, and so stays until that one holds."""
        return any(
            new.unique and new.columns <= index.columns and new.partial <= index.partial
            for name, new in self.wanted.indexes.items()
            if name not in self.found.indexes
        )

    def _is_tied(self) -> bool:
        """Whether columns whose type changes are held by policies or references."""
        texts = (f"{policy.using} {policy.check}" for policy in self.found.policies.values())
        return any(map(self._in_the_way, texts)) or any(map(self._retypes, self.found.constraints.values()))

    def _in_the_way(self, text: str) -> bool:
        """Whether a policy mentions a column whose type changes, which PostgreSQL would refuse."""
        return any(re.search(rf"\b{re.escape(name)}\b", text) for name in self.retyped)

    def _retypes(self, rule: ConstraintState) -> bool:
        """Whether a reference holds a column whose type changes; both of its ends have to, one by one."""
        return rule.kind == "f" and bool(rule.columns & self.retyped)

    # --- columns ------------------------------------------------------------------------

    def _reshaped(self) -> Iterator[Step]:
        for new, old in self.renamed.items():
            sql = self._alter(f"RENAME COLUMN {quote(old)} TO {quote(new)}")
            yield self._step(f"rename column {old} to {new}", [sql], _LOOSEN)
        for name in sorted(self.retyped):
            column, before = self.wanted.columns[name], self.found.columns[name]
            collate = f" COLLATE {quote(column.collation)}" if column.collation else ""
            change = f"ALTER COLUMN {quote(name)} TYPE {column.type}{collate}"
            value = converted(quote(name), before.type, column.type, array=column.array)
            using = "" if self._widens(name) else f" USING {value}"
            statements = [self._alter(change + using)]
            if before.identity and not column.identity:
                statements.insert(0, self._alter(f"ALTER COLUMN {quote(name)} DROP IDENTITY"))
            if before.default is not None and not self._keeps(name):
                # It may be no value of the new type; `_altered` sets the new one.
                statements.insert(0, self._alter(f"ALTER COLUMN {quote(name)} DROP DEFAULT"))
            words = f"change column {name} from {before.type} to {column.type}"
            if column.collation != before.collation:
                words += f", ordered by {column.collation or 'the default'}"
            words += loss(before.type, column.type)
            kind: StepKind = "expand" if self._widens(name) else "contract"
            yield self._step(words, statements, _RESHAPE, kind=kind, destructive=not self._keeps(name))

    def _widens(self, name: str) -> bool:
        column, old = self.wanted.columns[name], self.found.columns[name]
        return is_widening(old.type, column.type)

    def _keeps(self, name: str) -> bool:
        column, old = self.wanted.columns[name], self.found.columns[name]
        return keeps_values(old.type, column.type)

    def _added(self, column: ColumnState) -> Iterator[Step]:
        told = f"add column {column.name}{self._not_renamed(column.name)}"
        if column.nullable or column.default is not None or column.identity:
            yield self._step(told, [self._alter(f"ADD COLUMN {column.sql}")], _COLUMNS)
            return
        loose = replace(column, nullable=True)
        yield self._step(told, [self._alter(f"ADD COLUMN {loose.sql}")], _COLUMNS)
        words = f"require a value in {column.name} ({self._unfilled()})"
        sql = self._alter(f"ALTER COLUMN {quote(column.name)} SET NOT NULL")
        yield self._step(words, [sql], _TIGHTEN, kind="contract")

    def _altered(self, column: ColumnState, old: ColumnState) -> Iterator[Step]:
        alter = f"ALTER COLUMN {quote(column.name)}"
        if column.identity != old.identity and (column.identity or column.name not in self.retyped):
            change = "ADD GENERATED BY DEFAULT AS IDENTITY" if column.identity else "DROP IDENTITY"
            yield self._step(f"{column.name}: {change.lower()}", [self._alter(f"{alter} {change}")], _COLUMNS)
        lost = column.name in self.retyped and not self._keeps(column.name)
        if column.default != (None if lost else old.default):
            change = "DROP DEFAULT" if column.default is None else f"SET DEFAULT {column.default}"
            words = "no default" if column.default is None else f"default {_shown(column.default)}"
            yield self._step(f"{column.name}: {words}", [self._alter(f"{alter} {change}")], _COLUMNS)
        if column.nullable and not old.nullable:
            sql = self._alter(f"{alter} DROP NOT NULL")
            yield self._step(f"{column.name} may be null", [sql], _COLUMNS)
        elif old.nullable and not column.nullable:
            statements = [*self._filled(column), self._alter(f"{alter} SET NOT NULL")]
            why = "" if column.default is not None else " (fails while a row has no value: fill them in before)"
            yield self._step(f"{column.name} may not be null{why}", statements, _TIGHTEN, kind="contract")

    def _not_renamed(self, name: str) -> str:
        """Say that a column which was to keep another one's values does not: there is no such other one."""
        former = dict(self.wanted.renames).get(name)
        if former is None or former in self.found.columns:
            return ""
        return f" (`renamedFrom`: there is no column {former}, so nothing is renamed; `column` keeps one as it is)"

    def _unfilled(self) -> str:
        when = "in this revision" if self.breaking else "in between"
        return f"fails while a row has none: fill them {when}"

    def _filled(self, column: ColumnState) -> Iterator[str]:
        """Yield what gives rows without a value the default.

        Policies would hide them from the owner; and tables refuse those of tenants that move, and copies.
        """
        if column.default is not None:
            yield self._alter("NO FORCE ROW LEVEL SECURITY")
            yield "SET LOCAL byodpp.moving = 'on'"
            name = quote(column.name)
            yield f"UPDATE {self.wanted.sql} SET {name} = {column.default} WHERE {name} IS NULL"
            yield "SET LOCAL byodpp.moving = ''"
            yield self._alter("FORCE ROW LEVEL SECURITY")

    # --- after the columns have changed -------------------------------------------------

    def _tightened(self) -> Iterator[Step]:
        for name, rule in self.wanted.constraints.items():
            if name in self.found.constraints and not self._retypes(rule):
                continue
            kind: StepKind = "expand" if self._harmless(rule) else "contract"
            if rule.kind == "f":
                step = _reference(self.wanted, rule, self.snapshot, kind)
                yield self._step(f"add reference {name}", step.statements, _REFERENCE, kind=kind)
            else:
                sql = self._alter(f"ADD CONSTRAINT {quote(name)} {rule.sql}")
                yield self._step(f"add constraint {name}", [sql], _TIGHTEN, kind=kind)
        for name, index in self.wanted.indexes.items():
            if index.extension is not None and index.extension not in self.snapshot.extensions:
                continue
            if name not in self.found.indexes:
                kind = "contract" if index.unique and not index.columns & self.added else "expand"
                build = indexes_sql(self.wanted, [name])
                yield self._step(f"add index {name}", build, _TIGHTEN, kind=kind)

    def _harmless(self, rule: ConstraintState) -> bool:
        """Whether a running program cannot meet a new rule: new columns, or more words than before."""
        if rule.columns & self.added:
            return True
        former = [
            old
            for name, old in self.found.constraints.items()
            if old.kind == rule.kind == "c"
            and old.columns == rule.columns
            and name not in self.wanted.constraints
        ]
        return any(check_words(old.sql) <= check_words(rule.sql) for old in former)

    def _secured(self) -> Iterator[Step]:
        if not self.found.secured:
            yield self._step("force row-level security", secure_sql(self.wanted), _SECURE)
        for name, policy in self.wanted.policies.items():
            old = self.found.policies.get(name)
            if old is None or self._in_the_way(f"{old.using} {old.check}"):
                create = policies_sql(self.wanted, [name])
                yield self._step(f"create policy {policy.name}", create, _SECURE)
        missing = self.wanted.grants - self.found.grants
        if missing:
            yield self._step("grant rights", grants_sql(replace(self.wanted, grants=missing)), _SECURE)
        for grant in sorted(self.found.grants - self.wanted.grants):
            sql = f"REVOKE {grant.privilege.upper()} ON {self.wanted.sql} FROM {grant.role}"
            yield self._step(f"revoke {grant.privilege} from {grant.role}", [sql], _SECURE, kind="contract")

    def _removed(self) -> Iterator[Step]:
        for name, column in self.found.columns.items():
            if name in self.wanted.columns:
                continue
            if not column.nullable and column.default is None:
                sql = self._alter(f"ALTER COLUMN {quote(name)} DROP NOT NULL")
                yield self._step(f"{name} may be null, for it goes", [sql], _COLUMNS)
            sql = self._alter(f"DROP COLUMN {quote(name)}")
            words = f"drop column {name} and its values{_OPENED.get(name, '')}"
            yield self._step(words, [sql], _DROP, kind="contract", destructive=True)


def _rows_of(table: TableState) -> str:
    """Return the predicate of the rows that a caller may delete: those that the scope gives it."""
    return " ".join(policy.name for policy in table.policies.values() if policy.command == "delete")


def _key_of(table: TableState) -> str:
    """Return the primary key's name, which tells its columns."""
    return next((rule.name for rule in table.constraints.values() if rule.kind == "p"), "")


def _with_renames(table: TableState, renamed: dict[str, str]) -> TableState:
    """Return the table as it is once its columns have their new names."""
    new_names = {old: new for new, old in renamed.items()}
    columns = (replace(column, name=new_names.get(name, name)) for name, column in table.columns.items())
    return replace(table, columns={column.name: column for column in columns})


def _reference(table: TableState, rule: ConstraintState, found: Snapshot, kind: StepKind) -> Step:
    """Return the step that adds a foreign key.

    PostgreSQL checks the rows that exist with a query of the owner's, and forced policies
    would hide rows from it: an orphan would pass. So they are not forced meanwhile.
    """
    add = f"ALTER TABLE {table.sql} ADD CONSTRAINT {quote(rule.name)} {rule.sql}"
    existing = [key for key in dict.fromkeys((table.key, rule.target)) if key in found.tables]
    names = [found.tables[key].sql for key in existing if key]
    statements = [
        *(f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY" for name in names),
        add,
        *(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY" for name in names),
    ]
    return Step(
        description=f"{table.key}: add reference {rule.name}",
        kind=kind,
        statements=tuple(statements),
        rank=_REFERENCE,
        table=table.key,
    )
