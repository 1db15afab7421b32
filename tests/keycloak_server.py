"""One real Keycloak for a whole run of the tests, however many processes they are spread over.

The first test that asks for it starts a warden (this file, as a program), which starts Keycloak and
stops it when the last process that registered is gone, however it went. Where Keycloak cannot be
had, its tests are skipped with the reason; with BYODPP_REQUIRE_KEYCLOAK they fail instead.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from ulid import ULID

from scripts.keycloak import AdminAccess, Distribution, RunningKeycloak, Unobtainable

__all__ = ["KeycloakDesk", "keycloak"]

ROOT: Final = Path(__file__).resolve().parent.parent
REQUIRED: Final = "BYODPP_REQUIRE_KEYCLOAK"
#: Fetching and building included.
_PATIENCE_SECONDS: Final = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class KeycloakDesk:
    """A running Keycloak, and the tests' own way to it, beside the one that is tested."""

    url: str
    admin_password: str
    admin_client: str
    admin_secret: str

    def settings(self) -> dict[str, Any]:
        """Return the settings by which an application uses it."""
        return {
            "identity": "keycloak",
            "issuer_base_url": self.url,
            "keycloak_admin_client": self.admin_client,
            "keycloak_admin_secret": self.admin_secret,
            "keycloak_timeout_seconds": 20.0,  # other tests may keep the machine busy
        }

    def _client(self) -> httpx2.AsyncClient:
        """Return a client of plain HTTP: reading the certificates takes longer than most answers."""
        return httpx2.AsyncClient(timeout=60, verify=False)

    @asynccontextmanager
    async def signed_in(self) -> AsyncIterator[httpx2.AsyncClient]:
        """Yield a client of the administration interface, `/admin/realms` being its root."""
        async with self._client() as client:
            form = {
                "grant_type": "client_credentials",
                "client_id": self.admin_client,
                "client_secret": self.admin_secret,
            }
            answer = await client.post(f"{self.url}/realms/master/protocol/openid-connect/token", data=form)
            answer.raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            client.base_url = httpx2.URL(f"{self.url}/admin/realms/")
            yield client

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the administration interface; return what it answers, None when that is nothing."""
        async with self.signed_in() as client:
            answer = await client.request(method, path, json=body)
            assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
            return answer.json() if answer.content else None

    async def token(self, realm: str, **form: str) -> dict[str, Any]:
        """Return what the realm's token endpoint answers."""
        async with self._client() as client:
            answer = await client.post(f"{self.url}/realms/{realm}/protocol/openid-connect/token", data=form)
            found: dict[str, Any] = answer.json()
            return found

    @asynccontextmanager
    async def realm(self, **representation: Any) -> AsyncIterator[str]:
        """Yield the name of a realm made by hand, deleted afterwards."""
        name = representation.pop("realm", None) or str(ULID())
        await self.ask("POST", f"{self.url}/admin/realms", {"realm": name, "enabled": True, **representation})
        try:
            yield name
        finally:
            async with self.signed_in() as client:
                await client.delete(name)


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeycloakDesk]:
    """The Keycloak of this run."""
    folder = _shared(tmp_path_factory) / "keycloak"
    (folder / "users").mkdir(parents=True, exist_ok=True)
    registered = folder / "users" / str(os.getpid())
    registered.touch()
    warden = _warden(folder)
    try:
        yield _desk(folder)
    finally:
        registered.unlink(missing_ok=True)
        if warden is not None:
            warden.wait(60)  # nothing is left running when the tests have ended


def _shared(factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this run have in common, and no other run has."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def _warden(folder: Path) -> subprocess.Popen[bytes] | None:
    """Start the warden, and wait until it has told where Keycloak is; None when another process did."""
    state, warden = folder / "state.json", None
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not state.exists():
            command = [sys.executable, "-m", "tests.keycloak_server", str(folder)]
            with (folder / "warden.log").open("wb") as log:
                warden = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while not state.exists():
                assert time.monotonic() < deadline, (folder / "warden.log").read_text()
                time.sleep(0.1)
    return warden


def _desk(folder: Path) -> KeycloakDesk:
    told = json.loads((folder / "state.json").read_text())
    if reason := told.get("unobtainable"):
        if os.environ.get(REQUIRED):
            pytest.fail(f"Keycloak is required here: {reason}")
        pytest.skip(f"no Keycloak here: {reason}")
    return KeycloakDesk(**told)


def guard(folder: Path) -> None:
    """Start Keycloak, tell where it is, and stop it when nobody uses it any more."""
    state = folder / "state.json"
    running = None
    try:
        home = Distribution(ROOT / ".byodpp" / "keycloak").ready()
        access = AdminAccess.new()
        running = RunningKeycloak(home, access, log=folder / "keycloak.log")
        running.wait_until_ready()
        told = asdict(
            KeycloakDesk(
                url=running.url,
                admin_password=access.password,
                admin_client=access.client,
                admin_secret=access.secret,
            )
        )
        _write(state, told)
        while running.process.poll() is None and _anybody(folder / "users"):
            time.sleep(0.5)
    except Unobtainable as reason:
        _write(state, {"unobtainable": str(reason)})
    finally:
        if running is not None:
            running.stop()


def _anybody(users: Path) -> bool:
    """Whether one of the registered processes lives; a killed one leaves its file behind."""
    return any(_is_alive(int(file.name)) for file in users.iterdir())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _write(path: Path, document: Any) -> None:
    whole = path.with_suffix(".new")
    whole.write_text(json.dumps(document))
    whole.replace(path)


if __name__ == "__main__":
    guard(Path(sys.argv[1]))
