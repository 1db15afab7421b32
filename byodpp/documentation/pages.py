"""The pages of the documentation: one index, and one page per resource.

In: the OpenAPI document. Out: HTML that loads nothing but its own style and script and is
complete without the script. Rejects nothing; a page that does not exist is None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from html import escape
from typing import Any, Final
from urllib.parse import quote

from byodpp.documentation.parts import (
    Resolver,
    code_block,
    curl,
    example_of,
    filter_table,
    prose,
    schema_rows,
    type_words,
)

__all__ = ["Book"]

_METHODS: Final = ("get", "post", "put", "patch", "delete")
#: More resources than this, and a page lists only those of its own group beside it.
_LISTED: Final = 200
_JSON: Final = "application/json"
_SIGN_IN_BUTTON: Final = '<button id="sign-in" type="button" hidden>Sign in</button>'
_SIGN_IN_DIALOG: Final = (
    '<dialog id="sign-in-dialog" aria-labelledby="sign-in-title"><form id="sign-in-form">'
    '<h2 id="sign-in-title">Sign in</h2><label><span>Tenant</span><input id="sign-in-tenant" '
    'autocomplete="organization" spellcheck="false" required placeholder="its short name"></label>'
    '<p id="sign-in-says" role="status"></p><button type="submit">Continue</button></form></dialog>'
)

#: Where a version stands in an address.
_VERSIONED: Final = re.compile(r"/api/(v[1-9][0-9]*)/")


class Book:
    """Everything the pages are made of: the document, by page."""

    def __init__(
        self, document: Mapping[str, Any], assets: Mapping[str, str], *, signs_in: bool = False
    ) -> None:
        """Args:
        document: OpenAPI.
        assets: name of a file -> its address.
        signs_in: whether there is somewhere to sign in.
        """
        self._document = document
        self._signs_in = signs_in
        self._assets = assets
        self._resolve = Resolver(document)
        self._tags = {tag["x-page"]: tag for tag in document.get("tags", ())}
        self._operations: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
        for path, item in document.get("paths", {}).items():
            for method in _METHODS:
                if method in item:
                    for tag in item[method]["tags"]:
                        self._operations.setdefault(tag, []).append((method, path, item[method]))

    @cached_property
    def _groups(self) -> dict[str, list[str]]:
        """Heading of the navigation -> addresses of its pages."""
        found: dict[str, list[str]] = {}
        for page, tag in self._tags.items():
            found.setdefault(tag.get("x-group") or "Resources", []).append(page)
        return found

    def has(self, page: str) -> bool:
        """Tell whether there is such a page, e.g. `v1/products`."""
        return page in self._tags

    # --- pages ------------------------------------------------------------------------

    def index(self) -> str:
        """Return the first page."""
        info = self._document["info"]
        about = info.get("description", "").split("\n\n")
        cards = "".join(self._group_cards(group, pages) for group, pages in self._groups.items())
        count = sum(len(found) for found in self._operations.values())
        found = {match[1] for _, path, _ in self._all() if (match := _VERSIONED.match(path))}
        versions = sorted(found, key=lambda one: (len(one), one))
        summary = f'<p class="lede">{escape(info["summary"])}</p>' if "summary" in info else ""
        notes = "".join(f"<section>{prose(part)}</section>" for part in about)
        main = (
            '<div class="start"><header class="hero">'
            f'<p class="eyebrow">API reference · {escape(", ".join(versions))}</p>'
            f"<h1>{escape(info['title'])}</h1>{summary}"
            f'<p class="lede">{len(self._tags)} resources, {count} operations, one strict contract: every '
            "name, bound and refusal on these pages is the one the server checks.</p>"
            '<p class="links"><a class="button" href="/openapi.json">openapi.json</a></p></header>'
            f'<div class="aside">{self._first_request()}</div></div>'
            f'<div class="notes">{notes}</div>'
            f'<section class="catalogue" aria-label="Resources">{cards}</section>'
        )
        return self._page(info["title"], main, current="")

    def _first_request(self) -> str:
        lists = (path for _, path, _ in self._all() if path.startswith("/api/") and "{" not in path)
        line = curl("get", f"{next(lists, '/health')}?limit=3")
        lead = 'export API="http://127.0.0.1:3000"\nexport TOKEN="<access token>"\n\n'
        return code_block(lead + line, language="shell", label="First request")

    def resource(self, page: str) -> str:
        """Return the page of a resource, whose address must be known (see `has`)."""
        tag = self._tags[page]
        operations = self._operations.get(tag["name"], [])
        fields = self._fields(tag["name"])
        jumps = "".join(
            f'<li><a href="#{escape(one["operationId"])}">{_method(method)}'
            f"<span>{escape(_heading(one))}</span></a></li>"
            for method, _, one in operations
        )
        sections = "".join(self._operation(method, path, one) for method, path, one in operations)
        main = (
            f'<header class="hero small"><p class="eyebrow">{escape(tag.get("x-group", ""))} · '
            f"{escape(page.partition('/')[0])}</p>"
            f"<h1>{escape(tag['name'])}</h1>{prose(tag.get('description', ''))}</header>"
            f'<nav class="jumps" aria-label="Operations"><ol>{jumps}</ol></nav>{fields}{sections}'
        )
        return self._page(f"{tag['name']} · {self._document['info']['title']}", main, current=page)

    def _all(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for found in self._operations.values():
            yield from found

    # --- around -----------------------------------------------------------------------

    def _page(self, title: str, main: str, *, current: str) -> str:
        assets = self._assets
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f"<title>{escape(title)}</title>"
            f'<link rel="stylesheet" href="{assets["docs.css"]}">'
            f'<link rel="icon" href="{assets["docs.svg"]}">'
            f'<script src="{assets["docs.js"]}" defer></script>{self._sign_in_script()}</head><body>'
            '<a class="skip" href="#main">Skip to content</a>'
            f"{self._top()}"
            '<div class="frame"><nav class="side" id="side" aria-label="Resources">'
            f"{self._side(current)}</nav>"
            f'<main id="main">{main}</main></div></body></html>'
        )

    def _top(self) -> str:
        title = escape(self._document["info"]["title"])
        return (
            f'<header class="top"><a class="home" href="/docs"><img src="{self._assets["docs.svg"]}" alt="" '
            f'width="22" height="22"><span>{title}</span></a>'
            '<div class="find" role="search"><input id="find" type="search" autocomplete="off" '
            'placeholder="Find a resource" aria-label="Find a resource" aria-keyshortcuts="/" disabled>'
            '<kbd aria-hidden="true">/</kbd></div>'
            '<div class="tools" hidden><label class="token"><span>Token</span><input id="token" '
            'type="password" autocomplete="off" spellcheck="false" '
            'placeholder="paste an access token"></label>'
            f"{_SIGN_IN_BUTTON if self._signs_in else ''}"
            '<button id="theme" type="button" aria-label="Switch between light and dark">◐</button></div>'
            f"</header>{_SIGN_IN_DIALOG if self._signs_in else ''}"
        )

    def _sign_in_script(self) -> str:
        return f'<script src="{self._assets["sign-in.js"]}" defer></script>' if self._signs_in else ""

    def _side(self, current: str) -> str:
        groups = self._groups
        if len(self._tags) > _LISTED:
            groups = {name: pages for name, pages in groups.items() if current in pages}
        here = "" if current else ' aria-current="page"'
        return f'<a class="all" href="/docs"{here}>Overview</a>' + "".join(
            f"<section><h2>{escape(name)}</h2><ul>"
            f"{''.join(self._link(page, current) for page in pages)}</ul></section>"
            for name, pages in groups.items()
        )

    def _link(self, page: str, current: str) -> str:
        here = ' aria-current="page"' if page == current else ""
        return f'<li><a href="/docs/{quote(page)}"{here}>{escape(self._tags[page]["name"])}</a></li>'

    def _group_cards(self, group: str, pages: list[str]) -> str:
        cards = "".join(self._card(page) for page in pages)
        tags = (self._tags[page] for page in pages)
        told = next((tag["x-group-description"] for tag in tags if "x-group-description" in tag), "")
        about = f"<p>{escape(told)}</p>" if told else ""
        return (
            f'<section class="group"><h2>{escape(group)}</h2>{about}<ul class="cards">{cards}</ul></section>'
        )

    def _card(self, page: str) -> str:
        tag = self._tags[page]
        operations = self._operations.get(tag["name"], ())
        methods = "".join(
            _method(method) for method in _METHODS if any(one[0] == method for one in operations)
        )
        told = tag.get("description", "")
        text = f"<p>{escape(told[:140] + ('…' if len(told) > 140 else ''))}</p>" if told else ""
        return (
            f'<li class="card"><a href="/docs/{quote(page)}">{escape(tag["name"])}</a>{text}'
            f'<p class="methods" aria-label="{len(operations)} operations">{methods}</p></li>'
        )

    # --- inside -----------------------------------------------------------------------

    def _fields(self, tag: str) -> str:
        """Return the table of a resource's fields, taken from its row."""
        name = tag.replace(" v", "V")
        row = self._document["components"]["schemas"].get(name)
        if row is None or not self._operations.get(tag):
            return ""
        rows = "".join(schema_rows(row, self._resolve))
        example = code_block(
            json.dumps(example_of(row, self._resolve), indent=2, ensure_ascii=False),
            language="json",
            label="A row",
        )
        table = _table("Field", "Type", "Meaning", rows)
        return (
            f'<section class="op fields" id="fields"><div class="words"><h2>Fields</h2>{table}</div>'
            f'<div class="aside">{example}</div></section>'
        )

    def _operation(self, method: str, path: str, operation: Mapping[str, Any]) -> str:
        key = escape(operation["operationId"])
        parameters = [self._resolve(one) for one in operation.get("parameters", ())]
        asked = [one for one in parameters if one["in"] != "header"]
        sent = [one for one in parameters if one["in"] == "header"]
        words = [
            f"<h2>{escape(_heading(operation))}</h2>",
            f'<p class="address">{_method(method)}<code>{_address(path)}</code></p>',
            prose(operation.get("description", "")),
            self._parameters("Parameters", asked),
            self._filters(asked),
            self._body(operation),
            self._parameters("Headers", sent, folded=True),
            self._answers(operation),
        ]
        return (
            f'<section class="op" id="{key}" data-method="{method}" data-path="{escape(path)}">'
            f'<div class="words">{"".join(words)}</div>'
            f'<div class="aside">{self._aside(method, path, operation, asked)}</div></section>'
        )

    def _parameters(self, title: str, found: list[Mapping[str, Any]], *, folded: bool = False) -> str:
        rows = "".join(self._parameter(one) for one in found)
        if not rows:
            return ""
        table = _table("Name", "Type", "Meaning", rows)
        if folded:
            return f"<details><summary>{title} <span>{len(found)}</span></summary>{table}</details>"
        return f"<h3>{title}</h3>{table}"

    def _parameter(self, one: Mapping[str, Any]) -> str:
        schema = self._resolve(one["schema"]) if "schema" in one else None
        words = "JSON, or brackets" if schema is None else type_words(schema, self._resolve)
        if schema is not None and schema.get("type") == "array":
            items = schema["items"]
            words = "list of " + (type_words(items, self._resolve) if "enum" in items else "names")
        place = '<span class="mark">in path</span>' if one["in"] == "path" else ""
        default = (
            f" Default <code>{escape(json.dumps(schema['default']))}</code>."
            if schema and "default" in schema
            else ""
        )
        text = prose(one.get("description", "")).removeprefix("<p>").removesuffix("</p>")
        return (
            f'<tr><th scope="row"><code>{escape(one["name"])}</code>{place}</th><td class="type">{words}</td>'
            f"<td>{text}{default}</td></tr>"
        )

    def _filters(self, parameters: list[Mapping[str, Any]]) -> str:
        found = next((one for one in parameters if one["name"] == "filter"), None)
        if found is None:
            return ""
        schema = self._resolve(found["content"][_JSON]["schema"])
        rows = filter_table(schema, self._resolve)
        head = '<thead><tr><th scope="col">Field</th><th scope="col">Operators</th></tr></thead>'
        inner = f'<table class="operators">{head}<tbody>{rows}</tbody></table>'
        table = f'<div class="table" tabindex="0">{inner}</div>'
        count = len(schema.get("properties", {})) - 3
        return f"<details><summary>What can be filtered <span>{count}</span></summary>{table}</details>"

    def _body(self, operation: Mapping[str, Any]) -> str:
        body = operation.get("requestBody")
        if body is None:
            return ""
        kinds = "".join(f"<code>{escape(kind)}</code> " for kind in body["content"])
        schema = self._resolve(next(iter(body["content"].values()))["schema"])
        several = schema.get("anyOf")
        if several:
            titles = ", ".join(
                f"<em>{escape(one.get('title', 'list'))}</em>" for one in map(self._resolve, several)
            )
            return f'<h3>Body</h3><p class="kinds">{kinds}</p><p>One of: {titles}.</p>'
        rows = "".join(schema_rows(schema, self._resolve))
        table = _table("Field", "Type", "Meaning", rows) if rows else ""
        return f'<h3>Body</h3><p class="kinds">{kinds}</p>{table}'

    def _answers(self, operation: Mapping[str, Any]) -> str:
        good: list[str] = []
        bad: list[str] = []
        for status, found in operation["responses"].items():
            answer = self._resolve(found)
            row = (
                f'<li><span class="status s{status[0]}">{escape(status)}</span>'
                f"<div>{prose(answer['description'])}</div></li>"
            )
            (good if status < "400" else bad).append(row)
        shown = f'<ul class="answers">{"".join(good)}</ul>'
        hidden = f'<ul class="answers">{"".join(bad)}</ul>'
        folded = f"<details><summary>Refusals <span>{len(bad)}</span></summary>{hidden}</details>"
        return f"<h3>Answers</h3>{shown}{folded}"

    def _aside(
        self, method: str, path: str, operation: Mapping[str, Any], parameters: list[Mapping[str, Any]]
    ) -> str:
        media_type, body = self._request_example(operation)
        filled = path
        for one in parameters:
            if one["in"] == "path":
                value = example_of(one["schema"], self._resolve)
                filled = filled.replace("{" + one["name"] + "}", quote(str(value), safe=""))
        secured = {} not in operation.get("security", ())
        line = curl(method, filled, body=body, media_type=media_type, token=secured)
        data = json.dumps(
            {
                "parameters": [
                    {"name": one["name"], "in": one["in"], "value": _first(one, self._resolve)}
                    for one in parameters
                ],
                "mediaType": media_type,
                "body": None if body is None else json.dumps(body, indent=2, ensure_ascii=False),
            },
            ensure_ascii=False,
        )
        parts = [code_block(line, language="shell", label="Request")]
        parts.append(f'<div class="try" hidden data-try="{escape(data)}"></div>')
        parts.append(self._answer_example(operation))
        return "".join(parts)

    def _request_example(self, operation: Mapping[str, Any]) -> tuple[str, Any]:
        body = operation.get("requestBody")
        if body is None:
            return "", None
        media_type, content = next(iter(body["content"].items()))
        return media_type, content.get("example", example_of(content["schema"], self._resolve))

    def _answer_example(self, operation: Mapping[str, Any]) -> str:
        for status, found in operation["responses"].items():
            content = self._resolve(found).get("content", {})
            if status < "400" and _JSON in content:
                value = example_of(content[_JSON]["schema"], self._resolve)
                if value is None or value == {}:
                    continue
                text = json.dumps(value, indent=2, ensure_ascii=False)
                return code_block(text, language="json", label=f"Answer {status}")
        return ""


def _heading(operation: Mapping[str, Any]) -> str:
    """Return the summary without the name that the page has anyway."""
    summary = str(operation["summary"])
    return summary.partition(" one of ")[0] + " one" if " one of " in summary else summary


def _first(parameter: Mapping[str, Any], resolve: Resolver) -> str:
    """Return what a form field starts with: only what a path needs."""
    return str(example_of(parameter["schema"], resolve)) if parameter["in"] == "path" else ""


def _method(method: str) -> str:
    return f'<b class="m {method}">{method.upper()}</b>'


def _address(path: str) -> str:
    marked = escape(path).replace("/", "/<wbr>")
    return marked.replace("{", "<var>{").replace("}", "}</var>")


def _table(first: str, second: str, third: str, rows: str) -> str:
    head = "".join(f'<th scope="col">{title}</th>' for title in (first, second, third))
    inner = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="table" tabindex="0">{inner}</div>'
