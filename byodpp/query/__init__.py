"""The query language: from the text of a request to a frozen Query, or every fault at once.

The way of a query: `query_text` reads it, `query_judge` judges it against the resource and
what the caller may see, with `query_filters` for filters, `query_names` for names and
`query_values` for values; `conditions` holds what comes out. This module is the door.
"""

from __future__ import annotations

from typing import Any

from byodpp.conditions import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Constant,
    Include,
    Lookup,
    Negation,
    Parameter,
    Quantified,
    Query,
    Refusal,
    Search,
    Shape,
    Sort,
    Variable,
    Visibility,
)
from byodpp.definitions import ResourceDefinition
from byodpp.query.filters import OPERATORS, QUANTIFIERS, FilterJudge
from byodpp.query.judge import PARAMETERS, judge
from byodpp.query.names import Judgement
from byodpp.query.text import RawQuery, parse, parse_json
from byodpp.registry import Registry

__all__ = [
    "OPERATORS",
    "PARAMETERS",
    "QUANTIFIERS",
    "AllOf",
    "AnyOf",
    "Comparison",
    "Condition",
    "Constant",
    "Include",
    "Lookup",
    "Negation",
    "Parameter",
    "Quantified",
    "Query",
    "RawQuery",
    "Refusal",
    "Search",
    "Shape",
    "Sort",
    "Variable",
    "Visibility",
    "condition_from_json",
    "judge",
    "parse",
    "parse_json",
]


def condition_from_json(
    tree: Any,
    resource: ResourceDefinition,
    registry: Registry,
    lookup: Lookup | None,
    *,
    variables: bool | None = None,
) -> tuple[Condition, tuple[Any, ...]]:
    """Return the condition that a tree of the query language spells, and its values.

    Args:
        tree: e.g. `{"ownerId": "$user.id", "status": {"in": ["draft", "published"]}}`.
        resource: whose rows it is about.
        registry: where relations lead.
        lookup: what its author may read; None: a trusted author, who may name everything.
        variables: whether `$user.id`, `$user.email` and its like, `$tenant` and `$now` are variables (`$$`
            then writes a `$`); None: for a trusted author only.

    Raises:
        QueryTooComplex: a bound of the resource is passed.
        InvalidQuery: anything else is wrong.
    """
    judgement = Judgement(registry, lookup, resource.bounds)
    with_variables = lookup is None if variables is None else variables
    condition = FilterJudge(judgement, with_variables).judge(tree, resource)
    judgement.finish()
    return condition, tuple(judgement.values)
