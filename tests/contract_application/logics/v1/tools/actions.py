"""The actions of Tools: one with a body, one that everybody may read."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from byodpp.logics import Logic


class Rating(Schema):
    """Body of `rate`."""

    stars = fields.Integer(required=True, strict=True, validate=validate.Range(1, 5), metadata={"example": 4})
    reason = fields.String(validate=validate.Length(max=200), allow_none=True)


class Rated(Schema):
    """What `rate` answers."""

    id = fields.Integer(required=True)
    rating = fields.Integer(required=True)


class ToolsRate(Logic):
    """Rate a tool."""

    resource, action = "Tools", "rate:post"
    input = Rating
    output = Rated

    async def execute(self) -> Any:
        stars = self.request.body["stars"]
        row = await self.repository.patch(self.request.params["id"], {"rating": stars})
        return {"id": row["id"], "rating": stars}


class ToolsToday(Logic):
    """Name the tool of the day."""

    resource, action = "Tools", "today"

    async def execute(self) -> Any:
        return {"name": "hammer"}
