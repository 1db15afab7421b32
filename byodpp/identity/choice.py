"""Which identity provider the settings ask for, with everything it is made of.

In: settings, which have been found consistent. Out: a provider; nothing is opened or asked yet.
May reject: StartError, for the local issuer outside development.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from byodpp.identity.administration import MailServer
from byodpp.identity.keys import KeyFolder
from byodpp.identity.local_issuer import LocalIssuer
from byodpp.identity.provider import IdentityProvider
from byodpp.settings import Settings

if TYPE_CHECKING:
    from byodpp.identity.keycloak import Keycloak, KeycloakServer

__all__ = ["identity_provider", "mail_server", "sign_in_page"]


def identity_provider(settings: Settings, keys: KeyFolder | None = None) -> IdentityProvider:
    """Return the provider.

    Args:
        settings: tell which.
        keys: of the local issuer, where others have read them already.

    Raises:
        StartError: the local issuer is asked for where it does not run.
    """
    if settings.identity == "keycloak":
        return _keycloak(settings)
    return LocalIssuer(
        state_folder=settings.app_dir / ".byodpp",
        base_url=settings.issuer_base_url,
        served_at=settings.issuer_base_url or f"http://{settings.host}:{settings.port}",
        audience=settings.token_audience,
        environment=settings.environment,
        keys=keys,
    )


def _keycloak(settings: Settings) -> Keycloak:
    # Its libraries take a fifth of the time of a start, and concern only who has a Keycloak.
    from byodpp.identity.keycloak import Keycloak, RealmStandard

    assert settings.issuer_base_url is not None
    return Keycloak(
        base_url=settings.issuer_base_url,
        internal_url=settings.keycloak_internal_url,
        timeout_seconds=settings.keycloak_timeout_seconds,
        server=_server(settings),
        standard=RealmStandard(
            audience=settings.token_audience,
            browser_client=settings.frontend_client,
            addresses=settings.frontend_urls,
            documentation=sign_in_page(settings),
            password_grant=settings.keycloak_password_grant,
            second_factor=settings.keycloak_second_factor,
            theme=settings.keycloak_theme,
            mail=mail_server(settings),
        ),
    )


def sign_in_page(settings: Settings) -> str | None:
    """Return the address at which people sign in here with a browser; None where there is no such page."""
    if settings.identity != "keycloak" or not settings.docs_enabled:
        return None
    return f"{_public_url(settings)}/docs"


def _public_url(settings: Settings) -> str:
    """Return where browsers reach this server; one that listens everywhere is reached here, too."""
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _server(settings: Settings) -> KeycloakServer | None:
    """Return the way to administer Keycloak; None without credentials."""
    if settings.keycloak_admin_secret is None and settings.keycloak_admin_user is None:
        return None
    from byodpp.identity.keycloak import Credentials, KeycloakServer

    by_user = settings.keycloak_admin_user is not None
    return KeycloakServer(
        url=settings.keycloak_internal_url or settings.issuer_base_url or "",
        credentials=Credentials(
            realm=settings.keycloak_admin_realm,
            client="admin-cli" if by_user else settings.keycloak_admin_client,
            secret=settings.keycloak_admin_secret,
            user=settings.keycloak_admin_user,
            password=settings.keycloak_admin_password,
        ),
        timeout_seconds=settings.keycloak_admin_timeout_seconds,
    )


def mail_server(settings: Settings) -> MailServer | None:
    """Return by which server mails are sent; None where none is set."""
    if settings.smtp_host is None or settings.smtp_from is None:
        return None
    return MailServer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=settings.smtp_security,
        user=settings.smtp_user,
        password=settings.smtp_password,
        sender=settings.smtp_from,
        sender_name=settings.smtp_from_name,
    )
