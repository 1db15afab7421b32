"""Logic classes of the part `byodpp:access`: the permission matrix, and why somebody may do something.

May reject: Forbidden (about others, or in full, only who may read every rule), and what `access_guide`
rejects.
"""

from __future__ import annotations

from typing import Any, Final

from marshmallow import Schema, fields, validate

from byodpp.access_questions import Question
from byodpp.authorization.matrix import matrix_json
from byodpp.exceptions import Forbidden
from byodpp.logics import Logic

__all__ = ["ACCESS_LOGICS"]

_NAME: Final = validate.Length(min=1, max=128)


def _text(told: str) -> fields.String:
    return fields.String(load_default=None, validate=_NAME, metadata={"description": told})


class MatrixQuestion(Schema):
    """Which part of the matrix."""

    resource = _text("Only this resource, in every version that has it.")
    role = fields.List(
        fields.String(validate=_NAME),
        load_default=list,
        validate=validate.Length(max=64),
        metadata={"description": "Only this role, `*`, or `public`; may be given several times."},
    )


class ExplainQuestion(Schema):
    """Who would do what. Nobody named: who asks."""

    resource = _text("Name of the resource.")
    operation = _text("One of the seven, or an action's key.")
    route = fields.String(
        load_default=None,
        validate=validate.Length(min=1, max=2048),
        metadata={"description": "In place of resource, operation, and id: `DELETE /api/v1/products/3`."},
    )
    version = _text("API version of the resource; v1, or its first, when left out.")
    id = fields.String(load_default=None, validate=_NAME, metadata={"description": "A row, by its key."})
    role = fields.List(
        fields.String(validate=_NAME),
        load_default=list,
        validate=validate.Length(max=64),
        metadata={"description": "A role of the one who would do it; may be given several times."},
    )
    user = fields.String(
        load_default=None,
        validate=_NAME,
        metadata={"description": "A user, by number, user name, or subject; brings the roles of UserRoles."},
    )
    anonymous = fields.Boolean(load_default=False, metadata={"description": "Somebody without a token."})


class MatrixResource(Schema):
    """One resource: of each operation, what every role may do."""

    resource = fields.String(required=True)
    version = fields.String(required=True)
    operations = fields.Dict(
        keys=fields.String(),
        values=fields.Dict(keys=fields.String(), values=fields.Dict()),
        required=True,
        metadata={
            "description": "Operation -> role -> `may` (`no`, `yes`, or its bounds: `rows`, `fields`,"
            " `rows, fields`), `rows`, `fields`, `rules`, `preset`, `reason`."
        },
    )


class MatrixAnswer(Schema):
    """The permission matrix."""

    roles = fields.List(fields.String(), required=True)
    resources = fields.List(fields.Nested(MatrixResource), required=True)


class ExplainAnswer(Schema):
    """Why. `roles`, `rows`, and `rules` are null for who may not read every rule."""

    resource = fields.String(required=True)
    version = fields.String(required=True)
    operation = fields.String(required=True)
    allowed = fields.String(required=True, validate=validate.OneOf(["yes", "no", "on some rows"]))
    status = fields.Integer(
        required=True, allow_none=True, metadata={"description": "With which a request is refused."}
    )
    reason = fields.String(required=True)
    fields_ = fields.Dict(
        keys=fields.String(),
        values=fields.String(validate=validate.OneOf(["yes", "no", "on some rows"])),
        required=True,
        data_key="fields",
        metadata={"description": "Of each field, whether it is shown, or taken from a body."},
    )
    preset = fields.Dict(required=True, allow_none=True)
    roles = fields.List(fields.String(), required=True, allow_none=True)
    rows = fields.Dict(
        required=True,
        allow_none=True,
        metadata={
            "description": "`anyOf` and `noneOf`, conditions of the query language; null is every row."
        },
    )
    rules = fields.List(fields.Dict(), required=True, allow_none=True)


class PoliciesMatrix(Logic):
    """Tells which role may do what."""

    resource, action = "Policies", "matrix:get"
    query, output = MatrixQuestion, MatrixAnswer

    async def execute(self) -> Any:
        """Tell it to who may read every rule."""
        if not self.access.knows_all(self.request.user):
            raise Forbidden("The matrix tells every rule: it needs the right to list all of Policies.")
        tenant, asked = self.request.user.tenant_id, self.request.parameters
        cells = await self.access.cells(self.transaction, tenant, asked["resource"] or "", asked["role"])
        return {"roles": list(dict.fromkeys(cell.role for cell in cells)), "resources": matrix_json(cells)}


class PoliciesExplain(Logic):
    """Tells why somebody may do something, or may not."""

    resource, action = "Policies", "explain:get"
    query, output = ExplainQuestion, ExplainAnswer

    async def execute(self) -> Any:
        """Tell everybody about himself, and all of it to who may read every rule."""
        asked = {name: value for name, value in self.request.parameters.items() if value is not None}
        question = Question(roles=tuple(asked.pop("role")), **asked)
        whole = self.access.knows_all(self.request.user)
        if question.about_another and not whole:
            raise Forbidden("Asking about others needs the right to list all of Policies.")
        user = self.request.user
        told = await self.access.explain(self.transaction, user.tenant_id, question, user)
        return told.as_json(whole=whole)


ACCESS_LOGICS: Final[tuple[type[Logic], ...]] = (PoliciesMatrix, PoliciesExplain)
