"""Logic classes of all the framework's parts, in the order in which `byodpp logics` lists them."""

from __future__ import annotations

from typing import Final

from byodpp.logics import Logic
from byodpp.part_logics.access import ACCESS_LOGICS
from byodpp.part_logics.grants import GRANT_LOGICS
from byodpp.part_logics.keys import KEY_LOGICS
from byodpp.part_logics.secrets import SECRET_LOGICS
from byodpp.part_logics.tenancy import TENANCY_LOGICS

__all__ = ["PART_LOGICS"]

PART_LOGICS: Final[tuple[type[Logic], ...]] = (
    *ACCESS_LOGICS,
    *KEY_LOGICS,
    *SECRET_LOGICS,
    *GRANT_LOGICS,
    *TENANCY_LOGICS,
)
