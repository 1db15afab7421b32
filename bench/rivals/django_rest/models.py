"""The tables as Django's ORM describes them; `id` is unique in each, as Django wants its keys."""

from __future__ import annotations

from django.db import models


class Row(models.Model):
    """What all tables have."""

    id = models.BigAutoField(primary_key=True)
    tenant_id = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class Category(Row):
    name = models.CharField(max_length=100)
    is_active = models.BooleanField(null=True, default=True)

    class Meta:
        managed = False
        db_table = "categories"


class Product(Row):
    name = models.CharField(max_length=255)
    sku = models.CharField(max_length=40)
    description = models.TextField(null=True, blank=True)
    category = models.ForeignKey(Category, models.PROTECT)
    price = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    stock = models.IntegerField(null=True, default=0)
    is_featured = models.BooleanField(null=True, default=False)
    metadata = models.JSONField(null=True, default=dict)
    version = models.IntegerField(default=1)

    class Meta:
        managed = False
        db_table = "products"


class Part(Row):
    name = models.CharField(max_length=100)
    weight = models.DecimalField(max_digits=10, decimal_places=3, null=True)
    product = models.ForeignKey(Product, models.CASCADE, related_name="parts")

    class Meta:
        managed = False
        db_table = "parts"
