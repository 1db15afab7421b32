"""Where the arguments of a compiled statement come from.

A statement is compiled once and run with the values of many requests. Each `$n` of its text
has a *source* that knows, for one request, which value belongs there: a value of the query,
what the caller brings, whose rows are meant, or a parameter by name.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.sql.elements import BindParameter

from byodpp.conditions import Constant, Operand, Parameter, Variable
from byodpp.definitions import FieldDefinition

__all__ = [
    "Compiled",
    "Context",
    "Sources",
    "SqlText",
    "array_parameter",
    "as_stored",
    "bound",
    "compile_statement",
    "given_type",
    "operand_key",
    "operand_source",
    "written_value",
]


class SqlText(str):
    """A value that is an expression of SQL, where a statement's values are written into its text."""

    __slots__ = ()


class Context(Protocol):
    """For whom a statement runs; `database.SessionContext` is one."""

    @property
    def tenant_id(self) -> int: ...
    @property
    def user_id(self) -> int: ...
    @property
    def owner_id(self) -> int: ...
    @property
    def settings(self) -> tuple[str, str, str]:
        """Tenant, user and grants as PostgreSQL's settings hold them."""
        ...


@dataclass(slots=True)
class Sources:
    """Everything that one run of a statement may need; made for every one, so it is not frozen."""

    values: Sequence[Any]
    variables: Mapping[str, Any]
    named: Mapping[str, Any]
    context: Context | None
    scope_tenant_id: int
    settings: tuple[str, str, str]  # of the context; of who has none, those of nobody in that tenant


Source = Callable[[Sources], Any]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class _SourcedParameter(BindParameter[Any]):
    """A bind parameter that remembers its source; clones keep it."""

    inherit_cache = False
    __visit_name__ = "bindparam"
    source: Source


def bound(source: Source, type_: sa.types.TypeEngine[Any], key: str | None = None) -> sa.BindParameter[Any]:
    """Return a parameter with a source.

    Args:
        source: gives the value.
        type_: of the value in PostgreSQL; the text of the statement casts to it.
        key: parameters with the same key share one `$n`; without one the parameter stands alone.
    """
    parameter = _SourcedParameter(key, None, type_=type_, unique=key is None, required=False)
    parameter.source = source
    return parameter


def array_parameter(name: str, of: sa.types.TypeEngine[Any]) -> sa.ColumnElement[Any]:
    """Return a parameter that is the text of an array (`array_text`): the driver passes it on as it is.

    Lengths and scales of the type stay out of it: a cast would cut or round.
    """
    if isinstance(of, sa.String):
        of = sa.Text()
    elif isinstance(of, sa.Numeric) and not isinstance(of, sa.Float):
        of = sa.Numeric()
    return sa.cast(sa.bindparam(name, type_=sa.Text()), ARRAY(of))


def operand_key(operand: Operand, type_: sa.types.TypeEngine[Any]) -> str | None:
    """Return the key under which a query's value is one `$n` however often a statement needs it."""
    if not isinstance(operand, Parameter):
        return None
    return f"value_{operand.index}_{re.sub('[^a-z0-9]', '', repr(type_).lower())}"


def operand_source(
    operand: Operand, definition: FieldDefinition, column: sa.types.TypeEngine[Any], *, many: bool
) -> Source:
    """Return where the value of a condition's operand comes from."""
    match operand:
        case Parameter(index):
            return lambda sources: sources.values[index]
        case Constant(value):
            fixed = list(value) if many and isinstance(value, tuple) else value
            return lambda sources: fixed
        case Variable(name):
            convert = _Conversion(definition, column)
            if many:
                return lambda sources: convert.list(sources.variables.get(name))
            return lambda sources: convert.one(sources.variables.get(name))


@dataclass(frozen=True, slots=True)
class _Conversion:
    """Makes what a caller brings fit a field; what does not fit is None: unknown."""

    definition: FieldDefinition
    column: sa.types.TypeEngine[Any]

    def one(self, value: Any) -> Any:
        """Return the bound value, None when the type refuses it."""
        if value is None:
            return None
        if isinstance(value, SqlText):
            return value
        kind = self.definition.type
        if isinstance(value, datetime.datetime) and isinstance(self.column, sa.Date):
            value = value.date()
        try:
            return kind.bind(kind.from_json(value, self.definition), self.definition)
        except (ValueError, TypeError, ArithmeticError):
            return None

    def list(self, value: Any) -> Any:
        """Return the bound values that fit, None when none does."""
        candidates = value if isinstance(value, list | tuple | set | frozenset) else [value]
        fitting = [found for one in candidates if (found := self.one(one)) is not None]
        return fitting or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A statement as text, and the sources of its arguments in order."""

    sql: str
    order: tuple[Source, ...] = field(repr=False)
    names: tuple[str, ...] = ()  # of the named parameters, in order of first use

    def arguments(
        self,
        values: Sequence[Any] = (),
        variables: Mapping[str, Any] | None = None,
        context: Context | None = None,
        *,
        scope_tenant_id: int | None = None,
        named: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Return the arguments for one run.

        Args:
            values: `Query.values`.
            variables: `user.id`, `tenant`, `now`, … of the caller; what is missing is unknown.
            context: the session's tenant, user and grants.
            scope_tenant_id: whose rows are read, when not the session tenant's own (an anonymous
                reader's session is nobody's).
            named: parameters that the statement declares by name.
        """
        if scope_tenant_id is None:
            scope_tenant_id = context.tenant_id if context is not None else 0
        if variables is None:
            variables = _NOTHING
        settings = (str(scope_tenant_id), "0", "{}") if context is None else context.settings
        sources = Sources(values, variables, named or _NOTHING, context, scope_tenant_id, settings)
        return [source(sources) for source in self.order]


def written_value(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Return what is written into a column: parameter `v_<column>`."""
    return as_stored(sa.bindparam(f"v_{column.name}", type_=given_type(column)), column)


def given_type(column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    """Return the type of a parameter: json comes as jsonb, which refuses what could not be asked."""
    return JSONB() if type(column.type) is JSON else column.type


def as_stored(value: sa.ColumnElement[Any], column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Return a value of `given_type` as its column takes it."""
    return sa.cast(value, column.type) if type(column.type) is JSON else value


class _WholeNames(asyncpg_dialect.PGCompiler_asyncpg):
    """Keeps the names of derived columns, which SQLAlchemy would shorten from 58 characters on.

    The manifest sees to it that they fit. Names that SQLAlchemy makes are still kept short.
    """

    def _truncated_identifier(self, ident_class: str, name: Any) -> str:
        if ident_class == "colident":
            return str(name.apply_map(self.anon_map))
        return str(super()._truncated_identifier(ident_class, name))


def compile_statement(statement: sa.sql.expression.Executable) -> Compiled:
    """Compile a statement to asyncpg's text; every plain bind parameter is one by name."""
    dialect = asyncpg_dialect.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
    dialect.statement_compiler = _WholeNames
    compiled: Any = cast(Any, statement).compile(dialect=dialect)
    order: list[Source] = []
    names: dict[str, None] = {}
    for name in compiled.positiontup or ():
        parameter = compiled.binds[name]
        if isinstance(parameter, _SourcedParameter):
            order.append(parameter.source)
        elif parameter.required:
            names[parameter.key] = None
            order.append(_named(parameter.key))
        else:
            order.append(_fixed(parameter.effective_value))
    return Compiled(sql=str(compiled), order=tuple(order), names=tuple(names))


def _named(name: str) -> Source:
    return lambda sources: sources.named[name]


def _fixed(value: Any) -> Source:
    return lambda sources: value
