"""The databases that a tenant can have for itself, as settings name them.

In: settings whose types are right. Out: one `PlaceAddress` for each, or what is wrong with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from byodpp.exceptions import Problem

if TYPE_CHECKING:
    from byodpp.settings.reading import Settings

__all__ = ["PlaceAddress", "place_addresses", "wrong_places"]

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_LISTS: Final = {
    "place_db_uris": "PLACE_DB_URIS",
    "place_admin_uris": "PLACE_ADMIN_URIS",
    "place_system_uris": "PLACE_SYSTEM_URIS",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceAddress:
    """A database beside the one that all tenants share."""

    name: str
    region: str
    app_uri: str
    admin_uri: str | None  # None: this process does not migrate it, and moves no tenant there
    system_uri: str

    def __repr__(self) -> str:
        return f"PlaceAddress(name={self.name!r}, region={self.region!r})"


def place_addresses(settings: Settings) -> tuple[PlaceAddress, ...]:
    """Return the places of settings that name their addresses, in their order."""
    app, admin, system = (_named(getattr(settings, name)) for name in _LISTS)
    return tuple(
        PlaceAddress(
            name=name, region=region, app_uri=app[name], admin_uri=admin.get(name), system_uri=system[name]
        )
        for name, region in declared_places(settings.places)
    )


def declared_places(entries: Sequence[str]) -> list[tuple[str, str]]:
    """Return name and region of each; a place without a region is a region by itself."""
    parts = (entry.partition("@") for entry in entries)
    return [(name, region or name) for name, _, region in parts]


def wrong_places(settings: Settings) -> list[Problem]:
    """Return every fault of the places, without a word of their addresses: those hold passwords."""
    problems, names = [], set[str]()
    for name, region in declared_places(settings.places):
        if not _NAME.fullmatch(name) or name.startswith("byodpp") or not _NAME.fullmatch(region):
            advice = "Write name@region, each of lower-case letters, digits and hyphens."
            problems.append(Problem("places", f"{name}@{region} names no place", advice))
        elif name in names:
            problems.append(Problem("places", f"names {name!r} twice"))
        names.add(name)
    if settings.postgres_db_uri is None and any(getattr(settings, one) for one in _LISTS):
        told = "are given while the embedded server runs, which makes the databases of places itself"
        problems.append(Problem("place_db_uris", told, "Set POSTGRES_DB_URI too, or leave them out."))
    problems += _same_addresses(settings)
    for setting, variable in _LISTS.items():
        problems += _wrong_uris(setting, getattr(settings, setting), names)
        # The embedded server makes their databases itself.
        needed = names if settings.postgres_db_uri is not None and setting != "place_admin_uris" else ()
        given = _named(getattr(settings, setting))
        problems += [
            Problem(setting, f"has no address of {name!r}", f"Set {variable}={name}=postgresql://…")
            for name in sorted(needed)
            if name not in given
        ]
    return problems


def _same_addresses(settings: Settings) -> list[Problem]:
    """Return which places have the address of another one, or of the database that all tenants share."""
    problems, seen = [], dict[tuple[str | None, int, str], str]()
    if settings.postgres_db_uri is not None:
        seen[_address(settings.postgres_db_uri)] = "POSTGRES_DB_URI"
    for name, uri in _named(settings.place_db_uris).items():
        other = seen.setdefault(_address(uri), name)
        if other != name:
            advice = "Give each place a database of its own."
            problems.append(Problem("place_db_uris", f"give {name!r} the database of {other}", advice))
    return problems


def _address(uri: str) -> tuple[str | None, int, str]:
    """Return host, port, and name of a database; a port that is none is the driver's to refuse."""
    parts = urlsplit(uri)
    try:
        port = parts.port
    except ValueError:
        port = None
    return parts.hostname, port or 5432, parts.path.strip("/")


def _wrong_uris(setting: str, entries: Sequence[str], names: set[str]) -> list[Problem]:
    problems, seen = [], set[str]()
    for number, entry in enumerate(entries, start=1):
        name, equals, uri = entry.partition("=")
        where = f"{setting}, entry {number}"
        if not equals or urlsplit(uri).scheme not in ("postgresql", "postgres"):
            problems.append(Problem(where, "is not name=postgresql://…"))
        elif name not in names:
            known = ", ".join(sorted(names)) or "none"
            problems.append(
                Problem(where, f"is of {name!r}, which places does not name", f"It names {known}.")
            )
        elif name in seen:
            problems.append(Problem(where, f"is another address of {name!r}"))
        seen.add(name)
    return problems


def _named(entries: Sequence[str]) -> dict[str, str]:
    return {name: uri for name, _, uri in (entry.partition("=") for entry in entries)}
