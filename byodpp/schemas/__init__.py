"""Schemas: which bodies are valid.

`schema_map` judges bodies by a marshmallow schema per resource and operation: one that the manifest asks for
(`generating`), or that an application has dropped into its `schemas/` (`overrides`). `faults` turns what
marshmallow found into one refusal; `nested` and `modifiers` read the two kinds of values that are not fields.
"""

from __future__ import annotations

from byodpp.schemas.inside import MOST_INSIDE
from byodpp.schemas.keys import spelled
from byodpp.schemas.schema_map import (
    MAX_DETAILS,
    SCHEMA_OPERATIONS,
    Fault,
    LoadedBody,
    Overrides,
    SchemaMap,
    load_schema_overrides,
    refuse,
)
from byodpp.schemas.versions import LARGEST_VERSION, row_version

__all__ = [
    "LARGEST_VERSION",
    "MAX_DETAILS",
    "MOST_INSIDE",
    "SCHEMA_OPERATIONS",
    "Fault",
    "LoadedBody",
    "Overrides",
    "SchemaMap",
    "load_schema_overrides",
    "refuse",
    "row_version",
    "spelled",
]
