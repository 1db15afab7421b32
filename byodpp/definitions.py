"""What a manifest means, as frozen values: the vocabulary of every later stage.

Comes from `manifest` (which judges the JSON) and `registry` (which resolves references).
Nothing here reads a file, talks to a database, or can be wrong: a value that exists was
checked. Names are those of the API (camelCase); `column` is the name in the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from byodpp.fields import FieldType

__all__ = [
    "MISSING",
    "OPERATIONS",
    "READ_OPERATIONS",
    "VARIABLES",
    "AccessRule",
    "ActionDefinition",
    "Bounds",
    "FieldDefinition",
    "Kind",
    "OnDelete",
    "ReferenceDefinition",
    "RelationDefinition",
    "ResourceDefinition",
    "RouteLimit",
    "Scope",
    "StateMachine",
    "Transition",
    "UniqueKey",
    "Within",
    "unfit_for_preset",
]

#: What rules may say of who asks, as they write it, and when; `$user` alone is `$user.id`.
VARIABLES: Final = (
    "$user.id",
    "$user.subject",
    "$user.roles",
    "$user.name",
    "$user.userName",
    "$user.email",
    "$tenant",
    "$now",
)


class _Missing:
    """Type of MISSING; its one instance means "not given", where None is a value."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


def _empty() -> Mapping[str, Any]:
    """Return a mapping that holds nothing and cannot be changed (such a default needs a factory)."""
    return MappingProxyType({})


#: The seven operations, in the order in which documentation lists them.
OPERATIONS: Final = ("list", "create", "read", "update", "patch", "delete", "batch")
#: Operations that need the right `read`; every other needs `write`.
READ_OPERATIONS: Final = frozenset({"list", "read"})


class Kind(StrEnum):
    """What stands behind a resource."""

    DATABASE = "database"  # a table of ours
    LOGIC = "logic"  # no table; every route is served by a logic class
    VIEW = "view"  # read-only over an existing table or view


class Scope(StrEnum):
    """Whose rows a resource holds."""

    TENANT = "tenant"  # one tenant's
    USER = "user"  # one user's of one tenant
    SHARED = "shared"  # everybody's, written from the platform only
    LIBRARY = "library"  # the platform's, readable by all, plus each tenant's own
    SELF = "self"  # the tenant's own record


class OnDelete(StrEnum):
    """What happens to a row when the row it refers to is deleted."""

    RESTRICT = "restrict"
    CASCADE = "cascade"
    SET_NULL = "setNull"


