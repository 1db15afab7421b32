"""Limits: how much a caller, a tenant, or an address may ask for.

`windows` counts requests, `shared` counts them for several processes together (and is imported only where
that is wanted), `calls` tells what they have counted of a tenant, `classes` knows what a tenant's class
allows, `storage` what it stores, `figures` what the tenants of a class are together, and `consent` who agrees
to that.
"""

from __future__ import annotations

from byodpp.limits.calls import CallMeter, Calls
from byodpp.limits.classes import ClassDirectory, TenantLimits
from byodpp.limits.consent import keep_consent
from byodpp.limits.figures import FEWEST, ClassFigures, PlatformFigures, figures_by_class
from byodpp.limits.storage import StorageMeter, StorageQuota
from byodpp.limits.windows import Budget, RateLimiter, SlidingWindows, Usage

__all__ = [
    "FEWEST",
    "Budget",
    "CallMeter",
    "Calls",
    "ClassDirectory",
    "ClassFigures",
    "PlatformFigures",
    "RateLimiter",
    "SlidingWindows",
    "StorageMeter",
    "StorageQuota",
    "TenantLimits",
    "Usage",
    "figures_by_class",
    "keep_consent",
]
