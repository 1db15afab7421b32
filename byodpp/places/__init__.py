"""Places: schemas in which a tenant has the application's tables for itself.

A place is a second set of those tables that hold the rows of one tenant each (`placement`), in the
same database, with the same keys, policies, and rights (`building`). Names are looked up there first and
in the shared tables then, so that a statement needs no other text. `fences` keep a tenant's rows in one
place at a time, and unique what must be so in all of them; `moving` carries them from one to the other.
"""

from __future__ import annotations

from byodpp.places.building import PlaceBuilder
from byodpp.places.placement import EVERYWHERE, Located, dedicated, place_name

__all__ = ["EVERYWHERE", "Located", "PlaceBuilder", "dedicated", "place_name"]
