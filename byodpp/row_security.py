"""Row-level security: who may see and write which rows, as the database enforces it.

Comes from `tables` and a function that turns a resource's public filter into SQL. Goes, as
frozen policies and grants, to `migrations`, which writes them into the database and notices
when they change. The repository adds the tenant to every statement; what it would miss
stops here. An unset tenant raises as soon as a row is met: it never shows everything, and
never an emptiness that is not true.

The predicate of reading is: own, OR published by the public filter, OR granted: lent to this
transaction, or opened to its tenant by a row of Grants, which each statement looks up anew.
Writing is own only. The look-ups are scalar sub-selects, so that they run once
per statement, and never while it is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from byodpp.definitions import Kind, ResourceDefinition, Scope
from byodpp.exceptions import Problem
from byodpp.registry import Registry
from byodpp.sql_text import bounded_name, quote, quote_text
from byodpp.tables import StoredTable, whose_columns
from byodpp.tables.roles import APP, SYSTEM

if TYPE_CHECKING:
    import asyncpg

__all__ = [
    "FUNCTIONS",
    "POLICY_PREFIX",
    "Grant",
    "Policy",
    "Published",
    "SqlFunction",
    "check_views",
    "grants",
    "mark_leakproof",
    "policies",
]

#: Names of our policies begin so, and end in a hash of their meaning; it marks a table as ours.
POLICY_PREFIX: Final = "byodpp"

#: A resource's public filter as SQL text over its table's columns; None when nothing is public.
Published = Callable[[ResourceDefinition], str | None]

Command = Literal["select", "insert", "update", "delete"]

_ALL: Final = ("select", "insert", "update", "delete")
#: Resources of parts whose rows the application may add and read, never change.
_APPEND_ONLY: Final = frozenset({("audit", "AuditLogs")})
#: Resource of the part whose rows open rows of others to another tenant.
_OPENING: Final = ("grants", "Grants")
#: What the app role may do with the framework's own tables.
_FRAMEWORK_GRANTS: Final[dict[str, tuple[str, ...]]] = {
    "outbox": ("select", "insert"),
    "idempotency_keys": _ALL,
    "history": ("select", "insert"),
    "imports": _ALL,
    "import_rejects": _ALL,
    "schema_state": ("select",),
    "seeds": (),
    "access_versions": ("select", "insert", "update"),
    "policy_version": ("select", "insert", "update"),
    "tenant_procedures": (),
    "tenant_places": (),
    "platform_keys": _ALL,
    "revocation_version": ("select", "insert", "update"),
    "directory_changes": ("select", "insert"),
    "api_key_hashes": ("select", "insert", "update"),
    "secret_values": _ALL,
    "tenant_storage": ("select",),
    "audit_seals": ("select",),
    "audit_heads": ("select",),
    "audit_arrivals": (),
}
_TENANT: Final = "(SELECT byodpp.tenant())"
#: The same for one row: no sub-select, which costs more to set up than to run. Raises where no tenant is set.
_TENANT_OF_ONE: Final = "current_setting('byodpp.tenant')::bigint"
_USER: Final = "(SELECT byodpp.user_id())"
_GRANTS: Final = "(SELECT byodpp.grants())::text[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy of a table, for every role without BYPASSRLS."""

    name: str
    command: Command
    using: str | None = None  # SQL over the stored row
    check: str | None = None  # SQL over the new row

    def create(self, table: str) -> str:
        """Return the statement that makes it; `table` is quoted SQL."""
        using = f"\n    USING ({self.using})" if self.using else ""
        check = f"\n    WITH CHECK ({self.check})" if self.check else ""
        return f"CREATE POLICY {quote(self.name)} ON {table} FOR {self.command.upper()}{using}{check}"


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """A right of a role on a table."""

    role: str
    privilege: str  # lower case: `select`


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlFunction:
    """A function in the schema `byodpp`; its name alone tells it from the others."""

    name: str
    returns: str
    body: str  # PL/pgSQL
    arguments: str = ""
    marks: str = "STABLE PARALLEL SAFE"

    def create(self) -> str:
        """Return the statement that makes or replaces it."""
        return (
            f"CREATE OR REPLACE FUNCTION byodpp.{quote(self.name)}({self.arguments}) RETURNS {self.returns}\n"
            f"    LANGUAGE plpgsql {self.marks} AS $function${self.body}$function$"
        )


def _refusing(name: str, who: str, told: str, code: str) -> SqlFunction:
    """Return the function of a trigger that refuses every write but of one who says who he is."""
    return SqlFunction(
        name=name,
        returns="trigger",
        marks="VOLATILE",
        body=f"""
BEGIN
    -- Who {who} says so.
    IF current_setting('byodpp.moving', true) = 'on' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    RAISE EXCEPTION '{told}' USING ERRCODE = '{code}';
END
""",
    )


