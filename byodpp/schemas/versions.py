"""The version that a row must have, named beside its key: in batches, in rows inside a row.

In: a JSON value. Out: the version, None where any will do. May reject: ValidationFailed.
"""

from __future__ import annotations

from typing import Any, Final

from byodpp.exceptions import Detail, ValidationFailed
from byodpp.wire import whole

__all__ = ["LARGEST_VERSION", "row_version"]

#: That a column of versions holds.
LARGEST_VERSION: Final = 2**63 - 1


def row_version(value: Any, field: str) -> int | None:
    """Return the version that a row must have; None is any.

    Args:
        value: JSON value.
        field: where it stands, for messages.

    Raises:
        ValidationFailed: it is no version.
    """
    version = whole(value)
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, int):
        raise ValidationFailed(details=[Detail(field, "type", "Must be the version of a row, an integer.")])
    if not 0 <= version <= LARGEST_VERSION:
        raise ValidationFailed(details=[Detail(field, "out_of_range", "No row has such a version.")])
    return version
