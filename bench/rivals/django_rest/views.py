"""The routes of the products."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError
from django.db.models import Prefetch, QuerySet
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.viewsets import ModelViewSet

from bench.rivals.django_rest.models import Category, Part, Product
from bench.rivals.django_rest.serializers import ProductSerializer, WholeProductSerializer

SORTS = {"id": ("id",), "-price": ("-price", "id")}


class Products(ModelViewSet):
    serializer_class = ProductSerializer

    def get_queryset(self) -> QuerySet[Product]:
        asked = self.request.query_params
        rows = Product.objects.filter(tenant_id=self.request.user.tenant)
        if "min_price" in asked:
            rows = rows.filter(price__gte=asked["min_price"])
        if self.action == "partial_update":
            return rows.select_for_update()
        return rows.order_by(*SORTS.get(asked.get("sort", ""), ("id",)))

    def perform_create(self, serializer: Any) -> None:
        serializer.save(tenant_id=self.request.user.tenant)

    @action(detail=False)
    def whole(self, request: Any) -> Response:
        tenant = request.user.tenant  # told again, so that the indexes serve
        parts = Prefetch("parts", Part.objects.filter(tenant_id=tenant).order_by("id"))
        category = Prefetch("category", Category.objects.filter(tenant_id=tenant))
        rows = self.get_queryset().prefetch_related(category, parts)
        serializer = WholeProductSerializer(self.paginate_queryset(rows), many=True)
        return self.get_paginated_response(serializer.data)

    @action(detail=False, methods=["post"])
    def batch(self, request: Any) -> Response:
        serializer = self.get_serializer(data=request.data, many=True)
        serializer.is_valid(raise_exception=True)
        self.perform_create(serializer)
        return Response(serializer.data, status=201)

    def handle_exception(self, error: Exception) -> Response:
        if isinstance(error, IntegrityError):
            return Response({"detail": "The row is in conflict with another"}, status=409)
        return super().handle_exception(error)
