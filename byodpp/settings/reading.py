"""What an operator may set: one frozen value, read once at start.

Each field of `Settings` carries its documentation, which `reference` yields for the configuration
page, so that page and code cannot drift apart. `loading` fills them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from byodpp.settings.types import Setting, declarations

__all__ = ["PREFIX", "RELAXED", "Settings", "variables_of"]

#: Every environment variable of ours starts so; the classics exist beside it.
PREFIX: Final = "BYODPP_"
#: Environments in which limits are in the chain, but out of the way.
RELAXED: Final = ("dev", "test")

_Environment = Literal["dev", "test", "stage", "prod"]
_LogLevel = Literal["debug", "info", "warning", "error"]
_Provider = Literal["local", "keycloak"]
_MailSecurity = Literal["none", "starttls", "tls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that differs between two installations of the same application."""

    app_dir: Annotated[Path, Setting("Folder that holds resources.json; given by --app, not by a variable.")]
    environment: Annotated[
        _Environment,
        Setting(
            "Which config/<environment>.yaml is read; prod refuses what is good for development only.",
            env="BYODPP_ENV",
        ),
    ] = "dev"

    # --- server ---
    host: Annotated[str, Setting("Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, Setting("TCP port to listen on; 0 takes a free one.", env="PORT", low=0, high=65535)
    ] = 3000
    workers: Annotated[int, Setting("Number of server processes.", low=1, high=256)] = 1
    shutdown_grace_seconds: Annotated[
        float, Setting("Seconds that running requests get to finish at a stop.", low=0, high=600)
    ] = 10.0
    trusted_proxies: Annotated[
        tuple[str, ...],
        Setting(
            "Addresses or networks whose X-Forwarded-* headers are believed; empty: nobody's.",
            env="TRUSTED_PROXIES",
        ),
    ] = ()
    secret_key: Annotated[
        str | None,
        Setting(
            "What cursors and audit seals are signed with, at least 32 characters, the same in all "
            "processes; required in stage and prod, elsewhere made and kept in .byodpp.",
            secret=True,
        ),
    ] = None
    tenant_domain: Annotated[
        str | None,
        Setting(
            "Domain whose hosts name tenants as X-Tenant does: with dpp.example, acme.dpp.example is acme; "
            "nobody's when left out; needs public_url, whose host is nobody's.",
            env="TENANT_DOMAIN",
        ),
    ] = None
    tenant_own_domains: Annotated[
        bool,
        Setting(
            "Whether a host that is the `domain` of a tenant names it as X-Tenant does; only operators "
            "write those.",
            env="TENANT_OWN_DOMAINS",
        ),
    ] = False
    public_url: Annotated[
        str | None,
        Setting(
            "Address at which browsers reach this server; http://host:port when left out.",
            env="PUBLIC_URL",
        ),
    ] = None
    docs_enabled: Annotated[bool, Setting("Serve the documentation page and the OpenAPI document.")] = True

    # --- database ---
    postgres_db_uri: Annotated[
        str | None,
        Setting(
            "Database as the app role; without it an embedded server starts.",
            env="POSTGRES_DB_URI",
            secret=True,
        ),
    ] = None
    postgres_admin_uri: Annotated[
        str | None,
        Setting(
            "The same database as the owner role, for migrations.", env="POSTGRES_ADMIN_URI", secret=True
        ),
    ] = None
    postgres_system_uri: Annotated[
        str | None,
        Setting(
            "The same database as the system role (relay, policy loading).",
            env="POSTGRES_SYSTEM_URI",
            secret=True,
        ),
    ] = None
    places: Annotated[
        tuple[str, ...],
        Setting("Databases that a tenant can have for itself, as name@region; their addresses are below."),
    ] = ()
    place_db_uris: Annotated[
        tuple[str, ...],
        Setting(
            "Each of them as the app role: name=postgresql://… and so on.", env="PLACE_DB_URIS", secret=True
        ),
    ] = ()
    place_admin_uris: Annotated[
        tuple[str, ...],
        Setting("Each of them as the owner role, for migrations.", env="PLACE_ADMIN_URIS", secret=True),
    ] = ()
    place_system_uris: Annotated[
        tuple[str, ...],
        Setting("Each of them as the system role.", env="PLACE_SYSTEM_URIS", secret=True),
    ] = ()
    place_refresh_seconds: Annotated[
        float,
        Setting(
            "Time between two looks at what a place holds copies of; changes are there that late.",
            low=0.1,
            high=3600,
        ),
    ] = 5.0
    pg_bin: Annotated[
        str | None,
        Setting("Folder with initdb and postgres for the embedded server, before any other found."),
    ] = None
    embedded_durable: Annotated[
        bool,
        Setting("Embedded server: survive a crash of the machine; off is faster and good for tests only."),
    ] = True
    pool_min_connections: Annotated[
        int, Setting("Connections opened at start, per pool and process.", low=0, high=1000)
    ] = 1
    pool_max_connections: Annotated[
        int, Setting("Most connections per pool and process.", low=1, high=1000)
    ] = 10
    pool_acquire_timeout_seconds: Annotated[
        float, Setting("Longest wait for a free connection; then 503.", low=0.05, high=300)
    ] = 5.0
    statement_timeout_seconds: Annotated[
        float, Setting("Longest run of one SQL statement; then 503.", low=0.05, high=3600)
    ] = 30.0
    transaction_timeout_seconds: Annotated[
        float,
        Setting(
            "Longest run of all statements of one request that writes, its tries and the pauses between "
            "them included; then 503.",
            low=0.05,
            high=3600,
        ),
    ] = 60.0

    strict_indexes: Annotated[
        bool,
        Setting("Refuse to start when a field may be filtered by that no index serves; else check warns."),
    ] = False

    # --- limits of a request ---
    max_body_bytes: Annotated[int, Setting("Largest body in bytes; then 413.", low=1024, high=2**31)] = (
        10_485_760
    )
    max_header_bytes: Annotated[
        int, Setting("Largest sum of all headers in bytes; then 431.", low=1024, high=2**20)
    ] = 32_768
    max_url_bytes: Annotated[
        int, Setting("Longest path and query in bytes; then 414.", low=256, high=2**20)
    ] = 16_384
    import_max_bytes: Annotated[
        int, Setting("Largest file of an import in bytes; then 413.", low=1024, high=2**40)
    ] = 1_073_741_824
    import_record_max_bytes: Annotated[
        int,
        Setting("Largest record of an imported file in bytes; it is refused alone.", low=1024, high=2**26),
    ] = 1_048_576
    import_body_seconds: Annotated[
        float, Setting("Longest time in which the file of an import may arrive.", low=1, high=86_400)
    ] = 3_600.0
    export_seconds: Annotated[
        float, Setting("Longest time of an export; what was sent by then is cut.", low=1, high=86_400)
    ] = 3_600.0
    transfer_sessions: Annotated[
        int,
        Setting(
            "Imports and exports that run at a time, per process; each has a connection.", low=1, high=100
        ),
    ] = 4
    max_json_depth: Annotated[int, Setting("Deepest nesting of a JSON body; then 400.", low=1, high=200)] = 32
    max_json_values: Annotated[
        int, Setting("Most values in a JSON body, arrays and objects included; then 413.", low=1_000)
    ] = 1_000_000
    cors_origins: Annotated[
        tuple[str, ...],
        Setting(
            "Origins that browsers may call from; * allows every one, without credentials.", env="CORS_ORIGIN"
        ),
    ] = ()
    rate_limit_enabled: Annotated[bool, Setting("Count requests at all.")] = True
    rate_limit_window_seconds: Annotated[
        int, Setting("Length of the sliding window in seconds.", low=1, high=86_400)
    ] = 60
    rate_limit_per_ip: Annotated[
        int, Setting("Requests of one address per window.", low=1, high=10**9, relaxed=1_000_000)
    ] = 1_000
    rate_limit_per_user: Annotated[
        int, Setting("Requests of one signed-in user per window.", low=1, high=10**9, relaxed=1_000_000)
    ] = 600
    rate_limit_per_tenant: Annotated[
        int,
        Setting(
            "Requests of all users of one tenant per window, where its class says nothing.",
            low=1,
            high=10**9,
            relaxed=100_000_000,
        ),
    ] = 6_000
    max_concurrent_requests_per_tenant: Annotated[
        int,
        Setting(
            "Requests of one tenant that run in one process at a time, where its class says nothing; "
            "then 429.",
            low=1,
            high=100_000,
            relaxed=10_000,
        ),
    ] = 100
    tenant_limit_factor: Annotated[
        int,
        Setting(
            "What tenant classes allow is multiplied by this; for development.",
            low=1,
            high=10**6,
        ),
    ] = 1
    storage_seconds: Annotated[
        float,
        Setting("Time between two measurements of what tenants store.", low=1, high=86_400),
    ] = 300.0
    redis_uri: Annotated[
        str | None,
        Setting(
            "Redis in which all processes count requests together; without it each counts alone.",
            env="REDIS_URL",
            secret=True,
        ),
    ] = None
    rate_limit_sign_in: Annotated[
        int,
        Setting(
            "Calls of one address to the routes about signing in per window; renewals of a session count "
            "by user.",
            low=1,
            high=10**9,
            relaxed=1_000_000,
        ),
    ] = 10
    sign_in_failures: Annotated[
        int,
        Setting(
            "Failed sign-ins of one address, or of one user, that are borne per window; then it is shut out.",
            low=1,
            high=10**9,
            relaxed=1_000_000,
        ),
    ] = 10
    sign_in_block_seconds: Annotated[
        int,
        Setting("How long who failed to sign in too often is shut out.", low=1, high=86_400),
    ] = 900

    browser_sessions: Annotated[
        bool,
        Setting("Let browsers keep their token in a cookie: POST /session, by https or on this machine."),
    ] = True
    encryption_keys: Annotated[
        tuple[str, ...],
        Setting(
            "Keys of what is encrypted, as id:secret with at least 32 characters; the first encrypts, all "
            "decrypt. Empty: a key derived from secret_key.",
            secret=True,
        ),
    ] = ()

    # --- audit trail ---
    tenant_settle_seconds: Annotated[
        float,
        Setting(
            "How long a tenant's writes wait after its move, until every process knows where it is.",
            low=0,
            high=45,
        ),
    ] = 10.0
    audit_sealer: Annotated[
        bool, Setting("Seal audit entries into their chains; one process of all does it at a time.")
    ] = True

    # --- logging ---
    log_level: Annotated[_LogLevel, Setting("Least level that is logged.", env="LOG_LEVEL")] = "info"

    # --- identity ---
    identity: Annotated[_Provider, Setting("Who issues the tokens; local is refused in stage and prod.")] = (
        "local"
    )
    issuer_base_url: Annotated[
        str | None,
        Setting(
            "Address below which the realms lie, as clients know it: tokens name it, to the letter; the "
            "local issuer's is fixed when left out.",
            env="KEYCLOAK_URL",
        ),
    ] = None
    token_audience: Annotated[str, Setting("Audience that a token must name.")] = "byodpp-api"
    token_clients: Annotated[
        tuple[str, ...],
        Setting("Clients (`azp`) whose tokens are accepted though they name another audience."),
    ] = ()
    token_leeway_seconds: Annotated[
        int, Setting("Tolerated difference of clocks in seconds.", low=0, high=30)
    ] = 30
    keycloak_internal_url: Annotated[
        str | None,
        Setting(
            "Address at which this server itself reaches Keycloak; issuer_base_url when left out.",
            env="KEYCLOAK_INTERNAL_URL",
        ),
    ] = None
    keycloak_timeout_seconds: Annotated[
        float,
        Setting("Longest wait for one answer of Keycloak that a token or a start needs.", low=0.1, high=60),
    ] = 5.0
    keycloak_admin_timeout_seconds: Annotated[
        float,
        Setting(
            "Longest wait for one answer of Keycloak to its administrator: a realm takes seconds to make.",
            low=0.1,
            high=300,
        ),
    ] = 30.0
    keycloak_admin_realm: Annotated[
        str, Setting("Realm in which the administrator below signs in.", env="KEYCLOAK_ADMIN_REALM")
    ] = "master"
    keycloak_admin_client: Annotated[
        str,
        Setting("Client by which realms and users are administered.", env="KEYCLOAK_ADMIN_CLIENT_ID"),
    ] = "byodpp-admin"
    keycloak_admin_secret: Annotated[
        str | None,
        Setting(
            "Secret of that client; without it, and without a user, nothing is administered.",
            env="KEYCLOAK_ADMIN_CLIENT_SECRET",
            secret=True,
        ),
    ] = None
    keycloak_admin_user: Annotated[
        str | None,
        Setting("User of that realm who administers instead, by the client admin-cli."),
    ] = None
    keycloak_admin_password: Annotated[str | None, Setting("Password of that user.", secret=True)] = None

    keycloak_theme: Annotated[
        str | None, Setting("Theme of sign-in, account, and mails in new realms; Keycloak's when left out.")
    ] = None
    keycloak_second_factor: Annotated[
        bool,
        Setting(
            "Whoever is made in a realm sets up a one-time password (TOTP) at the first sign-in, and needs "
            "it from then on."
        ),
    ] = False
    keycloak_password_grant: Annotated[
        bool,
        Setting("New realms let programs sign people in by their passwords; good for trying out only."),
    ] = False
    frontend_client: Annotated[
        str, Setting("Client by which people sign in with a browser.", env="FRONTEND_CLIENT_ID")
    ] = "byodpp-web"
    frontend_urls: Annotated[
        tuple[str, ...],
        Setting(
            "Addresses of browser applications that may sign people in; invitations lead to the first.",
            env="FRONTEND_REDIRECT_URI",
        ),
    ] = ()

    # --- mail ---
    smtp_host: Annotated[
        str | None,
        Setting(
            "Mail server; without it nobody is mailed, and in dev and test mails about tenants lie in "
            ".byodpp/mails/.",
            env="SMTP_HOST",
        ),
    ] = None
    smtp_port: Annotated[int, Setting("Port of the mail server.", env="SMTP_PORT", low=1, high=65535)] = 587
    smtp_security: Annotated[
        _MailSecurity, Setting("How the way to the mail server is protected.", env="SMTP_SECURITY")
    ] = "starttls"
    smtp_user: Annotated[str | None, Setting("User at the mail server.", env="SMTP_USER")] = None
    smtp_password: Annotated[
        str | None, Setting("Password at the mail server.", env="SMTP_PASSWORD", secret=True)
    ] = None
    smtp_from: Annotated[str | None, Setting("Address that mails come from.", env="SMTP_FROM")] = None
    smtp_from_name: Annotated[str | None, Setting("Name that mails come from.", env="SMTP_FROM_NAME")] = None
    operators_email: Annotated[
        str | None,
        Setting(
            "Address that is told which tenants come, go, are suspended, and reactivated.",
            env="OPERATORS_EMAIL",
        ),
    ] = None

    def __repr__(self) -> str:
        shown = (
            f"{name}={'***' if setting.secret and getattr(self, name) else repr(getattr(self, name))}"
            for name, (_, setting) in declarations(Settings).items()
        )
        return f"Settings({', '.join(shown)})"


def variables_of(name: str, setting: Setting) -> tuple[str, ...]:
    """Return the environment variables of a setting; the first one wins."""
    if name == "app_dir":
        return ()
    return tuple(dict.fromkeys(one for one in (PREFIX + name.upper(), setting.env) if one))
