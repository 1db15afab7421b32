"""The applications that behaviour is tested on: their manifests, and how they become folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from byodpp.bootstrap import Blueprint, assemble

__all__ = ["HIDDEN", "SHOP", "TWELVE", "WIRE", "build", "write_application"]


#: Limits that no test reaches by itself.
BUDGETS = (
    "rate_limit_per_ip: 1000000\nrate_limit_per_user: 1000000\nrate_limit_per_tenant: 1000000\n"
    "max_concurrent_requests_per_tenant: 10000\n"
)


def write_application(folder: Path, manifest: Any, files: Mapping[str, str] | None = None) -> Path:
    """Write a manifest, and sources by their path inside the application."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "resources.json").write_text(json.dumps(manifest), encoding="utf-8")
    for name, text in {"config/test.yaml": BUDGETS, **(files or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def build(
    folder: Path, manifest: Any, files: Mapping[str, str] | None = None, *, enforce_scope: bool = True
) -> Blueprint:
    return assemble(write_application(folder, manifest, files), enforce_scope=enforce_scope)


def _service(*resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"services": [{"name": "World", "resources": list(resources)}], **more}


NAME = {"type": "string", "minLength": 1, "maxLength": 100, "required": True}

#: One resource for each thing an operation can meet.
SHOP = _service(
    {
        "name": "Categories",
        "fields": {
            "name": {**NAME, "unique": True},
            "isActive": {"type": "boolean", "default": True, "nullable": False},
            "parentId": {"references": "Categories", "as": "parent"},
        },
        "relations": {"products": {"resource": "Products", "foreignField": "categoryId"}},
        "access": {"read": ["Admin", "Editor", "Viewer"], "write": ["Admin"]},
    },
    {
        "name": "Products",
        "versioned": True,
        "audit": True,
        "events": True,
        "fields": {
            "name": {**NAME, "index": True},
            "categoryId": {"references": "Categories", "required": True},
            "price": {"type": "decimal", "precision": 12, "scale": 2, "minimum": 0, "index": True},
            "isFeatured": {"type": "boolean", "default": False, "readOnly": True},
            "metadata": {"type": "json", "default": {}},
            "size": {
                "type": "object",
                "properties": {"width": {"type": "integer"}, "unit": {"type": "string", "default": "mm"}},
            },
            "tags": {"type": "array", "items": {"type": "string"}},
            "madeAt": {"type": "datetime"},
            "pin": {"type": "string", "writeOnly": True},
        },
        "states": {
            "field": "status",
            "initial": "draft",
            "transitions": {
                "publish": {"from": ["draft"], "to": "published", "event": "product.published"},
                "retire": {"from": ["published"], "to": "retired", "roles": ["Admin"]},
            },
        },
        "unique": [["categoryId", "name"]],
        "messages": {"create": "Product created"},
        "access": {
            "read": ["Admin", "Editor", "Viewer"],
            "write": ["Admin"],
            "update": ["Admin", {"roles": ["Editor"], "fields": ["name", "categoryId", "price"]}],
            "patch": [
                "Admin",
                {"roles": ["Editor"], "fields": ["name", "categoryId"]},
                {"roles": ["Editor"], "fields": ["price"], "filter": {"status": "draft"}},
            ],
            "create": ["Admin", {"roles": ["Editor"], "fields": ["name", "categoryId"]}],
            "batch": ["Admin", "Editor"],
        },
    },
    {
        "name": "Contracts",
        "versioned": "required",
        "fields": {"title": NAME},
        "states": {"initial": "open", "transitions": {"sign": {"from": "open", "to": "signed"}}},
        "access": {"read": ["Admin"], "write": ["Admin"]},
    },
    {
        "name": "Notes",
        "softDelete": True,
        "fields": {"title": {**NAME, "unique": True}},
        "relations": {"comments": {"resource": "Comments", "foreignField": "noteId"}},
        "access": {"read": ["Admin"], "write": ["Admin"]},
    },
    {
        "name": "Comments",
        "fields": {"text": NAME, "noteId": {"references": "Notes", "required": True}},
        "access": {"read": ["Admin"], "write": ["Admin"]},
    },
    {
        "name": "Orders",
        "fields": {
            "number": NAME,
            "status": {"type": "string", "enum": ["open", "closed", "secret"], "default": "open"},
            "amount": {"type": "integer", "minimum": 0},
        },
        "access": {
            "read": [
                "Admin",
                {"roles": ["Editor", "Viewer"], "filter": {"status": {"in": ["open", "closed"]}}},
            ],
            "write": ["Admin", {"roles": ["Editor"], "filter": {"status": "open"}}],
            "delete": ["Admin"],
        },
    },
    {"name": "Tickets", "id": "uuid7", "fields": {"title": NAME}},
    {"name": "Slots", "id": "ulid", "fields": {"title": NAME}},
    include=["byodpp:tenancy", "byodpp:access", "byodpp:audit"],
)

_ANY = {"type": "string", "filterable": True}

#: A field of every type, and one with every restriction.
WIRE = _service(
    {
        "name": "Values",
        "fields": {
            "string": {"type": "string", "maxLength": 20},
            "text": {"type": "text"},
            "integer": {"type": "integer"},
            "bigint": {"type": "bigint"},
            "bigtext": {"type": "bigint", "asString": True},
            "decimal": {"type": "decimal", "precision": 12, "scale": 2},
            "wide": {"type": "decimal"},
            "dectext": {"type": "decimal", "precision": 20, "scale": 6, "asString": True},
            "float": {"type": "float"},
            "boolean": {"type": "boolean"},
            "date": {"type": "date"},
            "time": {"type": "time"},
            "datetime": {"type": "datetime"},
            "uuid": {"type": "uuid"},
            "ulid": {"type": "ulid"},
            "json": {"type": "json"},
            "object": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 10},
                    "count": {"type": "integer"},
                    "price": {"type": "decimal", "precision": 6, "scale": 2},
                },
            },
            "array": {"type": "array", "items": {"type": "integer"}, "maxItems": 50},
            "objects": {
                "type": "array",
                "items": {"type": "object", "properties": {"name": {"type": "string", "required": True}}},
            },
            "choice": {"type": "string", "enum": ["a", "b"]},
            "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$", "maxLength": 200},
            "email": {"type": "string", "format": "email"},
            "url": {"type": "string", "format": "uri"},
            "indexed": {"type": "text", "maxLength": 600, "index": True},
            "unique": {"type": "string", "unique": True},
        },
        "versioned": True,
        "bounds": {"maxBatch": 200},
    },
    {
        "name": "Required",
        "fields": {"name": NAME, "count": {"type": "integer", "required": True, "minimum": 1, "maximum": 5}},
    },
)

