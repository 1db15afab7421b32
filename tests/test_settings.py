"""Settings: who wins, and that every mistake is told at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from byodpp.exceptions import SettingsError, StartError
from byodpp.settings import Settings, load_settings, settings_reference
from byodpp.settings.secret_key import application_secret

ROOT = Path(__file__).resolve().parent.parent


def write(folder: Path, **files: str) -> Path:
    (folder / "config").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "config" / f"{name}.yaml").write_text(text)
    return folder


def reasons(app_dir: Path, environ: dict[str, str] | None = None, **overrides: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(app_dir, environ or {}, **overrides)
    return str(caught.value)


def test_without_a_word_an_application_runs_as_dev_on_port_3000(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    assert (settings.environment, settings.host, settings.port) == ("dev", "127.0.0.1", 3000)
    assert settings.postgres_db_uri is None
    assert settings.app_dir == tmp_path


def test_the_command_line_wins_over_variables_those_over_the_environments_file_that_over_base(
    tmp_path: Path,
) -> None:
    write(
        tmp_path,
        base="port: 1\nworkers: 2\nmax_json_depth: 3\nmax_url_bytes: 400\n",
        dev="port: 5\nworkers: 6\nmax_json_depth: 7\n",
    )
    settings = load_settings(tmp_path, {"PORT": "8", "BYODPP_WORKERS": "9"}, port=10)
    got = (settings.port, settings.workers, settings.max_json_depth, settings.max_url_bytes)
    assert got == (10, 9, 7, 400)


def test_an_override_of_none_and_an_empty_variable_say_nothing(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {"PORT": " "}, port=None).port == 3000


def test_our_variable_wins_over_the_classic_one(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {"PORT": "1", "BYODPP_PORT": "2"}).port == 2


def test_lists_come_as_yaml_lists_or_separated_by_commas(tmp_path: Path) -> None:
    write(tmp_path, base='cors_origins: ["http://a.example"]\n')
    assert load_settings(tmp_path, {}).cors_origins == ("http://a.example",)
    environ = {"CORS_ORIGIN": "http://a.example, https://b.example:8443"}
    assert load_settings(tmp_path, environ).cors_origins == ("http://a.example", "https://b.example:8443")


@pytest.mark.parametrize("environment", ["dev", "test"])
def test_limits_are_out_of_the_way_in_dev_and_test_without_a_word(tmp_path: Path, environment: str) -> None:
    settings = load_settings(tmp_path, {"BYODPP_ENV": environment})
    assert min(settings.rate_limit_per_ip, settings.rate_limit_per_user) >= 1_000_000
    assert settings.rate_limit_per_tenant >= settings.rate_limit_per_user
    assert settings.rate_limit_enabled
    write(tmp_path, base="rate_limit_per_user: 7\n")
    assert load_settings(tmp_path, {"BYODPP_ENV": environment}).rate_limit_per_user == 7


def test_limits_are_those_of_the_documentation_in_stage(tmp_path: Path) -> None:
    environ = {
        "BYODPP_ENV": "stage",
        "BYODPP_IDENTITY": "keycloak",
        "KEYCLOAK_URL": "https://id.example",
        "BYODPP_SECRET_KEY": "x" * 64,
    }
    settings = load_settings(tmp_path, environ)
    assert (settings.rate_limit_per_ip, settings.rate_limit_per_user) == (1_000, 600)


def test_all_mistakes_are_told_at_once_with_suggestions(tmp_path: Path) -> None:
    write(tmp_path, base="prot: 1\nport: 1\nport: 2\nlog_level: inof\n", dev="workers: many\n- x\n")
    text = reasons(tmp_path, {"BYODPP_PORTT": "1", "BYODPP_MAX_JSON_DEPTH": "9999"}, host=7)
    for expected in (
        "base.yaml: prot: no such setting",
        "Did you mean 'port'?",
        "base.yaml: port: is given twice",
        "Did you mean 'info'?",
        "dev.yaml: cannot be read",
        "Did you mean 'BYODPP_PORT'?",
        "BYODPP_MAX_JSON_DEPTH: must lie between 1 and 200",
        "override host: must be text",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("PORT", "3000.5"),
        ("PORT", "-1"),
        ("BYODPP_DOCS_ENABLED", "perhaps"),
        ("BYODPP_STATEMENT_TIMEOUT_SECONDS", "nan"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(tmp_path: Path, name: str, raw: str) -> None:
    assert reasons(tmp_path, {name: raw}).startswith(f"{name}: must ")


def test_a_file_cannot_choose_the_environment(tmp_path: Path) -> None:
    assert "environment: no such setting" in reasons(write(tmp_path, base="environment: prod\n"))


def test_an_unknown_environment_is_refused(tmp_path: Path) -> None:
    assert "must be one of dev, test, stage, prod" in reasons(tmp_path, {"BYODPP_ENV": "production"})


def test_prod_refuses_what_is_good_for_development_only(tmp_path: Path) -> None:
    text = reasons(tmp_path, {"BYODPP_ENV": "prod", "CORS_ORIGIN": "*"})
    for name in ("postgres_db_uri", "identity", "cors_origins"):
        assert f"{name}: " in text


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    text = reasons(tmp_path, {"POSTGRES_ADMIN_URI": "postgresql://x/y"}, pool_min_connections=20)
    assert "postgres_db_uri: is missing" in text
    assert "pool_min_connections: must not be larger" in text


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"BYODPP_IDENTITY": "keycloak"}, "issuer_base_url: is needed with identity keycloak"),
        ({"KEYCLOAK_URL": "id.example.com"}, "issuer_base_url: must be http:// or https://, a host"),
        ({"KEYCLOAK_URL": "https://id.example.com?x=1"}, "issuer_base_url: must be http:// or https://"),
        ({"KEYCLOAK_INTERNAL_URL": "ftp://keycloak"}, "keycloak_internal_url: must be http:// or https://"),
        ({"PUBLIC_URL": "http://"}, "public_url: must be http:// or https://, a host"),
        ({"FRONTEND_REDIRECT_URI": "https://ok.example,https://*.example"}, "'https://*.example' is not"),
        ({"BYODPP_KEYCLOAK_ADMIN_USER": "admin"}, "keycloak_admin_user: needs keycloak_admin_password"),
        ({"BYODPP_KEYCLOAK_ADMIN_PASSWORD": "hush"}, "keycloak_admin_user: needs keycloak_admin_password"),
        (
            {
                "BYODPP_KEYCLOAK_ADMIN_USER": "admin",
                "BYODPP_KEYCLOAK_ADMIN_PASSWORD": "hush",
                "KEYCLOAK_ADMIN_CLIENT_SECRET": "hush",
            },
            "keycloak_admin_secret: is given beside keycloak_admin_user",
        ),
        ({"SMTP_HOST": "mail.example.com"}, "smtp_from: is needed with smtp_host"),
        ({"SMTP_FROM": "DPP <dpp@example.com>"}, "smtp_from: must be one address, without a name"),
        ({"OPERATORS_EMAIL": "us@example.com, them@example.com"}, "operators_email: must be one address"),
        ({"SMTP_USER": "dpp"}, "smtp_user: needs smtp_password"),
    ],
)
def test_identity_and_mail_settings_that_cannot_work_are_refused(
    tmp_path: Path, environ: dict[str, str], problem: str
) -> None:
    text = reasons(tmp_path, environ)
    assert problem in text
    assert "hush" not in text


@pytest.mark.parametrize("environment", ["stage", "prod"])
def test_the_local_issuer_is_refused_outside_development(tmp_path: Path, environment: str) -> None:
    assert f"identity: must not be local in {environment}" in reasons(tmp_path, {"BYODPP_ENV": environment})


@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("https://id.example.com", True),
        ("http://id.example.com", False),
        ("http://localhost:8080", True),
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("http://127.0.0.1.example.com", False),
    ],
)
def test_prod_signs_in_by_https_or_on_this_machine(tmp_path: Path, address: str, fits: bool) -> None:
    text = reasons(tmp_path, {"BYODPP_ENV": "prod", "KEYCLOAK_URL": address})
    assert ("issuer_base_url: must be https://" in text) is not fits


def test_no_secret_is_shown_or_told(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {"POSTGRES_DB_URI": "postgresql://u:hush@h/d"})
    assert "hush" not in repr(settings)
    assert "hush" not in reasons(tmp_path, {"POSTGRES_DB_URI": "mysql://u:hush@h/d"})


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_settings(tmp_path, {}).port = 1  # type: ignore[misc]


def test_the_reference_describes_every_setting() -> None:
    reference = list(settings_reference())
    assert [one.name for one in reference] == [field.name for field in dataclasses.fields(Settings)]
    assert all(one.doc.endswith(".") for one in reference)
    port = next(one for one in reference if one.name == "port")
    assert (port.variables, port.type, port.default) == (("BYODPP_PORT", "PORT"), "integer", "3000")


@pytest.mark.parametrize("environment", ["dev", "test", "stage", "prod"])
def test_the_files_of_this_repository_load(environment: str) -> None:
    environ = {
        "BYODPP_ENV": environment,
        "POSTGRES_DB_URI": "postgresql://h/d",
        "KEYCLOAK_URL": "https://id.example",
        "BYODPP_SECRET_KEY": "0123456789abcdef" * 2,
    }
    assert load_settings(ROOT, environ).environment == environment


@pytest.mark.parametrize("environment", ["stage", "prod"])
def test_a_secret_is_required_where_several_processes_may_serve(tmp_path: Path, environment: str) -> None:
    environ = {"BYODPP_ENV": environment}
    assert "secret_key: is required" in reasons(tmp_path, environ)
    assert "at least 32 characters" in reasons(tmp_path, {**environ, "BYODPP_SECRET_KEY": "short"})
    assert "short" not in reasons(tmp_path, {**environ, "BYODPP_SECRET_KEY": "short"})


def test_a_secret_that_is_not_given_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    secret = application_secret(settings)
    assert application_secret(load_settings(tmp_path, {})) == secret
    kept = tmp_path / ".byodpp" / "secret_key"
    assert (kept.stat().st_mode & 0o777, len(secret)) == (0o600, 64)
    assert application_secret(load_settings(tmp_path, {"BYODPP_SECRET_KEY": "x" * 40})) == b"x" * 40
    kept.write_text("cut")
    with pytest.raises(StartError, match="holds no secret"):
        application_secret(settings)
