"""Identity providers: who issues the tokens that `tokens` checks.

`provider` is what the framework asks of one; every other file is one way to fulfil it.
"""

from __future__ import annotations

from byodpp.identity.local_issuer import LocalIssuer
from byodpp.identity.provider import IdentityProvider

__all__ = ["IdentityProvider", "LocalIssuer"]
