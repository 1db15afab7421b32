"""What the people of a tenant, and the platform's operators, are mailed about its life.

In: what has happened. Out: how many mails were taken, and why others were not, as the result of a step. A
mail holds no secret: invitations, and the links in them, are the identity provider's. Refuses nothing: no
procedure stops because somebody was not mailed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from byodpp.authentication.tenants import Tenant
from byodpp.database import Database
from byodpp.exceptions import ApiError
from byodpp.mails import Mail, Mailer, send_patiently
from byodpp.tenant_life.plans import Newcomer

__all__ = ["TenantMails"]

#: Mails of one step; who administers a tenant together hears of it from the first ones.
_MOST: Final = 10
_ADMINISTRATORS: Final = """
    select distinct u.email from users u
        join user_roles h on h.tenant_id = u.tenant_id and h.user_id = u.id
        join roles r on r.id = h.role_id and r.tenant_id in (0, u.tenant_id)
    where u.tenant_id = $1 and r.name = 'Admin' and u.email is not null
        and u.status not in ('deactivated', 'rejected')
    order by 1 limit $2
"""
_FIRST: Final = (
    "select given->>'email' from byodpp.tenant_procedures"
    " where kind = 'onboard' and done->'tenant'->>'id' = $1::text and finished_at is not null"
    " order by id desc limit 1"
)
_REASONS: Final = {
    "payment": "a payment is outstanding",
    "policy": "its use of the service is not in line with the terms",
    "admin": "an operator of the platform has decided so",
    "security": "its accounts may be in danger",
}


class TenantMails:
    """Writes the mails, and has them sent."""

    def __init__(
        self, mailer: Mailer | None, database: Database, *, operators: str | None, address: str | None
    ) -> None:
        """Args:
        mailer: sends them; None: nobody is mailed.
        database: knows a tenant's administrators.
        operators: address of who is told what happens to tenants; None: nobody is.
        address: where people sign in; None: the mails name none.
        """
        self._mailer = mailer
        self._database = database
        self._operators = operators
        self._address = address

    async def onboarded(self, newcomer: Newcomer, name: str, *, invited: bool) -> Mapping[str, Any]:
        """Welcome the first administrator, and tell the operators."""
        way = (
            "Another mail holds the link by which you choose your password; it works for 24 hours."
            if invited
            else "You get your first password from whoever has registered you, and change it at once."
        )
        signing_in = "" if self._address is None else f"\n\nYou sign in at {self._address}"
        welcome = (
            f"Hello {newcomer.administrator().name},\n\n{name} is registered, and you administer"
            f" it. Its short name is {newcomer.slug}.\n\n{way}{signing_in}\n"
        )
        letter = Mail(to=newcomer.email, subject=f"Welcome: {name} is registered", text=welcome)
        return await self._send([letter], f"Tenant {newcomer.slug} ({name}) was onboarded.")

    async def suspended(self, tenant: Tenant, name: str, reason: str) -> Mapping[str, Any]:
        """Tell a tenant's administrators that nobody of it is let in, and why."""
        text = (
            f"The account of {name} was suspended: {_REASONS[reason]}.\n\nNobody of it can sign in, and its"
            " programs are refused. Nothing was deleted.\n\nPlease turn to the operators of the platform.\n"
        )
        told = f"Tenant {tenant.slug} ({name}) was suspended: {reason}."
        return await self._told(tenant, "Account suspended", text, told)

    async def reactivated(self, tenant: Tenant, name: str) -> Mapping[str, Any]:
        """Tell them that they are let in again."""
        at = "" if self._address is None else f" at {self._address}"
        text = f"The account of {name} was reactivated. Everything is as it was: sign in again{at}.\n"
        told = f"Tenant {tenant.slug} ({name}) was reactivated."
        return await self._told(tenant, "Account reactivated", text, told)

    async def deleted(self, tenant: Tenant) -> Mapping[str, Any]:
        """Tell the operators; of the tenant there is nobody any more."""
        return await self._send([], f"Tenant {tenant.slug} was deleted.")

    async def _told(self, tenant: Tenant, subject: str, text: str, operators: str) -> Mapping[str, Any]:
        try:
            addresses = await self._administrators(tenant)
        except ApiError as error:  # its own database may be away
            told = await self._send([], operators)
            return {**told, "failed": [*told["failed"], error.message]}
        return await self._send([Mail(to=one, subject=subject, text=text) for one in addresses], operators)

    async def _administrators(self, tenant: Tenant) -> list[str]:
        if self._mailer is None:
            return []
        async with self._database.at(tenant.database).system() as transaction:
            found = [row["email"] for row in await transaction.fetch(_ADMINISTRATORS, tenant.id, _MOST)]
        if found:
            return found
        async with self._database.system() as transaction:
            first = await transaction.fetchval(_FIRST, str(tenant.id))
        return [] if first is None else [first]

    async def _send(self, mails: Iterable[Mail], operators: str) -> Mapping[str, Any]:
        if self._mailer is None:
            return {"mailed": 0, "failed": ["smtp_host is not set"]}
        everything = list(mails)
        if self._operators is not None:
            everything.append(Mail(to=self._operators, subject=operators.rstrip("."), text=f"{operators}\n"))
        failed = list[str]()
        for mail in everything:
            reason = await send_patiently(self._mailer, mail)
            if reason is not None:
                failed.append(reason)
                if len(failed) > 1:  # the server is away: the others would wait for nothing
                    break
        return {"mailed": len(everything) - len(failed), "failed": failed}
