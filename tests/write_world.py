"""The application that special ways of writing are tested on: its manifest and its logic classes."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["LOGICS", "WRITES"]

_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 100, "required": True}
_ALL: Final = {"read": ["Admin", "Editor", "Viewer"], "write": ["Admin", "Editor"]}
_EDITED: Final = ["name", "sku", "stock", "tags", "shelfId"]

WRITES: Final[dict[str, Any]] = {
    "services": [
        {
            "name": "Store",
            "resources": [
                {
                    "name": "Shelves",
                    "versioned": True,
                    "audit": True,
                    "events": True,
                    "fields": {"name": {**_NAME, "index": True}, "place": {"type": "string"}},
                    "relations": {"items": {"resource": "Items", "foreignField": "shelfId"}},
                    "access": _ALL,
                },
                {
                    "name": "Items",
                    "filterable": True,
                    "versioned": True,
                    "audit": True,
                    "events": True,
                    "fields": {
                        "name": {**_NAME, "index": True},
                        "sku": {"type": "string", "maxLength": 40, "unique": True},
                        "shelfId": {"references": "Shelves", "as": "shelf"},
                        "stock": {"type": "integer", "default": 0, "minimum": 0, "maximum": 1000},
                        "total": {"type": "bigint", "default": 0},
                        "price": {"type": "decimal", "precision": 8, "scale": 2, "exclusiveMaximum": 500},
                        "pairs": {"type": "integer", "multipleOf": 2, "default": 0},
                        "ratio": {"type": "float", "minimum": -1.5},
                        "digits": {"type": "bigint", "asString": True, "default": 0},
                        "tags": {
                            "type": "array",
                            "items": {"type": "string", "maxLength": 10},
                            "maxItems": 4,
                            "uniqueItems": True,
                        },
                        "marks": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
                        "extra": {"type": "json"},
                        "seen": {"type": "integer", "default": 0, "readOnly": True},
                        "cost": {"type": "integer"},
                    },
                    "unique": [["shelfId", "name"]],
                    "states": {
                        "initial": "draft",
                        "transitions": {"publish": {"from": "draft", "to": "out"}},
                    },
                    "relations": {"parts": {"resource": "Parts", "foreignField": "itemId"}},
                    "routes": {
                        "actions": [
                            {"url": "/api/v1/items/{id}/count", "method": "post"},
                            {"url": "/api/v1/items/{id}/stream", "method": "post"},
                            {"url": "/api/v1/items/{id}/endless", "method": "post"},
                            {"url": "/api/v1/items/{id}/later", "method": "post"},
                            {"url": "/api/v1/items/{id}/swallow", "method": "post"},
                            {"url": "/api/v1/public-count", "method": "post", "public": True},
                        ]
                    },
                    "access": {
                        "read": [
                            "Admin",
                            {"roles": ["Editor", "Viewer"], "filter": {"cost": {"isNull": True}}},
                        ],
                        "write": ["Admin", "Editor"],
                        "create": ["Admin", {"roles": ["Editor"], "fields": _EDITED}],
                        "update": ["Admin", {"roles": ["Editor"], "fields": _EDITED}],
                        "patch": [
                            "Admin",
                            {"roles": ["Editor"], "fields": _EDITED, "filter": {"stock": {"lt": 100}}},
                        ],
                        "delete": ["Admin"],
                        "batch": ["Admin", "Editor"],
                    },
                },
                {
                    "name": "Parts",
                    "fields": {
                        "name": _NAME,
                        "itemId": {"references": "Items", "required": True, "onDelete": "cascade"},
                    },
                    "access": {"read": ["Admin", "Editor"], "write": ["Admin"]},
                },
                {
                    "name": "Settings",
                    "softDelete": True,
                    "fields": {
                        "key": {"type": "string", "required": True},
                        "locale": {"type": "string", "default": "en"},
                        "value": {"type": "json", "default": {}},
                        "level": {"type": "integer"},
                    },
                    "unique": [["key", "locale"]],
                    "access": {
                        "read": [
                            "Admin",
                            "Maker",
                            {"roles": ["Editor"], "filter": {"level": {"isNull": True}}},
                        ],
                        "create": ["Admin", "Editor", "Maker"],
                        "update": ["Admin", "Editor"],
                        "batch": ["Admin", "Editor", "Maker"],
                        "write": ["Admin"],
                    },
                },
                {
                    "name": "Hints",
                    "softDelete": True,
                    "audit": True,
                    "events": True,
                    "versioned": "required",
                    "fields": {"text": _NAME, "settingId": {"references": "Settings"}},
                    "access": {
                        "read": ["Admin", {"roles": ["Editor"], "filter": {"text": {"ne": "hidden"}}}],
                        "write": ["Admin", "Editor"],
                        "restore:post": ["Admin", {"roles": ["Editor"], "filter": {"text": "mine"}}],
                    },
                },
                {
                    "name": "Papers",
                    "history": True,
                    "versioned": True,
                    "filterable": True,
                    "events": True,
                    "audit": True,
                    "fields": {
                        "title": {**_NAME, "unique": True},
                        "amount": {"type": "decimal", "precision": 12, "scale": 3},
                        "weight": {"type": "float"},
                        "meta": {"type": "json"},
                        "tags": {"type": "array", "items": {"type": "string"}},
                        "made": {"type": "datetime"},
                        "day": {"type": "date"},
                        "hour": {"type": "time"},
                        "code": {"type": "uuid"},
                        "big": {"type": "bigint", "asString": True},
                        "done": {"type": "boolean", "default": False},
                        "pin": {"type": "string", "writeOnly": True},
                        "secret": {"type": "string"},
                        "level": {"type": "integer"},
                        "parentId": {"references": "Papers", "as": "parent"},
                    },
                    "relations": {"papers": {"resource": "Papers", "foreignField": "parentId"}},
                    "access": {
                        "read": [
                            "Admin",
                            {
                                "roles": ["Editor"],
                                "fields": ["title", "amount", "level"],
                                "filter": {"or": [{"level": {"isNull": True}}, {"level": {"lt": 5}}]},
                            },
                        ],
                        "write": ["Admin", "Editor"],
                    },
                },
                {
                    "name": "Drawers",
                    "history": True,
                    "softDelete": True,
                    "id": "uuid7",
                    "scope": "user",
                    "fields": {"name": _NAME},
                    "access": {"read": ["Admin"], "write": ["Admin"]},
                },
                {
                    "name": "Boxes",
                    "fields": {"name": _NAME},
                    "relations": {"lids": {"resource": "Lids", "foreignField": "boxId"}},
                    "access": _ALL,
                },
                {
                    "name": "Lids",
                    "fields": {"name": _NAME, "boxId": {"references": "Boxes", "required": True}},
                    "access": _ALL,
                },
                {
                    "name": "Words",
                    "fields": {
                        "word": {**_NAME, "unique": True},
                        "count": {"type": "integer", "default": 0},
                        "log": {"type": "string"},
                    },
                    "access": _ALL,
                },
                {
                    "name": "Plain",
                    "fields": {"name": _NAME, "size": {"type": "integer"}},
                    "versioned": "required",
                    "access": _ALL,
                },
            ],
        }
    ],
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:audit"],
}

_SOURCE: Final = """
import asyncio