_OPEN = {"read": ["Admin", "Editor", "Viewer"], "write": ["Admin", "Editor"]}
_TITLE = {"title": {**NAME, "index": True}}

#: Twelve resources of all scopes, with everything that refers across.
TWELVE = _service(
    {
        "name": "Folders",
        "fields": {**_TITLE, "parentId": {"references": "Folders", "as": "parent"}},
        "access": _OPEN,
    },
    {
        "name": "Documents",
        "versioned": True,
        "audit": True,
        "events": True,
        "fields": {
            **_TITLE,
            "folderId": {"references": "Folders"},
            "secret": {"type": "string", "index": True},
        },
        "states": {
            "initial": "draft",
            "transitions": {"publish": {"from": "draft", "to": "published"}},
        },
        "search": ["title"],
        "routes": {"actions": [{"url": "/api/v1/documents/{id}/stamp", "method": "post"}]},
        "relations": {"pages": {"resource": "Pages", "foreignField": "documentId"}},
        "access": _OPEN,
    },
    {
        "name": "Pages",
        "fields": {
            **_TITLE,
            "documentId": {"references": "Documents", "required": True, "onDelete": "cascade"},
        },
        "access": _OPEN,
    },
    {"name": "Labels", "id": "uuid7", "softDelete": True, "fields": _TITLE, "access": _OPEN},
    {"name": "Markers", "id": "ulid", "versioned": "required", "fields": _TITLE, "access": _OPEN},
    {
        "name": "Links",
        "fields": {
            **_TITLE,
            "labelId": {"references": "Labels"},
            "documentId": {"references": "Documents"},
            "unitId": {"references": "Units"},
            "countryId": {"references": "Countries"},
        },
        "access": _OPEN,
    },
    {
        "name": "Drafts",
        "scope": "user",
        "fields": {**_TITLE, "documentId": {"references": "Documents"}},
        "access": _OPEN,
    },
    {"name": "Countries", "scope": "shared", "fields": {"title": {**NAME, "unique": True}}, "access": _OPEN},
    {"name": "Units", "scope": "library", "fields": {"title": {**NAME, "unique": True}}, "access": _OPEN},
    {
        "name": "Bulletins",
        "fields": {
            **_TITLE,
            "status": {"type": "string", "enum": ["draft", "out"], "default": "draft", "index": True},
        },
        "access": {
            "read": [
                "Admin",
                "Editor",
                "Viewer",
                {"roles": ["public"], "filter": {"status": "out"}, "fields": ["id", "title"]},
            ],
            "write": ["Admin", "Editor"],
        },
    },
    {
        "name": "Chapters",
        "fields": {
            **_TITLE,
            "bulletinId": {"references": "Bulletins", "required": True},
            "status": {"type": "string", "enum": ["draft", "out"], "default": "draft", "index": True},
        },
        "access": {
            "read": ["Admin", "Editor", "Viewer", {"roles": ["public"], "filter": {"status": "out"}}],
            "write": ["Admin", "Editor"],
        },
    },
    {
        "name": "Counters",
        "fields": {**_TITLE, "count": {"type": "integer", "default": 0}},
        "unique": [["title"]],
        "access": _OPEN,
    },
    include=["byodpp:tenancy", "byodpp:access", "byodpp:audit"],
)

