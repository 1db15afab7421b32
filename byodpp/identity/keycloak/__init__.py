"""Keycloak: realms, keys, users, roles, clients, and mails, over its published interfaces.

`provider` is what checking a token needs. `administration` does what the port asks beyond that,
by `server`, the one signed-in connection; `representations` are the documents Keycloak takes.
"""

from __future__ import annotations

from byodpp.identity.keycloak.provider import OLDEST_KEYCLOAK, Keycloak
from byodpp.identity.keycloak.representations import RealmStandard
from byodpp.identity.keycloak.server import Credentials, KeycloakServer

__all__ = ["OLDEST_KEYCLOAK", "Credentials", "Keycloak", "KeycloakServer", "RealmStandard"]