from byodpp.exceptions import Conflict
from byodpp.logics import Logic, Reply


class Count(Logic):
    resource, action = "Items", "count:post"

    async def execute(self):
        row = await self.system["Items"].read(self.request.params["id"])
        row = await self.system["Items"].patch(row["id"], {"seen": row["seen"] + 1})
        self.emit("item.counted", {"seen": row["seen"]}, resource_id=row["id"])
        return {"seen": row["seen"]}


class Stream(Logic):
    resource, action = "Items", "stream:post"

    async def execute(self):
        row = await self.system["Items"].read(self.request.params["id"])
        await self.system["Items"].patch(row["id"], {"seen": row["seen"] + 1})

        async def lines():
            yield b"one\\n"
            yield b"two\\n"

        return Reply(body=lines(), status=202, media_type="text/plain", headers={"X-Kind": "stream"})


class Endless(Logic):
    resource, action = "Items", "endless:post"

    async def execute(self):
        row = await self.system["Items"].read(self.request.params["id"])
        await self.system["Items"].patch(row["id"], {"seen": row["seen"] + 1})

        async def ticks():
            while True:
                yield b"x" * 100_000
                await asyncio.sleep(0 if row["stock"] else 60)

        return Reply(body=ticks(), media_type="text/event-stream")


class Later(Logic):
    resource, action = "Items", "later:post"
    ran = []

    async def execute(self):
        async def tell():
            type(self).ran.append(self.request.params["id"])

        self.after_commit(tell)
        return {"ran": len(type(self).ran)}


class Swallow(Logic):
    resource, action = "Items", "swallow:post"

    async def execute(self):
        try:
            await self.system["Items"].patch(self.request.params["id"], {"sku": "taken"})
        except Conflict:
            return {"swallowed": True}
        return {"swallowed": False}


class PublicCount(Logic):
    resource, action = "Items", "public-count:post"

    async def execute(self):
        return {"user": self.request.user.user_id}


class CreateBox(Logic):
    resource, operation = "Boxes", "create"

    async def execute(self):
        if self.request.body["name"] == "own way":
            return await self.repository.create(self.request.body)
        self.request.body["name"] += "!"
        return await self.default()


class CreateLid(Logic):
    resource, operation = "Lids", "create"

    async def execute(self):
        if self.request.body["name"] == "refused":
            raise Conflict("Not this lid")
        self.request.body["name"] += f" of {self.request.body['boxId']}"
        return await self.default()


class CreateWord(Logic):
    resource, operation = "Words", "create"

    async def execute(self):
        self.request.body["log"] = "created"
        return await self.default()


class UpdateWord(Logic):
    resource, operation = "Words", "update"

    async def execute(self):
        self.request.body["log"] = "updated"
        return await self.default()
"""

LOGICS: Final = {"logics/v1/items/all.py": _SOURCE}
