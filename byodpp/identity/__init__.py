"""Identity providers: who issues the tokens that `tokens` checks.

`provider` is what checking a token asks of one, `administration` what making realms and users asks;
the rest are ways to fulfil both: files in a folder, and Keycloak.
"""

from __future__ import annotations

from byodpp.identity.administration import (
    IdentityAdministration,
    MailServer,
    Person,
    RealmPlan,
    SignInProvider,
)
from byodpp.identity.local_issuer import LocalIssuer
from byodpp.identity.provider import BrowserSignIn, IdentityProvider

__all__ = [
    "BrowserSignIn",
    "IdentityAdministration",
    "IdentityProvider",
    "LocalIssuer",
    "MailServer",
    "Person",
    "RealmPlan",
    "SignInProvider",
]
