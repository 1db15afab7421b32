"""The tenant that a request names: by its X-Tenant header, or by the host that it was sent to.

In: a request. Out: a name, a slug or a ULID, or None, or a host that may be a tenant's own; whose that is,
and whether a caller may choose a tenant, is the authenticator's affair. May reject: InvalidHeader (header
and host do not name the same).
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from byodpp.exceptions import InvalidHeader
from byodpp.requests import Request
from byodpp.settings import Settings

__all__ = ["TenantHosts", "named_alike"]

#: Hosts are the same in small and capital letters; a ULID is written in capitals.
_OWN_DOMAIN: Final = re.compile(
    r"(?=.{4,128}\Z)(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]"
)
_ULID: Final = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")


class TenantHosts:
    """Hosts below one domain, each a tenant's, as `acme.dpp.example` is acme's; and tenants' own domains."""

    def __init__(self, domain: str | None, own: str | None = None, *, own_domains: bool = False) -> None:
        """Args:
        domain: below which they are, e.g. `dpp.example`; None: none are.
        own: host of the server itself, which is nobody's although it may lie below the domain.
        own_domains: whether other hosts may be tenants' own.
        """
        self._domain = None if domain is None else domain.lower()
        self._own = own
        self._own_domains = own_domains

    @classmethod
    def of(cls, settings: Settings) -> TenantHosts | None:
        """Return the hosts of an application; None: hosts name nobody."""
        if settings.tenant_domain is None and not settings.tenant_own_domains:
            return None
        own = urlsplit(settings.public_url).hostname if settings.public_url else None
        return cls(settings.tenant_domain, own, own_domains=settings.tenant_own_domains)

    def named(self, request: Request) -> str | None:
        """Return the tenant that is named; None: none is.

        Raises:
            InvalidHeader: header and host name different ones.
        """
        return named_alike(request, self._by_host(_host(request)))

    def own_domain(self, request: Request) -> str | None:
        """Return the host of a request where it may be a tenant's own domain; None: it is none."""
        if not self._own_domains:
            return None
        name = _host(request)
        ours = name == self._own or (
            self._domain is not None and (name == self._domain or name.endswith(f".{self._domain}"))
        )
        return name if not ours and _OWN_DOMAIN.fullmatch(name) else None

    def _by_host(self, name: str) -> str | None:
        if self._domain is None or not name.endswith(f".{self._domain}") or name == self._own:
            return None
        label = name.removesuffix(f".{self._domain}")
        if "." in label:
            return None
        return label.upper() if _ULID.fullmatch(label) else label


def named_alike(request: Request, by_host: str | None) -> str | None:
    """Return the tenant that header and host name together; None: neither does.

    Raises:
        InvalidHeader: they name different ones.
    """
    by_header = request.header(b"x-tenant")
    if by_host is None or by_header in (None, by_host):
        return by_host if by_header is None else by_header
    raise InvalidHeader("X-Tenant and the host do not name the same tenant alike: leave out X-Tenant")


def _host(request: Request) -> str:
    return (request.header(b"host") or "").lower().partition(":")[0].removesuffix(".")
