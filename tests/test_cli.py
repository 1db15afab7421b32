"""What the command line promises."""

from __future__ import annotations

import base64
import gc
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from byodpp.bootstrap import Application, assemble
from byodpp.cli import YOUNG
from byodpp.cli.manifest_text import insert_resource
from byodpp.manifest import load_manifest
from byodpp.settings import load_settings
from tests.commands import byodpp
from tests.serving import Serving

ROOT = Path(__file__).resolve().parent.parent
FIELDS = {"name": {"type": "string", "maxLength": 10}}


def changed_manifest(folder: Path, change: Any) -> None:
    path = folder / "resources.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest["services"][0]["resources"])
    path.write_text(json.dumps(manifest, indent=2), encoding="utf-8")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "my shop"
    done = byodpp("init", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_help_names_every_command_and_shows_how_to_begin() -> None:
    shown = byodpp("--help")
    assert shown.returncode == 0
    for command in (
        "serve",
        "check",
        "routes",
        "logics",
        "migrate",
        "audit",
        "seed",
        "token",
        "revoke",
        "access",
        "explain",
        "openapi",
        "init",
        "new",
    ):
        assert f" {command} " in shown.stdout
    assert "byodpp init shop" in shown.stdout


@pytest.mark.parametrize(
    "words",
    [
        *(
            ("serve",),
            ("check",),
            ("routes",),
            ("logics",),
            ("seed",),
            ("token",),
            ("revoke",),
            ("access",),
            ("explain",),
            ("openapi",),
            ("init",),
        ),
        *(
            ("migrate", "plan"),
            ("migrate", "new"),
            ("migrate", "apply"),
            ("audit", "verify"),
            ("audit", "heads"),
            ("secrets", "rotate"),
            ("new", "resource"),
            ("new", "logic"),
        ),
    ],
    ids=" ".join,
)
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    shown = byodpp(*words, "--help")
    assert shown.returncode == 0
    assert "Usage: byodpp " + " ".join(words) in shown.stdout


def test_help_imports_no_database_and_no_server() -> None:
    code = (
        "import sys\nfrom byodpp.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'asyncpg', 'starlette', 'uvicorn', 'marshmallow', 'alembic', 'casbin'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stderr.strip() == "[]"


def test_the_garbage_collector_works_rarely_in_a_command_and_as_usual_in_a_server() -> None:
    code = (
        "import gc, sys, byodpp.cli as cli\n"
        "def program(): return lambda **words: print(gc.get_threshold(), file=sys.stderr)\n"
        "cli.make_program = program\n"
        "for words in (['check'], ['--app', '.', 'serve']): cli.main(words)\n"
        "print(gc.get_threshold(), file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    rarely, serving, afterwards = shown.stderr.splitlines()
    assert rarely == str((YOUNG, *gc.get_threshold()[1:]))
    assert serving == afterwards != rarely


def test_the_version_is_printed_by_the_package_run_as_a_program() -> None:
    from byodpp import __version__

    command = [sys.executable, "-m", "byodpp", "--version"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == f"byodpp {__version__}\n"


@pytest.mark.parametrize(
    "words", [("nonsense",), ("serve", "--nonsense"), ("new", "resource"), ("token",)], ids=" ".join
)
def test_a_command_that_is_not_understood_ends_with_2(words: tuple[str, ...]) -> None:
    assert byodpp(*words).returncode == 2


def test_a_folder_without_an_application_is_named_with_what_to_do(tmp_path: Path) -> None:
    done = byodpp("routes", cwd=tmp_path)
    assert done.returncode == 1
    assert str(tmp_path / "resources.json") in done.stderr
    assert "byodpp init DIR" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("order", ["before", "after", "equals", "variable"])
def test_the_application_can_be_named_before_and_after_the_command(
    shop: Path, tmp_path: Path, order: str
) -> None:
    words: tuple[str, ...] = {
        "before": ("--app", str(shop), "routes"),
        "after": ("routes", "--app", str(shop)),
        "equals": ("routes", f"--app={shop}"),
        "variable": ("routes",),
    }[order]
    variables = {"BYODPP_APP_DIR": str(shop)} if order == "variable" else {}
    done = byodpp(*words, cwd=tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert "/api/v1/projects/{id}" in done.stdout


def test_init_makes_an_application_that_loads_without_a_mistake(shop: Path) -> None:
    registry = load_manifest(shop)
    assert {resource.name for resource in registry if resource.part is None} == {"Projects", "Tasks"}
    made = {path.relative_to(shop).as_posix() for path in shop.rglob("*") if path.is_file()}
    assert made >= {
        ".gitignore",
        "README.md",
        "config/base.yaml",
        "logics/v1/tasks/create.py",
        "resources.json",
        "resources.schema.json",
        "tests/conftest.py",
        "tests/test_tasks.py",
    }
    assert "__" not in (shop / "resources.json").read_text(encoding="utf-8")
    logics = byodpp("logics", cwd=shop)
    assert "logics/v1/tasks/create.py" in logics.stdout, logics.stderr


def test_init_writes_a_schema_that_accepts_the_manifest_beside_it(shop: Path) -> None:
    import jsonschema

    schema = json.loads((shop / "resources.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(
        json.loads((shop / "resources.json").read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize(
    "words", [("init", "{file}/shop"), ("openapi", "-o", "{file}/x.json", "--app", "{shop}")]
)
def test_a_place_that_cannot_be_written_is_named_without_a_traceback(
    shop: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = tmp_path / "a file"
    file.write_text("")
    done = byodpp(*(word.format(file=file, shop=shop) for word in words))
    assert done.returncode == 1
    assert str(file) in done.stderr and "Name another place" in done.stderr
    assert "Traceback" not in done.stderr


def test_init_refuses_a_folder_that_holds_something_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = byodpp("init", tmp_path)
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_new_resource_changes_only_what_it_adds(shop: Path) -> None:
    path = shop / "resources.json"
    before = path.read_text(encoding="utf-8")
    done = byodpp("new", "resource", "Warehouses", cwd=shop)
    assert done.returncode == 0, done.stderr
    after = path.read_text(encoding="utf-8")
    added = after[_shared_start(before, after) : len(after) - _shared_end(before, after)]
    assert before == after.replace(added, "", 1)
    assert load_manifest(shop).get("Warehouses").base_url == "/api/v1/warehouses"
    assert "/api/v1/warehouses" in byodpp("routes", "Warehouses", cwd=shop).stdout


def test_new_resource_gets_its_own_file_where_the_manifest_includes_a_folder(shop: Path) -> None:
    path = shop / "resources.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({"include": ["resources/*.json"], **manifest}), encoding="utf-8")
    (shop / "resources").mkdir()
    before = path.read_text(encoding="utf-8")
    done = byodpp("new", "resource", "StorageRooms", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert path.read_text(encoding="utf-8") == before
    assert (shop / "resources" / "storage-rooms.json").exists()
    assert load_manifest(shop).find("StorageRooms") is not None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Projects", "exists already"),
        ("warehouses", "Use PascalCase, e.g. Warehouses"),
        ("../x", "is not a resource name"),
    ],
)
def test_new_resource_refuses_a_name_that_cannot_be(shop: Path, name: str, reason: str) -> None:
    before = (shop / "resources.json").read_bytes()
    done = byodpp("new", "resource", name, cwd=shop)
    assert done.returncode == 1
    assert reason in done.stderr
    assert (shop / "resources.json").read_bytes() == before


@pytest.mark.parametrize("operation", ["list", "create", "read", "update", "patch", "delete", "batch"])
def test_new_logic_writes_a_class_that_fits_and_a_test(shop: Path, operation: str) -> None:
    done = byodpp("new", "logic", "Projects", operation, cwd=shop)
    assert done.returncode == 0, done.stderr
    assert (shop / "tests" / f"test_projects_{operation}.py").exists()
    shown = byodpp("logics", cwd=shop)
    assert f"logics/v1/projects/{operation}.py" in shown.stdout, shown.stderr


def test_new_logic_serves_an_action_that_the_manifest_declares(shop: Path) -> None:
    url = "/api/v1/projects/{id}/audit-trail"
    changed_manifest(
        shop, lambda resources: resources[0]["routes"].update(actions=[{"url": url, "method": "post"}])
    )
    assert "byodpp new logic Projects audit-trail:post" in byodpp("logics", cwd=shop).stderr
    done = byodpp("new", "logic", "Projects", "audit-trail:post", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert "ProjectsAuditTrail" in byodpp("logics", cwd=shop).stdout
    assert url in byodpp("routes", "Projects", cwd=shop).stdout


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("Project", "create"), "'Projects'"),
        (("Projects", "creat"), "'create'"),
        (("Tasks", "create"), "exists already"),
    ],
)
def test_new_logic_refuses_what_fits_nowhere_and_says_what_was_meant(
    shop: Path, words: tuple[str, str], advice: str
) -> None:
    done = byodpp("new", "logic", *words, cwd=shop)
    assert done.returncode == 1
    assert advice in done.stderr


def test_every_mistake_of_a_manifest_is_told_at_once_with_its_path(shop: Path) -> None:
    def spoil(resources: list[dict[str, Any]]) -> None:
        resources[0]["fields"]["name"]["type"] = "strin"
        resources[1]["fields"]["projectId"]["references"] = "Project"
        resources[1]["bounds"] = 3

    changed_manifest(shop, spoil)
    done = byodpp("routes", cwd=shop)
    assert done.returncode == 1
    for path in (
        "resources[0].fields.name.type",
        "resources[1].fields.projectId.references",
        "resources[1].bounds",
    ):
        assert path in done.stderr
    assert " problems; nothing was started." in done.stderr


def test_check_says_what_there_is_when_nothing_is_wrong(shop: Path) -> None:
    done = byodpp("check", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert "2 resources of your own" in done.stdout
    assert "routes, versions v1" in done.stdout
    assert not (shop / ".byodpp").exists()


def test_check_notes_a_table_without_fields(shop: Path) -> None:
    changed_manifest(shop, lambda resources: resources.append({"name": "Empties"}))
    done = byodpp("check", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert "resources[2]: Empties has no `fields`" in done.stdout
    assert "Tasks has no" not in done.stdout


@pytest.mark.slow
def test_a_locale_that_the_server_does_not_know_is_told(shop: Path) -> None:
    """The embedded PostgreSQL has no ICU: its own warning is seen by nobody."""

    def sorted_as_german(resources: list[Any]) -> None:
        resources[0]["fields"]["name"]["locale"] = "de"

    changed_manifest(shop, sorted_as_german)
    name = json.loads((shop / "resources.json").read_text())["services"][0]["resources"][0]["name"]
    checked = byodpp("check", cwd=shop)
    assert f"the locale of {name}.name needs a server with ICU" in " ".join(checked.stdout.split())
    assert byodpp("migrate", "new", "-m", "first", cwd=shop).returncode == 0
    applied = byodpp("migrate", "apply", cwd=shop)
    assert f"{name}.name is compared by code point" in " ".join(applied.stdout.split()), applied.stderr


def test_check_tells_the_mistakes_of_settings_logics_and_schemas_together(shop: Path) -> None:
    (shop / "config" / "base.yaml").write_text("log_levle: info\n")
    (shop / "logics" / "v1" / "tasks" / "create.py").write_text("from nowhere import nothing\n")
    (shop / "schemas" / "wrong.py").write_text(
        "from marshmallow import Schema\nclass Wrong(Schema):\n    resource, operation = 'Task', 'create'\n"
    )
    done = byodpp("check", cwd=shop)
    assert done.returncode == 1
    for word in ("log_level", "logics/v1/tasks/create.py:1", "'Tasks'"):
        assert word in done.stderr


def test_check_refuses_a_row_filter_that_no_start_would_take(shop: Path) -> None:
    rule = {"roles": ["Viewer"], "filter": {"dueOn": {"gt": "tomorrow"}}}
    changed_manifest(shop, lambda resources: resources[1]["access"].update(read=[rule]))
    done = byodpp("check", cwd=shop)
    assert done.returncode == 1
    assert "resources[1].access.read[0].filter" in done.stderr
    served = byodpp("serve", "--port", "0", cwd=shop)
    assert served.returncode == 1 and served.stderr == done.stderr
    assert not (shop / ".byodpp").exists(), "nothing was started"


def test_routes_of_the_frameworks_parts_are_served_by_the_frameworks_classes(shop: Path) -> None:
    path = shop / "resources.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["include"] = [f"byodpp:{part}" for part in ("tenancy", "access", "audit", "keys", "secrets")]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    checked = byodpp("check", cwd=shop)
    assert checked.returncode == 0, checked.stderr
    assert "/api/v1/policies/explain" in byodpp("routes", "Policies", cwd=shop).stdout
    listed = byodpp("logics", cwd=shop).stdout
    assert "explain:get" in listed
    assert "byodpp:keys" in listed


def test_routes_lists_what_is_served_and_for_whom(shop: Path) -> None:
    def change(resources: list[dict[str, Any]]) -> None:
        tasks = resources[1]
        tasks["history"] = True
        tasks["states"]["transitions"]["finish"]["roles"] = ["Admin"]
        tasks["routes"]["actions"] = [
            {"url": "/board/{day}", "method": "get", "name": "board", "public": True}
        ]

    changed_manifest(shop, change)
    (shop / "logics" / "v1" / "tasks" / "board.py").write_text(
        "from byodpp.logics import Logic\nclass Board(Logic):\n    resource, action = 'Tasks', 'board'\n"
        "    async def execute(self):\n        return None\n"
    )
    lines = [line.split(maxsplit=4) for line in byodpp("routes", "Tasks", cwd=shop).stdout.splitlines()[1:]]
    shown = {(method, address): roles for method, address, _, _, roles in lines}
    assert shown["POST", "/api/v1/tasks/{id}/finish"] == "Admin"
    assert shown["GET", "/board/{day}"] == "public"
    blueprint = assemble(shop)
    settings = load_settings(shop, {}, postgres_db_uri="postgresql://nowhere/nothing")
    served = {
        (method, route.pattern)
        for route in Application.connect(settings, blueprint).routes()
        for method, endpoint in route.methods.items()
        if endpoint.resource is not None and endpoint.resource.name == "Tasks"
    }
    assert served == set(shown)


def test_a_revision_for_sql_of_ones_own_begins_empty(shop: Path) -> None:
    asked = byodpp("migrate", "new", "--empty", "-m", "a view", cwd=shop)
    assert asked.returncode == 1 and "the manifest asks for changes first" in asked.stderr
    early = byodpp("migrate", "apply", cwd=shop)
    assert early.returncode == 0 and "`byodpp migrate new` writes the first one" in early.stdout
    for command in (("migrate", "new", "-m", "first"), ("migrate", "apply")):
        assert byodpp(*command, cwd=shop).returncode == 0
    idle = byodpp("migrate", "new", cwd=shop)
    assert idle.returncode == 1 and "--empty" in idle.stderr
    written = byodpp("migrate", "new", "--empty", "-m", "a view", cwd=shop)
    assert "edit migrations/0002_a_view_expand.py" in written.stdout, written.stderr
    assert "0002_a_view_expand" in byodpp("migrate", "apply", cwd=shop).stdout
    assert "nothing to do" in byodpp("migrate", "plan", cwd=shop).stdout


def test_an_address_is_printed_only_of_a_server_that_serves(shop: Path) -> None:
    view = {"name": "Sights", "type": "view", "table": "sights", "fields": {"a": {"type": "string"}}}
    changed_manifest(shop, lambda resources: resources.append(view))
    done = byodpp("serve", "--port", "0", cwd=shop)
    assert done.returncode == 1
    assert "there is no such relation" in done.stderr and "--empty" in done.stderr
    assert "address" not in done.stdout


def test_a_changed_manifest_is_planned_written_and_applied(shop: Path) -> None:
    for command in (("migrate", "new", "-m", "first"), ("migrate", "apply")):
        done = byodpp(*command, cwd=shop)
        assert done.returncode == 0, done.stderr
    assert "nothing to do" in byodpp("migrate", "plan", cwd=shop).stdout
    assert byodpp("new", "resource", "Warehouses", cwd=shop).returncode == 0
    planned = byodpp("migrate", "plan", cwd=shop)
    assert "warehouses" in planned.stdout
    assert "expand" in planned.stdout
    written = byodpp("migrate", "new", "-m", "warehouses", cwd=shop)
    assert "migrations/0002_warehouses_expand.py" in written.stdout, written.stderr
    assert "0002_warehouses_expand" in byodpp("migrate", "apply", cwd=shop).stdout
    assert "nothing to do" in byodpp("migrate", "plan", cwd=shop).stdout


@pytest.mark.slow
def test_a_revision_that_rows_stand_against_and_that_may_wait_keeps_nobody_from_serving(shop: Path) -> None:
    for command in (("migrate", "new", "-m", "first"), ("migrate", "apply"), ("seed",)):
        assert byodpp(*command, cwd=shop).returncode == 0
    code = {"code": {"type": "string", "required": True}}
    changed_manifest(shop, lambda resources: resources[0]["fields"].update(code))
    planned = byodpp("migrate", "plan", "--rows", cwd=shop)
    assert "No row is outside the bounds of its fields." in planned.stdout, planned.stderr
    assert byodpp("migrate", "new", "-m", "codes", cwd=shop).returncode == 0
    refused = byodpp("migrate", "apply", cwd=shop)
    assert refused.returncode == 1 and "contains null values" in refused.stderr
    assert "applied 0002_codes_expand" in refused.stdout, "what was done is told"
    assert "or delete its file" in refused.stderr
    serving = Serving(shop)
    try:
        assert "contains null values" in serving.output
    finally:
        assert serving.end() == 0
        serving.clear_away()


def test_what_loses_data_needs_a_flag(shop: Path) -> None:
    for command in (("migrate", "new", "-m", "first"), ("migrate", "apply")):
        assert byodpp(*command, cwd=shop).returncode == 0
    changed_manifest(shop, lambda resources: resources[0]["fields"].pop("budget"))
    assert "LOSES DATA" in byodpp("migrate", "plan", cwd=shop).stdout
    assert byodpp("migrate", "new", "-m", "no budget", cwd=shop).returncode == 0
    refused = byodpp("migrate", "apply", cwd=shop)
    assert refused.returncode == 1
    assert "--allow-destructive" in refused.stderr
    assert byodpp("migrate", "apply", "--allow-destructive", cwd=shop).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("token", "--tenant", "acme"),
        ("seed",),
        ("audit", "verify"),
        ("audit", "heads"),
        ("secrets", "rotate"),
        ("revoke", "--tenant", "acme", "--all"),
        ("tenants", "list"),
    ],
    ids=" ".join,
)
def test_a_database_without_tables_is_told_in_words(shop: Path, words: tuple[str, ...]) -> None:
    done = byodpp(*words, cwd=shop)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("database\n  it holds no tables yet") and "byodpp serve" in done.stderr


def test_a_token_is_printed_alone_so_that_a_shell_can_use_it(shop: Path) -> None:
    for command in (("migrate", "new", "-m", "first"), ("migrate", "apply")):
        assert byodpp(*command, cwd=shop).returncode == 0
    done = byodpp(
        "token", "--tenant", "acme", "--role", "Viewer", "--role", "Auditor", "--user", "ada", cwd=shop
    )
    assert done.returncode == 0, done.stderr
    header, payload, signature = done.stdout.strip().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["realm_access"]["roles"] == ["Auditor", "Viewer"]
    assert claims["preferred_username"] == "ada"
    assert header
    assert signature


@pytest.mark.slow
def test_the_tests_of_a_new_application_and_of_new_logic_classes_pass(shop: Path) -> None:
    actions = [
        {"url": "/api/v1/projects/{id}/stamp", "method": "post"},
        {"url": "/api/v1/projects/report", "method": "get"},
        {"url": "/door", "method": "get", "public": True},
    ]
    changed_manifest(shop, lambda resources: resources[0]["routes"].update(actions=actions))
    crud = ("list", "create", "read", "update", "patch", "delete", "batch")
    for key in ("stamp:post", "report:get", "door:get", *crud):
        assert byodpp("new", "logic", "Projects", key, cwd=shop).returncode == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=shop, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "22 passed" in done.stdout
    for words in (("format", "--check"), ("check", "--extend-select", "I,B,UP")):
        ruff = [sys.executable, "-m", "ruff", *words, "--isolated", "."]
        tidy = subprocess.run(ruff, cwd=shop, capture_output=True, text=True, check=False)
        assert tidy.returncode == 0, tidy.stdout + tidy.stderr


_TOTALS = """
async def test_every_operation_answers(application):
    admin = application.client(role="Admin")
    for method, address, expected in (
        ("GET", "/api/v1/totals", []),
        ("POST", "/api/v1/totals", {"params": {}}),
        ("GET", "/api/v1/totals/7", {"params": {"id": "7"}}),
        ("PUT", "/api/v1/totals/7", {"params": {"id": "7"}}),
        ("PATCH", "/api/v1/totals/7", {"params": {"id": "7"}}),
    ):
        answer = await admin.request(method, address, json={} if method[0] == "P" else None)
        assert answer.json()["data"] == expected, (method, answer.text)
    assert (await admin.delete("/api/v1/totals/7")).status_code == 204
"""


@pytest.mark.slow
def test_new_classes_of_a_resource_without_a_table_answer_by_themselves(shop: Path) -> None:
    crud = ["list", "create", "read", "update", "patch", "delete"]
    totals = {"name": "Totals", "type": "logic", "routes": {"crud": crud}, "access": {"read": ["Admin"]}}
    changed_manifest(shop, lambda resources: resources.append(totals))
    for key in crud:
        assert byodpp("new", "logic", "Totals", key, cwd=shop).returncode == 0
    (shop / "tests" / "test_totals.py").write_text(_TOTALS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_totals.py"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=shop, env=variables, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("environment", ["stage", "prod"])
def test_no_token_is_given_away_outside_development(shop: Path, environment: str) -> None:
    variables = {"BYODPP_ENV": environment, "POSTGRES_DB_URI": "postgresql://nobody@127.0.0.1:1/none"}
    done = byodpp("token", "--tenant", "acme", cwd=shop, **variables)
    assert done.returncode == 1
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--reload",)], ids=["one", "two", "reload"])
def test_serve_prints_a_line_that_works_when_pasted_and_stops_all_it_started(
    shop: Path, options: tuple[str, ...]
) -> None:
    command = [sys.executable, "-m", "byodpp", "--app", str(shop), "serve", "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            pasted = next(line for line in server.stdout if line.startswith("curl "))
            words = shlex.split(pasted)
            request = urllib.request.Request(words[1], headers=dict([words[3].split(": ", 1)]))
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert json.load(answer)["count"] == 2, "the demo data are there"
        finally:
            server.send_signal(signal.SIGTERM)
            server.stdout.read()
        assert server.wait(timeout=60) == 0
    assert not (shop / ".byodpp" / "postgres.json").exists(), "its database has stopped"


@pytest.mark.slow
def test_a_server_that_reloads_survives_mistakes_and_applies_new_revisions(shop: Path) -> None:
    serving = Serving(shop, "--reload", LOG_LEVEL="info")
    try:
        manifest = shop / "resources.json"
        text = manifest.read_text(encoding="utf-8")
        manifest.write_text(text.replace('"maxLength"', '"maxLenght"', 1), encoding="utf-8")
        serving.wait_for(lambda: "nothing is served until a file changes again" in serving.output, 60)
        assert "Did you mean 'maxLength'?" in serving.output
        for path in ("/health/ready", "/api/v1/products", "/anything?at=all"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(serving.address + path, timeout=30)
            told = json.loads(refused.value.read())
            assert (refused.value.code, told["error"]["code"]) == (503, "unavailable")
            assert "its terminal says why" in told["error"]["message"] and "maxLenght" not in str(told)
            assert int(refused.value.headers["Retry-After"]) > 0
            assert refused.value.headers["X-Request-ID"] == told["error"]["requestId"]
        manifest.write_text(text.replace('"maxLength": 100', '"maxLength": 101'), encoding="utf-8")
        serving.wait_for(lambda: "byodpp migrate new" in serving.output, 60)
        assert byodpp("migrate", "new", "-m", "longer", cwd=shop).returncode == 0
        serving.wait_for(lambda: "applied 0002_longer_expand" in serving.output, 60)
        with urllib.request.urlopen(f"{serving.address}/health/ready", timeout=30) as answer:
            assert answer.status == 200
        assert serving.end() == 0
    finally:
        serving.clear_away()


def test_an_occupied_port_is_told_before_anything_is_started(shop: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = byodpp("serve", "--port", str(port), cwd=shop)
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "another program" in done.stderr
    assert not (shop / ".byodpp").exists()


@pytest.mark.parametrize("words", [("migrate", "plan"), ("migrate", "apply"), ("serve", "--port", "0")])
def test_a_database_that_is_not_there_is_told_without_a_traceback(shop: Path, words: tuple[str, ...]) -> None:
    with socket.socket() as nobody:  # bound and not listening: whoever connects is refused
        nobody.bind(("127.0.0.1", 0))
        uri = f"postgresql://byodpp_owner@127.0.0.1:{nobody.getsockname()[1]}/none"
        away = {f"POSTGRES_{name}_URI": uri for name in ("DB", "ADMIN", "SYSTEM")}
        done = byodpp(*words, cwd=shop, **away)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the owner of the tables cannot be connected" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("tenants", "list"),
        ("export", "Projects", "-", "--tenant", "acme", "--format", "csv"),
        ("audit", "verify"),
        ("identity", "renew", "acme"),
    ],
)
def test_a_command_does_not_wait_for_a_database_without_end(shop: Path, words: tuple[str, ...]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        uri = f"postgresql://byodpp_app@127.0.0.1:{nobody.getsockname()[1]}/none"
        done = byodpp(*words, cwd=shop, POSTGRES_DB_URI=uri, POSTGRES_SYSTEM_URI=uri)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "The database is not there" in done.stderr and "Traceback" not in done.stderr


def test_several_processes_and_reload_exclude_each_other(shop: Path) -> None:
    done = byodpp("serve", "--reload", "--workers", "2", cwd=shop)
    assert done.returncode == 1
    assert "one process only" in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        '{"resources": []}',
        '[{"name": "a", "resources": [{"name": "B"}]}]',
        '{"services":[{"name":"a"},{"name":"b","resources":[\n\t\t{"name": "]}"}\n\t]}]}\n',
        '{"x": "\\"resources\\": [", "resources": [1, [2], {"a": [3]}] , "y": 1}',
    ],
)
def test_a_resource_is_inserted_at_the_end_of_the_list_and_nowhere_else(text: str) -> None:
    resource = {"name": "New", "fields": FIELDS}
    after = insert_resource(text, resource)
    before = json.loads(text)
    found = json.loads(after)
    lists = [one.get("resources") for one in ([found] if "resources" in found else _services(found))]
    wanted = [one.get("resources") for one in ([before] if "resources" in before else _services(before))]
    assert next(one for one in lists if one) == [*next(one for one in wanted if one is not None), resource]


def test_a_manifest_without_a_list_of_resources_is_refused() -> None:
    with pytest.raises(ValueError, match="no list of resources"):
        insert_resource('{"include": "x.json"}', {"name": "New"})


def _services(manifest: Any) -> list[dict[str, Any]]:
    services: list[dict[str, Any]] = manifest["services"] if isinstance(manifest, dict) else manifest
    return services


def _shared_start(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def _shared_end(one: str, other: str) -> int:
    start = _shared_start(one, other)
    return _shared_start(one[start:][::-1], other[start:][::-1])
