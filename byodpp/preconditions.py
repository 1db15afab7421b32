"""If-Match and If-None-Match: entity tags of versioned rows.

In: header values. Out: the versions a write expects, or whether a read can be answered with 304.
May reject: InvalidHeader, PreconditionFailed, PreconditionRequired. The tag of a row is its
version in quotes: `"5"`.
"""

from __future__ import annotations

import re
from typing import Final

from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import InvalidHeader, PreconditionFailed, PreconditionRequired

__all__ = [
    "NEW_ROW",
    "RECORDS",
    "SEVERAL_ROWS",
    "entity_tag",
    "expected_versions",
    "is_unchanged",
    "refuse_tags",
]

#: Why a write has no row to compare.
SEVERAL_ROWS: Final = "If-Match is about one row: send `version` beside the `id` of each."
NEW_ROW: Final = "If-Match is about a row that exists: a new one has no entity tag yet."
RECORDS: Final = "If-Match is about one row: an import compares no versions."

_TAG: Final = re.compile(r'\s*(W/)?"([\x21\x23-\x7e]*)"\s*(?:,|\Z)')
_MAX_LENGTH: Final = 1_000
_VERSION: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)


def entity_tag(version: int) -> str:
    """Return the tag of a row."""
    return f'"{version}"'


def expected_versions(
    if_match: str | None, if_none_match: str | None, resource: ResourceDefinition
) -> tuple[int, ...]:
    """Return the versions of which a write expects one; none when any will do.

    Args:
        if_match: the header's value, None when it was not sent.
        if_none_match: likewise.
        resource: what is written.

    Raises:
        InvalidHeader: the value is no list of entity tags.
        PreconditionFailed: the tag can be none of this resource's; or the row should not exist.
        PreconditionRequired: the resource is written with a version only, and none is named.
    """
    if if_none_match is not None:
        # Passing over it would write what the client has forbidden.
        raise PreconditionFailed("If-None-Match is for reads; a row that is written exists. Send If-Match.")
    if if_match is None:
        if resource.version_required:
            raise PreconditionRequired(f"{resource.name} is written with If-Match only: send the row's ETag.")
        return ()
    if if_match.strip() == "*":
        if resource.version_required:
            told = "If-Match: * names no version: send the row's ETag."
            raise PreconditionRequired(f"{resource.name} is written with a version only. {told}")
        return ()
    tags = _tags(if_match, "If-Match")
    # A tag is compared as a text: "05" was never sent, and is not version 5.
    versions = tuple(dict.fromkeys(int(tag) for weak, tag in tags if not weak and _VERSION.fullmatch(tag)))
    if not resource.versioned or not versions:
        raise PreconditionFailed("No row has this entity tag.")
    return versions


def refuse_tags(if_match: str | None, told: str = SEVERAL_ROWS) -> None:
    """Refuse entity tags where there is no row to compare: passing over them would write in spite of them.

    Args:
        if_match: the header's value, None when it was not sent.
        told: why there is none.

    Raises:
        PreconditionFailed: there are some.
    """
    if if_match is not None and if_match.strip() != "*":
        raise PreconditionFailed(told)


def is_unchanged(if_none_match: str | None, version: int | None) -> bool:
    """Tell whether the client holds this version already.

    Raises:
        InvalidHeader: the value is no list of entity tags.
    """
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return version is not None
    return str(version) in {tag for _, tag in _tags(if_none_match, "If-None-Match")}


def _tags(value: str, header: str) -> list[tuple[bool, str]]:
    if len(value) > _MAX_LENGTH:
        raise InvalidHeader(f"{header} is longer than {_MAX_LENGTH} characters.")
    if not value.strip():
        raise InvalidHeader(f'{header} must be entity tags in quotes, e.g. "5".')
    tags: list[tuple[bool, str]] = []
    position = 0
    while position < len(value):
        match = _TAG.match(value, position)
        if match is None:
            raise InvalidHeader(f'{header} must be entity tags in quotes, e.g. "5".')
        tags.append((match[1] is not None, match[2]))
        position = match.end()
    return tags
