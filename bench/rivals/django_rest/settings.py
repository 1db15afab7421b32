"""Settings of the service: what serving JSON to callers with tokens needs, and no more."""

from __future__ import annotations

import os
from urllib.parse import parse_qs, unquote, urlsplit

_uri = urlsplit(os.environ["BENCH_APP_URI"])
_socket = {name: values[0] for name, values in parse_qs(_uri.query).items()}

DEBUG = False
SECRET_KEY = "signs nothing here"
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "bench.rivals.django_rest.urls"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "rest_framework",
    "bench.rivals.django_rest",
]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(_uri.path.lstrip("/")),
        "USER": unquote(_uri.username or ""),
        "HOST": _socket["host"],
        "PORT": _socket["port"],
        "ATOMIC_REQUESTS": True,  # the tenant is set for the transaction
        # A thread keeps its connection.
        "CONN_MAX_AGE": None,
    }
}
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["bench.rivals.django_rest.callers.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["bench.rivals.django_rest.callers.IsAdmin"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "PAGE_SIZE": 20,
    "UNAUTHENTICATED_USER": None,
}