class Within(StrEnum):
    """Where a unique value counts."""

    SCOPE = "scope"  # among the live rows of the resource's scope
    PLATFORM = "platform"  # among the live rows of all tenants
    EVER = "ever"  # among all rows of all tenants, deleted ones included


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceDefinition:
    """A field that holds the key of another resource's row."""

    resource: str  # name of the target, same version
    relation: str  # name under which `include` and filter paths find it, e.g. `category`
    on_delete: OnDelete = OnDelete.RESTRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDefinition:
    """One field of a resource, or one property of an object field."""

    name: str  # in JSON
    column: str  # in the database
    type: FieldType
    required: bool = False  # must be present on create and update
    nullable: bool = True  # may be null; a required field is not, unless the manifest says so
    default: Any = MISSING  # a Python value of the field's type
    read_only: bool = False  # never written by a client
    write_only: bool = False  # never shown to a client
    implied: bool = False  # added by the framework (id, createdAt, …)
    unique: Within | None = None
    index: bool = False
    trigram: bool = False  # an index for `like`, `ilike`, `contains` and their like, where the server has it
    filterable: bool = True  # may be used in filter, sort, and aggregates
    references: ReferenceDefinition | None = None
    enum: tuple[Any, ...] | None = None
    constraints: Mapping[str, Any] = field(
        default_factory=_empty
    )  # minLength, maximum, pattern, precision, …
    properties: Mapping[str, FieldDefinition] = field(default_factory=_empty)  # of an object
    items: FieldDefinition | None = None  # of an array
    additional_properties: bool = False  # an object accepts keys it does not name
    locale: str | None = None  # collation for comparing text; None is code point order
    title: str | None = None
    description: str | None = None
    examples: tuple[Any, ...] = ()
    personal: bool = False  # kept out of audit entries, events and logs
    encrypted: bool = False  # stored as bytes that the database cannot read
    controlled: bool = False  # reading it is written into the audit trail
    audience: frozenset[str] = frozenset()  # roles, `public`, `owner`; empty means every reader
    term: str | None = None  # IRI of the field's meaning
    unit: str | None = None  # UN/CEFACT Recommendation 20 code
    renamed_from: str | None = None  # former JSON name, for the migration that renames
    path: str = ""  # JSON path in the manifest, for messages

    @property
    def has_default(self) -> bool:
        """Whether an absent value is filled in."""
        return self.default is not MISSING

    @property
    def redacted(self) -> bool:
        """Whether audit entries and events leave its value out, for its own sake or for that of a part."""
        inside = (*self.properties.values(), *(() if self.items is None else (self.items,)))
        return self.write_only or self.personal or self.encrypted or any(one.redacted for one in inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationDefinition:
    """A way from a row to other rows; to-one by a reference, to-many by the other's reference."""

    name: str
    resource: str  # name of the target
    many: bool
    local_field: str  # on this side: the reference (to-one) or `id` (to-many)
    foreign_field: str  # on the other side: `id` (to-one) or the reference (to-many)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A step of a state machine, served as `POST /…/{id}/<name>`."""

    name: str
    sources: tuple[str, ...]  # states from which it may start
    target: str
    roles: tuple[str, ...] = ()  # beyond `access`; empty adds nothing
    event: str | None = None  # emitted with the change


@dataclass(frozen=True, slots=True, kw_only=True)
class StateMachine:
    """The states of a resource; the state field is read-only, only transitions change it."""

    field: str
    initial: str
    states: tuple[str, ...]
    transitions: Mapping[str, Transition]


@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueKey:
    """Fields whose values together occur once."""

    fields: tuple[str, ...]
    within: Within = Within.SCOPE


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """Who may do one thing, and on which rows and fields."""

    roles: tuple[str, ...]  # role names; `*` is every signed-in caller, `public` everybody
    filter: Mapping[str, Any] | None = None  # JSON form of the query language, with $user, $tenant, $now
    fields: tuple[str, ...] | None = None  # None is all
    preset: Mapping[str, Any] = field(default_factory=_empty)  # field -> JSON value of a create
    path: str = ""  # JSON path in the manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionDefinition:
    """A named route of a resource that a logic class, a transition or the restoring of rows serves."""

    key: str  # `feature:post`, or the declared name
    url: str  # pattern, e.g. `/api/v1/products/{id}/feature`
    method: str  # upper case
    transition: Transition | None = None
    restores: bool = False  # brings back a row that was deleted softly
    parameters: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({})
    )  # of the url -> field whose value it is
    public: bool = False
    max_body_bytes: int | None = None  # None is the application's limit
    summary: str | None = None
    path: str = ""

    @property
    def on_a_row(self) -> bool:
        """Whether it may change the one row that its address names."""
        return "{id}" in self.url and self.method not in ("GET", "HEAD")

    @property
    def is_a_class_on_a_row(self) -> bool:
        """Whether a class may change the row, of whose version it knows nothing."""
        return self.on_a_row and self.transition is None and not self.restores


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much one request may ask of a resource."""

    limit: int = 20  # rows of a page when the client names none
    max_limit: int = 1_000
    max_include_depth: int = 4
    max_includes: int = 16
    max_include_rows: int = 10_000  # include limits multiplied by the page's
    max_filter_terms: int = 100
    max_filter_depth: int = 12
    max_sorts: int = 8
    max_in_values: int = 1_000
    max_batch: int = 1_000
    max_offset: int = 1_000_000_000
    max_answer_bytes: int = 67_108_864  # of the rows of one answer, as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteLimit:
    """How often one caller may use a route."""

    requests: int
    seconds: int  # length of the sliding window


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceDefinition:
    """One resource, complete: the value that every later stage is built from."""

    name: str  # `ProductDataSources`
    version: str  # `v1`
    service: str  # name of the service that lists it
    kind: Kind = Kind.DATABASE
    scope: Scope = Scope.TENANT
    table: str  # name in the database; for a view the relation it reads
    schema: str | None = None  # database schema of a view's relation; None is the application's
    segment: str  # kebab-case in URLs: `product-data-sources`
    key: str = "bigint"  # or `uuid7`, `ulid`
    fields: Mapping[str, FieldDefinition]  # implied ones included, in order of output
    relations: Mapping[str, RelationDefinition] = field(default_factory=_empty)
    states: StateMachine | None = None
    unique: tuple[UniqueKey, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    search: tuple[str, ...] = ()
    versioned: bool = False
    version_required: bool = False  # `"versioned": "required"`: writes need If-Match
    soft_delete: bool = False
    audit: bool = False
    history: bool = False
    events: frozenset[str] = frozenset()  # operations that emit an event
    operations: tuple[str, ...] = OPERATIONS  # those that have a route
    crud_routes: Mapping[str, str] = field(
        default_factory=_empty
    )  # operation -> URL where it is not the usual one
    actions: tuple[ActionDefinition, ...] = ()
    access: Mapping[str, tuple[AccessRule, ...]] = field(
        default_factory=_empty
    )  # key: read, write, operation, action key
    bounds: Bounds = Bounds()
    rate_limits: Mapping[str, RouteLimit] = field(default_factory=_empty)  # operation or action key
    title: str | None = None
    description: str | None = None
    messages: Mapping[str, str] = field(default_factory=_empty)  # operation -> `message` of the envelope
    part: str | None = None  # framework part that declares it, e.g. `tenancy`
    routed: bool = True  # False: a part's table without routes
    path: str = ""  # JSON path in the manifest
    columns: Mapping[str, str] = field(init=False)  # field name -> column

    def __post_init__(self) -> None:
        """Fill in what is derived."""
        columns = {name: definition.column for name, definition in self.fields.items()}
        object.__setattr__(self, "columns", MappingProxyType(columns))

    @property
    def id(self) -> tuple[str, str]:
        """Version and name: unique in a registry."""
        return (self.version, self.name)

    @property
    def tenant_bound(self) -> bool:
        """Whether every row belongs to exactly one tenant."""
        return self.scope in (Scope.TENANT, Scope.USER)

    @property
    def control_plane(self) -> bool:
        """Whether its rows are kept for all tenants together, wherever those have their own."""
        return self.scope is Scope.SELF or (self.part == "tenancy")

    @property
    def base_url(self) -> str:
        """Address of the collection."""
        return f"/api/{self.version}/{self.segment}"

    def public_filter(self) -> tuple[AccessRule, ...]:
        """Rules that open reading to anonymous callers; empty means none may read."""
        rules = (*self.access.get("read", ()), *self.access.get("list", ()))
        return tuple(rule for rule in rules if "public" in rule.roles)


def unfit_for_preset(definition: FieldDefinition) -> str | None:
    """Say why no rule may preset a field, to be read behind its name; None when one may."""
    if definition.implied or definition.read_only:
        return "is not written by clients"
    if "eq" not in definition.type.operators:
        return f"is of type {definition.type.name}, whose values are not compared"
    return None
