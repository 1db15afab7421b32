"""How a parameter of a query string is written down in OpenAPI.

In: its name, what it means, the schema of its value. Out: a parameter. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["parameter", "words"]


def parameter(name: str, description: str, schema: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a parameter with one value."""
    return {"name": name, "in": "query", "description": description, "schema": dict(schema), **more}


def words(name: str, description: str, items: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a parameter that is a list of words, separated by commas, none of them twice."""
    schema = {"type": "array", "items": dict(items), "minItems": 1, "uniqueItems": True}
    return parameter(name, description, schema, style="form", explode=False, **more)