#: What one role may not see: a field, a field on some rows, rows, a whole resource.
HIDDEN = _service(
    {
        "name": "People",
        "fields": {
            "name": {**NAME, "index": True},
            "email": {**_ANY},
            "salary": {"type": "integer", "filterable": True},
            "status": {"type": "string", "enum": ["open", "closed"], "default": "open", "index": True},
            "code": {**_ANY, "writeOnly": True},
            "notes": {"type": "json", "filterable": True},
            "teamId": {"references": "Teams"},
        },
        "search": ["name", "email"],
        "relations": {"reviews": {"resource": "Reviews", "foreignField": "personId"}},
        "access": {
            "read": [
                "Admin",
                {"roles": ["Viewer"], "fields": ["id", "name", "status", "teamId"]},
                {"roles": ["Viewer"], "fields": ["salary"], "filter": {"status": "open"}},
                {"roles": ["Nobody"], "fields": ["id"]},
            ],
            "write": ["Admin"],
        },
    },
    {
        "name": "Teams",
        "fields": {"name": {**NAME, "index": True}, "budget": {"type": "integer", "filterable": True}},
        "relations": {"people": {"resource": "People", "foreignField": "teamId"}},
        "access": {
            "read": [
                "Admin",
                {"roles": ["Viewer"], "fields": ["name"], "filter": {"name": {"ne": "secret"}}},
            ],
            "write": ["Admin"],
        },
    },
    {
        "name": "Reviews",
        "fields": {"text": {**NAME, "index": True}, "personId": {"references": "People", "required": True}},
        "access": {"read": ["Admin"], "write": ["Admin"]},
    },
    include=["byodpp:access"],
)
