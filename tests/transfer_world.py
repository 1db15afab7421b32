"""The application that imports and exports are tested on, and what tests ask of it."""

from __future__ import annotations

import json
from typing import Any, Final

__all__ = ["CSV", "FILES", "FILE_LOGICS", "GOODS", "NDJSON", "WRITABLE", "lines_of", "reasons"]

GOODS: Final = "/api/v1/goods"
CSV: Final = {"Content-Type": "text/csv"}
NDJSON: Final = {"Content-Type": "application/x-ndjson"}
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 100, "required": True}
_ALL: Final = {"read": ["Admin", "Editor", "Viewer"], "write": ["Admin", "Editor"]}

#: A field of each type that a client may write.
WRITABLE: Final[dict[str, Any]] = {
    "name": {**_NAME, "index": True},
    "sku": {"type": "string", "maxLength": 40, "unique": True},
    "note": {"type": "text"},
    "price": {"type": "decimal", "precision": 12, "scale": 2, "minimum": 0},
    "exact": {"type": "decimal", "asString": True},
    "stock": {"type": "integer", "default": 0},
    "big": {"type": "bigint"},
    "digits": {"type": "bigint", "asString": True},
    "weight": {"type": "float"},
    "flag": {"type": "boolean", "default": True},
    "day": {"type": "date"},
    "hour": {"type": "time"},
    "moment": {"type": "datetime"},
    "code": {"type": "uuid"},
    "mark": {"type": "ulid"},
    "extra": {"type": "json"},
    "box": {"type": "object", "properties": {"width": {"type": "integer"}, "unit": {"type": "string"}}},
    "tags": {"type": "array", "items": {"type": "string"}},
    "size": {"type": "string", "enum": ["small", "large"], "default": "small"},
}

FILES: Final[dict[str, Any]] = {
    "services": [
        {
            "name": "Files",
            "resources": [
                {
                    "name": "Groups",
                    "softDelete": True,
                    "fields": {
                        "name": {**_NAME, "unique": True},
                        "hidden": {"type": "boolean", "default": False},
                    },
                    "access": {
                        "read": ["Admin", {"roles": ["Editor", "Seller"], "filter": {"hidden": False}}],
                        "write": ["Admin"],
                    },
                },
                {
                    "name": "Goods",
                    "versioned": True,
                    "audit": True,
                    "events": True,
                    "history": True,
                    "filterable": True,
                    "fields": {
                        **WRITABLE,
                        "groupId": {"references": "Groups"},
                        "pin": {"type": "string", "writeOnly": True},
                        "seen": {"type": "integer", "default": 0, "readOnly": True},
                        "secret": {"type": "string", "controlled": True},
                    },
                    "search": ["name", "note"],
                    "unique": [["groupId", "name"]],
                    "relations": {"lots": {"resource": "Lots", "foreignField": "goodId"}},
                    "access": {
                        "read": [
                            "Admin",
                            {
                                "roles": ["Viewer"],
                                "fields": ["name", "price"],
                                "filter": {"price": {"lt": 100}},
                            },
                            "Seller",
                        ],
                        "write": ["Admin"],
                        "create": [
                            "Admin",
                            {"roles": ["Editor"], "fields": ["name", "sku", "price"]},
                            {"roles": ["Seller"], "filter": {"price": {"lt": 100}}},
                        ],
                        "update": ["Admin"],
                    },
                },
                {
                    "name": "Lots",
                    "fields": {"name": _NAME, "goodId": {"references": "Goods", "required": True}},
                    "access": _ALL,
                },
                {
                    "name": "Plates",
                    "fields": {"number": {"type": "string", "unique": "platform", "maxLength": 20}},
                    "access": _ALL,
                },
                {
                    "name": "Words",
                    "events": True,
                    "fields": {
                        "word": {**_NAME, "unique": True},
                        "log": {"type": "string", "readOnly": True},
                    },
                    "access": _ALL,
                },
                {
                    "name": "Drawers",
                    "id": "uuid7",
                    "scope": "user",
                    "fields": {"name": _NAME},
                    "access": {"read": ["Admin"], "write": ["Admin"]},
                },
                {"name": "Masked", "fields": {"name": _NAME}, "access": _ALL},
            ],
        }
    ],
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:audit"],
}

_SOURCE: Final = """
from byodpp.exceptions import Conflict
from byodpp.logics import Logic


class CreateWord(Logic):
    resource, operation = "Words", "create"

    async def execute(self):
        if self.request.body["word"] == "bad":
            raise Conflict("Not this word")
        row = await self.default()
        return await self.system["Words"].patch(row["id"], {"log": "made " + row["word"]})


class ListMasked(Logic):
    resource, operation = "Masked", "list"

    async def execute(self):
        return []
"""

FILE_LOGICS: Final = {"logics/v1/words/create.py": _SOURCE}


def reasons(answer: Any) -> dict[int, dict[str, str]]:
    """Return line -> {field: code} of the refused records that an import's answer lists."""
    return {
        one["line"]: {detail["field"]: detail["code"] for detail in one["error"]["details"]}
        for one in answer.json()["data"]["errors"]
    }


def lines_of(text: str) -> list[Any]:
    """Return the values of NDJSON."""
    return [json.loads(line) for line in text.split("\n") if line]
