"""The words that say how a file is read or written: parameters of a request, options of a command.

In: names and texts. Out: `ImportOptions`, `ExportOptions`. May reject: InvalidQuery, with every fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from byodpp.batches import scoped_keys, upsert_keys
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import Detail, InvalidQuery
from byodpp.suggestion import nearest
from byodpp.transfer.csv_records import SEPARATORS
from byodpp.transfer.formats import Format

__all__ = [
    "EXPORT_WORDS",
    "IMPORT_WORDS",
    "ExportOptions",
    "ImportOptions",
    "export_options",
    "import_options",
]

#: Words of an import -> what they say.
IMPORT_WORDS: Final[Mapping[str, str]] = {
    "operation": "`create` (the default), or `upsert`: a row with the same unique key is replaced.",
    "on": "The fields of the unique key by which an upsert finds its rows; needed when there are several.",
    "atomic": "`true`: all rows or none. Else good rows are imported, and bad ones told.",
    "ignore": "Columns or members of the file that are passed over, separated by commas.",
    "separator": "Of CSV: `comma`, `semicolon` or `tab`; the first line tells when it is left out.",
    "empty": "What an empty cell stands for: `null` (the default), or the field's `default`.",
    "escaped": "`false`: an apostrophe before `=`, `+`, `-` or `@` belongs to the text.",
    "again": "`true`: import a file that was imported within the last day once more.",
}
#: Words of an export, beside those of the query language.
EXPORT_WORDS: Final[Mapping[str, str]] = {
    "format": "Of the file; otherwise `Accept` says it.",
    "closing": "`false`: leave out the record that tells that the file is whole.",
}
#: Words that have a choice -> what there is to choose from.
CHOICES: Final = {
    "operation": ("create", "upsert"),
    "atomic": ("true", "false"),
    "separator": tuple(SEPARATORS),
    "empty": ("null", "default"),
    "escaped": ("true", "false"),
    "again": ("true", "false"),
    "closing": ("true", "false"),
    "format": tuple(Format),
}
_MOST_NAMES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How a file is imported."""

    operation: str = "create"
    on: tuple[str, ...] = ()
    atomic: bool = False
    ignore: tuple[str, ...] = ()
    separator: str | None = None  # of CSV
    empty_is_default: bool = False
    escaped: bool = True
    again: bool = False

    @property
    def meaning(self) -> str:
        """Everything that decides what becomes of a record, as a text."""
        return repr((self.operation, self.on, self.atomic, self.ignore, self.separator, self.empty_is_default,
                     self.escaped))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How a file is written."""

    format: Format | None = None
    closing: bool = True


def import_options(given: Mapping[str, str], resource: ResourceDefinition) -> ImportOptions:
    """Judge the options of an import.

    Args:
        given: as they were written, by their names.
        resource: whose rows are imported.

    Raises:
        InvalidQuery: with every fault.
    """
    details = _faults(given, IMPORT_WORDS)
    upserts = given.get("operation") == "upsert"
    on = _names(given.get("on", ""))
    if upserts and not details:
        on = _key(on, resource, details)
    elif on:
        details.append(Detail("on", "conflict", "`on` needs `operation=upsert`."))
    if details:
        raise InvalidQuery(details=details[:100])
    return ImportOptions(
        operation=given.get("operation", "create"),
        on=on,
        atomic=given.get("atomic") == "true",
        ignore=_names(given.get("ignore", "")),
        separator=SEPARATORS.get(given.get("separator", "")),
        empty_is_default=given.get("empty") == "default",
        escaped=given.get("escaped") != "false",
        again=given.get("again") == "true",
    )


def export_options(given: Mapping[str, str]) -> ExportOptions:
    """Judge the options of an export; arguments and errors are those of `import_options`."""
    if details := _faults(given, EXPORT_WORDS):
        raise InvalidQuery(details=details)
    chosen = given.get("format")
    return ExportOptions(
        format=None if chosen is None else Format(chosen), closing=given.get("closing") != "false"
    )


def _faults(given: Mapping[str, str], words: Mapping[str, str]) -> list[Detail]:
    details = []
    for name, value in given.items():
        if name not in words:
            told = f"There is no such parameter here. {nearest(name, words)}".strip()
            details.append(Detail(name[:100], "unknown_parameter", told))
        elif name in CHOICES and value not in CHOICES[name]:
            details.append(Detail(name, "enum", f"Must be one of {', '.join(CHOICES[name])}."))
        elif value.count(",") >= _MOST_NAMES:
            details.append(Detail(name, "too_many", f"At most {_MOST_NAMES} names are read."))
    return details


def _key(on: tuple[str, ...], resource: ResourceDefinition, details: list[Detail]) -> tuple[str, ...]:
    """Return the fields of the unique key that is meant."""
    keys, scoped = upsert_keys(resource), scoped_keys(resource)
    words = "; ".join(",".join(key) for key in keys)
    if not keys:
        details.append(Detail("operation", "enum", "There is no unique key: rows can only be created."))
    elif not on and len(scoped) == 1:
        return scoped[0]
    else:
        found = next((key for key in keys if set(key) == set(on) and len(key) == len(on)), None)
        if found is not None:
            return found
        code = "enum" if on else "required"
        details.append(Detail("on", code, f"Must be the fields of a unique key: {words}."))
    return on


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
