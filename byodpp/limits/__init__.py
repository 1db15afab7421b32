"""Limits: how much a caller, a tenant, or an address may ask for.

`windows` counts requests, `shared` counts them for several processes together (and is imported only where
that is wanted), `classes` knows what a tenant's class allows, and `storage` what it stores.
"""

from __future__ import annotations

from byodpp.limits.classes import ClassDirectory, TenantLimits
from byodpp.limits.storage import StorageMeter, StorageQuota
from byodpp.limits.windows import Budget, RateLimiter, SlidingWindows, Usage

__all__ = [
    "Budget",
    "ClassDirectory",
    "RateLimiter",
    "SlidingWindows",
    "StorageMeter",
    "StorageQuota",
    "TenantLimits",
    "Usage",
]
