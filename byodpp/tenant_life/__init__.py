"""The life of a tenant: onboarded, suspended, reactivated, exported, deleted.

Each of these is a procedure of steps over the database, the identity provider, and mail, whose
state is a row: what was cut off is taken up where it stopped by the next call. `procedures` keeps
that state, `steps` hold what is done, `export` writes a tenant's data into a file, and `removal`
deletes them.
"""

from __future__ import annotations

from byodpp.tenant_life.choosing import Wanted
from byodpp.tenant_life.life import TenantLife
from byodpp.tenant_life.plans import SUSPENSION_REASONS, Guest, Newcomer
from byodpp.tenant_life.procedures import Procedure

__all__ = ["SUSPENSION_REASONS", "Guest", "Newcomer", "Procedure", "TenantLife", "Wanted"]
