"""From the `fields` of a draft to field definitions, implied fields included.

Every field is judged for itself: one that is broken is reported and left out of `Draft.fields`,
while its name stays in `Draft.names`, so that nothing that mentions it is reported as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from byodpp.definitions import MISSING, FieldDefinition, Kind, OnDelete, ReferenceDefinition, Scope, Within
from byodpp.fields import FIELD_TYPES, EncryptedType
from byodpp.fields.field_type import FieldType
from byodpp.fields.string import StringType
from byodpp.grammar.shapes import Checker
from byodpp.grammar.values import Checked, Items
from byodpp.manifest.draft import Draft, Drafts, snake_case
from byodpp.manifest.names import implied_names
from byodpp.suggestion import nearest

__all__ = ["read_fields"]

_KEY_TYPES: Final[Mapping[str, str]] = MappingProxyType({"bigint": "bigint", "uuid7": "uuid", "ulid": "ulid"})
#: Keys that need a column.
_COLUMN_KEYS: Final = (
    "references",
    "as",
    "onDelete",
    "unique",
    "within",
    "index",
    "filterable",
    "encrypted",
    "controlled",
    "column",
    "renamedFrom",
)
#: Keys that ask of a column what only its values could answer, or write them into the database as they are.
_UNENCRYPTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "references": "a key is no secret",
        "unique": "the same value looks different each time it is encrypted",
        "index": "the same value looks different each time it is encrypted",
        "filterable": "the database cannot compare what it cannot read",
        "default": "it would stand in the database as it is",
        "locale": "the database cannot compare what it cannot read",
        "renamedFrom": "a value is bound to its column",
    }
)
_TYPES_OF_KEY: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "properties": ("object",),
        "additionalProperties": ("object",),
        "items": ("array",),
        "locale": ("string", "text"),
    }
)
#: Keys of any type; what is in neither of the two is the type's own word.
_COMMON: Final = frozenset(
    "type required nullable default enum title description examples personal audience term unit references "
    "as onDelete unique within index filterable readOnly writeOnly encrypted controlled column "
    "renamedFrom".split()
)


def read_fields(draft: Draft, drafts: Drafts, checker: Checker) -> None:
    """Fill `Draft.fields`: id, the declared fields, the other implied ones."""
    implied = {field.name: field for field in _implied_fields(draft)}
    if "id" in implied:
        draft.fields["id"] = implied.pop("id")
    fields = draft.body.get("fields") or Checked({}, draft.body.at("fields"))
    _check_renamed(fields, draft, checker)
    for name, spec in fields.items():
        if name in implied or (name == "id" and draft.kind is not Kind.LOGIC):
            continue
        field = _FieldReader(draft, drafts, checker).read(name, spec)
        if field is not None:
            draft.fields[name] = field
    draft.fields.update(implied)


def _implied_fields(draft: Draft) -> Iterator[FieldDefinition]:
    for name in implied_names(draft):
        kind = {
            "id": _KEY_TYPES[draft.key],
            "version": "integer",
            "tenantId": "bigint",
            "ownerId": "bigint",
        }.get(name, "datetime")
        hidden = name in ("tenantId", "deletedAt")
        yield FieldDefinition(
            name=name,
            column=snake_case(name),
            type=FIELD_TYPES[kind],
            nullable=name == "deletedAt",
            default=1 if name == "version" else MISSING,
            read_only=True,
            write_only=hidden,
            implied=True,
            filterable=not hidden,
            path=draft.path,
        )


def _check_renamed(fields: Checked, draft: Draft, checker: Checker) -> None:
    """Refuse former names that are still in use, or claimed twice."""
    claimed: dict[str, str] = {}
    for name, spec in fields.items():
        former = spec.get("renamedFrom")
        if former is None:
            continue
        path = spec.at("renamedFrom")
        if former in draft.names:
            reason = (
                f"{former!r} is still a field of {draft.name}"
                if former != name
                else "a field cannot be renamed from itself"
            )
            checker.report(path, reason, "Remove the old field, or remove `renamedFrom`.")
        elif claimed.setdefault(former, name) != name:
            checker.report(
                path, f"{former!r} became {claimed[former]!r} already", "One field can have one successor."
            )


class _FieldReader:
    """Judges one field and what is inside it."""

    def __init__(self, draft: Draft, drafts: Drafts, checker: Checker) -> None:
        self._draft = draft
        self._drafts = drafts
        self._checker = checker

    def read(self, name: str, spec: Checked, *, nested: bool = False) -> FieldDefinition | None:
        """Return the definition, None when the field is broken."""
        before = len(self._checker.problems)
        reference = None if nested else self._reference(name, spec)
        kind = self._type(spec, reference, nested)
        if kind is not None:
            self._check_keys(spec, kind)
        self._check_flags(spec, nested)
        self._check_encrypted(spec)
        properties = self._inside(spec)
        items = self.read("items", spec["items"], nested=True) if "items" in spec else None
        if kind is None or len(self._checker.problems) > before:
            return None
        column = "" if nested else self._draft.names[name]
        field = self._definition(name, column, spec, kind, reference, properties, items)
        return self._with_values(field, spec)

    def _type(self, spec: Checked, reference: ReferenceDefinition | None, nested: bool) -> FieldType | None:
        if "references" in spec:
            if reference is None:
                return None
            target = self._drafts.find(reference.resource, self._draft.version)
            kind = FIELD_TYPES[_KEY_TYPES[target.key if target else "bigint"]]
            if spec.get("type", kind.name) != kind.name:
                reason = f"a reference takes the type of its target, {kind.name}, not {spec['type']}"
                self._checker.report(spec.at("type"), reason, "Leave `type` out.")
            return kind
        if "type" in spec:
            return FIELD_TYPES[spec["type"]]
        if not spec.broken & {"type", "references"}:
            known = ", ".join(FIELD_TYPES)
            other = "" if nested else ' or {"references": "…"}'
            self._checker.report(
                spec.path, "'type' is missing", f'Write e.g. {{"type": "string"}}{other}. Types: {known}.'
            )
        return None

    def _reference(self, name: str, spec: Checked) -> ReferenceDefinition | None:
        if "references" not in spec:
            for key in ("as", "onDelete"):
                if key in spec and "references" not in spec.broken:
                    self._checker.report(
                        spec.at(key), f"{key!r} belongs to a reference", 'Add "references", or leave it out.'
                    )
            return None
        path = spec.at("references")
        target = self._drafts.find(spec["references"], self._draft.version)
        if target is None:
            self._checker.report(
                path, f"there is no resource {spec['references']!r}", self._drafts.suggest(spec["references"])
            )
            return None
        if not self._may_refer(target, path):
            return None
        relation = spec.get("as", name.removesuffix("Id") or name)
        return ReferenceDefinition(
            resource=target.name, relation=relation, on_delete=OnDelete(spec.get("onDelete", "restrict"))
        )

    def _may_refer(self, target: Draft, path: str) -> bool:
        """Whether rows here can hold keys of rows there."""
        source = self._draft
        if target.kind is not Kind.DATABASE:
            what = "a view" if target.kind is Kind.VIEW else f"a {target.body.get('type', 'logic')} resource"
            self._checker.report(path, f"{target.name} is {what}; only rows of a table can be referred to")
            return False
        bound = (Scope.TENANT, Scope.USER)
        if source.scope in (Scope.SHARED, Scope.SELF) and target.scope in bound:
            reason = (
                f"{source.name} has scope {source.scope}, so its rows cannot refer to rows of one "
                f"tenant ({target.name})"
            )
            self._checker.report(
                path,
                reason,
                f'Give {target.name} the scope "shared" or "library", or {source.name} the scope "tenant".',
            )
            return False
        return True

    def _check_keys(self, spec: Checked, kind: FieldType) -> None:
        """Refuse constraints that do not belong to the type."""
        for key in spec:
            takers = _TYPES_OF_KEY.get(key)
            fits = kind.name in takers if takers else key in _COMMON or key in kind.constraint_keys
            if not fits:
                named = takers or tuple(
                    one.name for one in FIELD_TYPES.values() if key in one.constraint_keys
                )
                reason = f"{key!r} does not belong to the type {kind.name}"
                self._checker.report(spec.at(key), reason, f"Types with {key!r}: {', '.join(named)}.")
        if kind.name == "array" and "items" not in spec and "items" not in spec.broken:
            self._checker.report(spec.path, "an array needs `items`", 'Example: "items": {"type": "string"}')
        if kind.name == "object" and not spec.broken & {"properties", "additionalProperties"}:
            self._check_object(spec)
        if "unique" in spec and spec["unique"] is not False and not kind.sortable:
            self._checker.report(
                spec.at("unique"), f"values of type {kind.name} cannot be unique", "Leave it out."
            )

    def _check_object(self, spec: Checked) -> None:
        """Refuse objects that could only be empty, or never be filled as they must."""
        self._check_required(spec)
        if spec.get("additionalProperties"):
            return
        named, fewest = len(spec.get("properties") or ()), spec.get("minProperties", 0)
        if not named:
            self._checker.report(
                spec.at("properties") if "properties" in spec else spec.path,
                "an object without `properties` could only be {}",
                'Name its properties, or write "additionalProperties": true for any; the type json takes any '
                "value.",
            )
        elif fewest > named:
            reason = f"an object of {named} properties never has {fewest}"
            self._checker.report(
                spec.at("minProperties"), reason, 'Name more, or "additionalProperties": true.'
            )

    def _check_required(self, spec: Checked) -> None:
        """Refuse more mandatory properties than an object may have."""
        properties, most = spec.get("properties") or {}, spec.get("maxProperties")
        required = [name for name, one in properties.items() if one.get("required")]
        if most is not None and len(required) > most:
            reason = f"an object of at most {most} properties cannot have those that are required: "
            self._checker.report(
                spec.at("maxProperties"),
                reason + ", ".join(required),
                f"Write {len(required)} or more, or require fewer.",
            )

    def _check_flags(self, spec: Checked, nested: bool) -> None:
        """Refuse switches that contradict each other."""
        report = self._checker.report
        required, read_only = spec.get("required", False), spec.get("readOnly", False)
        if required and read_only:
            report(
                spec.at("required"),
                "a read-only field cannot be required of a client",
                'Write "nullable": false if it is never empty.',
            )
        if read_only and spec.get("writeOnly"):
            report(
                spec.at("writeOnly"),
                "a field cannot be both read-only and write-only",
                "Keep one of the two.",
            )
        if spec.get("onDelete") == "setNull" and (required or spec.get("nullable") is False):
            report(
                spec.at("onDelete"),
                "a field that is never null cannot be set to null",
                'Write "restrict" or "cascade", or make it optional.',
            )
        if "within" in spec and spec.get("unique", False) is False:
            report(
                spec.at("within"),
                "'within' belongs to a unique field",
                'Add "unique": true, or leave it out.',
            )
        if spec.get("nullable") is False and not (
            required or read_only or "default" in spec or "default" in spec.broken or nested
        ):
            report(
                spec.at("nullable"),
                "a field that is never null needs a value",
                'Add "required": true or a "default".',
            )
        if self._draft.kind is Kind.LOGIC and not nested:
            for key in _COLUMN_KEYS:
                if key in spec:
                    report(
                        spec.at(key),
                        f"{self._draft.name} has no table, so {key!r} means nothing",
                        "Leave it out.",
                    )

    def _check_encrypted(self, spec: Checked) -> None:
        """Refuse what cannot be done with values that the database cannot read."""
        if not spec.get("encrypted"):
            return
        if self._draft.kind is Kind.VIEW:
            reason = f"{self._draft.name} is a view: what it shows is stored elsewhere"
            self._checker.report(spec.at("encrypted"), reason, "Leave it out.")
        for key, reason in _UNENCRYPTED.items():
            if spec.get(key, False) is not False:
                advice = "Leave it out."
                if key == "renamedFrom":
                    advice = f'Write "column": "{snake_case(spec[key])}" instead: the column keeps its name.'
                self._checker.report(
                    spec.at(key), f"an encrypted field cannot have {key!r}: {reason}", advice
                )

    def _inside(self, spec: Checked) -> dict[str, FieldDefinition]:
        given: Mapping[str, Checked] = spec.get("properties") or {}
        read = {name: self.read(name, inner, nested=True) for name, inner in given.items()}
        return {name: field for name, field in read.items() if field is not None}

    def _has_trigrams(self, spec: Checked, kind: FieldType) -> bool:
        """Whether parts of a field's text are indexed; it must be one."""
        if spec.get("index") != "trigram":
            return False
        if not isinstance(kind, StringType):
            self._checker.report(spec.at("index"), f"{kind.name} has no trigrams", 'Write "index": true.')
        return True

    def _definition(
        self,
        name: str,
        column: str,
        spec: Checked,
        kind: FieldType,
        reference: ReferenceDefinition | None,
        properties: Mapping[str, FieldDefinition],
        items: FieldDefinition | None,
    ) -> FieldDefinition:
        required = spec.get("required", False)
        audience = spec.get("audience", ())
        return FieldDefinition(
            name=name,
            column=column,
            type=EncryptedType(kind) if spec.get("encrypted") else kind,
            required=required,
            nullable=spec.get("nullable", not required),
            read_only=spec.get("readOnly", False),
            write_only=spec.get("writeOnly", False),
            unique=_within(spec),
            index=spec.get("index", False) is True,
            trigram=self._has_trigrams(spec, kind),
            filterable=_filterable(spec, self._draft, kind),
            references=reference,
            constraints=MappingProxyType(
                {
                    key: spec[key]
                    for key in spec
                    if key in kind.constraint_keys and key not in _COMMON and key not in _TYPES_OF_KEY
                }
            ),
            properties=MappingProxyType(dict(properties)),
            items=items,
            additional_properties=spec.get("additionalProperties", False),
            locale=spec.get("locale"),
            title=spec.get("title"),
            description=spec.get("description"),
            personal=spec.get("personal", False),
            encrypted=spec.get("encrypted", False),
            controlled=spec.get("controlled", False),
            audience=frozenset((audience,) if isinstance(audience, str) else audience),
            term=spec.get("term"),
            unit=spec.get("unit"),
            renamed_from=spec.get("renamedFrom"),
            path=spec.path,
        )

    def _with_values(self, field: FieldDefinition, spec: Checked) -> FieldDefinition | None:
        """Judge the constraints, then the values that the manifest itself gives."""
        before = len(self._checker.problems)
        for reason in field.type.check(field):
            word = reason.partition(" ")[0]
            self._checker.report(spec.at(word) if word in spec else spec.path, reason)
        if len(self._checker.problems) > before:
            return None
        if "enum" in spec:
            allowed = [self._value(value, field, path) for value, path in spec["enum"].located()]
            self._report_repeated(allowed, spec["enum"])
            field = replace(field, enum=tuple(value for value in allowed if value is not MISSING))
        if len(self._checker.problems) > before:
            return None
        if "default" in spec:
            field = replace(
                field, default=self._value(spec["default"], field, spec.at("default"), null=field.nullable)
            )
        if "examples" in spec:
            for value, path in spec["examples"].located():
                self._value(value, field, path, null=field.nullable)
            field = replace(field, examples=tuple(spec["examples"]))
        return field if len(self._checker.problems) == before else None

    def _value(self, value: Any, field: FieldDefinition, path: str, *, null: bool = False) -> Any:
        """Return the Python value of a JSON value in the manifest, MISSING when it is not valid."""
        if value is None:
            if not null:
                self._checker.report(path, "null is not a value of this field", "Leave it out.")
            return None
        try:
            return field.type.default_value(value, field)
        except ValueError as error:
            self._checker.report(
                path, f"not a valid {field.type.name} for this field: {error}", _closest(value, field)
            )
            return MISSING

    def _report_repeated(self, values: list[Any], items: Items) -> None:
        for index, (_, path) in enumerate(items.located()):
            if (
                not isinstance(items[index], str)
                and values[index] in values[:index]
                and values[index] is not MISSING
            ):
                self._checker.report(path, f"{items[index]} is listed twice", "Keep one of them.")


def _closest(value: Any, field: FieldDefinition) -> str:
    if field.enum is None or not isinstance(value, str):
        return ""
    return nearest(value, [one for one in field.enum if isinstance(one, str)])


def _within(spec: Checked) -> Within | None:
    unique = spec.get("unique", False)
    if unique is False:
        return None
    return Within(spec.get("within", "scope") if unique is True else unique)


def _filterable(spec: Checked, draft: Draft, kind: FieldType) -> bool:
    """Whether a field may be filtered by: what it says, else what the resource says, else when indexed."""
    if "filterable" in spec:
        return bool(spec["filterable"])
    if spec.get("writeOnly") or spec.get("encrypted"):
        return False
    if draft.kind is Kind.VIEW or draft.body.get("filterable"):
        return True
    return bool(spec.get("index") or spec.get("unique") or "references" in spec)
