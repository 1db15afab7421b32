"""The same tables for FastCRUD, whose joins know keys of one column only: `id` is unique by itself."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import BigInteger, DateTime, Identity, Numeric, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Row(DeclarativeBase):
    """What all tables have."""

    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant_id: Mapped[int] = mapped_column(BigInteger)
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

    name: Mapped[str]
    sku: Mapped[str]
    description: Mapped[str | None]
    category_id: Mapped[int] = mapped_column(BigInteger)
    price: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))
    stock: Mapped[int | None]
    is_featured: Mapped[bool | None]
    details: Mapped[Any] = mapped_column("metadata", JSONB)
    version: Mapped[int] = mapped_column(server_default="1")


class Part(Row):
    __tablename__ = "parts"

    name: Mapped[str]
    weight: Mapped[Decimal | None] = mapped_column(Numeric(10, 3))
    product_id: Mapped[int] = mapped_column(BigInteger)
