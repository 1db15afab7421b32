"""The addresses, without a slash at the end, as the others have them."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from bench.rivals.django_rest.views import Products

router = SimpleRouter(trailing_slash=False)
router.register("api/v1/products", Products, basename="product")
urlpatterns = router.urls
