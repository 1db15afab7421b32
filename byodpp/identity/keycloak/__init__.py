"""Keycloak: realms, keys, users, roles, clients, and mails, over its published interfaces.

`provider` is what checking a token needs, `server` the one signed-in connection by which Keycloak
is administered.
"""

from __future__ import annotations

from byodpp.identity.keycloak.provider import OLDEST_KEYCLOAK, Keycloak
from byodpp.identity.keycloak.server import Credentials, KeycloakServer

__all__ = ["OLDEST_KEYCLOAK", "Credentials", "Keycloak", "KeycloakServer"]
