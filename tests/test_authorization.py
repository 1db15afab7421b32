"""Authorization: roles, rows and fields; every trick with rule text is refused."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from byodpp.authentication import Principal
from byodpp.authorization import Authorizer, policies
from byodpp.authorization.explanation import voices_of
from byodpp.authorization.policies import Policy, PolicyRow, PolicySet, RoleLink, fitted
from byodpp.authorization.policy_check import circles
from byodpp.conditions import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Constant,
    Negation,
    Refusal,
    Variable,
)
from byodpp.database import NOBODY, PLATFORM_TENANT
from byodpp.definitions import (
    OPERATIONS,
    AccessRule,
    ActionDefinition,
    FieldDefinition,
    ResourceDefinition,
    Scope,
    Transition,
)
from byodpp.exceptions import ManifestError
from byodpp.fields import FIELD_TYPES
from byodpp.registry import Registry
from tests.computing import computing

Access = Mapping[str, Sequence[Any]]


def field(name: str, kind: str = "string", **options: Any) -> FieldDefinition:
    return FieldDefinition(name=name, column=name.lower(), type=FIELD_TYPES[kind], **options)


def rule(
    *roles: str, where: Mapping[str, Any] | None = None, fields: Sequence[str] | None = None
) -> AccessRule:
    return AccessRule(
        roles=roles,
        filter=where,
        fields=None if fields is None else tuple(fields),
        path="$.resources[0].access.x",
    )


def resource(name: str = "Products", access: Access | None = None, **options: Any) -> ResourceDefinition:
    """A resource whose access is given as lists of role names or of rules."""
    fields = (
        field("id", "bigint", read_only=True, implied=True),
        field("name"),
        field("price", "integer"),
        field("ownerId", "bigint"),
        field("secret", write_only=True),
    )
    rules = {
        key: tuple(one if isinstance(one, AccessRule) else rule(one) for one in entries)
        for key, entries in (access or {}).items()
    }
    return ResourceDefinition(
        name=name,
        version="v1",
        service="Shop",
        table=name.lower(),
        segment=name.lower(),
        fields={one.name: one for one in fields},
        access=rules,
        **options,
    )


def authorizer(*resources: ResourceDefinition) -> Authorizer:
    return Authorizer(Registry(resources))


def user(*roles: str, tenant: int = 1, number: int = 7) -> Principal:
    return Principal(
        user_id=number,
        subject="s",
        realm="r",
        tenant_id=tenant,
        session_tenant_id=tenant,
        home_tenant_id=tenant,
        roles=frozenset(roles),
        anonymous=False,
    )


def operator(*roles: str, tenant: int = PLATFORM_TENANT) -> Principal:
    return replace(user(*roles, tenant=tenant), platform=True, home_tenant_id=PLATFORM_TENANT)


NOBODY_AT_ALL = Principal()


def row(
    role: str | None, operation: str = "*", *, deny: bool = False, tenant: int = 1, **options: Any
) -> PolicyRow:
    values = {"id": 1, "resource": "Products", **options}
    return PolicyRow(role=role, operation=operation, deny=deny, tenant_id=tenant, **values)


# --- the manifest's access ------------------------------------------------------------


def test_without_access_only_admin_may_do_anything() -> None:
    products = resource()
    deciding = authorizer(products)
    for operation in OPERATIONS:
        assert deciding.decide(user("Admin"), products, operation).allowed
        assert not deciding.decide(user("Manager"), products, operation).allowed
        assert not deciding.decide(user(), products, operation).allowed
        assert not deciding.decide(NOBODY_AT_ALL, products, operation).allowed


def test_read_covers_list_and_read_and_write_covers_the_rest() -> None:
    products = resource(access={"read": ["Viewer"], "write": ["Manager"]})
    deciding = authorizer(products)
    for operation in OPERATIONS:
        reads = operation in ("list", "read")
        assert deciding.decide(user("Viewer"), products, operation).allowed is reads
        assert deciding.decide(user("Manager"), products, operation).allowed is not reads


def test_an_operations_own_key_replaces_the_group() -> None:
    products = resource(access={"read": ["Viewer"], "write": ["Manager"], "delete": ["Admin"], "list": []})
    deciding = authorizer(products)
    assert not deciding.decide(user("Manager"), products, "delete").allowed
    assert deciding.decide(user("Admin"), products, "delete").allowed
    assert deciding.decide(user("Viewer"), products, "read").allowed
    assert not deciding.decide(user("Viewer", "Admin"), products, "list").allowed


def test_a_group_that_is_not_named_is_admins() -> None:
    products = resource(access={"read": ["*"]})
    deciding = authorizer(products)
    assert not deciding.decide(user("Viewer"), products, "create").allowed
    assert deciding.decide(user("Admin"), products, "create").allowed


def test_star_is_every_signed_in_caller_and_public_is_everybody() -> None:
    products = resource(access={"list": ["*"], "read": ["public"]})
    deciding = authorizer(products)
    assert deciding.decide(user(), products, "list").allowed
    assert not deciding.decide(NOBODY_AT_ALL, products, "list").allowed
    assert deciding.decide(user(), products, "read").allowed
    assert deciding.decide(NOBODY_AT_ALL, products, "read").allowed


def test_anonymous_callers_write_nothing_even_where_a_rule_says_public() -> None:
    products = resource(access={"read": ["public"], "write": ["public"]})
    deciding = authorizer(products)
    for operation in ("create", "update", "patch", "delete", "batch"):
        assert not deciding.decide(NOBODY_AT_ALL, products, operation).allowed


def test_an_unknown_operation_is_refused() -> None:
    products = resource(access={"read": ["*"], "write": ["*"]})
    for operation in ("", "purge", "*", "read\n", "READ", "readwrite", "feature:post"):
        assert not authorizer(products).decide(user("Admin"), products, operation).allowed


def test_an_action_defaults_to_write_and_may_have_its_own_rule() -> None:
    feature = ActionDefinition(key="feature:post", url="/x", method="POST")
    archive = ActionDefinition(key="archive:post", url="/y", method="POST")
    products = resource(access={"write": ["Manager"], "feature:post": ["Admin"]}, actions=(feature, archive))
    deciding = authorizer(products)
    assert deciding.decide(user("Manager"), products, "archive:post").allowed
    assert not deciding.decide(user("Manager"), products, "feature:post").allowed
    assert deciding.decide(user("Admin"), products, "feature:post").allowed


def test_a_public_action_is_open_to_everybody() -> None:
    scan = ActionDefinition(key="scan:get", url="/01/{gtin}", method="GET", public=True)
    products = resource(access={"write": ["Manager"]}, actions=(scan,))
    for caller in (NOBODY_AT_ALL, user(), user("Admin")):
        assert authorizer(products).decide(caller, products, "scan:get").allowed


def test_the_roles_of_a_transition_say_who_may_take_it() -> None:
    step = Transition(name="publish", sources=("draft",), target="published", roles=("Approver",))
    publish = ActionDefinition(key="publish:post", url="/x", method="POST", transition=step)
    products = resource(access={"write": ["Manager"]}, actions=(publish,))
    deciding = authorizer(products)
    assert deciding.decide(user("Approver"), products, "publish:post").allowed
    assert not deciding.decide(user("Manager"), products, "publish:post").allowed


def test_a_filter_becomes_a_condition_and_several_roles_add_up() -> None:
    cheap, own = {"price": {"lt": 10}}, {"ownerId": "$user.id"}
    products = resource(
        access={"read": [rule("Viewer", where=cheap), rule("Clerk", where=own), rule("Boss")]}
    )
    deciding = authorizer(products)
    assert deciding.decide(user("Viewer"), products, "list").rows == Comparison(
        (), "price", "lt", Constant(10)
    )
    assert deciding.decide(user("Clerk"), products, "list").rows == Comparison(
        (), "ownerId", "eq", Variable("user.id")
    )
    both = deciding.decide(user("Viewer", "Clerk"), products, "list").rows
    assert isinstance(both, AnyOf)
    assert len(both.parts) == 2
    assert deciding.decide(user("Viewer", "Boss"), products, "list").rows is None


def test_field_lists_add_up_each_on_its_own_rows() -> None:
    products = resource(
        access={
            "read": [
                rule("Viewer", fields=["name"]),
                rule("Clerk", where={"price": {"lt": 10}}, fields=["name", "price"]),
            ]
        }
    )
    deciding = authorizer(products)
    viewer = deciding.visibility(user("Viewer"), products)
    assert viewer is not None
    assert viewer.fields == {"id": None, "name": None}
    both = deciding.visibility(user("Viewer", "Clerk"), products)
    assert both is not None
    assert both.rows is None
    assert both.fields == {"id": None, "name": None, "price": Comparison((), "price", "lt", Constant(10))}


def test_a_write_only_field_is_never_visible_and_writable_like_any_other() -> None:
    products = resource(access={"read": ["*"], "write": ["*"]})
    deciding = authorizer(products)
    visible = deciding.visibility(user(), products)
    assert visible is not None
    assert "secret" not in visible.fields
    assert deciding.decide(user(), products, "create").permits("secret")


def test_what_may_not_be_read_has_no_visibility() -> None:
    products = resource(access={"write": ["*"]})
    deciding = authorizer(products)
    assert deciding.visibility(user("Viewer"), products) is None
    assert deciding.lookup(user("Viewer"))(products) is None


def test_all_mistakes_in_filters_and_field_lists_are_told_with_their_paths() -> None:
    products = resource(
        access={
            "read": [
                rule("Viewer", where={"prize": 1}),
                rule("Clerk", fields=["nam"]),
                rule("X", where={"price": {"gt": "x"}}),
            ]
        }
    )
    with pytest.raises(ManifestError) as found:
        authorizer(products)
    assert len(found.value.problems) == 3
    text = str(found.value)
    assert "$.resources[0].access.x.filter" in text
    assert "$.resources[0].access.x.fields: Products has no field 'nam'" in text
    assert "Did you mean 'name'?" in text


# --- scopes and the platform ----------------------------------------------------------


def test_shared_rows_are_written_from_the_platform_only() -> None:
    shared = resource("Countries", access={"read": ["*"], "write": ["Admin"]}, scope=Scope.SHARED)
    deciding = authorizer(shared)
    for operation in ("create", "update", "patch", "delete", "batch"):
        assert not deciding.decide(user("Admin"), shared, operation).allowed
        assert not deciding.decide(user("Admin", tenant=PLATFORM_TENANT), shared, operation).allowed
        assert not deciding.decide(operator("Admin", tenant=5), shared, operation).allowed
        assert deciding.decide(operator("Admin"), shared, operation).allowed
        assert not deciding.decide(operator("Viewer"), shared, operation).allowed
    assert deciding.decide(user(), shared, "list").allowed


def test_an_operators_role_counts_in_the_tenant_that_was_chosen() -> None:
    products = resource(access={"write": ["Admin"]})
    assert authorizer(products).decide(operator("Admin", tenant=5), products, "create").allowed


def test_tenants_are_made_and_deleted_from_the_platform_only() -> None:
    tenants = resource("Tenants", access={"read": ["*"], "write": ["Admin"]}, scope=Scope.SELF)
    deciding = authorizer(tenants)
    assert deciding.decide(user("Admin"), tenants, "patch").allowed
    for operation in ("create", "delete"):
        assert not deciding.decide(user("Admin"), tenants, operation).allowed
        assert deciding.decide(operator("Admin"), tenants, operation).allowed


# --- rows of Policies -----------------------------------------------------------------


def test_a_row_grants_in_its_own_tenant_only() -> None:
    products = resource(access={"read": ["Viewer"], "write": ["Manager"]})
    deciding = authorizer(products)
    deciding.load_policies([row("Clerk", "create")], version=1)
    assert deciding.decide(user("Clerk"), products, "create").allowed
    assert not deciding.decide(user("Clerk"), products, "patch").allowed
    assert not deciding.decide(user("Clerk", tenant=2), products, "create").allowed
    assert deciding.decide(user("Manager"), products, "create").allowed
    assert deciding.version == 1


def test_a_deny_wins_over_every_allow_in_its_tenant() -> None:
    products = resource(access={"write": ["Manager"]})
    deciding = authorizer(products)
    deciding.load_policies([row("Intern", "write", deny=True)], version=1)
    assert not deciding.decide(user("Manager", "Intern"), products, "patch").allowed
    assert deciding.decide(user("Manager"), products, "patch").allowed
    assert deciding.decide(user("Manager", "Intern", tenant=2), products, "patch").allowed


def test_a_deny_with_a_filter_leaves_what_is_known_not_to_match() -> None:
    products = resource(access={"read": ["*"]})
    deciding = authorizer(products)
    deciding.load_policies([row("*", "read", deny=True, filter={"price": {"gt": 100}})], version=1)
    rows = deciding.decide(user(), products, "list").rows
    assert rows == Refusal(Comparison((), "price", "gt", Constant(100)))


def test_a_deny_on_a_field_hides_it_and_nothing_else() -> None:
    products = resource(access={"read": ["*"]})
    deciding = authorizer(products)
    deciding.load_policies([row("Intern", "read", deny=True, fields=["price"])], version=1)
    visible = deciding.visibility(user("Intern"), products)
    assert visible is not None
    assert set(visible.fields) == {"id", "name", "ownerId"}


def test_a_star_means_every_resource_and_every_operation() -> None:
    products, orders = (
        resource("Products", access={"write": ["X"]}),
        resource("Orders", access={"write": ["X"]}),
    )
    deciding = authorizer(products, orders)
    deciding.load_policies([row("Clerk", "*", resource="*")], version=1)
    for one in (products, orders):
        for operation in OPERATIONS:
            assert deciding.decide(user("Clerk"), one, operation).allowed


def test_a_rule_for_every_resource_reaches_each_as_far_as_its_filter_fits() -> None:
    products = resource("Products", access={"read": ["X"]})
    bare = replace(
        resource("Orders", access={"read": ["X"]}),
        fields={"id": field("id", "bigint"), "name": field("name")},
    )
    deciding = authorizer(products, bare)
    deciding.load_policies([row("Clerk", "read", resource="*", filter={"price": 1})], version=1)
    assert deciding.decide(user("Clerk"), products, "list").rows == Comparison((), "price", "eq", Constant(1))
    assert not deciding.decide(user("Clerk"), bare, "list").allowed
    deciding.load_policies([row("X", "read", deny=True, resource="*", filter={"price": 1})], version=2)
    assert deciding.decide(user("X"), products, "list").allowed
    assert not deciding.decide(user("X"), bare, "list").allowed


def test_a_change_of_one_rule_compiles_that_one_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    decides, compiled = authorizer(products := resource()), list[int]()

    def counted(policy: Policy, *others: Any) -> Policy | None:
        compiled.append(0 if policy.row is None else policy.row.id)
        return fitted(policy, *others)

    monkeypatch.setattr(policies, "fitted", counted)
    rules = [
        row("Viewer", resource="*", operation="list", id=n, filter={"name": f"n{n}"}) for n in range(1, 6)
    ]
    decides.load_policies(rules, version=1)
    assert len(decides.decide(user("Viewer"), products, "list").rules) == 5
    assert sorted(compiled) == [1, 2, 3, 4, 5]
    compiled.clear()
    decides.load_policies([*rules[1:], replace(rules[0], filter={"name": "other"})], version=2)
    assert len(decides.decide(user("Viewer"), products, "list").rules) == 5
    assert compiled == [1]


def test_rules_along_a_chain_of_roles_are_explained_with_one_walk_over_it() -> None:
    links = [RoleLink(tenant_id=1, role=f"R{n}", inherits=f"R{n + 1}") for n in range(5_000)]
    rules = [row(f"R{5_000 - n % 5}", operation="list", id=n) for n in range(1, 101)]
    decides = authorizer(products := resource())
    decides.load_policies(rules, links, version=1)
    decision = decides.decide(caller := user("R0"), products, "list")
    with computing() as taken:
        voices = voices_of(decision, decides.rules(1), caller)
    assert taken.seconds < 2.0  # one walk for each rule had taken minutes
    assert {len(one.way) for one in voices} == set(range(4_997, 5_002))


def test_thousands_of_roles_and_of_users_who_hold_them_cost_no_more_than_a_moment() -> None:
    deciding = authorizer(products := resource())
    chain = [RoleLink(tenant_id=1, role=f"R{one}", inherits=f"R{one + 1}") for one in range(5_000)]
    holders = [RoleLink(tenant_id=1, user_id=one, inherits=f"R{one % 20}") for one in range(1, 20_000)]
    with computing() as taken:
        deciding.load_policies([row("R5000", operation="list")], [*chain, *holders], version=1)
        assert deciding.decide(user("R0"), products, "list").allowed
        assert not deciding.decide(user("S0", number=99_999), products, "list").allowed
        assert circles([*chain, *holders]) == []
    assert taken.seconds < 2  # all tenants wait meanwhile; it was minutes
    knot = RoleLink(tenant_id=1, role="R5000", inherits="R4998")
    assert circles([*chain, *holders, knot]) == ["R4998", "R4999", "R5000"]


def test_a_tenth_of_a_second_loads_a_rule_for_everything_in_each_of_a_thousand_tenants() -> None:
    deciding = authorizer(*(resource(f"Things{number}") for number in range(50)))
    policies = [row("Admin", tenant=tenant, resource="*", id=tenant) for tenant in range(1, 1_001)]
    with computing() as taken:
        deciding.load_policies(policies, version=1)
    assert taken.seconds < 0.5


def test_roles_inherit_within_their_tenant_also_what_the_manifest_grants() -> None:
    products = resource(access={"write": ["Manager"]})
    deciding = authorizer(products)
    links = [
        RoleLink(tenant_id=1, role="Chief", inherits="Lead"),
        RoleLink(tenant_id=1, role="Lead", inherits="Manager"),
        RoleLink(tenant_id=1, role="Manager", inherits="Chief"),  # a circle ends, too
    ]
    deciding.load_policies([row("Lead", "read")], links, version=1)
    assert deciding.decide(user("Chief"), products, "create").allowed
    assert deciding.decide(user("Chief"), products, "read").allowed
    assert not deciding.decide(user("Chief", tenant=2), products, "create").allowed


def test_a_row_for_one_user_is_for_that_user() -> None:
    products = resource(access={"write": ["Manager"]})
    deciding = authorizer(products)
    deciding.load_policies([row(None, "create", user_id=7)], version=1)
    assert deciding.decide(user(number=7), products, "create").allowed
    assert not deciding.decide(user(number=8), products, "create").allowed
    assert not deciding.decide(user("user:7", number=8), products, "create").allowed
    deciding.load_policies([row("user:7", "create")], version=2)
    assert not deciding.decide(user(number=7), products, "create").allowed


def test_new_rows_replace_the_former_ones_at_once() -> None:
    products = resource(access={"write": ["Manager"]})
    deciding = authorizer(products)
    for version in range(1, 50):
        deciding.load_policies([row("Clerk", "create")] if version % 2 else [], version=version)
        assert deciding.decide(user("Clerk"), products, "create").allowed is bool(version % 2)
        assert deciding.decide(user("Manager"), products, "create").allowed


def test_c37_a_load_that_fails_midway_changes_nothing() -> None:
    products = resource(access={"write": ["Manager"]})
    deciding = authorizer(products)
    deciding.load_policies([row("Clerk", "create")], version=1)

    def broken() -> Iterable[PolicyRow]:
        yield row("Other", "create")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        deciding.load_policies(broken(), version=2)
    assert deciding.version == 1
    assert deciding.decide(user("Clerk"), products, "create").allowed
    assert not deciding.decide(user("Other"), products, "create").allowed


@pytest.mark.parametrize(
    "tree", ['{"nope": 1}', "not json", '{"price": {"gt": "x"}}', "[" * 5_000, "1", "{}"]
)
def test_a_row_whose_filter_makes_no_sense_grants_nothing_and_denies_everything(
    tree: str, caplog: pytest.LogCaptureFixture
) -> None:
    products = resource(access={"read": ["Viewer"], "write": ["Viewer"]})
    deciding = authorizer(products)
    deciding.load_policies([row("Clerk", "read", filter=tree)], version=1)
    assert not deciding.decide(user("Clerk"), products, "read").allowed
    deciding.load_policies([row("Viewer", "read", deny=True, filter=tree)], version=2)
    assert not deciding.decide(user("Viewer"), products, "read").allowed
    assert deciding.decide(user("Viewer"), products, "create").allowed
    assert "does not fit Products" in caplog.text


# --- C36: rule text is data -----------------------------------------------------------

BREAK_OUTS = (
    "False) || True || (False",
    "r.sub == r.sub",
    "eval('True')",
    "__import__('os').system('true')",
    ".*",
    "^.*$",
    "*Admin",
    "Admin*",
    "Admin\n",
    " Admin",
    "admin",
    "role:Admin",
    "!Admin",
    "Admi.",
    "keyMatch('a','a')",
    "Admin, *, *, *",
    "<every>",
    "<read>",
    "<write>",
    "",
)


@pytest.mark.parametrize("text", BREAK_OUTS, ids=repr)
def test_c36_text_that_looks_like_a_rule_is_only_text(text: str) -> None:
    products = resource(access={"write": ["Admin"]})
    deciding = authorizer(products)
    deciding.load_policies(
        [
            row(text, "read", id=1),
            row("Clerk", text, id=2),
            row("Clerk", "read", resource=text, id=3),
        ],
        version=1,
    )
    for tenant in (1, 2):
        assert not deciding.decide(user("Clerk", tenant=tenant), products, "create").allowed
        assert not deciding.decide(user(tenant=tenant), products, "read").allowed
        assert not deciding.decide(user("Viewer", tenant=tenant), products, "read").allowed
    assert not deciding.decide(NOBODY_AT_ALL, products, "read").allowed


@pytest.mark.parametrize("text", BREAK_OUTS, ids=repr)
def test_c36_a_role_that_looks_like_a_rule_has_no_rights(text: str) -> None:
    products = resource(access={"read": ["Admin"], "write": ["Admin"]})
    deciding = authorizer(products)
    deciding.load_policies([row("Clerk")], version=1)
    for operation in OPERATIONS:
        assert not deciding.decide(user(text), products, operation).allowed


def test_c36_names_that_begin_alike_are_different_resources() -> None:
    products = resource("Products", access={"read": ["X"]})
    secret = resource("ProductsSecret", access={"read": ["X"]})
    deciding = authorizer(products, secret)
    deciding.load_policies([row("Clerk", "read", resource="Products")], version=1)
    assert deciding.decide(user("Clerk"), products, "read").allowed
    assert not deciding.decide(user("Clerk"), secret, "read").allowed


def test_c36_no_policies_at_all_allow_nothing_not_even_to_empty_words() -> None:
    products = resource(access={"read": [], "write": []})
    deciding = authorizer(products)
    for caller in (NOBODY_AT_ALL, user(), user(""), user("Admin"), operator("Admin")):
        for operation in (*OPERATIONS, ""):
            assert not deciding.decide(caller, products, operation).allowed


def test_c36_a_user_called_admin_has_no_role() -> None:
    products = resource()
    caller = replace(user(), subject="Admin")
    assert not authorizer(products).decide(caller, products, "read").allowed


def test_c36_an_attribute_the_caller_lacks_stays_a_variable_and_never_raises() -> None:
    products = resource(access={"read": [rule("*", where={"ownerId": "$user.id"})]})
    deciding = authorizer(products)
    assert deciding.decide(user(), products, "read").rows == Comparison(
        (), "ownerId", "eq", Variable("user.id")
    )
    assert NOBODY_AT_ALL.variables["user.id"] is None


def test_c36_an_error_inside_is_a_refusal_and_a_log_entry(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    products = resource(access={"read": ["*"]})
    deciding = authorizer(products)
    with monkeypatch.context() as patch:
        patch.setattr(PolicySet, "select", lambda *_: 1 / 0)
        assert not deciding.decide(user(), products, "read").allowed
    assert "refused" in caplog.text
    assert deciding.decide(user(), products, "read").allowed


def test_casbin_writes_no_line_per_decision(caplog: pytest.LogCaptureFixture) -> None:
    products = resource(access={"read": ["*"]})
    with caplog.at_level(logging.DEBUG):
        deciding = authorizer(products)
        deciding.decide(user(), products, "read")
        deciding.decide(user(), products, "create")
    assert not [record for record in caplog.records if record.name.startswith("casbin")]


# --- the algebra, against its definition ----------------------------------------------


def truth(condition: Condition | None, values: Mapping[str, Any]) -> bool | None:
    """Evaluate in three values, as SQL does."""
    match condition:
        case None:
            return True
        case AllOf(parts):
            found = [truth(part, values) for part in parts]
            return False if False in found else None if None in found else True
        case AnyOf(parts):
            found = [truth(part, values) for part in parts]
            return True if True in found else None if None in found else False
        case Negation(part):
            return truth(part, values) is not True
        case Refusal(part):
            return truth(part, values) is False
        case Comparison(field=name, operator=operator, operand=Constant(operand)):
            value = values[name]
            if operator == "ne":
                return bool(value != operand)
            if value is None:
                return None
            return bool({"eq": value == operand, "gt": value > operand, "lt": value < operand}[operator])
    raise AssertionError(condition)


def test_every_role_row_and_field_is_decided_as_a_slow_reading_of_the_rules_says() -> None:
    chance = random.Random(20)
    names = ("name", "price", "ownerId")
    rows: list[dict[str, Any]] = [
        {"id": 1, "name": "n", "price": price, "ownerId": owner}
        for price in (None, 0, 5, 9)
        for owner in (None, 1, 2)
    ]

    def filter_() -> dict[str, Any] | None:
        one = {
            chance.choice(["price", "ownerId"]): {
                chance.choice(["eq", "gt", "lt", "ne"]): chance.choice([1, 5])
            }
        }
        return chance.choice([None, one, {"not": one}])

    for _ in range(60):
        products = resource(access={"read": ["R0"]})
        policies = [
            row(
                f"R{chance.randrange(4)}",
                "read",
                id=number,
                deny=chance.random() < 0.3,
                filter=filter_(),
                fields=chance.choice([None, chance.sample(names, chance.randrange(1, 3))]),
            )
            for number in range(chance.randrange(1, 7))
        ]
        deciding = authorizer(products)
        deciding.load_policies(policies, version=1)
        reach = [(policy, deciding_condition(products, policy)) for policy in policies]
        for roles in (["R0"], ["R1"], ["R2", "R3"], ["R0", "R1", "R3"]):
            visible = deciding.visibility(user(*roles), products)
            held = [(policy, condition) for policy, condition in reach if policy.role in roles]
            for values in rows:
                for name in names:
                    allowed = ("R0" in roles) or any(
                        not policy.deny
                        and truth(condition, values) is True
                        and name in (policy.fields or names)
                        for policy, condition in held
                    )
                    denied = any(
                        policy.deny
                        and truth(condition, values) is not False
                        and name in (policy.fields or names)
                        for policy, condition in held
                    )
                    shown = (
                        visible is not None
                        and truth(visible.rows, values) is True
                        and name in visible.fields
                        and truth(visible.fields[name], values) is True
                    )
                    assert shown is (allowed and not denied), (policies, roles, values, name, visible)


def deciding_condition(products: ResourceDefinition, policy: PolicyRow) -> Condition | None:
    """The condition of one row alone, as an allow for a role nobody else has."""
    alone = authorizer(replace(products, access={"read": (rule("Nobody"),)}))
    alone.load_policies([replace(policy, role="Only", deny=False, fields=None)], version=1)
    return alone.decide(user("Only"), products, "read").rows


# --- speed ----------------------------------------------------------------------------


def best_of(rounds: int, action: Any, times: int) -> float:
    found = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(times):
            action()
        found.append((time.process_time() - start) / times)
    return min(found)


def test_a_decision_that_was_taken_is_a_lookup_however_many_policies_there_are() -> None:
    products = resource(access={"read": ["Viewer"]})
    few, many = authorizer(products), authorizer(products)
    many.load_policies(
        [row(f"Role{number % 50}", "read", tenant=number % 1_000, id=number) for number in range(10_000)],
        version=1,
    )
    for deciding in (few, many):
        caller = user("Viewer")
        deciding.decide(caller, products, "read")
        assert best_of(5, lambda: deciding.decide(caller, products, "read"), 2_000) < 10e-6  # noqa: B023


def test_a_thousand_resources_are_loaded_in_seconds() -> None:
    access = {"read": ["A", "B"], "write": ["A"]}
    with computing() as taken:
        authorizer(*(resource(f"Things{number}", access=access) for number in range(1_000)))
    assert taken.seconds < 5


def test_tenants_without_rows_of_their_own_share_their_decisions() -> None:
    products = resource(access={"read": ["Viewer"]})
    deciding = authorizer(products)
    for tenant in range(1, 200):
        deciding.decide(user("Viewer", tenant=tenant), products, "read")
    assert len(deciding._decisions) == 1


def test_remembered_decisions_are_bounded() -> None:
    products = resource(access={"read": ["Viewer"]})
    deciding = Authorizer(Registry([products]), max_decisions=10)
    for number in range(50):
        deciding.decide(user(f"Role{number}"), products, "read")
    assert len(deciding._decisions) == 10


def test_published_rows_are_asked_for_without_a_tenant() -> None:
    products = resource(access={"read": [rule("public", where={"name": "x"})]})
    assert NOBODY_AT_ALL.tenant_id == NOBODY
    visible = authorizer(products).visibility(NOBODY_AT_ALL, products)
    assert visible is not None
    assert visible.rows == Comparison((), "name", "eq", Constant("x"))
