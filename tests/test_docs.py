"""What the pages of docs/ say is so: their commands run, their requests are answered as shown."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from byodpp import logics, testing
from byodpp.application import Parts, global_stages, route_stages
from byodpp.bootstrap import Blueprint, assemble, load_demo
from byodpp.definitions import Bounds, RouteLimit
from byodpp.exceptions import error_classes
from byodpp.negotiation import Negotiator
from byodpp.openapi import openapi_document
from byodpp.query import OPERATORS, PARAMETERS, QUANTIFIERS
from byodpp.query.aggregates import PERIODS
from byodpp.query.judge import COUNTS, RELEVANCE
from byodpp.query.text import FUNCTIONS
from byodpp.routes import Body, Endpoint
from byodpp.settings import load_settings
from byodpp.testing import Bench, TestedApplication
from scripts.fault_codes import DETAILS, WHEN
from scripts.ports import free_port
from tests.documented import ROOT, Block, Exchange, blocks, difference, exchanges, matches, pages, tables

DOCS = ROOT / "docs"
SHOP = DOCS / "examples" / "shop"
SERVED = [
    DOCS / name
    for name in (
        "reference/http.md",
        "reference/query-language.md",
        "extending.md",
        "import-export.md",
        "tenancy-and-access.md",
    )
]


# --- requests ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    """The application that the examples ask."""
    folder = tmp_path_factory.mktemp("docs") / "shop"
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns(".byodpp", "__pycache__"))
    return assemble(folder)


@asynccontextmanager
async def seeded(bench: Bench, shop: Blueprint) -> AsyncIterator[TestedApplication]:
    async with bench.application(shop) as application:
        assert await load_demo(application.settings, shop)
        yield application


@pytest.mark.parametrize("page", SERVED, ids=lambda page: page.stem)
async def test_every_request_of_a_page_is_answered_as_the_page_shows(
    page: Path, byodpp_bench: Bench, shop: Blueprint
) -> None:
    shown = list(exchanges(page))
    assert shown
    following = ""  # `<next>` in an address: where the answer before said that the next page begins
    async with seeded(byodpp_bench, shop) as application:
        for one in shown:
            answer = await ask(application, replace(one, path=one.path.replace("<next>", following)))
            is_json = answer.headers.get("content-type", "").startswith("application/json")
            told = answer.json() if answer.content and is_json else {}
            following = (told.get("pagination") or {}).get("next", "")
            place = f"{page.name}:{one.line}"
            assert answer.status_code == one.status, f"{place}: {answer.status_code} {answer.text}"
            for name, value in one.answer_headers.items():
                sent = answer.headers.get(name, "")
                assert matches(value, sent), f"{place}: {name} is {sent!r}"
            if one.answer and answer.content and not is_json:
                assert matches(one.answer, answer.text), f"{place}: {answer.text}"
            elif one.answer:
                assert not (found := difference(json.loads(one.answer), told)), f"{place}: {found}"


async def test_every_query_of_the_reference_finds_what_the_reference_says(
    byodpp_bench: Bench, shop: Blueprint
) -> None:
    asked = 0
    async with seeded(byodpp_bench, shop) as application:
        for address, role, tenant, rows in tables(DOCS / "reference" / "query-language.md"):
            client = application.client(role=role, tenant=tenant)
            for query, expected in rows:
                answer = await client.get(f"{address}?{query}")
                assert found_by(answer) == expected, f"{query}: {answer.text}"
                asked += 1
    assert asked > 40


def found_by(answer: httpx2.Response) -> str:
    document = answer.json()
    if answer.status_code != 200:
        return f"{answer.status_code} {document['error']['details'][0]['code']}"
    return ", ".join(row["name"] for row in document["data"]) or "nothing"


async def ask(application: TestedApplication, one: Exchange) -> httpx2.Response:
    headers = dict(one.headers)
    # `Bearer <Viewer of acme>`, `Bearer <Viewer ada of acme>`
    if match := re.fullmatch(r"Bearer <(\w+)(?: (\w+))? of (\w+)>", headers.get("Authorization", "")):
        token = application.token(role=match[1], user=match[2] or "demo", tenant=match[3])
        headers["Authorization"] = f"Bearer {token}"
    if one.body:
        headers.setdefault("Content-Type", "application/json")
    client = application.client(role=None)
    return await client.request(one.method, one.path, headers=headers, content=one.body.encode() or None)


# --- commands ---------------------------------------------------------------------------


class Terminal:
    """Runs the console blocks of a page in a folder."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.port = free_port()
        path = os.pathsep.join([str(programs), os.environ["PATH"]])
        self.environ = {**os.environ, "PATH": path, "PORT": str(self.port), "PYTHONDONTWRITEBYTECODE": "1"}
        self.environ.pop("PYTEST_CURRENT_TEST", None)  # of this run, not of the reader's
        self.environ["PYTEST_ADDOPTS"] = "-p no:schemathesis"  # which he does not have
        self.server: subprocess.Popen[str] | None = None
        self.reader = threading.Thread()

    def run(self, block: Block, place: str) -> None:
        for command, expected in commands(block.text):
            if command.startswith("cd "):
                self.folder = self.folder / command.removeprefix("cd ")
            elif command.startswith("export "):
                name, _, value = command.removeprefix("export ").partition("=")
                self.environ[name] = self.output(f"printf %s {value}")
            else:
                told = self.serve(command) if command.startswith("byodpp serve") else self.output(command)
                assert matches(expected, told), f"{place}: {command}\n--- page\n{expected}\n--- told\n{told}"

    def output(self, command: str) -> str:
        done = subprocess.run(
            command.replace(":3000", f":{self.port}"),
            shell=True,
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return re.sub(rf":{self.port}\b", ":3000", done.stdout)

    def serve(self, command: str) -> str:
        """Start the server and return what it prints until it serves."""
        self.server = subprocess.Popen(
            command.split(),
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.server.stdout is not None
        lines = []
        for line in self.server.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        # Whoever does not read on stops the server at its next line.
        self.reader = threading.Thread(target=self.server.stdout.read, daemon=True)
        self.reader.start()
        self.wait_until_served()
        return "".join(lines).replace(f":{self.port}", ":3000")

    def wait_until_served(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            time.sleep(0.05)
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                    probe.sendall(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    if b" 200 " in probe.recv(200):
                        return
            except OSError:
                continue  # nobody listens yet, or whoever does is just being replaced
        raise AssertionError("the server does not serve within a minute")

    def stop(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            code = self.server.wait(timeout=60)
            self.close()
            assert code == 0

    def close(self) -> None:
        """Leave nothing of the server behind."""
        if self.server is not None and self.server.stdout is not None:
            self.server.kill()
            self.server.wait()
            if self.reader.ident is not None:
                self.reader.join()
            self.server.stdout.close()
        self.server = None


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("byodpp", "byodpp"), ("pytest", "pytest")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    found = Terminal(folder, programs)
    yield found
    found.close()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the pages use curl")
@pytest.mark.parametrize("name", ["tutorial.md", "migrations.md", "import-export.md"])
def test_every_command_of_a_page_prints_what_the_page_shows(name: str, terminal: Terminal) -> None:
    ran = 0
    for block in blocks(DOCS / name):
        place = f"{name}:{block.line}"
        if block.note.startswith("file: "):
            path = terminal.folder / block.note.removeprefix("file: ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.note.startswith("into: "):
            path = terminal.folder / block.note.removeprefix("into: ")
            before, empty, after = path.read_text(encoding="utf-8").partition(
                '    op.execute("""SELECT 1""")\n'
            )
            assert empty
            path.write_text(before + indent(block.text, "    ") + after, encoding="utf-8")
        elif block.note == "add to resources.json":
            add_resource(terminal.folder / "resources.json", json.loads(block.text))
        elif block.note.startswith("change resources.json: "):
            change(terminal.folder / "resources.json", block.note.partition(": ")[2], json.loads(block.text))
        elif block.note == "stop serve":
            terminal.stop()
        elif block.kind == "console":
            terminal.run(block, place)
            ran += 1
    assert ran >= 2
    terminal.stop()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the pages use curl")
def test_what_the_readme_shows_of_the_reference_application_is_so(terminal: Terminal) -> None:
    for name in ("resources.json", "resources", "logics", "schemas", "migrations", "seeds", "config"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, terminal.folder / name)
    terminal.serve("byodpp serve")
    shown = [block for block in blocks(ROOT / "README.md") if block.kind == "console"]
    assert len(shown) >= 2
    for block in shown:
        # The programs are on the path already; the page's reader puts them there.
        text = re.sub(r"^\$ export PATH=.*\n", "", block.text, flags=re.MULTILINE)
        terminal.run(replace(block, text=text), f"README.md:{block.line}")
    terminal.stop()


@pytest.mark.slow
def test_the_example_application_passes_its_own_tests(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns(".byodpp", "__pycache__"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command after `$ `, its continued lines included, and what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        end = next(index for index, line in enumerate(lines) if not line.endswith("\\"))
        yield "\n".join(lines[: end + 1]), "\n".join(lines[end + 1 :])


def add_resource(path: Path, resource: dict[str, Any]) -> None:
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["services"][0]["resources"].append(resource)
    path.write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def change(path: Path, name: str, fields: dict[str, Any]) -> None:
    """Put other fields into a resource."""
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for resource in manifest["services"][0]["resources"]:
        if resource["name"] == name:
            resource["fields"] = fields
    path.write_text(json.dumps(manifest, indent=2), encoding="utf-8")


# --- what the pages quote ---------------------------------------------------------------


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_what_a_page_shows_as_json_or_python_is_that(page: Path) -> None:
    for block in blocks(page):
        place = f"{page.name}:{block.line}"
        try:
            if block.kind == "json":
                json.loads(block.text)
            elif block.kind == "python":
                ast.parse(block.text)
        except ValueError as error:
            raise AssertionError(f"{place}: {error}") from error


def test_the_files_that_a_page_quotes_from_the_example_are_the_example() -> None:
    quoted = [block for block in blocks(DOCS / "extending.md") if block.note.startswith("from: ")]
    assert len(quoted) >= 5
    for block in quoted:
        assert block.text.strip() in (SHOP / block.note.removeprefix("from: ")).read_text(encoding="utf-8")


def test_every_path_that_architecture_names_exists() -> None:
    named = re.findall(r"`((?:byodpp|tests|docs|scripts)/[\w/.]+)`", text_of("architecture.md"))
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_architecture_names_the_stages_of_a_request_in_their_order(tmp_path: Path) -> None:
    way = text_of("architecture.md").partition("## The way of a request")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", way, flags=re.MULTILINE)
    (tmp_path / "resources.json").write_text('{"resources": []}', encoding="utf-8")
    settings = load_settings(tmp_path, {})
    parts: Any = Parts(
        settings=settings,
        routes=(),
        authenticator=NOTHING,
        authorizer=NOTHING,
        tenant_classes=NOTHING,
        trail=NOTHING,
        lifespan=NOTHING,
    )
    limited: Any = SimpleNamespace(
        name="Users",
        part="access",
        version="v1",
        control_plane=False,
        rate_limits={"create": RouteLimit(requests=1, seconds=1)},
    )
    endpoint: Any = Endpoint(
        handler=NOTHING,
        resource=limited,
        operation="create",
        body=Body.REQUIRED,
        load=NOTHING,
        complete=NOTHING,
        probe=NOTHING,
    )
    around = ["RequestContext", "AccessLog", "ErrorWriter"]
    around += [type(stage).__name__ for stage in global_stages(parts)]
    of_route = [type(stage).__name__ for stage in route_stages(parts, Negotiator(()), endpoint)]
    assert named == [*around, *of_route]


NOTHING: Any = object()


# --- nothing is left out ----------------------------------------------------------------


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_error_code_has_its_occasion() -> None:
    assert {one.code for one in error_classes()} == set(WHEN)


def test_every_code_of_a_detail_is_explained() -> None:
    assert used_detail_codes() - set(DETAILS) == set(), "used, not explained"


def used_detail_codes() -> set[str]:
    """Return the codes that the sources give to details."""
    places = {"Detail": 1, "FieldFault": 0, "fault": 1, "_fault": 1, "unknown": 1, "Rejected": 1, "Fault": 0}
    found = set()
    for path in (ROOT / "byodpp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                at = places.get(name)
                if at is not None and len(node.args) > at and isinstance(node.args[at], ast.Constant):
                    found.add(str(node.args[at].value))  # type: ignore[attr-defined]
    return {code for code in found if re.fullmatch(r"[a-z_]+", code)}


def test_every_word_of_the_query_language_is_in_its_reference() -> None:
    page = text_of("reference/query-language.md")
    words = {*OPERATORS, *QUANTIFIERS, *(word for known in PARAMETERS.values() for word in known)}
    assert {word for word in words if f"`{word}" not in page and f"[{word}]" not in page} == set()


def test_every_word_of_the_query_language_has_an_example_that_is_executed() -> None:
    page = DOCS / "reference" / "query-language.md"
    asked = [query for *_, rows in tables(page) for query, found in rows if not found.startswith("400")]
    asked += [f"{one.path}\n{one.body}" for one in exchanges(page) if one.status == 200]
    unshown = {word for word in words_of_queries() if not any(is_used(word, one) for one in asked)}
    assert unshown == set()


def test_every_word_of_the_query_language_is_in_the_openapi_document(shop: Blueprint) -> None:
    document = openapi_document(shop.registry, shop.schemas, shop.logics)
    text = json.dumps([document["paths"], document["components"]])
    words = {word for word in words_of_queries() if word not in (":nullsFirst", ":nullsLast")}
    assert {word for word in words if not is_used(word.strip(":[]"), text)} == set()
    assert ":nulls(First|Last)" in text


def words_of_queries() -> set[str]:
    """Return everything that a query can say."""
    options = {f"[{option}]" for option in ("limit", "filter", "sort", "fields")}
    orders = {":asc", ":desc", ":nullsFirst", ":nullsLast", RELEVANCE}
    parameters = {word for known in PARAMETERS.values() for word in known}
    connectives = {"and", "or", "not"}
    return {
        *(*OPERATORS, *QUANTIFIERS, *connectives, *parameters, *options, *orders),
        *(*COUNTS, *FUNCTIONS, *PERIODS),
    }


def is_used(word: str, query: str) -> bool:
    """Return whether a query uses a word as one: in brackets, as a parameter, in a list, as a JSON key."""
    if not word.isalpha():
        return word in query
    return re.search(rf"(?<![\w.]){word}(?![\w.])", query) is not None


def test_every_bound_is_explained() -> None:
    from scripts.make_docs import bounds_table

    assert "|  |" not in bounds_table()
    assert bounds_table().count("\n") == len(Bounds.__dataclass_fields__) + 2


def test_everything_a_logic_class_may_use_is_on_the_page_about_extending() -> None:
    page = text_of("extending.md")
    offered = {name for name in vars(logics.Logic) if not name.startswith("_") and name != "execute"}
    offered |= {name for name in vars(testing.TestedApplication) if callable_name(name)}
    assert {name for name in offered if f"`{name}" not in page and f".{name}" not in page} == set()


def callable_name(name: str) -> bool:
    return not name.startswith("_") and callable(getattr(testing.TestedApplication, name)) and name != "close"


def test_every_page_is_in_the_index_and_every_decision_in_its_list() -> None:
    index = text_of("index.md")
    listed = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    left_out = {"index.md", "examples/shop/README.md", "soak.md"}
    missing = {path for path in listed - left_out if path not in index and not path.startswith("decisions/0")}
    assert missing == set()
    decisions = text_of("decisions/README.md")
    assert {path.name for path in (DOCS / "decisions").glob("0*.md") if path.name not in decisions} == set()


def test_a_decision_fits_on_one_screen() -> None:
    long = {
        path.name for path in (DOCS / "decisions").glob("0*.md") if len(path.read_text().splitlines()) > 45
    }
    assert long == set()
