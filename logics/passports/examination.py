"""The gate before publication: every missing data point and every broken rule, at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from byodpp.exceptions import Detail, ValidationFailed

from .contents import Contents
from .values import fault_of, is_number

__all__ = ["Finding", "examine", "refuse_faulty"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as template or rule wants it."""

    field: str  # `section.dataPoint`, or the rule's scope
    code: str
    message: str
    severity: str  # `error` keeps the passport from being published


def examine(contents: Contents) -> list[Finding]:
    """Return all findings, those of the data points in the order of the template first."""
    return [*_values(contents), *_rules(contents)]


def refuse_faulty(contents: Contents) -> None:
    """Raise unless the passport may be published.

    Raises:
        ValidationFailed: with every finding that is an error.
    """
    faults = [one for one in examine(contents) if one.severity == "error"]
    if faults:
        raise ValidationFailed(
            f"The passport cannot be published: {len(faults)} data points or rules are not met.",
            details=[Detail(one.field, one.code, one.message) for one in faults[:100]],
        )


def _values(contents: Contents) -> Iterator[Finding]:
    for field in contents.fields:
        place = f"{field['section']['code']}.{field['code']}"
        values = contents.values.get(field["id"], ())
        if not values and field["obligation"] == "mandatory":
            message = f"{field['label']} is mandatory."
            yield Finding(field=place, code="required", message=message, severity="error")
        for value in values:
            fault = fault_of(field, value)
            if fault is not None:
                yield Finding(field=place, code="invalid", message=fault, severity="error")


def _rules(contents: Contents) -> Iterator[Finding]:
    by_key = {field["id"]: field for field in contents.fields}
    for rule in contents.validations:
        field = by_key.get(rule["templateFieldId"])
        values = contents.values.get(rule["templateFieldId"], ())
        if not _holds(rule, values, contents.by_code()):
            place = (
                contents.template["code"] if field is None else f"{field['section']['code']}.{field['code']}"
            )
            yield Finding(field=place, code=rule["kind"], message=rule["message"], severity=rule["severity"])


def _holds(rule: Mapping[str, Any], values: Sequence[Any], all_values: Mapping[str, Sequence[Any]]) -> bool:
    params = rule["params"]
    match rule["kind"]:
        case "required":
            return len(values) > 0
        case "range":
            return all(_between(_number(one), params) for one in values)
        case "length":
            return all(_between(len(one), params) for one in values if isinstance(one, str | list))
        case "enum":
            return all(one in (params.get("values") or ()) for one in values)
        case "sumEquals":
            return _sums_up(params, all_values)
        case "order":
            first, second = (_first(all_values, params.get(name)) for name in ("first", "second"))
            # A text and a number, a wrong value of one of them, is another rule's affair.
            comparable = (
                first is not None and second is not None and isinstance(first, str) == isinstance(second, str)
            )
            return not comparable or bool(first <= second)
    return True


def _number(value: Any) -> Any:
    """Return the number in a value, None when there is none."""
    inner = value["value"] if isinstance(value, Mapping) and "value" in value else value
    return inner if is_number(inner) else None


def _between(value: Any, params: Mapping[str, Any]) -> bool:
    if value is None:
        return True
    least, most = params.get("minimum"), params.get("maximum")
    return (least is None or value >= least) and (most is None or value <= most)


def _sums_up(params: Mapping[str, Any], all_values: Mapping[str, Sequence[Any]]) -> bool:
    numbers = [_number(one) for code in params.get("fields") or () for one in all_values.get(code, ())]
    present = [one for one in numbers if one is not None]
    distance = abs(sum(present) - (params.get("total") or 0))
    return not present or bool(distance <= (params.get("tolerance") or 0))


def _first(all_values: Mapping[str, Sequence[Any]], code: Any) -> Any:
    """Return the first value of a data point in a form that compares: a number, or a date's text."""
    values = all_values.get(code, ())
    if not values:
        return None
    return values[0] if isinstance(values[0], str) else _number(values[0])
