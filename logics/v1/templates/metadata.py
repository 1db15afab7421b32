"""A template's metadata names only template fields that exist; a published template has content."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from byodpp.exceptions import Conflict, Detail, ValidationFailed
from byodpp.logics import Logic

__all__ = ["TemplatesCreate", "TemplatesPatch", "TemplatesPublish", "TemplatesUpdate"]

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.ASCII)


class _KnownFields(Logic):
    async def execute(self) -> Any:
        """Refuse unknown fields, then do it."""
        named = dict(_ulids(self.request.body.get("metadata"), "metadata"))
        wanted = sorted(set(named.values()))
        known = set()
        for start in range(0, len(wanted), 500):
            some = {"id": {"in": wanted[start : start + 500]}}
            page = await self.repositories["TemplateFields"].list(some, fields="id", limit=500)
            known |= {row["id"] for row in page}
        unknown = [
            Detail(path, "unknown_template_field", one) for path, one in named.items() if one not in known
        ]
        if unknown:
            listed = ", ".join(dict.fromkeys(one.message for one in unknown))
            told = "There is no template field with this ULID."
            raise ValidationFailed(
                f"Unknown template field ULID(s): {listed}",
                details=[Detail(one.field, one.code, told) for one in unknown[:100]],
            )
        return await self.default()


class TemplatesCreate(_KnownFields):
    """POST /api/v1/templates."""

    resource, operation = "Templates", "create"


class TemplatesUpdate(_KnownFields):
    """PUT /api/v1/templates/{id}."""

    resource, operation = "Templates", "update"


class TemplatesPatch(_KnownFields):
    """PATCH /api/v1/templates/{id}."""

    resource, operation = "Templates", "patch"


class TemplatesPublish(Logic):
    """POST /api/v1/templates/{id}/publish."""

    resource, action = "Templates", "publish:post"

    async def execute(self) -> Any:
        """Publish a template that asks for something."""
        published = await self.default()
        inside = {"section.templateId": published["id"]}
        if not await self.repositories["TemplateFields"].exists(inside):
            raise Conflict("A template without a data point cannot be published.")
        return published


def _ulids(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and text of every ULID among the keys and values of a JSON value."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if _ULID.fullmatch(name):
                yield f"{path}.{name}", name
            yield from _ulids(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _ulids(inner, f"{path}.{index}")
    elif isinstance(value, str) and _ULID.fullmatch(value):
        yield path, value
