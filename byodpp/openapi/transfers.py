"""Imports and exports as OpenAPI describes them.

In: a resource. Out: the operations of its files, and the component schemas of their answers. Addresses
are those of `routes.transfers`; a test holds the two together. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from byodpp.batches import upsert_keys
from byodpp.definitions import ResourceDefinition
from byodpp.negotiation import JSON
from byodpp.openapi.errors import EVERYWHERE, GUARDED, responses
from byodpp.transfer.formats import MEDIA_TYPES, READABLE, Format
from byodpp.transfer.options import CHOICES, EXPORT_WORDS, IMPORT_WORDS
from byodpp.transfer.queries import QUERY_WORDS

__all__ = [
    "export_operation",
    "import_operation",
    "progress_operation",
    "transfer_parameters",
    "transfer_responses",
    "transfer_schemas",
]

_TEXT: Final[dict[str, Any]] = {"type": "string"}
_COUNT: Final[dict[str, Any]] = {"type": "integer", "minimum": 0}
#: Words whose choice depends on the resource.
_ROW_FINDING: Final = ("operation", "on")
#: Of a JSON file; its records are judged one by one, so that whatever they are, the file is read.
_ARRAY: Final = {"type": "array"}
_RECORDS: Final = {
    "anyOf": [_ARRAY, {"type": "object", "properties": {"data": _ARRAY}, "required": ["data"]}]
}
_EXAMPLES: Final = {
    Format.CSV: "name,price\nTable,80.00\nChair,\n",
    Format.JSON: [{"name": "Table", "price": 80}, {"name": "Chair"}],
    Format.NDJSON: '{"name":"Table","price":80.00}\n{"name":"Chair"}\n',
    Format.XML: "<rows><row><name>Table</name><price>80.00</price></row></rows>",
}


def transfer_schemas() -> dict[str, Any]:
    """Return the component schemas of an import's answers."""
    reject = {"$ref": "#/components/schemas/ImportReject"}
    progress = {
        "key": {**_TEXT, "description": "By which the import is found again."},
        "state": {
            "enum": ["running", "interrupted", "finished", "failed"],
            "description": "`interrupted`: nobody works on it; the same import goes on where it ended.",
        },
        "records": {**_COUNT, "description": "Records of the file that are done."},
        "created": _COUNT,
        "updated": _COUNT,
        "rejected": _COUNT,
        "resumed": {**_COUNT, "description": "How often it was interrupted and taken up again."},
        "fault": {
            "anyOf": [reject, {"type": "null"}],
            "description": "Why the file was not read to its end.",
        },
        "report": {**_TEXT, "description": "Where every refused record is told."},
    }
    outcome = {
        **{name: progress[name] for name in progress},
        "repeated": {"type": "boolean", "description": "It had ended before; nothing was done now."},
        "errors": {"type": "array", "items": reject, "description": "The first refused records."},
    }
    kept = [name for name in progress if name not in ("key", "report")]
    return {
        "ImportReject": {
            "type": "object",
            "required": ["record", "line", "error"],
            "properties": {
                "record": {"type": "integer", "minimum": 1, "description": "Counted from 1."},
                "line": {**_COUNT, "description": "Of the file, where the record begins."},
                "error": {
                    "type": "object",
                    "required": ["statusCode", "code", "message", "details"],
                    "description": "As a single creation would have been refused.",
                },
            },
        },
        "ImportProgress": {"type": "object", "required": list(progress), "properties": progress},
        "ImportOutcome": {"type": "object", "required": [*kept, "repeated", "errors"], "properties": outcome},
    }


def transfer_parameters() -> dict[str, Any]:
    """Return the parameters that all imports, or all exports, share."""
    key = {
        "name": "key",
        "in": "query",
        "required": True,
        "description": "`Idempotency-Key` of the import, or the `key` that its answer told.",
        "schema": {**_TEXT, "minLength": 1},
    }
    report = _parameter("report", "Whether the refused records are wanted.", ("true", "false"))
    return {
        **{
            f"import-{word}": _parameter(word, told, CHOICES.get(word))
            for word, told in IMPORT_WORDS.items()
            if word not in _ROW_FINDING
        },
        **{
            f"export-{word}": _parameter(word, told, CHOICES.get(word)) for word, told in EXPORT_WORDS.items()
        },
        "import-key": key,
        "import-report": report,
    }


def transfer_responses() -> dict[str, Any]:
    """Return the answers that all imports, or all exports, share."""
    progress = _answer("How far it has come.", "ImportProgress")
    progress["content"][MEDIA_TYPES[Format.NDJSON][0]] = {
        "schema": {"$ref": "#/components/schemas/ImportReject"}
    }
    files: dict[str, Any] = {
        media_type: {"schema": {} if media_type == JSON else _TEXT}
        for one in MEDIA_TYPES.values()
        for media_type in one
    }
    disposition = {"description": "Name of the file.", "schema": _TEXT}
    return {
        "Imported": _answer("What became of the file's records.", "ImportOutcome", "Preference-Applied"),
        "ImportProgress": progress,
        "Exported": {
            "description": "The file.",
            "headers": {"Content-Disposition": disposition, **_headers()},
            "content": files,
        },
    }


