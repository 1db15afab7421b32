"""For whom a transaction runs, as PostgreSQL's settings hold it; row-level security decides by it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

__all__ = ["NOBODY", "PLATFORM_TENANT", "SessionContext", "search_path"]

#: Id of the platform's own tenant row.
PLATFORM_TENANT: Final = 0
#: Tenant of anonymous readers: it owns nothing, so they see published rows only.
NOBODY: Final = -1
#: Names that need no quotes.
_PLACE: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """For whom a transaction runs; row-level security decides by it."""

    tenant_id: int
    user_id: int = 0  # 0: nobody signed in
    visiting: bool = False  # the user is another tenant's: his number says nothing about this one's rows
    grants: tuple[str, ...] = ()  # `table:tenant:id` of rows lent to this caller
    #: Schema in which tables are looked for before the shared ones; None: there is only the latter.
    place: str | None = None
    #: Name of the database in which it runs; None: the one that all tenants share.
    database: str | None = None

    #: The values of byodpp.tenant, byodpp.user and byodpp.grants, for set_config.
    settings: tuple[str, str, str] = field(init=False, repr=False, compare=False)
    #: Statements that set them in an open transaction.
    commands: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Write both once: a caller's context serves all his requests.

        Raises:
            ValueError: a grant holds U+0000, or the place is no name that we give.
        """
        settings = (f"{self.tenant_id:d}", f"{self.owner_id:d}", _array_literal(self.grants))
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "commands", _set_local(*settings) + search_path(self.place))

    @property
    def owner_id(self) -> int:
        """The user whose rows of the scope `user` are meant; 0 owns none."""
        return 0 if self.visiting else self.user_id


def search_path(place: str | None) -> str:
    """Return the command, after others, that lets tables be found in a place first; none without a place."""
    if place is None:
        return ""
    if _PLACE.fullmatch(place) is None:
        raise ValueError(f"{place!r} is no place")
    return f"; set local search_path = {place}, public"


def _set_local(tenant: str, user: str, grants: str) -> str:
    lent = "''" if grants == "{}" else _literal(grants)
    own = f"set local byodpp.tenant = '{tenant}'; set local byodpp.\"user\" = '{user}'"
    return f"{own}; set local byodpp.grants = {lent}"


def _literal(text: str) -> str:
    # The pools set standard_conforming_strings, so a backslash is a backslash.
    return "'" + text.replace("'", "''") + "'"


def _array_literal(texts: tuple[str, ...]) -> str:
    if not texts:
        return "{}"  # one object for all who were lent nothing
    for text in texts:
        if "\0" in text:
            raise ValueError("a grant holds U+0000")
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in escaped) + "}"
