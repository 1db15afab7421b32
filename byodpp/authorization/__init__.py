"""Authorization: may this caller do this, on which rows, and with which fields.

`policies` turns the manifest's rules and the rows of `Policies` (`rows`, kept fresh by `watch`) into one
form, `in_force` holds what is so now, `selection` asks casbin which rules hold, `algebra` says what
follows, and `decisions` remembers it.
"""

from __future__ import annotations

from byodpp.authorization.decisions import Authorizer, Decision
from byodpp.authorization.policies import Policy, base_policies, rules_of

__all__ = ["Authorizer", "Decision", "Policy", "base_policies", "rules_of"]
