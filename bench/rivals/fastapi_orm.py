"""The service as a good user of FastAPI, SQLAlchemy's ORM, and pydantic writes it.

Row-level security through `set_config` in each transaction, as the app role; the token is checked
with PyJWT; relations are loaded as the ORM's documentation recommends; a batch is one bulk insert.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from sqlalchemy import Select, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import joinedload, selectinload

from bench.rivals.caller import Tenant
from bench.rivals.models import Product, transaction
from bench.rivals.shapes import ChangedProduct, NewProduct, Page, StoredProduct, WholePage

application = FastAPI()
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0)]


@application.exception_handler(IntegrityError)
async def conflict(request: Request, error: IntegrityError) -> JSONResponse:
    return JSONResponse({"detail": "The row is in conflict with another"}, 409)


def chosen(tenant: int, min_price: Decimal | None = None) -> Select[Any]:
    """Return the statement of a tenant's products."""
    statement = select(Product).where(Product.tenant_id == tenant)
    return statement if min_price is None else statement.where(Product.price >= min_price)


def counted(statement: Select[Any]) -> Select[Any]:
    return statement.with_only_columns(func.count(), maintain_column_froms=True)


@application.get("/api/v1/products", response_model=Page)
async def page(
    tenant: Tenant,
    limit: Limit = 20,
    offset: Offset = 0,
    min_price: Decimal | None = None,
    sort: Literal["id", "-price"] = "id",
) -> Any:
    order = (Product.price.desc(), Product.id) if sort == "-price" else (Product.id,)
    statement = chosen(tenant, min_price)
    async with transaction(tenant) as session:
        rows = await session.scalars(statement.order_by(*order).limit(limit).offset(offset))
        return {"data": rows.all(), "count": await session.scalar(counted(statement))}


@application.get("/api/v1/products/whole", response_model=WholePage)
async def whole_page(tenant: Tenant, limit: Limit = 20, offset: Offset = 0) -> Any:
    statement = chosen(tenant)
    loaded = statement.options(joinedload(Product.category, innerjoin=True), selectinload(Product.parts))
    async with transaction(tenant) as session:
        rows = await session.scalars(loaded.order_by(Product.id).limit(limit).offset(offset))
        return {"data": rows.all(), "count": await session.scalar(counted(statement))}


@application.get("/api/v1/products/{number}", response_model=StoredProduct)
async def read(tenant: Tenant, number: int) -> Any:
    async with transaction(tenant) as session:
        return found(await session.get(Product, (tenant, number)))


@application.post("/api/v1/products", response_model=StoredProduct, status_code=201)
async def create(tenant: Tenant, body: NewProduct) -> Any:
    product = Product(tenant_id=tenant, **body.model_dump())
    async with transaction(tenant) as session:
        session.add(product)
    return product


@application.post("/api/v1/products/batch", response_model=list[StoredProduct], status_code=201)
async def batch(tenant: Tenant, body: list[NewProduct]) -> Any:
    statement = insert(Product).returning(Product, sort_by_parameter_order=True)
    async with transaction(tenant) as session:
        rows = await session.scalars(statement, [{"tenant_id": tenant, **one.model_dump()} for one in body])
        return rows.all()


@application.patch("/api/v1/products/{number}", response_model=StoredProduct)
async def patch(tenant: Tenant, number: int, body: ChangedProduct) -> Any:
    async with transaction(tenant) as session:
        product = found(await session.get(Product, (tenant, number), with_for_update=True))
        for name, value in body.model_dump(exclude_unset=True).items():
            setattr(product, name, value)
        product.version += 1
    return product


def found(product: Product | None) -> Product:
    if product is None:
        raise HTTPException(404, "There is no such product")
    return product
