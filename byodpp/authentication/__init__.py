"""Authentication: who is calling, and in which tenant.

`tokens` checks access tokens with the keys of `signing_keys`, `tenants` and `users` find the rows behind
them, and `authenticator` makes the Principal of it all.
"""

from __future__ import annotations

from byodpp.authentication.authenticator import ANONYMOUS, Authenticator, Principal

__all__ = ["ANONYMOUS", "Authenticator", "Principal"]