#: Who asks, from the settings of the transaction; and what a policy cannot ask about its own table.
FUNCTIONS: Final = (
    SqlFunction(
        name="tenant",
        returns="bigint",
        body="""
DECLARE
    found text := current_setting('byodpp.tenant', true);
BEGIN
    -- A setting of an ended transaction is left behind as an empty text.
    IF found IS NULL OR found = '' THEN
        RAISE EXCEPTION 'no tenant is set in this transaction' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN found::bigint;
END
""",
    ),
    SqlFunction(
        name="user_id",
        returns="bigint",
        body="""
BEGIN
    RETURN coalesce(nullif(current_setting('byodpp.user', true), ''), '0')::bigint;
END
""",
    ),
    SqlFunction(
        name="grants",
        returns="text[]",
        body="""
BEGIN
    RETURN coalesce(nullif(current_setting('byodpp.grants', true), ''), '{}')::text[] || array(
        SELECT g."table" || ':' || g.tenant_id || ':' || g.row_id FROM grants g
        WHERE g.grantee_id = byodpp.tenant() AND (g.expires_at IS NULL OR g.expires_at > now()));
END
""",
    ),
    SqlFunction(
        name="in_library",
        arguments="target text, key text",
        returns="boolean",
        body="""
DECLARE
    found boolean;
BEGIN
    EXECUTE format(
        'SELECT EXISTS (SELECT 1 FROM %s WHERE id = %L AND tenant_id IN (0, byodpp.tenant()))', target, key
    ) INTO found;
    RETURN found;
END
""",
    ),
    SqlFunction(
        # Of the owner's rights, since the roles have none on sequences; it gives nothing but a number.
        name="event_number",
        returns="bigint",
        marks="VOLATILE SECURITY DEFINER",
        body="""
BEGIN
    RETURN pg_catalog.nextval('byodpp.outbox_id_seq'::pg_catalog.regclass);
END
""",
    ),
    SqlFunction(
        # All events, in the order of (number, place): those of the outbox, and audit entries that are one.
        name="events",
        returns=(
            "TABLE (number bigint, place bigint, tenant_id bigint, name text, data jsonb, resource text,"
            " resource_id text, request_id text, correlation_id text, actor_id bigint,"
            " created_at timestamptz)"
        ),
        marks="STABLE",
        body="""
BEGIN
    RETURN QUERY
    SELECT o.id, 0::bigint, o.tenant_id, o.name, o.data, o.resource, o.resource_id, o.request_id,
        o.correlation_id, o.actor_id, o.created_at
    FROM byodpp.outbox o
    UNION ALL
    SELECT a._event_number, a.id, a.tenant_id, a._event, a.changes::jsonb -> 'after', a.resource_type::text,
        a.resource_id::text, a.request_id::text, coalesce(a._correlation, a.request_id), a.user_id,
        a.created_at
    FROM audit_logs a WHERE a._event IS NOT NULL
    ORDER BY 1, 2;
END
""",
    ),
    _refusing("refuse_moving", "moves the rows", "the tenant does not write here", "BY001"),
    _refusing("refuse_copy", "keeps the copies", "the row is a copy here", "BY002"),
    SqlFunction(
        name="platform_key",
        arguments="stored jsonb, names text[], live boolean",
        returns="text",
        body="""
BEGIN
    IF live AND stored ->> 'deleted_at' IS NOT NULL
        OR EXISTS (SELECT FROM unnest(names) AS n WHERE stored ->> n IS NULL) THEN
        RETURN NULL;
    END IF;
    RETURN encode(sha256(convert_to((SELECT jsonb_agg(stored -> n ORDER BY place)::text
        FROM unnest(names) WITH ORDINALITY AS u(n, place)), 'UTF8')), 'hex');
END
""",
    ),
    SqlFunction(
        name="claim_key",
        returns="trigger",
        marks="VOLATILE",
        body="""
DECLARE
    names text[] := TG_ARGV[1];
    former text;
    present text;
BEGIN
    IF current_setting('byodpp.moving', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        former := byodpp.platform_key(to_jsonb(OLD), names, TG_ARGV[2] = 'live');
    END IF;
    IF TG_OP <> 'DELETE' THEN
        present := byodpp.platform_key(to_jsonb(NEW), names, TG_ARGV[2] = 'live');
    END IF;
    IF former IS NOT DISTINCT FROM present THEN
        RETURN NULL;
    END IF;
    IF former IS NOT NULL THEN
        DELETE FROM byodpp.platform_keys k
        WHERE k.name = TG_ARGV[0] AND k.key = former AND k.tenant_id = OLD.tenant_id;
    END IF;
    IF present IS NOT NULL THEN
        INSERT INTO byodpp.platform_keys (name, key, tenant_id)
        VALUES (TG_ARGV[0], present, NEW.tenant_id) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the value is taken' USING
                ERRCODE = 'unique_violation', CONSTRAINT = TG_ARGV[0], TABLE = TG_TABLE_NAME;
        END IF;
    END IF;
    RETURN NULL;
END
""",
    ),
)


