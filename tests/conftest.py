"""Every test runs on real PostgreSQL, by the testing kit that extension developers get."""

from __future__ import annotations

pytest_plugins = ["byodpp.testing"]
