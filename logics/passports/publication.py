"""What is published of a passport: its EN 18223 document, its versions and their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from byodpp import wire
from byodpp.logics import Logic, Reply

from .contents import Contents

__all__ = ["as_reply", "build_document", "publish_version"]

_SCHEMA_VERSION: Final = "EN 18223:2026"
#: State of the passport -> `dppStatus`. Other states are not public.
_STATUS: Final[Mapping[str, str]] = {
    "published": "active",
    "suspended": "inactive",
    "superseded": "archived",
    "archived": "archived",
    "ended": "archived",
    "withdrawn": "invalid",
}
#: Names of the header, in the order of EN 18223; whatever else is in a document is a section.
_HEADER: Final = (
    "digitalProductPassportId",
    "uniqueProductIdentifier",
    "granularity",
    "dppSchemaVersion",
    "dppStatus",
    "lastUpdated",
    "economicOperatorId",
    "facilityId",
    "contentSpecificationIds",
)


def build_document(
    contents: Contents, identity: Mapping[str, Any], audience: str = "public"
) -> dict[str, Any]:
    """Return the passport in compressed form, with the values that one class of readers may see.

    Args:
        contents: the passport.
        identity: `upi` and `passportId`.
        audience: class of readers; the others' data points do not show up at all.
    """
    sections: dict[str, dict[str, Any]] = {}
    for field in contents.fields:
        values = contents.values.get(field["id"])
        if values and audience in field["audiences"]:
            section = sections.setdefault(field["section"]["code"], {})
            section[field["code"]] = values[0] if len(values) == 1 else list(values)
    dpp, template = contents.dpp, contents.template
    header = {
        "digitalProductPassportId": identity["passportId"],
        "uniqueProductIdentifier": identity["upi"],
        "granularity": dpp["granularity"],
        "dppSchemaVersion": _SCHEMA_VERSION,
        "dppStatus": _STATUS["published"],
        "lastUpdated": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "economicOperatorId": dpp["economicOperatorId"],
        "facilityId": dpp["facilityIdentifier"],
        "contentSpecificationIds": [
            template["specUri"] or f"urn:template:{template['code']}:{template['semver']}"
        ],
    }
    return {name: value for name, value in header.items() if value is not None} | sections


async def publish_version(
    logic: Logic,
    contents: Contents,
    identity: Mapping[str, Any],
    *,
    reason: str,
    changed: Sequence[str] = (),
) -> None:
    """Write the next version of a passport, and its document and hash into the passport's row.

    Args:
        logic: in whose transaction.
        contents: the passport.
        identity: `upi`, `passportId` and whatever else is fixed in the row with them.
        reason: of the version.
        changed: codes of the data points that differ from the version before.
    """
    dpp = contents.dpp
    document = build_document(contents, identity)
    digest = hashlib.sha256((dpp["currentHash"] or "").encode() + wire.dumps(_sorted(document))).hexdigest()
    number = dpp["revision"] + 1
    await logic.system["DppVersions"].create(
        {
            "dppId": dpp["id"],
            "number": number,
            "document": document,
            "hash": digest,
            "previousHash": dpp["currentHash"],
            "reason": reason,
            "changedFields": list(changed),
        }
    )
    fixed = {**identity, "document": document, "currentHash": digest, "revision": number}
    await logic.system["Dpps"].patch(dpp["id"], fixed)


def as_reply(dpp: Mapping[str, Any]) -> Reply:
    """Return what the public gets: the document, or the header and a notice where it is not shown."""
    document = dpp.get("document")
    if document is None:
        document = {
            "digitalProductPassportId": dpp["passportId"],
            "uniqueProductIdentifier": dpp["upi"],
            "granularity": dpp["granularity"],
            "dppSchemaVersion": _SCHEMA_VERSION,
        }
    # The database keeps no order of keys: the header comes first, as readers expect it.
    header = {name: document[name] for name in _HEADER if name in document}
    shown = {**header, "dppStatus": _STATUS[dpp["status"]]} | {
        name: value for name, value in document.items() if name not in _HEADER
    }
    if dpp.get("statusReason"):
        shown["notice"] = dpp["statusReason"]
    return Reply(body=wire.dumps(shown), media_type="application/json")


def _sorted(value: Any) -> Any:
    """Return a value with its keys in order, so that equal documents have equal hashes."""
    if isinstance(value, Mapping):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value