def policies(stored: StoredTable, published: Published) -> tuple[Policy, ...]:
    """Return the policies of a table, in the order of the commands.

    Args:
        stored: the table.
        published: called for each resource of the table.
    """
    if not stored.resources:
        return _framework_policies(stored)
    scope = stored.resource.scope
    opened = " OR ".join(_opened(stored, published))
    own, written = _own(scope), _written(scope)
    read = _readable(scope) + (f" OR {opened}" if opened else "")
    check = " AND ".join([written, *_library_checks(stored), *stored.policy_checks])
    added = check.replace(_TENANT, _TENANT_OF_ONE) if _append_only(stored) else check
    alone = f"{_TENANT} = 0" if scope is Scope.SELF else None  # tenants are made by the platform
    return (
        _policy("select", using=read),
        _policy("insert", check=alone or added),
        _policy("update", using=own, check=check),
        _policy("delete", using=alone or own),
    )


def _policy(command: Command, *, using: str | None = None, check: str | None = None) -> Policy:
    name = bounded_name((POLICY_PREFIX, command), "policy", f"{using}\0{check}")
    return Policy(name=name, command=command, using=using, check=check)


def grants(stored: StoredTable) -> frozenset[Grant]:
    """Return what the app and system roles may do with a table."""
    allowed: tuple[str, ...] = _ALL
    if not stored.resources:
        allowed = _FRAMEWORK_GRANTS[stored.table.name]
    elif _append_only(stored):
        allowed = ("select", "insert")
    app = (Grant(APP, privilege) for privilege in allowed)
    return frozenset([*app, *(Grant(SYSTEM, privilege) for privilege in _ALL)])


def _append_only(stored: StoredTable) -> bool:
    return any((resource.part, resource.name) in _APPEND_ONLY for resource in stored.resources)


def _readable(scope: Scope) -> str:
    if scope is Scope.SHARED:
        return f"{_TENANT} IS NOT NULL"
    if scope is Scope.LIBRARY:
        return f"tenant_id = {_TENANT} OR tenant_id = 0"
    return _own(scope)


def _own(scope: Scope) -> str:
    """Return the predicate of the rows that the caller's tenant, or user, holds."""
    if scope is Scope.SHARED:
        return f"{_TENANT} = 0"
    if scope is Scope.SELF:
        return f"id = {_TENANT} OR {_TENANT} = 0"
    if scope is Scope.USER:
        return f"tenant_id = {_TENANT} AND owner_id = {_USER}"
    return f"tenant_id = {_TENANT}"


def _written(scope: Scope) -> str:
    """Return the predicate of a row that may be left behind; nobody (-1) leaves none."""
    if scope in (Scope.SHARED, Scope.SELF):
        return f"({_own(scope)})"
    return f"{_own(scope)} AND tenant_id >= 0"


def _opened(stored: StoredTable, published: Published) -> Iterator[str]:
    """Yield what opens rows beyond the own ones: publication, then grants."""
    live = "deleted_at IS NULL AND " if stored.soft_delete else ""
    for predicate in dict.fromkeys(map(published, stored.resources)):
        if predicate:
            yield f"({live}({predicate}))"
    if any((resource.part, resource.name) == _OPENING for resource in stored.resources):
        yield f"(grantee_id = {_TENANT})"  # and nothing that would ask this table again
    elif "tenant_id" in stored.table.c:
        row = f"{quote_text(stored.table.name + ':')} || tenant_id::text || ':' || id::text"
        yield f"({row}) = ANY ({_GRANTS})"


def _library_checks(stored: StoredTable) -> Iterator[str]:
    """Yield that a reference leads to a library row of the platform or of the own tenant.

    Its foreign key is on the id alone, and would accept another tenant's row.
    """
    for column, target in stored.library_references:
        mine = f"{quote(stored.table.name)}.{quote(column)}"
        if target == stored.table.name:
            # A policy that reads its own table never ends; what a function reads is no part of it.
            yield f"({mine} IS NULL OR byodpp.in_library({quote_text(quote(target))}, {mine}::text))"
            continue
        yield (
            f"({mine} IS NULL OR EXISTS (SELECT 1 FROM {quote(target)} AS target"
            f" WHERE target.id = {mine} AND target.tenant_id IN (0, {_TENANT})))"
        )


