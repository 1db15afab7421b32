"""A product that is bought must not be sold below what it costs."""

from marshmallow import Schema, ValidationError, validates_schema


class ProductsCreate(Schema):
    resource, operation = "Products", "create"
    extends = True

    @validates_schema
    def covers_its_cost(self, data, **options):
        price, cost = data.get("price"), data.get("purchasePrice")
        if price is not None and cost is not None and price < cost:
            raise ValidationError("Must not be below purchasePrice.", "price")
