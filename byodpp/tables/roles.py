"""The three database roles and what each may touch: owner, app, system.

In: a connection of an administrator. Out: roles, the framework's schema, and the right to
enter it; running it again changes nothing. Rights on tables come with the migrations.
May reject: PostgreSQL, when the administrator may not create roles.

- ``byodpp_owner`` owns the tables and runs the migrations.
- ``byodpp_app`` answers requests: it owns nothing, so every row-level policy binds it.
- ``byodpp_system`` passes row-level security (BYPASSRLS): relay, policy loading, sealing.

The embedded server uses this module itself; for any other server an operator runs what
`provisioning_sql` returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncpg

__all__ = [
    "APP",
    "DATABASE",
    "FRAMEWORK_SCHEMA",
    "OWNER",
    "ROLES",
    "SYSTEM",
    "provision_database",
    "provision_roles",
    "provisioning_sql",
]

OWNER: Final = "byodpp_owner"
APP: Final = "byodpp_app"
SYSTEM: Final = "byodpp_system"
ROLES: Final = (OWNER, APP, SYSTEM)
#: Default name of the application's database.
DATABASE: Final = "byodpp"
#: Schema of the framework's own tables and functions; resources' tables live in `public`.
FRAMEWORK_SCHEMA: Final = "byodpp"

# Two processes may provision at the same time, hence `unique_violation` beside `duplicate_object`.
_CREATE_ROLE: Final = """\
do $$ begin
  create role {role} with login {attributes};
exception when duplicate_object or unique_violation then null;
end $$;
"""

_DATABASE_SQL: Final = f"""\
do $$ begin
  -- Whoever may make temporary tables may put one before the application's own.
  execute format('revoke temporary on database %I from public', current_database());
end $$;
revoke create on schema public from public;
grant usage, create on schema public to {OWNER};
create schema if not exists {FRAMEWORK_SCHEMA} authorization {OWNER};
grant usage on schema public, {FRAMEWORK_SCHEMA} to {APP}, {SYSTEM};
"""


def _roles_sql() -> str:
    return "".join(
        _CREATE_ROLE.format(role=role, attributes="bypassrls" if role == SYSTEM else "nobypassrls")
        for role in ROLES
    )


async def provision_roles(connection: asyncpg.Connection) -> None:
    """Create the roles that are missing.

    Args:
        connection: of a superuser, or of a role with CREATEROLE and BYPASSRLS; any database.
    """
    await connection.execute(_roles_sql())


async def provision_database(connection: asyncpg.Connection) -> None:
    """Give the roles their privileges in the database that `connection` is connected to.

    Args:
        connection: of a superuser, or of the database's owner with the rights of byodpp_owner.
    """
    await connection.execute(_DATABASE_SQL)


def provisioning_sql(database: str = DATABASE) -> str:
    """Return the psql script that makes a PostgreSQL server ready for an application.

    Args:
        database: name to create; text is compared by code point in it.
    """
    quoted = '"' + database.replace('"', '""') + '"'
    passwords = "".join(f"alter role {role} password :'{role}_password';\n" for role in ROLES)
    variables = " ".join(f"-v {role}_password=..." for role in ROLES)
    return (
        f"-- Run once as a superuser: psql {variables} -f this-file\n"
        "\\set ON_ERROR_STOP on\n"
        f"{_roles_sql()}{passwords}"
        f"create database {quoted} with owner {OWNER} template template0\n"
        "  encoding 'UTF8' locale_provider libc lc_collate 'C' lc_ctype 'C.UTF-8';\n"
        f"\\connect {quoted}\n"
        f"{_DATABASE_SQL}"
    )
