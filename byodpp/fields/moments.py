"""Reading dates, times and datetimes: RFC 3339, nothing looser, nothing rounded."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from byodpp.fields.strict_field import FieldFault

__all__ = ["CALENDAR_CODECS", "parse_date", "parse_datetime", "parse_time", "to_utc"]

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME: Final = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.(\d+))?", re.ASCII)
_DATETIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.(\d+))?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
#: No moment is written longer; digits beyond the sixth must be zeros.
_LONGEST: Final = 64
_EPOCH: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)  # PostgreSQL's
_MICROSECOND: Final = datetime.timedelta(microseconds=1)


def parse_date(text: str) -> datetime.date:
    """Read YYYY-MM-DD.

    Raises:
        FieldFault: `format`.
    """
    if _DATE.fullmatch(text):
        try:
            return datetime.date.fromisoformat(text)
        except ValueError:
            pass
    raise FieldFault("format", "Must be a date of the calendar, written YYYY-MM-DD.")


def parse_time(text: str) -> datetime.time:
    """Read HH:MM:SS with up to six digits of seconds and no offset.

    Raises:
        FieldFault: `format`.
    """
    match = _TIME.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise FieldFault(
            "format", "Must be a time of day without an offset, written HH:MM:SS or HH:MM:SS.ffffff."
        )
    return datetime.time.fromisoformat(_six_digits(text, match))


def parse_datetime(text: str) -> datetime.datetime:
    """Read a datetime of RFC 3339 and move it to UTC.

    Raises:
        FieldFault: `format`, or `out_of_range` where UTC leaves the years 1 to 9999.
    """
    match = _DATETIME.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise FieldFault(
            "format",
            "Must be a datetime with an offset, e.g. 2025-01-31T08:00:00Z or 2025-01-31T09:00:00.5+01:00.",
        )
    digits = _six_digits(text, match).upper()
    try:
        moment = datetime.datetime.fromisoformat(digits)
    except ValueError:
        raise FieldFault("format", "Must be a day of the calendar.") from None
    return to_utc(moment)


def to_utc(moment: datetime.datetime) -> datetime.datetime:
    """Move an aware datetime to UTC.

    Raises:
        FieldFault: `out_of_range` where UTC leaves the years 1 to 9999.
    """
    if moment.tzinfo is datetime.UTC:
        return moment
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError:
        raise FieldFault("out_of_range", "Must lie in the years 1 to 9999 of UTC.") from None


def _six_digits(text: str, match: re.Match[str]) -> str:
    """Cut zeros beyond the sixth digit of seconds; other digits would be lost, so refuse them."""
    fraction = match.group(1)
    if fraction is None or len(fraction) <= 6:
        return text
    if fraction[6:].strip("0"):
        raise FieldFault("format", "Must have at most six digits of seconds.")
    start = match.start(1)
    return text[: start + 6] + text[match.end(1) :]


def _days(day: datetime.date) -> tuple[int]:
    return (day.toordinal() - _EPOCH.toordinal(),)


def _date(days: tuple[int]) -> datetime.date:
    return datetime.date.fromordinal(days[0] + _EPOCH.toordinal())


def _microseconds(moment: datetime.datetime) -> tuple[int]:
    return ((moment - _EPOCH) // _MICROSECOND,)


def _datetime(microseconds: tuple[int]) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(microseconds=microseconds[0])


#: PostgreSQL's type -> encoder and decoder for `set_type_codec(..., format="tuple")`. By itself
#: asyncpg stores 9999-12-31 and 0001-01-01 as infinity and -infinity, and the first and last
#: microsecond of a datetime too; with these every connection stores what it was given.
CALENDAR_CODECS: Final[Mapping[str, tuple[Callable[[Any], tuple[int]], Callable[[tuple[int]], Any]]]] = (
    MappingProxyType({"date": (_days, _date), "timestamptz": (_microseconds, _datetime)})
)
