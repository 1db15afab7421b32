"""Schemas: what a body may say per operation, every fault at once, and an application's own classes."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import marshmallow
import pytest

from byodpp import wire
from byodpp.definitions import FieldDefinition, Kind, ResourceDefinition, StateMachine, UniqueKey, Within
from byodpp.exceptions import ExtensionError, ValidationFailed
from byodpp.fields import FIELD_TYPES
from byodpp.registry import Registry
from byodpp.schemas import Fault, SchemaMap, load_schema_overrides


def field(name: str, kind: str, **options: Any) -> FieldDefinition:
    constraints = {key: options.pop(key) for key in list(options) if key not in FieldDefinition.__slots__}
    if options.get("required"):
        options.setdefault("nullable", False)
    return FieldDefinition(name=name, column=name, type=FIELD_TYPES[kind], constraints=constraints, **options)


def implied(name: str, kind: str = "bigint", **options: Any) -> FieldDefinition:
    return field(name, kind, read_only=True, implied=True, nullable=False, **options)


def resource(*fields: FieldDefinition, name: str = "Products", **options: Any) -> ResourceDefinition:
    return ResourceDefinition(
        name=name,
        version=options.pop("version", "v1"),
        service="S",
        table=name.lower(),
        segment=name.lower(),
        fields={one.name: one for one in fields},
        **options,
    )


ADDRESS = MappingProxyType(
    {
        "street": field("street", "string", required=True),
        "city": field("city", "string"),
        "since": field("since", "date"),
    }
)
PRODUCTS = resource(
    implied("id"),
    implied("tenantId", write_only=True),
    field("name", "string", required=True, minLength=1, maxLength=20),
    field("price", "decimal", precision=12, scale=2, minimum=0),
    field("isFeatured", "boolean", default=False, read_only=True, nullable=False),
    field("status", "string", enum=("draft", "published"), read_only=True, nullable=False),
    field("metadata", "json", default={}),
    field("address", "object", properties=ADDRESS),
    field("tags", "array", items=field("items", "string", maxLength=5)),
    field("secret", "string", write_only=True),
    field("releasedOn", "date"),
    implied("createdAt", "datetime"),
    states=StateMachine(field="status", initial="draft", states=("draft", "published"), transitions={}),
)
SCHEMAS = SchemaMap.build(Registry([PRODUCTS]))


def faults(operation: str, data: Any, schemas: SchemaMap = SCHEMAS, **options: Any) -> dict[str, str]:
    with pytest.raises(ValidationFailed) as caught:
        schemas.load(options.pop("resource", PRODUCTS), operation, data, **options)
    assert len({detail.field for detail in caught.value.details}) == len(caught.value.details)
    return {detail.field: detail.code for detail in caught.value.details}


def test_create_fills_in_defaults_and_the_initial_state() -> None:
    body = SCHEMAS.load(PRODUCTS, "create", {"name": "Chair", "price": 5})
    assert body.values == {
        "name": "Chair",
        "price": Decimal("5.00"),
        "isFeatured": False,
        "status": "draft",
        "metadata": {},
    }
    assert body.sent == {"name", "price"}
    assert body.read_only == {}


def test_a_default_belongs_to_one_row_only() -> None:
    SCHEMAS.load(PRODUCTS, "create", {"name": "a"}).values["metadata"]["x"] = 1
    assert SCHEMAS.load(PRODUCTS, "create", {"name": "a"}).values["metadata"] == {}


def test_update_replaces_what_can_be_written_and_hands_read_only_values_out_for_comparison() -> None:
    body = SCHEMAS.load(
        PRODUCTS,
        "update",
        {
            "id": 7,
            "name": "Chair",
            "isFeatured": True,
            "status": "draft",
            "createdAt": "2025-01-31T09:00:00+01:00",
        },
    )
    assert body.values == {
        "name": "Chair", "price": None, "metadata": {}, "address": None, "tags": None, "releasedOn": None,
    }  # fmt: skip
    assert body.read_only == {
        "id": 7,
        "isFeatured": True,
        "status": "draft",
        "createdAt": datetime.datetime(2025, 1, 31, 8, tzinfo=datetime.UTC),
    }


def test_patch_says_only_what_was_sent() -> None:
    assert SCHEMAS.load(PRODUCTS, "patch", {"price": None}).values == {"price": None}
    assert SCHEMAS.load(PRODUCTS, "patch", {}).values == {}


def test_patch_merges_objects_with_the_stored_ones_and_judges_the_result() -> None:
    stored = {
        "metadata": {"a": 1, "b": {"c": 2}},
        "address": {"street": "x", "city": "y", "since": datetime.date(2025, 1, 1)},
    }
    sent = {"metadata": {"a": None, "b": {"d": 3}}, "address": {"city": "z"}}
    assert SCHEMAS.needs_stored(PRODUCTS, sent)
    assert not SCHEMAS.needs_stored(PRODUCTS, {"name": {}, "metadata": [1], "unknown": {}})
    assert not SCHEMAS.needs_stored(PRODUCTS, [])
    assert SCHEMAS.load(PRODUCTS, "patch", sent, stored=stored).values == {
        "metadata": {"b": {"c": 2, "d": 3}},
        "address": {"street": "x", "city": "z", "since": datetime.date(2025, 1, 1)},
    }
    assert faults("patch", {"address": {"street": None}}, stored=stored) == {"address.street": "required"}
    assert faults("patch", sent) == {"address.street": "required"}, (
        "without the stored row an object is replaced"
    )


@pytest.mark.parametrize("data", ["x", 1, None, [], True, Decimal("1.5")])
def test_a_body_that_is_no_object_has_the_wrong_type(data: Any) -> None:
    assert faults("create", data) == {"": "type"}
    assert faults("create", data, prefix="3") == {"3": "type"}


def test_every_fault_is_told_at_once_with_its_path_in_the_order_of_the_request() -> None:
    found = faults(
        "create",
        {
            "prise": 1,
            "tags": ["ok", "too long", 5],
            "address": {"city": 1, "town": "x"},
            "id": 5,
            "tenantId": 1,
            "price": Decimal("-1"),
            "isFeatured": True,
            "releasedOn": "soon",
            "__proto__": {},
            "Price": 1,
            "tenant_id": 1,
        },
    )
    assert list(found.items()) == [
        ("prise", "unknown_field"),
        ("tags.1", "too_long"),
        ("tags.2", "type"),
        ("address.street", "required"),
        ("address.city", "type"),
        ("address.town", "unknown_field"),
        ("id", "read_only"),
        ("tenantId", "read_only"),
        ("price", "out_of_range"),
        ("isFeatured", "read_only"),
        ("releasedOn", "format"),
        ("__proto__", "unknown_field"),
        ("Price", "unknown_field"),
        ("tenant_id", "unknown_field"),
        ("name", "required"),
    ]


def test_null_is_refused_where_a_value_must_be() -> None:
    for operation in ("create", "update", "patch"):
        assert faults(operation, {"name": None}) == {"name": "null"}


@pytest.mark.parametrize("name", ["ownerId", "version", "deletedAt", "updatedAt", "id", "tenantId"])
def test_the_frameworks_own_names_are_read_only_even_where_a_resource_has_no_such_field(name: str) -> None:
    assert faults("create", {"name": "a", name: 1}) == {name: "read_only"}
    assert faults("patch", {name: 1}) == {name: "read_only"}
    if name != "id":
        assert faults("update", {"name": "a", name: 1}) == {name: "read_only"}


def test_a_misspelt_field_is_answered_with_a_writable_one() -> None:
    with pytest.raises(ValidationFailed) as caught:
        SCHEMAS.load(PRODUCTS, "create", {"name": "a", "prise": 1, "tenantld": 2})
    messages = {detail.field: detail.message for detail in caught.value.details}
    assert messages["prise"] == "Is not known here. Did you mean 'price'?"
    assert "tenantId" not in messages["tenantld"]


def test_a_hundred_faults_are_listed_and_all_are_counted() -> None:
    with pytest.raises(ValidationFailed) as caught:
        SCHEMAS.load(
            PRODUCTS, "create", {f"field{number}" * 100: 1 for number in range(10_000)} | {"name": "a"}
        )
    assert len(caught.value.details) == 100
    assert "10000 faults" in caught.value.message
    assert len(wire.dumps([detail.field for detail in caught.value.details])) < 64_000


def test_a_path_can_always_be_written() -> None:
    assert list(faults("create", {"name": "a", "\ud800": 1})) == ["\\ud800"]


def test_logic_classes_may_write_read_only_fields_and_python_values() -> None:
    day = datetime.date(2025, 1, 1)
    values = {"name": "a", "isFeatured": True, "status": "published", "releasedOn": day, "price": 1.5}
    assert SCHEMAS.load_python(PRODUCTS, "patch", values) == values | {"price": Decimal("1.50")}
    assert SCHEMAS.load_python(PRODUCTS, "create", {"name": "a"})["status"] == "draft"
    assert SCHEMAS.load_python(PRODUCTS, "update", {"name": "a", "isFeatured": True})["isFeatured"] is True
    with pytest.raises(ValidationFailed) as caught:
        SCHEMAS.load_python(PRODUCTS, "patch", {"price": "1", "unknown": 1})
    assert {detail.field: detail.code for detail in caught.value.details} == {
        "price": "type",
        "unknown": "unknown_field",
    }


def test_texts_of_one_index_share_the_room_of_an_entry() -> None:
    pair = resource(
        field("a", "string", maxLength=2_000),
        field("b", "string", maxLength=2_000),
        field("c", "string", maxLength=2_000, unique=Within.SCOPE),
        field("d", "string", maxLength=2_000),
        unique=(UniqueKey(fields=("a", "b")),),
        indexes=(("c",),),
    )
    schemas = SchemaMap.build(Registry([pair]))
    schemas.load(pair, "create", {"a": "x" * 1_300, "b": "é" * 650, "c": "x" * 2_000, "d": "😀" * 2_000})
    found = faults("create", {"a": "x" * 1_301, "b": "é" * 651, "c": "é" * 1_301}, schemas, resource=pair)
    assert found == {"a": "too_long", "b": "too_long", "c": "too_long"}


def test_a_field_may_have_any_name() -> None:
    odd = resource(
        *[
            field(name, "integer")
            for name in ("Meta", "load", "fields", "context", "self", "unknown", "@type")
        ],
        kind=Kind.LOGIC,
    )
    schemas = SchemaMap.build(Registry([odd]))
    values = dict.fromkeys(odd.fields, 1)
    assert schemas.load(odd, "create", values).values == values


# --- an application's own classes -----------------------------------------------------------


def place(folder: Path, name: str, text: str) -> None:
    path = folder / "schemas" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "from marshmallow import Schema, ValidationError, fields, validate, validates_schema\n" + text
    )


def test_a_class_replaces_the_generated_schema(tmp_path: Path) -> None:
    place(
        tmp_path,
        "v1/products/create.py",
        "class Part(Schema):\n    a = fields.Integer()\n\n\n"
        'class Create(Schema):\n    resource, operation = "Products", ("create", "update")\n'
        "    name = fields.String(required=True, validate=validate.Length(max=3))\n"
        "    releasedOn = fields.Date()\n    part = fields.Nested(Part)\n",
    )
    schemas = SchemaMap.build(Registry([PRODUCTS]), load_schema_overrides(tmp_path))
    assert list(schemas.overridden()) == [("v1", "Products", "create"), ("v1", "Products", "update")]
    assert schemas.load(PRODUCTS, "create", {"name": "abc"}).values == {"name": "abc"}
    assert faults(
        "create", {"name": "abcd", "part": {"a": "x", "b": 1}, "nam": 1, "releasedOn": 1}, schemas
    ) == {
        "name": "too_long",
        "part.a": "type",
        "part.b": "unknown_field",
        "nam": "unknown_field",
        "releasedOn": "type",
    }
    assert faults("create", {}, schemas, prefix="0") == {"0.name": "required"}
    assert faults("create", {"name": "a\x00"}, schemas) == {"name": "format"}
    body = schemas.load(PRODUCTS, "update", {"name": "abc", "id": 5, "isFeatured": True})
    assert (body.values, body.read_only) == ({"name": "abc"}, {"id": 5, "isFeatured": True})
    day = datetime.date(2025, 1, 1)
    python = {"name": "abc", "releasedOn": day, "isFeatured": True}
    assert schemas.load_python(PRODUCTS, "create", python) == python
    assert schemas.load(PRODUCTS, "patch", {"name": "abcdef"}).values == {"name": "abcdef"}


def test_a_class_extends_the_generated_schema(tmp_path: Path) -> None:
    place(
        tmp_path,
        "products.py",
        "from byodpp.schemas import Fault\n\n\n"
        'class Create(Schema):\n    resource, operation, extends = "Products", "create", True\n'
        '    coupon = fields.String(validate=validate.OneOf(["X"]))\n\n'
        "    @validates_schema\n    def cheap(self, data, **_):\n"
        '        if (data.get("price") or 0) > 100:\n'
        '            raise ValidationError({"price": [Fault("too_dear", "Costs too much.")]})\n'
        '        if data.get("name") == "x":\n            raise ValidationError("No.")\n',
    )
    schemas = SchemaMap.build(Registry([PRODUCTS]), load_schema_overrides(tmp_path))
    assert schemas.load(PRODUCTS, "create", {"name": "a", "coupon": "X"}).values["coupon"] == "X"
    assert schemas.schema(PRODUCTS, "create").fields["price"]
    assert faults("create", {"name": "a", "price": 101}, schemas) == {"price": "too_dear"}
    assert faults("create", {"name": "x"}, schemas) == {"": "invalid"}
    assert faults("create", {"name": "a", "coupon": "Y", "id": 1, "x": 1}, schemas) == {
        "coupon": "enum",
        "id": "read_only",
        "x": "unknown_field",
    }
    assert schemas.load_python(PRODUCTS, "create", {"name": "a", "isFeatured": True})["isFeatured"] is True


def test_a_class_of_another_version_is_for_that_version_only(tmp_path: Path) -> None:
    place(tmp_path, "v2/products.py", 'class Own(Schema):\n    resource, operation = "Products", "create"\n')
    second = resource(field("name", "string"), version="v2")
    schemas = SchemaMap.build(Registry([PRODUCTS, second]), load_schema_overrides(tmp_path))
    assert faults("create", {"name": "a"}, schemas, resource=second) == {"name": "unknown_field"}
    assert schemas.load(PRODUCTS, "create", {"name": "a"})


def test_every_class_that_fits_nowhere_is_reported_at_once(tmp_path: Path) -> None:
    place(tmp_path, "a.py", 'class A(Schema):\n    resource, operation = "Product", "create"\n')
    place(tmp_path, "b.py", 'class B(Schema):\n    resource, operation = "Products", "creat"\n')
    place(tmp_path, "c.py", 'class C(Schema):\n    resource, operation = "Products", "patch"\n')
    place(tmp_path, "d.py", 'class D(Schema):\n    resource, operation = "Products", "patch"\n')
    place(tmp_path, "e.py", 'class E(Schema):\n    resource = "Products"\n')
    place(tmp_path, "f.py", "\n\nimport nothing_of_that_name\n")
    place(tmp_path, "g.py", "class G(Schema:\n")
    with pytest.raises(ExtensionError) as caught:
        SchemaMap.build(Registry([PRODUCTS]), load_schema_overrides(tmp_path))
    found = {
        problem.path.split(" ")[0].removeprefix("schemas/"): str(problem) for problem in caught.value.problems
    }
    assert set(found) == {"a.py:2", "b.py:2", "d.py:2", "e.py:2", "f.py:4", "g.py:2"}
    assert "Did you mean 'Products'?" in found["a.py:2"]
    assert "Did you mean 'create'?" in found["b.py:2"]
    assert "schemas/c.py:2 C" in found["d.py:2"]
    assert "nothing_of_that_name" in found["f.py:4"]


def test_an_action_has_the_schema_of_its_logic_class() -> None:
    class Input(marshmallow.Schema):
        until = marshmallow.fields.Date(required=True)
        note = marshmallow.fields.String(validate=lambda _: (_ for _ in ()).throw(_refusal()))

    assert SCHEMAS.action(Input, {"until": "2025-01-31"}) == {"until": datetime.date(2025, 1, 31)}
    for data, expected in (
        ({}, {"until": "required"}),
        ([], {"": "type"}),
        ({"until": "2025-01-31", "note": "x", "x": 1}, {"note": "blocked", "x": "unknown_field"}),
        ({"until": "\x00"}, {"until": "format"}),
    ):
        with pytest.raises(ValidationFailed) as caught:
            SCHEMAS.action(Input, data)
        assert {detail.field: detail.code for detail in caught.value.details} == expected


def _refusal() -> marshmallow.ValidationError:
    return marshmallow.ValidationError([Fault("blocked", "No.")])
