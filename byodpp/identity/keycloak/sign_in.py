"""How people sign in at a realm of Keycloak: with a second factor, or at a provider of the tenant's own.

The administration interface in, for one realm; the same promises as of `administration`: every step may
be repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from byodpp.exceptions import BadGateway, Detail, ValidationFailed
from byodpp.identity.administration import SignInProvider
from byodpp.identity.keycloak import representations
from byodpp.identity.keycloak.server import KeycloakServer, tolerated

if TYPE_CHECKING:
    from keycloak import KeycloakAdmin

__all__ = ["put_provider", "remove_provider", "require_second_factor"]

#: Keycloak's flows in which a password is asked for, and the step that asks for a code.
_FLOWS: Final = {"browser": "auth-otp-form", "direct grant": "direct-grant-validate-otp"}


async def require_second_factor(admin: KeycloakAdmin, *, required: bool) -> None:
    """Let everybody pass the part of each flow that asks for a code, or only who has an authenticator."""
    for flow, step in _FLOWS.items():
        steps = await admin.a_get_authentication_flow_executions(flow)
        for execution, requirement in _requirements(steps, step, required=required):
            if execution["requirement"] != requirement:
                changed = {**execution, "requirement": requirement}
                await admin.a_update_authentication_flow_executions(changed, flow)


def _requirements(
    steps: list[dict[str, Any]], asking: str, *, required: bool
) -> list[tuple[dict[str, Any], str]]:
    """Return the executions that say when a code is asked for, with what each is to be.

    Raises:
        BadGateway: this Keycloak has another flow than the one that we know.
    """
    at = next((n for n, one in enumerate(steps) if one.get("providerId") == asking), None)
    if at is None:
        raise BadGateway(f"The identity provider has no step {asking!r} where it asks for passwords")
    level = steps[at]["level"]
    begins = max((n for n in range(at) if steps[n]["level"] < level), default=0)
    found = [(steps[begins], "REQUIRED" if required else "CONDITIONAL")]
    for one in steps[begins + 1 :]:
        if one["level"] < level:
            break
        if one.get("providerId", "").startswith("conditional-"):
            found.append((one, "DISABLED" if required else "REQUIRED"))
    # As Keycloak has it from the start: one of several ways in the browser, the only one elsewhere.
    usual = "ALTERNATIVE" if "ALTERNATIVE" in steps[at]["requirementChoices"] else "REQUIRED"
    return [*found, (steps[at], "REQUIRED" if required else usual)]


async def put_provider(
    server: KeycloakServer, admin: KeycloakAdmin, realm: str, provider: SignInProvider
) -> None:
    """Read what the provider says of itself, and make it or bring it up to date, with its roles."""
    provider.check()
    if reserved := representations.RESERVED_ROLES & set(provider.roles):
        raise ValidationFailed(f"Keycloak keeps these roles to itself: {', '.join(sorted(reserved))}")
    told = await _told(server, admin, realm, provider)
    wanted = representations.sign_in_provider(provider, told)
    with tolerated(409):
        await admin.a_create_idp(wanted)
    await admin.a_update_idp(provider.alias, wanted)
    for role in provider.roles:
        with tolerated(409):
            await admin.a_create_realm_role({"name": role})
    mappers = {one["name"]: one["id"] for one in await admin.a_get_idp_mappers(provider.alias)}
    names = {f"{representations.ROLE_MAPPER}{role}": role for role in provider.roles}
    for name in names.keys() - mappers.keys():
        await admin.a_add_mapper_to_idp(
            provider.alias, representations.role_mapper(provider.alias, names[name])
        )
    for name, mapper in mappers.items():
        if name.startswith(representations.ROLE_MAPPER) and name not in names:
            path = f"admin/realms/{realm}/identity-provider/instances/{provider.alias}/mappers/{mapper}"
            await server.delete(admin, path)


async def remove_provider(admin: KeycloakAdmin, alias: str) -> None:
    """Delete the provider; also when there is none."""
    with tolerated(404):
        await admin.a_delete_idp(alias)


async def _told(
    server: KeycloakServer, admin: KeycloakAdmin, realm: str, provider: SignInProvider
) -> dict[str, Any]:
    """Let Keycloak read the provider's metadata.

    Raises:
        ValidationFailed: there are none, or they name no key by which it can be known.
    """
    asked = {"providerId": provider.kind, "fromUrl": provider.metadata}
    path = f"admin/realms/{realm}/identity-provider/import-config"
    try:
        told: dict[str, Any] = await server.post(admin, path, asked)
    except server.errors() as error:
        if error.response_code not in (400, 500):
            raise
        reason = "Keycloak finds no metadata at this address; its log says more"
        raise _refused(provider, reason) from error
    if not (told.get("signingCertificate") or told.get("jwksUrl")):
        raise _refused(provider, "these metadata name no key by which what it says can be checked")
    return told


def _refused(provider: SignInProvider, reason: str) -> ValidationFailed:
    told = f"The identity provider {provider.alias} cannot be used"
    return ValidationFailed(told, details=[Detail("metadata", "invalid", reason)])
