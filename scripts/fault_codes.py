"""When each error code is answered, and what each code of a detail means: words for the pages.

The codes themselves are the code's; tests compare both tables with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["DETAILS", "WHEN"]

#: Code of an answer -> when it is given.
WHEN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "malformed_request": "the path cannot be decoded, or holds dot segments or control characters",
        "malformed_json": "a body that is not JSON, or none where one is due",
        "invalid_encoding": "path, query, or body are not UTF-8",
        "duplicate_key": "two equal names in one object of the body; JSON would keep one without a word",
        "too_deep": "nesting beyond `max_json_depth`",
        "file_not_whole": "the closing record of a file tells another number of rows than there are",
        "invalid_query": "a parameter, field, operator, or value that does not fit; all of them in `details`",
        "query_too_complex": "a bound of the resource is passed",
        "invalid_header": "`Host`, `If-Match`, `If-None-Match`, or `X-Tenant` cannot be used as sent",
        "unsupported_version": "the address names no version and `Accept` names one that does not exist",
        "unauthenticated": "no token where one is needed, or one that is not valid; see `WWW-Authenticate`",
        "forbidden": "no policy permits the operation at all; or the row may be read but not treated so;"
        " or a field that may not be written",
        "cross_site": "the session's cookie came without the right `X-CSRF-Token`, or from a page of"
        " another origin",
        "quota_exceeded": "the tenant's class does not allow one more, for instance of users",
        "not_found": "no such address; or no such row for this caller, which is every row of another tenant",
        "method_not_allowed": "the address exists without this method; `Allow` lists those it has",
        "not_acceptable": "`Accept` excludes everything that the route can send",
        "request_timeout": "the body, or the headers, did not arrive in time",
        "conflict": "a rule of a logic class, a row named twice in a batch, a change at the same time",
        "unique_conflict": "a unique key; its fields are in `details`",
        "referenced_conflict": "deleting what other rows refer to",
        "state_conflict": "a transition that does not start from the row's state",
        "idempotency_in_progress": "a request with the same `Idempotency-Key` has not ended yet",
        "precondition_failed": "`If-Match` names another version than the stored one",
        "payload_too_large": "the body passes `max_body_bytes` or holds more than `max_json_values`, a batch"
        " its number of items, a file `import_max_bytes`, or one of its records `import_record_max_bytes`",
        "uri_too_long": "path and query pass `max_url_bytes`",
        "unsupported_media_type": "the body is not of a type that the route takes, or is compressed",
        "validation_failed": "the body is JSON and not valid; every fault is in `details`",
        "idempotency_key_reused": "the same `Idempotency-Key` came with another request before",
        "precondition_required": 'the resource is `"versioned": "required"` and `If-Match` is missing',
        "rate_limited": "a budget of the address, the user, the tenant, or the route is spent, too many "
        "requests of the tenant run at the moment, or signing in has failed too often; `Retry-After` "
        "says for how long",
        "headers_too_large": "all headers together pass `max_header_bytes`",
        "internal_error": "a fault of ours; the log has it under the answer's `requestId`",
        "bad_gateway": "a service behind a logic class failed",
        "unavailable": "the database is away or has no free connection, or too many large bodies wait; "
        "nothing was changed",
        "place_unavailable": "the database of the caller's tenant is away, or one in which a row could still "
        "be that is asked for without a tenant; nothing was changed",
        "read_only_copy": "amid a transaction, a write to what all tenants share, or to the tenant's own "
        "record, by a tenant with a database of its own",
        "tenant_moving": "the tenant is being moved to another place and only read meanwhile, or its "
        "place lacks a revision; nothing was changed",
        "auth_unavailable": "a token's key is not known and the identity provider is away",
        "query_timeout": "a statement passed `statement_timeout_seconds`, or all those of the request "
        "`transaction_timeout_seconds`; nothing was changed",
        "outcome_unknown": "the connection was lost during the commit, or the server stopped amid a write: "
        "look before trying again",
        "storage_full": "the database's disk is full; nothing was changed",
    }
)

#: Code of a detail -> what is wrong with the field or parameter it names.
DETAILS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "circle": "roles that would inherit from themselves, or a tenant below itself",
        "conflict": "two parameters contradict each other (`page` and `offset`)",
        "cursor": "no cursor of this list",
        "duplicate_key": "an object of a filter in JSON names a key twice",
        "duplicate": "the same row twice in one batch, or the same column in a file",
        "enum": "not one of the allowed values",
        "expired": "the cursor is too old",
        "forbidden": "the caller may not write this field, or lacks the right that a rule would give",
        "format": "right type, wrong form: a date that is none, U+0000 in a text, brackets that do not match",
        "header": "the first line of a CSV file does not name the columns",
        "invalid": "refused by a check of the database or of a schema class",
        "invalid_encoding": "a filter in JSON that begins with a byte order mark",
        "malformed_json": "a filter in JSON that is none",
        "modifier": "a modifier of a PATCH (`$increment` and its like) that does not fit the field",
        "mixed": "a filter in brackets and in JSON at once",
        "not_aggregatable": "the field does not know this function, or is not filterable",
        "not_filterable": "the field has no index and is not declared `filterable`",
        "not_groupable": "the field has no order, or is not filterable",
        "not_included": "`fields[x]` for a relation that is not included",
        "not_sortable": "the field has no order, or is not filterable",
        "null": "null where a value is needed",
        "out_of_range": "too small, too large, or too many digits",
        "pattern": "the text does not match the field's `pattern`",
        "pointer": "a JSON Patch path that leads nowhere",
        "quantifier": "a to-many relation in a filter without `some`, `every`, or `none`",
        "quotes": "a quote of a CSV file that is not closed, or is followed by something else",
        "read_only": "a read-only field with another value than the stored one",
        "reference": "there is nothing with this id, or nothing that the caller may read",
        "repeated": "given more than once",
        "required": "missing",
        "template": "a `{{result[…]}}` that leads to no value",
        "test": "a JSON Patch `test` that does not hold",
        "to_one": "`limit` or `sort` for a relation that leads to one row",
        "too_complex": "a bound of the resource is passed",
        "too_deep": "nested too deeply",
        "too_few": "too few items or properties, or cells in a row",
        "too_long": "too many characters or bytes",
        "too_many": "too many items, properties, or names, or cells in a row",
        "too_short": "too few characters",
        "type": "another JSON type than the field's; nothing is converted",
        "unique": "another row has this value",
        "unique_items": "an item of the array occurs twice",
        "unknown_field": "there is no such field or property, or not for this caller",
        "unknown_operator": "the field's type does not have this operator",
        "unknown_function": "there is no such function of aggregates",
        "unknown_option": "an include has no such option",
        "unfit": "the condition of a rule for all resources does not fit where it would reach",
        "unknown_parameter": "the operation has no such parameter",
        "unknown_period": "there is no such period",
        "unknown_quantifier": "none of `some`, `every`, `none`",
        "unknown_relation": "there is no such relation, or not for this caller",
        "unknown_operation": "a question about rights names no operation, and no action's key",
        "unknown_route": "a question about rights names an address that no operation serves",
        "unknown_resource": "there is no such resource in this version",
        "unknown_role": "a rule names a role that neither the manifest nor `Roles` knows",
        "unknown_word": "not one of the words of this parameter",
        "unsupported": "cannot be done to this kind of resource or by this batch",
        "multiple_of": "not a multiple of the field's `multipleOf`",
    }
)
