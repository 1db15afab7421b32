"""Where a browser signs in, for the documentation page: a tenant's name in, addresses out.

The page goes there by authorization code with PKCE, and begins a session with what it gets.
Nothing of it passes through this server. May reject: NotFound for a tenant that is not served.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from byodpp import wire
from byodpp.authentication.tenants import PLATFORM_REALM, TenantDirectory
from byodpp.exceptions import NotFound
from byodpp.identity import IdentityProvider
from byodpp.requests import Request
from byodpp.responses import Answer

__all__ = ["SignIn"]


class SignIn:
    """Tells browsers the way to their tenant's realm."""

    def __init__(self, provider: IdentityProvider, tenants: TenantDirectory) -> None:
        """Args:
        provider: whose realms people sign in at.
        tenants: finds the realm of a tenant.
        """
        self._provider = provider
        self._tenants = tenants
        known = provider.browser_sign_in(PLATFORM_REALM)
        #: Whether there is a way at all.
        self.offered = known is not None
        #: Origin that the page must be allowed to speak to; empty when there is no way.
        self.origin = ""
        if known is not None:
            parts = urlsplit(known.token)
            self.origin = f"{parts.scheme}://{parts.netloc}"

    async def way(self, request: Request) -> Answer:
        """Answer with the addresses of a tenant's realm.

        Raises:
            NotFound: there is no such tenant, or it is not active.
        """
        tenant = await self._tenants.by_name(request.params["tenant"])
        found = None
        if tenant is not None and tenant.active:
            found = self._provider.browser_sign_in(tenant.realm)
        if found is None:
            raise NotFound("There is no such tenant.")
        document = {
            "issuer": found.issuer,
            "authorization": found.authorization,
            "token": found.token,
            "endSession": found.end_session,
            "clientId": found.client,
            "redirectUri": found.redirect_to,
        }
        return Answer(body=wire.dumps(document))