def import_operation(head: Mapping[str, Any], name: str, resource: ResourceDefinition) -> dict[str, Any]:
    """Describe `POST …/import`.

    Args:
        head: tags, rights, and so on, of the creation.
        name: of the component of the resource.
        resource: whose rows are imported.
    """
    told = (
        "Send the file as the body. Each record is judged as a single creation; good ones are kept, bad ones "
        "told by their place. Sent again after an interruption, with the same `Idempotency-Key` or as the "
        "same file, it goes on where it ended. An upsert needs the right to update, too."
    )
    content = {
        MEDIA_TYPES[one][0]: {"schema": _RECORDS if one is Format.JSON else _TEXT, "example": _EXAMPLES[one]}
        for one in READABLE
    }
    own = (
        *("MalformedFile", "RequestTimeout", "ImportConflict", "PayloadTooLarge", "UnsupportedMediaType"),
        *("ValidationFailedOrKeyReused", "StorageFull"),
    )
    return {
        **head,
        "summary": f"Import {resource.title or resource.name} from a file",
        "description": f"{told}\n\n{head['description']}",
        "operationId": f"{name}_import",
        "parameters": [
            *_shared("X-Request-ID", "X-Correlation-ID", "X-Tenant", "Idempotency-Key", "Prefer"),
            *_row_finding(resource),
            *_shared(*(f"import-{word}" for word in IMPORT_WORDS if word not in _ROW_FINDING)),
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"$ref": "#/components/responses/Imported"},
            **responses([*own, *GUARDED, *EVERYWHERE]),
        },
    }


def progress_operation(head: Mapping[str, Any], name: str, resource: ResourceDefinition) -> dict[str, Any]:
    """Describe `GET …/import`; arguments are those of `import_operation`."""
    return {
        **head,
        "summary": f"How far an import of {resource.title or resource.name} has come",
        "description": f"With `report=true`, every refused record, a line each.\n\n{head['description']}",
        "operationId": f"{name}_import_progress",
        "parameters": [
            *_shared("X-Request-ID", "X-Correlation-ID", "X-Tenant"),
            *_shared("import-key", "import-report"),
        ],
        "responses": {
            "200": {"$ref": "#/components/responses/ImportProgress"},
            **responses(["MalformedQuery", "NotFound", *GUARDED, *EVERYWHERE]),
        },
    }


def export_operation(
    head: Mapping[str, Any], name: str, resource: ResourceDefinition, words: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Describe `GET …/export`; arguments are those of `import_operation`, and the parameters of the list."""
    told = (
        "All rows that the query finds, as one snapshot. The file ends in a record that tells the number of "
        "rows: where it is missing, the file was cut."
    )
    return {
        **head,
        "summary": f"Export {resource.title or resource.name} to a file",
        "description": f"{told}\n\n{head['description']}",
        "operationId": f"{name}_export",
        "parameters": [
            *_shared("X-Request-ID", "X-Correlation-ID", "X-Tenant"),
            *(one for one in words if str(one.get("name", "")).partition("[")[0] in QUERY_WORDS),
            *_shared(*(f"export-{word}" for word in EXPORT_WORDS)),
        ],
        "responses": {
            "200": {"$ref": "#/components/responses/Exported"},
            **responses(["MalformedQuery", *GUARDED, *EVERYWHERE]),
        },
    }


def _row_finding(resource: ResourceDefinition) -> list[dict[str, Any]]:
    """Return the parameters that say how an upsert finds its rows: without a unique key there is none."""
    keys = upsert_keys(resource)
    choices = CHOICES["operation"] if keys else ("create",)
    operation = _parameter("operation", IMPORT_WORDS["operation"], choices)
    if not keys:
        return [operation]
    on = _parameter("on", IMPORT_WORDS["on"], None)
    on["schema"] = {**_TEXT, "pattern": f"^({'|'.join(','.join(key) for key in keys)})?$"}
    return [operation, on]


def _parameter(name: str, told: str, choices: tuple[str, ...] | None) -> dict[str, Any]:
    schema = _TEXT if choices is None else {**_TEXT, "enum": list(choices)}
    return {"name": name, "in": "query", "description": told, "schema": schema}


def _answer(told: str, name: str, *headers: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["success", "data", "meta"],
        "properties": {
            "success": {"const": True},
            "data": {"$ref": f"#/components/schemas/{name}"},
            "meta": {"$ref": "#/components/schemas/Meta"},
        },
    }
    return {"description": told, "headers": _headers(*headers), "content": {JSON: {"schema": schema}}}


def _shared(*names: str) -> list[dict[str, Any]]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _headers(*names: str) -> dict[str, Any]:
    always = ("X-Request-ID", "X-Correlation-ID", "RateLimit", "RateLimit-Policy")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, *always)}
