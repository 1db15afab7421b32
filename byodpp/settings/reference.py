"""The settings as the configuration page lists them.

In: nothing. Out: a line per setting, with the documentation that its field carries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from byodpp.settings.reading import RELAXED, Settings, variables_of
from byodpp.settings.types import Setting, declarations, type_name

__all__ = ["SettingReference", "settings_reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingReference:
    """One line of the configuration page."""

    name: str  # in config/*.yaml
    variables: tuple[str, ...]  # environment variables, the first one wins
    type: str  # for people: `integer`, `one of dev, test`
    default: str  # as text; `required` or `none`
    doc: str
    secret: bool


def settings_reference() -> Iterator[SettingReference]:
    """Yield every setting in the order of its declaration."""
    declared = declarations(Settings)
    for field in dataclasses.fields(Settings):
        kind, setting = declared[field.name]
        yield SettingReference(
            name=field.name,
            variables=variables_of(field.name, setting),
            type=type_name(kind),
            default="required" if field.default is dataclasses.MISSING else _default(field.default, setting),
            doc=setting.doc,
            secret=setting.secret,
        )


def _default(value: Any, setting: Setting) -> str:
    if setting.relaxed is None:
        return _shown(value)
    return f"{_shown(value)}; in {' and '.join(RELAXED)} {_shown(setting.relaxed)}"


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
