"""What the fields of a product cannot say themselves: check digits, and the state of a new one.

The classes for each version stand in `v1/` and `v2/`.
"""

from __future__ import annotations

from marshmallow import Schema, ValidationError, fields, validates

from byodpp.schemas import Fault

__all__ = ["ProductIdentifiersSchema", "ProductStateSchema"]


class ProductIdentifiersSchema(Schema):
    """The last digit of a GTIN follows from the others (GS1, modulo 10)."""

    @validates("gtin")
    def has_right_check_digit(self, value: str | None, data_key: str) -> None:
        """Refuse a GTIN with a wrong check digit."""
        if value is None:
            return
        digits = [int(one) for one in reversed(value)]
        if (sum(digits[0::2]) + 3 * sum(digits[1::2])) % 10:
            raise ValidationError([Fault("check_digit", "The check digit of the GTIN is wrong.")])


class _Draft(fields.Field[str]):
    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> str:
        if value != "draft":
            raise ValidationError([Fault("enum", "Product status must be draft upon creation")])
        return "draft"


class ProductStateSchema(ProductIdentifiersSchema):
    """Rule GFR451: a new product is a draft; saying so is allowed, anything else is not."""

    status = _Draft(load_default="draft", metadata={"enum": ["draft"]})
