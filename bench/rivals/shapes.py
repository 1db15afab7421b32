"""What goes in and out, as pydantic describes it: for the services written with FastAPI."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AliasGenerator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(min_length=1, max_length=255)]
Sku = Annotated[str, Field(max_length=40)]
Price = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
Stock = Annotated[int, Field(ge=0)]


class Body(BaseModel):
    """What comes in, in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class Stored(BaseModel):
    """What goes out, taken from a row of the ORM."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(serialization_alias=to_camel), from_attributes=True
    )


class NewProduct(Body):
    name: Name
    sku: Sku
    description: str | None = None
    category_id: int
    price: Price | None = None
    stock: Stock = 0
    is_featured: bool = False
    details: dict[str, Any] = Field(default_factory=dict, alias="metadata")


class ChangedProduct(Body):
    name: Name | None = None
    sku: Sku | None = None
    description: str | None = None
    category_id: int | None = None
    price: Price | None = None
    stock: Stock | None = None
    is_featured: bool | None = None


class StoredProduct(Stored):
    id: int
    name: str
    sku: str
    description: str | None
    category_id: int
    price: Decimal | None
    stock: int | None
    is_featured: bool | None
    details: Any = Field(serialization_alias="metadata")
    created_at: datetime
    updated_at: datetime
    version: int


class StoredCategory(Stored):
    id: int
    name: str
    is_active: bool | None
    created_at: datetime
    updated_at: datetime


class StoredPart(Stored):
    id: int
    name: str
    weight: Decimal | None
    product_id: int
    created_at: datetime
    updated_at: datetime


class WholeProduct(StoredProduct):
    category: StoredCategory
    parts: list[StoredPart]


class Page(Stored):
    data: list[StoredProduct]
    count: int


class WholePage(Stored):
    data: list[WholeProduct]
    count: int
