"""What is printed on a product's price tag."""

from marshmallow import Schema, fields, validate

from byodpp.logics import Logic


class LabelQuery(Schema):
    currency = fields.String(load_default="EUR", validate=validate.OneOf(["EUR", "CHF"]))
    copies = fields.Integer(load_default=1, validate=validate.Range(1, 20))


class ProductsLabel(Logic):
    resource, action = "Products", "label:get"
    query = LabelQuery

    async def execute(self):
        product = await self.repository.read(self.request.params["id"])
        asked = self.request.parameters
        return [f"{product['name']} {product['price']} {asked['currency']}"] * asked["copies"]
