"""The formats of files, and how each is called.

In: a media type, a file's name, or a word. Out: a format. May reject: nothing; None is not known.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePath
from typing import Final

__all__ = ["MEDIA_TYPES", "READABLE", "Format", "format_of_name", "format_of_type"]


class Format(StrEnum):
    """One format, by the word of `format=`."""

    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"
    XML = "xml"
    XLSX = "xlsx"  # out only


#: Format -> media types, the one that is sent first.
MEDIA_TYPES: Final = {
    Format.NDJSON: ("application/x-ndjson", "application/ndjson", "application/jsonl"),
    Format.CSV: ("text/csv",),
    Format.JSON: ("application/json",),
    Format.XML: ("application/xml", "text/xml"),
    Format.XLSX: ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",),
}
#: Formats that can be imported.
READABLE: Final = (Format.CSV, Format.JSON, Format.NDJSON, Format.XML)
_ENDINGS: Final = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".json": Format.JSON,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".xml": Format.XML,
    ".xlsx": Format.XLSX,
}


def format_of_type(media_type: str) -> Format | None:
    """Return the format of a media type, in lower case and without parameters."""
    return next((one for one, types in MEDIA_TYPES.items() if media_type in types), None)


def format_of_name(name: str) -> Format | None:
    """Return the format of a file by the ending of its name."""
    return _ENDINGS.get(PurePath(name).suffix.lower())
