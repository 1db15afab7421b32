"""Settings that are right by themselves and wrong together.

In: settings, every value of the right type. Out: problems, all of them. Nothing is raised here.
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from byodpp.exceptions import Problem
from byodpp.settings.places import wrong_places

if TYPE_CHECKING:
    from byodpp.settings.reading import Settings

__all__ = ["contradictions"]

#: A shorter secret could be guessed.
_SECRET_LENGTH: Final = 32
_ADDRESS: Final = re.compile(r"[^\s@<>]+@[^\s@<>]+")
_HOST: Final = re.compile(r"(?=.{1,190}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


def contradictions(settings: Settings) -> list[Problem]:
    """Return every setting that contradicts another, or does not fit its environment."""
    problems: list[Problem] = []
    if settings.pool_min_connections > settings.pool_max_connections:
        reason = f"must not be larger than pool_max_connections ({settings.pool_max_connections})"
        problems.append(Problem("pool_min_connections", reason))
    for name in ("postgres_db_uri", "postgres_admin_uri", "postgres_system_uri"):
        uri = getattr(settings, name)
        if uri is not None and urlsplit(uri).scheme not in ("postgresql", "postgres"):
            problems.append(Problem(name, "must start with postgresql://", "No driver name belongs into it."))
    if settings.postgres_db_uri is None and (settings.postgres_admin_uri or settings.postgres_system_uri):
        problems.append(Problem("postgres_db_uri", "is missing while another address of the database is set"))
    problems += _wrong_networks(settings.trusted_proxies) + _wrong_origins(settings.cors_origins)
    problems += _wrong_identity(settings) + _wrong_mail(settings) + _wrong_secret(settings)
    if settings.tenant_domain is not None and not _HOST.fullmatch(settings.tenant_domain):
        problems.append(Problem("tenant_domain", "must be a host name, as dpp.example, without port and dot"))
    if settings.tenant_domain is not None and settings.public_url is None:
        advice = (
            "Set PUBLIC_URL, e.g. to https://api.dpp.example: its host is the server's own, and no tenant's."
        )
        problems.append(Problem("public_url", "is needed with tenant_domain", advice))
    problems += _wrong_encryption_keys(settings) + wrong_places(settings)
    if settings.environment in ("stage", "prod") and settings.identity == "local":
        advice = "Set BYODPP_IDENTITY=keycloak and KEYCLOAK_URL."
        problems.append(Problem("identity", f"must not be local in {settings.environment}", advice))
    if settings.environment == "prod":
        problems += _unfit_for_production(settings)
    return problems


def _wrong_identity(settings: Settings) -> list[Problem]:
    problems = [
        Problem(name, "must be http:// or https://, a host, and no query")
        for name in ("issuer_base_url", "keycloak_internal_url", "public_url")
        if not _is_web_address(getattr(settings, name) or "http://localhost")
    ]
    problems += [
        Problem("frontend_urls", f"{address!r} is not http:// or https://, a host, and no query or *")
        for address in settings.frontend_urls
        if not _is_web_address(address) or "*" in address
    ]
    if settings.identity == "keycloak" and not settings.issuer_base_url:
        problems.append(Problem("issuer_base_url", "is needed with identity keycloak", "Set KEYCLOAK_URL."))
    if (settings.keycloak_admin_user is None) != (settings.keycloak_admin_password is None):
        problems.append(
            Problem("keycloak_admin_user", "needs keycloak_admin_password, and that needs a user")
        )
    if settings.keycloak_admin_user is not None and settings.keycloak_admin_secret is not None:
        problems.append(Problem("keycloak_admin_secret", "is given beside keycloak_admin_user", "Keep one."))
    return problems


def _wrong_mail(settings: Settings) -> list[Problem]:
    problems: list[Problem] = []
    if settings.smtp_host is not None and settings.smtp_from is None:
        problems.append(Problem("smtp_from", "is needed with smtp_host", "Set SMTP_FROM."))
    if settings.smtp_from is not None and not _ADDRESS.fullmatch(settings.smtp_from):
        problems.append(Problem("smtp_from", "must be one address, without a name"))
    if settings.operators_email is not None and not _ADDRESS.fullmatch(settings.operators_email):
        problems.append(Problem("operators_email", "must be one address, without a name"))
    if (settings.smtp_user is None) != (settings.smtp_password is None):
        problems.append(Problem("smtp_user", "needs smtp_password, and that needs a user"))
    return problems


def _is_web_address(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query + parts.fragment


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _wrong_secret(settings: Settings) -> list[Problem]:
    if settings.secret_key is None:
        if settings.environment not in ("stage", "prod"):
            return []
        advice = "Set BYODPP_SECRET_KEY, e.g. to 64 random digits."
        return [Problem("secret_key", f"is required in {settings.environment}", advice)]
    if len(settings.secret_key) < _SECRET_LENGTH:
        return [Problem("secret_key", f"must have at least {_SECRET_LENGTH} characters")]
    return []


def _wrong_encryption_keys(settings: Settings) -> list[Problem]:
    problems, seen = [], set[str]()
    for number, entry in enumerate(settings.encryption_keys, start=1):
        id, colon, secret = entry.partition(":")
        # Never the entry itself: it may be a secret without an id.
        where = f"encryption_keys, entry {number}"
        if not colon or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", id) or id == "secret-key":
            advice = "Write id:secret; an id is lower-case letters, digits and hyphens, not `secret-key`."
            problems.append(Problem(where, "has no usable id", advice))
        elif len(secret) < _SECRET_LENGTH:
            problems.append(Problem(where, f"must have a secret of at least {_SECRET_LENGTH} characters"))
        elif id in seen:
            problems.append(Problem(where, f"has the id {id!r} of an earlier one"))
        seen.add(id)
    return problems


def _unfit_for_production(settings: Settings) -> list[Problem]:
    problems: list[Problem] = []
    if settings.postgres_db_uri is None:
        advice = "The embedded server is made for development; set POSTGRES_DB_URI."
        problems.append(Problem("postgres_db_uri", "is required in prod", advice))
    issuer = settings.issuer_base_url or ""
    if issuer.startswith("http:") and not _is_loopback(issuer):
        advice = "Sign-in and tokens travel there; keycloak_internal_url may be http:// behind your walls."
        problems.append(Problem("issuer_base_url", "must be https:// in prod", advice))
    if "*" in settings.cors_origins:
        problems.append(Problem("cors_origins", "must not be * in prod", "Name the origins."))
    return problems


def _wrong_networks(networks: tuple[str, ...]) -> list[Problem]:
    problems = []
    for network in networks:
        try:
            ip_network(network, strict=False)
        except ValueError:
            problems.append(Problem("trusted_proxies", f"{network!r} is neither an address nor a network"))
    return problems


def _wrong_origins(origins: tuple[str, ...]) -> list[Problem]:
    problems = []
    for origin in origins:
        parts = urlsplit(origin)
        whole = (
            parts.scheme in ("http", "https")
            and parts.netloc
            and origin == f"{parts.scheme}://{parts.netloc}"
        )
        if origin != "*" and not whole:
            advice = "An origin is scheme://host[:port], without a path or a slash at the end."
            problems.append(Problem("cors_origins", f"{origin!r} is not an origin", advice))
    return problems
