"""What a logic class says for the audit trail.

In: an action and what it is about, with who called and from where. Out: the fields of an entry. Rejects, by a
ValueError, what is longer than the trail's fields, which have no length in the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from byodpp.audit.notes import Caller, Origin
from byodpp.definitions import ResourceDefinition

__all__ = ["Said"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is to be known of a change beside the row."""

    resource: str
    action: str
    key: Any  # of the row; None where it is about none
    changes: Any  # a JSON value, or None

    def entry(self, trail: ResourceDefinition, caller: Caller, origin: Origin) -> dict[str, Any]:
        """Return the fields of the entry.

        Args:
            trail: AuditLogs.
            caller: who is named.
            origin: of the request.

        Raises:
            ValueError: the action or the key is longer than the field.
        """
        key = None if self.key is None else str(self.key)
        for name, value in (("action", self.action), ("resourceId", key)):
            most = trail.fields[name].constraints["maxLength"]
            if value is not None and len(value) > most:
                raise ValueError(f"{name} of an audit entry has {len(value)} characters; {most} is the most")
        return {
            "action": self.action,
            "resourceType": self.resource,
            "resourceId": key,
            "userId": caller.user_id or None,
            "actorTenantId": caller.visiting_from,
            "keyId": caller.key_id,
            "changes": self.changes,
            "ipAddress": origin.client_ip or None,
            "userAgent": origin.user_agent[:500] or None,
            "result": "success",
            "requestId": origin.request_id,
        }
