"""Batches: one operation on many items.

`reading` takes a body apart, `selection` finds the items of a filter, `upserts` tells updates from
creations, and `work` runs it all inside a unit of work.
"""

from __future__ import annotations

from byodpp.batches.reading import (
    BATCH_OPERATIONS,
    Batch,
    BatchItem,
    LoadItem,
    Selection,
    read_batch,
    read_item,
    scoped_keys,
    upsert_keys,
)

__all__ = [
    "BATCH_OPERATIONS",
    "Batch",
    "BatchItem",
    "LoadItem",
    "Selection",
    "read_batch",
    "read_item",
    "scoped_keys",
    "upsert_keys",
]
