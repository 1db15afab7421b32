"""What is said of a tenant that comes: values, and what is refused before anything is begun."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from byodpp.authentication.tenants import PLATFORM_SLUG
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import Detail, ValidationFailed
from byodpp.suggestion import nearest

__all__ = ["SUSPENSION_REASONS", "Guest", "Newcomer", "given_names", "refuse_values"]

#: Why a tenant may be locked out.
SUSPENSION_REASONS: Final = ("payment", "policy", "admin", "security")

#: Fields of Tenants that have a word of their own.
_SAID: Final = {"slug": "SLUG", "name": "--name", "domain": "--domain"}
_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_EMAIL: Final = re.compile(r"[^\s@<>\x00-\x1f\x7f-\x9f]{1,64}@[^\s@<>\x00-\x1f\x7f-\x9f]{1,255}")
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,126}[a-z0-9])?")
#: Characters of a row of Users: of its name, which is the address where no name is said, and of its phone.
_LONGEST_NAME: Final = 255
_LONGEST_PHONE: Final = 32
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Somebody who shall work for a tenant, with these roles and no others."""

    email: str
    roles: tuple[str, ...]
    first_name: str = ""
    last_name: str = ""
    phone: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ValidationFailed: with every fault.
        """
        faults = _faults_of_person(self)
        if not self.roles:
            faults.append(Detail("roles", "too_few", "must name a role"))
        if any(not 0 < len(role) <= 32 or not role.isprintable() for role in self.roles):
            faults.append(Detail("roles", "format", "must have 1 to 32 printable characters each"))
        if faults:
            raise ValidationFailed("Nobody can be invited so", details=faults)

    @property
    def name(self) -> str:
        """What the user is shown as."""
        return f"{self.first_name} {self.last_name}".strip() or self.email

    def document(self) -> dict[str, Any]:
        """Return it as JSON, to be kept with the procedure."""
        return {
            "email": self.email,
            "roles": sorted(self.roles),
            "firstName": self.first_name,
            "lastName": self.last_name,
            "phone": self.phone,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """An organisation that shall be a tenant, and who administers it first."""

    slug: str  # short name, for addresses
    name: str
    email: str  # of the first administrator
    first_name: str = ""
    last_name: str = ""
    phone: str | None = None
    tenant_class: str | None = None  # name of a TenantClass; None is the default class
    parent: str | None = None  # slug or ULID of the tenant above it; gives its class where none is named
    domain: str | None = None  # of its own pages, e.g. `passports.acme.example`
    industry: str | None = None  # folder of `seeds/tenants/` whose files it begins with as well
    region: str | None = None  # of a database of its own; None is what its class says, or anywhere
    values: Mapping[str, Any] = field(default_factory=dict)  # further fields of Tenants, by API name

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ValidationFailed: with every fault.
        """
        faults = []
        if not _SLUG.fullmatch(self.slug):
            faults.append(
                Detail("slug", "pattern", "must be lower-case letters, digits and hyphens, at most 63")
            )
        if not self.name.strip():
            faults.append(Detail("name", "too_short", "must have 1 to 128 characters"))
        if len(self.name) > 128:
            faults.append(Detail("name", "too_long", "must have 1 to 128 characters"))
        faults += _faults_of_person(self)
        if self.domain is not None and not _HOST.fullmatch(self.domain):
            faults.append(Detail("domain", "format", "must be the name of a host"))
        if self.industry is not None and not _SLUG.fullmatch(self.industry):
            told = "must be lower-case letters, digits and hyphens, at most 63"
            faults.append(Detail("industry", "pattern", told))
        if faults:
            raise ValidationFailed("The tenant cannot be onboarded", details=faults)

    @staticmethod
    def named_after(slug: str) -> str:
        """Return the name of an organisation of which only the slug was said."""
        return slug.replace("-", " ").title()

    @property
    def platform(self) -> bool:
        """Whether this is the operators' own realm, whose tenant is there already."""
        return self.slug == PLATFORM_SLUG

    def administrator(self) -> Guest:
        """Return who comes first."""
        return Guest(
            email=self.email,
            first_name=self.first_name,
            last_name=self.last_name,
            phone=self.phone,
            roles=("Admin",),
        )

    def document(self) -> dict[str, Any]:
        """Return it as JSON, to be kept with the procedure."""
        return {
            "slug": self.slug,
            "name": self.name,
            "email": self.email,
            "firstName": self.first_name,
            "lastName": self.last_name,
            "phone": self.phone,
            "tenantClass": self.tenant_class,
            "parent": self.parent,
            "domain": self.domain,
            "industry": self.industry,
            "region": self.region,
            "values": dict(self.values),
        }


def _faults_of_person(said: Guest | Newcomer) -> list[Detail]:
    """Return what no row of Users takes, before a realm and an account are made of it."""
    faults = []
    if not _EMAIL.fullmatch(said.email):
        faults.append(Detail("email", "format", "must be an address"))
    elif len(said.email) > _LONGEST_NAME:
        faults.append(Detail("email", "too_long", f"must have at most {_LONGEST_NAME} characters"))
    if len(f"{said.first_name} {said.last_name}".strip()) > _LONGEST_NAME:
        told = f"must have at most {_LONGEST_NAME} characters, both names together"
        longer = "lastName" if len(said.last_name) > len(said.first_name) else "firstName"
        faults.append(Detail(longer, "too_long", told))
    if said.phone is not None and len(said.phone) > _LONGEST_PHONE:
        faults.append(Detail("phone", "too_long", f"must have at most {_LONGEST_PHONE} characters"))
    texts = {"firstName": said.first_name, "lastName": said.last_name, "phone": said.phone or ""}
    faults += [
        Detail(name, "format", "must have no control characters")
        for name, text in texts.items()
        if _CONTROLS.search(text)
    ]
    return faults


def refuse_values(tenants: ResourceDefinition, values: Mapping[str, Any]) -> None:
    """Refuse further fields of a tenant that nobody gives it, or that are said otherwise.

    Raises:
        ValidationFailed: with every fault.
    """
    machine = tenants.states
    open_to = {
        name: one
        for name, one in tenants.fields.items()
        if not (one.implied or one.read_only or name in _SAID or (machine and name == machine.field))
    }
    faults = []
    for name in values.keys() - open_to.keys():
        if name in _SAID:
            faults.append(Detail(name, "unsupported", f"is said by {_SAID[name]}"))
        elif name in tenants.fields:
            faults.append(Detail(name, "read_only", "is given by the application"))
        else:
            told = f"there is no such field of a tenant. {nearest(name, open_to, list_up_to=0)}".rstrip()
            faults.append(Detail(name, "unknown_field", told))
    if faults:
        raise ValidationFailed("The tenant cannot be onboarded", details=faults)


def given_names() -> frozenset[str]:
    """Return what `{"$given": …}` may name in a file that tenants begin with."""
    return frozenset(Newcomer(slug="a", name="A", email="a@a").document()) | {"tenantId", "administratorId"}
