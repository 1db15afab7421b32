"""The tenant that a request names: by its X-Tenant header, or by the host that it was sent to.

In: a request. Out: a name, a slug or a ULID, or None; whether its caller may choose that tenant is the
authenticator's affair. May reject: InvalidHeader (header and host do not name the same).
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from byodpp.exceptions import InvalidHeader
from byodpp.requests import Request
from byodpp.settings import Settings

__all__ = ["TenantHosts"]

#: Hosts are the same in small and capital letters; a ULID is written in capitals.
_ULID: Final = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")


class TenantHosts:
    """Hosts below one domain, each a tenant's: `acme.dpp.example` is the tenant acme."""

    def __init__(self, domain: str, own: str | None = None) -> None:
        """Args:
        domain: below which they are, e.g. `dpp.example`.
        own: host of the server itself, which is nobody's although it may lie below the domain.
        """
        self._end = f".{domain.lower()}"
        self._own = own

    @classmethod
    def of(cls, settings: Settings) -> TenantHosts | None:
        """Return the hosts of an application; None: hosts name nobody."""
        if settings.tenant_domain is None:
            return None
        own = urlsplit(settings.public_url).hostname if settings.public_url else None
        return cls(settings.tenant_domain, own)

    def named(self, request: Request) -> str | None:
        """Return the tenant that is named; None: none is.

        Raises:
            InvalidHeader: header and host name different ones.
        """
        by_header, by_host = request.header(b"x-tenant"), self._by_host(request.header(b"host") or "")
        if by_host is None or by_header in (None, by_host):
            return by_host if by_header is None else by_header
        raise InvalidHeader("X-Tenant and the host do not name the same tenant alike: leave out X-Tenant")

    def _by_host(self, host: str) -> str | None:
        name = host.lower().partition(":")[0].removesuffix(".")
        if not name.endswith(self._end) or name == self._own:
            return None
        label = name.removesuffix(self._end)
        if "." in label:
            return None
        return label.upper() if _ULID.fullmatch(label) else label
