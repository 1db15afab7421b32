"""Authorization: may this caller do this, on which rows, and with which fields.

`policies` joins the manifest's rules with the rows of `Policies` (`rows`, kept fresh by `watch`),
`selection` asks casbin which of them hold, and `decisions` says what follows.
"""

from __future__ import annotations

from byodpp.authorization.decisions import Authorizer, Decision
from byodpp.authorization.faults import policy_faults
from byodpp.authorization.policies import Policy, base_policies, rules_of

__all__ = ["Authorizer", "Decision", "Policy", "base_policies", "policy_faults", "rules_of"]
