"""What goes in and out, as serializers describe it; many at once become one bulk insert."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from bench.rivals.django_rest.models import Category, Part, Product


class CategorySerializer(serializers.ModelSerializer):
    isActive = serializers.BooleanField(source="is_active")
    createdAt = serializers.DateTimeField(source="created_at")
    updatedAt = serializers.DateTimeField(source="updated_at")

    class Meta:
        model = Category
        fields = ("id", "name", "isActive", "createdAt", "updatedAt")


class PartSerializer(serializers.ModelSerializer):
    productId = serializers.IntegerField(source="product_id")
    createdAt = serializers.DateTimeField(source="created_at")
    updatedAt = serializers.DateTimeField(source="updated_at")

    class Meta:
        model = Part
        fields = ("id", "name", "weight", "productId", "createdAt", "updatedAt")


class Many(serializers.ListSerializer):
    """Several products from one body."""

    def create(self, validated_data: list[dict[str, Any]]) -> list[Product]:
        return list(Product.objects.bulk_create([Product(**one) for one in validated_data]))


class ProductSerializer(serializers.ModelSerializer):
    # Not a related field, which would read the category of each item: the database refuses wrong ones.
    categoryId = serializers.IntegerField(source="category_id")
    price = serializers.DecimalField(
        max_digits=12, decimal_places=2, min_value=0, required=False, allow_null=True
    )
    stock = serializers.IntegerField(min_value=0, required=False, allow_null=True)
    isFeatured = serializers.BooleanField(source="is_featured", required=False, allow_null=True)
    createdAt = serializers.DateTimeField(source="created_at", read_only=True)
    updatedAt = serializers.DateTimeField(source="updated_at", read_only=True)

    class Meta:
        model = Product
        list_serializer_class = Many
        read_only_fields = ("version",)
        fields = (
            *("id", "name", "sku", "description", "categoryId", "price", "stock", "isFeatured", "metadata"),
            *("createdAt", "updatedAt", "version"),
        )

    def update(self, instance: Product, validated_data: dict[str, Any]) -> Product:
        return super().update(instance, {**validated_data, "version": instance.version + 1})


class WholeProductSerializer(ProductSerializer):
    category = CategorySerializer()
    parts = PartSerializer(many=True)

    class Meta(ProductSerializer.Meta):
        fields = (*ProductSerializer.Meta.fields, "category", "parts")
