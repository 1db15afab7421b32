"""A schema that adds to the generated one."""

from __future__ import annotations

from marshmallow import Schema, fields, validate


class NoteOnCreate(Schema):
    """A note has some text."""

    resource, operation, extends = "Notes", "create", True

    text = fields.String(
        required=True, validate=validate.Length(1, 500), metadata={"example": "Sharpen the saw."}
    )
