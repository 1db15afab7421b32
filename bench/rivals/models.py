"""The tables as SQLAlchemy's ORM describes them, and sessions bound by row-level security."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import BigInteger, ForeignKeyConstraint, Identity, Numeric, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import DateTime

CONNECTIONS = int(os.environ["BENCH_CONNECTIONS"])
engine = create_async_engine(
    os.environ["BENCH_APP_URI"].replace("postgresql://", "postgresql+asyncpg://", 1),
    pool_size=CONNECTIONS,
    max_overflow=0,
)
sessions = async_sessionmaker(engine, expire_on_commit=False)
SET_TENANT = text("select set_config('byodpp.tenant', :tenant, true)")


@asynccontextmanager
async def transaction(tenant: int) -> AsyncIterator[AsyncSession]:
    """Open a session with a transaction that sees the tenant's rows; it commits at the end."""
    async with sessions.begin() as session:
        await session.execute(SET_TENANT, {"tenant": str(tenant)})
        yield session


class Row(DeclarativeBase):
    """What all tables have: a key within the tenant, and two moments."""

    # The documentation of the asyncio extension asks for it: what the server makes comes with the statement.
    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # The sentinel lets many rows go into one statement, and come back in their order.
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True, insert_sentinel=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )


class Category(Row):
    __tablename__ = "categories"

    name: Mapped[str]
    is_active: Mapped[bool]


class Product(Row):
    __tablename__ = "products"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "category_id"], ["categories.tenant_id", "categories.id"]),
    )

    name: Mapped[str]
    sku: Mapped[str]
    description: Mapped[str | None]
    category_id: Mapped[int] = mapped_column(BigInteger)
    price: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))
    stock: Mapped[int | None]
    is_featured: Mapped[bool | None]
    # `metadata` is a word of SQLAlchemy's own.
    details: Mapped[Any] = mapped_column("metadata", JSONB)
    version: Mapped[int] = mapped_column(server_default="1")

    category: Mapped[Category] = relationship(viewonly=True)
    parts: Mapped[list[Part]] = relationship(viewonly=True, order_by="Part.id")


class Part(Row):
    __tablename__ = "parts"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "product_id"], ["products.tenant_id", "products.id"]),
    )

    name: Mapped[str]
    weight: Mapped[Decimal | None] = mapped_column(Numeric(10, 3))
    product_id: Mapped[int] = mapped_column(BigInteger)
