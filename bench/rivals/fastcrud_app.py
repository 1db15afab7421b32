"""The same service with FastCRUD in endpoints of its own, as its documentation shows for joins and tenants.

Token, sessions, tables, and shapes are those of the service written with the ORM alone; FastCRUD
makes the statements and the rows. Its own endpoints know no `count` beside relations, no tenant, and
no batch. For many rows at once it has `upsert_multi`, which wants the keys: the bulk insert is SQLAlchemy's.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from fastcrud import FastCRUD, JoinConfig
from sqlalchemy import and_, insert
from sqlalchemy.exc import IntegrityError

from bench.rivals.caller import Tenant
from bench.rivals.models import transaction
from bench.rivals.shapes import (
    ChangedProduct,
    NewProduct,
    Stored,
    StoredCategory,
    StoredPart,
    StoredProduct,
    WholeProduct,
)
from bench.rivals.single_key_models import Category, Part, Product

application = FastAPI()
products: Any = FastCRUD(Product)
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0)]
COLUMNS = [column.name for column in Product.__table__.columns]


def joins(tenant: int) -> list[JoinConfig]:
    """Return what belongs to a product; the tenant is told again, so that the indexes serve."""
    return [
        JoinConfig(
            model=Category,
            join_on=and_(Product.tenant_id == Category.tenant_id, Product.category_id == Category.id),
            join_prefix="category_",
            schema_to_select=StoredCategory,
            join_type="inner",
        ),
        JoinConfig(
            model=Part,
            join_on=Product.id == Part.product_id,
            where=Part.tenant_id == tenant,
            join_prefix="parts_",
            schema_to_select=StoredPart,
            relationship_type="one-to-many",
            sort_columns="id",
            nested_limit=1000,
        ),
    ]


class Page(Stored):
    data: list[StoredProduct]
    total_count: int


class WholePage(Stored):
    data: list[WholeProduct]
    total_count: int


@application.exception_handler(IntegrityError)
async def conflict(request: Request, error: IntegrityError) -> JSONResponse:
    return JSONResponse({"detail": "The row is in conflict with another"}, 409)


@application.get("/api/v1/products", response_model=Page)
async def page(
    tenant: Tenant,
    limit: Limit = 20,
    offset: Offset = 0,
    min_price: Decimal | None = None,
    sort: Literal["id", "-price"] = "id",
) -> Any:
    columns, orders = (["price", "id"], ["desc", "asc"]) if sort == "-price" else (["id"], ["asc"])
    filters = {} if min_price is None else {"price__gte": min_price}
    async with transaction(tenant) as session:
        return await products.get_multi(
            session,
            offset=offset,
            limit=limit,
            schema_to_select=StoredProduct,
            sort_columns=columns,
            sort_orders=orders,
            tenant_id=tenant,
            **filters,
        )


@application.get("/api/v1/products/whole", response_model=WholePage)
async def whole_page(tenant: Tenant, limit: Limit = 20, offset: Offset = 0) -> Any:
    async with transaction(tenant) as session:
        return await products.get_multi_joined(
            session,
            offset=offset,
            limit=limit,
            schema_to_select=StoredProduct,
            sort_columns="id",
            joins_config=joins(tenant),
            nest_joins=True,
            tenant_id=tenant,
        )


@application.get("/api/v1/products/{number}", response_model=StoredProduct)
async def read(tenant: Tenant, number: int) -> Any:
    async with transaction(tenant) as session:
        return found(await products.get(session, schema_to_select=StoredProduct, tenant_id=tenant, id=number))


@application.post("/api/v1/products", response_model=StoredProduct, status_code=201)
async def create(tenant: Tenant, body: NewProduct) -> Any:
    async with transaction(tenant) as session:
        return await products.create(
            session,
            body,
            commit=False,
            schema_to_select=StoredProduct,
            server_data={"tenant_id": tenant},
        )


@application.post("/api/v1/products/batch", response_model=list[StoredProduct], status_code=201)
async def batch(tenant: Tenant, body: list[NewProduct]) -> Any:
    statement = insert(Product).returning(Product, sort_by_parameter_order=True)
    async with transaction(tenant) as session:
        rows = await session.scalars(statement, [{"tenant_id": tenant, **one.model_dump()} for one in body])
        return rows.all()


@application.patch("/api/v1/products/{number}", response_model=StoredProduct)
async def patch(tenant: Tenant, number: int, body: ChangedProduct) -> Any:
    async with transaction(tenant) as session:
        row = await products.update(
            session,
            body,
            commit=False,
            return_columns=COLUMNS,
            server_data={"version": Product.version + 1},
            tenant_id=tenant,
            id=number,
        )
    return {**found(row), "details": row["metadata"]}


def found(row: Any) -> Any:
    if row is None:
        raise HTTPException(404, "There is no such product")
    return row
