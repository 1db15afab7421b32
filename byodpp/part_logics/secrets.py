"""Logic classes of the part `byodpp:secrets`: storing and deleting the caller's secrets."""

from __future__ import annotations

from typing import Any, Final

from marshmallow import Schema, fields, validate

from byodpp.exceptions import Detail, ValidationFailed
from byodpp.logics import Logic

__all__ = ["SECRET_LOGICS"]

_LONGEST: Final = 65_536


class SecretValue(Schema):
    """A value, which no answer ever holds."""

    value = fields.String(required=True, validate=validate.Length(min=1, max=_LONGEST))


class SecretsValue(Logic):
    """Stores a value under a name, in place of the one before."""

    resource, action, input = "Secrets", "value:put", SecretValue

    async def execute(self) -> Any:
        """Store it; the answer tells the name and when, never the value."""
        value = self.request.body["value"]
        if "\0" in value:
            raise ValidationFailed(details=[Detail("value", "invalid", "Must not hold U+0000.")])
        row = await self.secrets.put(self.request.params["name"], value)
        await self.audit("STORE", row["id"], {"name": row["name"]})
        return row


class SecretsDelete(Logic):
    """Deletes a secret with its value."""

    resource, operation = "Secrets", "delete"

    async def execute(self) -> Any:
        """Delete it."""
        done = await self.default()
        await self.secrets.forget(self.request.params["id"])
        return done


SECRET_LOGICS: Final[tuple[type[Logic], ...]] = (SecretsValue, SecretsDelete)
