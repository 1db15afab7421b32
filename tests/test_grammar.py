"""The grammar of the manifest: one table, from which check, JSON Schema and reference come."""

from __future__ import annotations

import json
from decimal import Decimal
from importlib import resources as package_files
from typing import Any

import jsonschema
import pytest

from byodpp.definitions import MISSING
from byodpp.exceptions import Problem
from byodpp.fields import FIELD_TYPES
from byodpp.grammar import build_grammar, manifest_reference, manifest_schema
from byodpp.grammar.shapes import Checker, Flag, ListOf, OneOf, Text, Whole
from byodpp.grammar.values import BAD, step
from byodpp.manifest.source import part_names


def judge(level: str, value: dict[str, Any]) -> list[Problem]:
    checker = Checker(build_grammar())
    checker.levels[level].judge(value, "$", checker)
    return checker.problems


def test_paths_name_plain_keys_with_a_dot_and_others_in_brackets() -> None:
    assert step(step(step("$", "access"), "feature:post"), 2) == '$.access["feature:post"][2]'


def test_every_key_is_documented_and_its_example_and_default_fit_its_own_shape() -> None:
    levels = build_grammar()
    for level in levels.values():
        assert level.doc.endswith(".")
        for key in level.keys.values():
            assert key.doc, f"{level.name}.{key.name}"
            for value in (key.example, key.default):
                if value is not MISSING:
                    checker = Checker(levels)
                    assert key.shape.check(value, "$", checker) is not BAD, f"{level.name}.{key.name}"
                    assert checker.problems == []


def test_an_unknown_key_is_a_problem_with_the_nearest_known_one() -> None:
    [problem] = judge("field", {"type": "decimal", "minimun": 1})
    assert problem.path == "$.minimun"
    assert "minimum" in problem.suggestion


@pytest.mark.parametrize(
    ("key", "advice"),
    [("min", "minimum"), ("foreignKey", "references"), ("primaryKey", "id")],
)
def test_a_key_of_another_language_gets_the_word_of_ours(key: str, advice: str) -> None:
    [problem] = judge("field", {"type": "string", key: True})
    assert advice in problem.suggestion


def test_all_mistakes_of_one_object_are_found_together() -> None:
    problems = judge("action", {"urll": "/x", "method": "fetch", "public": "yes", "maxBodyBytes": -1})
    assert {problem.path for problem in problems} == {"$.urll", "$.method", "$.public", "$.maxBodyBytes"}


def test_a_mandatory_key_is_missed_unless_it_was_misspelt() -> None:
    assert [problem.reason for problem in judge("relation", {})] == ["'resource' is missing"]
    assert [problem.path for problem in judge("relation", {"resourse": "Dpps"})] == ["$.resourse"]


def test_a_number_too_large_to_be_a_count_is_refused_at_once() -> None:
    [problem] = judge("bounds", {"limit": Decimal("1e1000000000")})
    assert problem.path == "$.limit"


def test_a_flag_in_quotes_is_told_apart_from_other_text() -> None:
    [problem] = judge("field", {"type": "string", "required": "true"})
    assert problem.suggestion == "Write true without quotes."


def test_a_list_keeps_the_places_of_its_sound_items() -> None:
    checker = Checker({})
    items = ListOf(Whole(0, 9)).check([1, "x", 3], "$.a", checker)
    assert list(items.located()) == [(1, "$.a[0]"), (3, "$.a[2]")]
    assert [problem.path for problem in checker.problems] == ["$.a[1]"]


def test_a_choice_says_every_shape_it_takes() -> None:
    checker = Checker({})
    assert OneOf((Flag(), Text(("required",)))).check(3, "$", checker) is BAD
    assert checker.problems[0].reason == 'expected true or false or "required", found the number 3'


def test_comments_are_allowed_everywhere() -> None:
    assert judge("bounds", {"$comment": "why", "limit": 5}) == []


def test_the_json_schema_is_valid_and_takes_the_framework_parts() -> None:
    schema = manifest_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name in part_names():
        text = package_files.files("byodpp").joinpath("parts", f"{name}.json").read_text("utf-8")
        assert list(validator.iter_errors(json.loads(text))) == []
    assert not validator.is_valid({"resources": [{"name": "Products", "fields": {"a": {"type": "strin"}}}]})
    assert not validator.is_valid({"resources": [{"name": "Products", "feilds": {}}]})


def test_the_reference_lists_every_key_of_every_level() -> None:
    text = manifest_reference()
    for level in build_grammar().values():
        for key in level.keys:
            assert f"| `{key}` |" in text


def test_every_constraint_of_every_field_type_is_a_key_of_fields_with_a_shape_of_its_own() -> None:
    keys = build_grammar()["field"].keys
    for kind in FIELD_TYPES.values():
        for word in kind.constraint_keys:
            assert word in keys
            assert not keys[word].doc.startswith("Constraint"), f"{word} is not described"