def _framework_policies(stored: StoredTable) -> tuple[Policy, ...]:
    """Return the policies of the framework's own tables; some hold no tenant's data."""
    rule = f"tenant_id = {_TENANT}" if "tenant_id" in stored.table.c else "true"
    return (
        _policy("select", using=rule),
        _policy("insert", check=rule),
        _policy("update", using=rule, check=rule),
        _policy("delete", using=rule),
    )


# --- what the database must be like -----------------------------------------------------


async def check_views(connection: asyncpg.Connection[Any], registry: Registry) -> list[Problem]:
    """Return what is wrong with the relations behind `view` resources.

    A view reads with its owner's rights unless it is a `security_invoker`, and a
    materialized view or a table without row-level security shows every tenant's rows. What
    lacks a column, or may not be read by the app role, would fail at the first request.
    """
    problems = []
    for resource in registry:
        if resource.kind is Kind.VIEW:
            row = await connection.fetchrow(_RELATION, resource.table, resource.schema, APP)
            if found := _unfit(row, resource):
                reason, advice = found
                what = f"{resource.name} reads {resource.table!r}: {reason}"
                problems.append(Problem(resource.path, what, advice))
    return problems


_RELATION: Final = """
    select c.relkind::text as kind, c.relrowsecurity and c.relforcerowsecurity as secured,
           coalesce(array_to_string(c.reloptions, ','), '') ~ 'security_invoker=(true|on|1|yes)' as invoker,
           has_table_privilege($3, c.oid, 'select') and has_schema_privilege($3, n.oid, 'usage') as readable,
           array(select attname::text from pg_attribute
                 where attrelid = c.oid and attnum > 0 and not attisdropped) as columns
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relname = $1 and n.nspname = coalesce($2, current_schema())
"""
_BY_REVISION: Final = "Change it in a revision: `byodpp migrate new --empty`."


def _unfit(relation: Any, resource: ResourceDefinition) -> tuple[str, str] | None:
    """Return why a relation must not stand behind a resource, and what to do; None when it may."""
    if relation is None:
        return "there is no such relation", "Create it in a revision: `byodpp migrate new --empty`."
    if relation["kind"] == "v" and not relation["invoker"]:
        return "the view is not created WITH (security_invoker = true)", _BY_REVISION
    if relation["kind"] in ("r", "p") and not relation["secured"]:
        return "the table does not force row-level security", _BY_REVISION
    if relation["kind"] not in ("v", "r", "p"):
        return "only views and tables keep row-level security", "Make it a view."
    needed = dict.fromkeys([*whose_columns(resource), *(one.column for one in resource.fields.values())])
    if missing := [name for name in needed if name not in relation["columns"]]:
        return f"it has no column {', '.join(missing)}", _BY_REVISION
    if not relation["readable"]:
        return f"the role {APP} may not read it", f"Add GRANT SELECT to {APP} and {SYSTEM} in a revision."
    return None


#: Functions behind the operators that queries use and PostgreSQL does not trust beside policies.
#: None of them tells its arguments in an error.
_OPERATOR_FUNCTIONS: Final = (
    "textlike", "textnlike", "texticlike", "texticnlike", "bpcharlike", "starts_with",
    "text_lt", "text_le", "text_gt", "text_ge",
    "numeric_eq", "numeric_ne", "numeric_lt", "numeric_le", "numeric_gt", "numeric_ge",
    "jsonb_eq", "jsonb_ne", "jsonb_lt", "jsonb_le", "jsonb_gt", "jsonb_ge",
    "jsonb_exists", "jsonb_exists_any", "jsonb_exists_all", "jsonb_contains", "jsonb_contained",
    "array_eq", "array_ne", "arraycontains", "arraycontained", "arrayoverlap",
    "ts_match_vq", "ts_match_qv", "to_tsvector", "left", "textcat",
)  # fmt: skip


async def mark_leakproof(connection: asyncpg.Connection[Any]) -> Sequence[str]:
    """Let indexes serve LIKE, full text, jsonb, arrays and numbers in spite of policies.

    Args:
        connection: of a superuser; with another role nothing is changed.

    Returns:
        The signatures that were marked; empty when all were, or when the role may not.
    """
    if not await connection.fetchval("select rolsuper from pg_roles where rolname = current_user"):
        return ()
    rows = await connection.fetch(
        "select oid::regprocedure::text as signature from pg_proc where not proleakproof"
        " and pronamespace = 'pg_catalog'::regnamespace and proname = any($1::text[]) order by 1",
        list(_OPERATOR_FUNCTIONS),
    )
    signatures = [row["signature"] for row in rows]
    for signature in signatures:
        await connection.execute(f"alter function {signature} leakproof")
    return signatures
