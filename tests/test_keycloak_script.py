"""`make keycloak`: what it makes, what it prints, what it refuses, and that Ctrl-C ends all of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import pytest

from scripts import keycloak as script
from scripts.keycloak import AdminAccess, Distribution, Unobtainable
from tests.keycloak_server import ROOT, KeycloakDesk


def run(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.keycloak", *options]
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_passwords_are_made_once_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "admin.json"
    made = AdminAccess.kept(path)
    assert AdminAccess.kept(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made.password) >= 20 and len(made.secret) >= 40
    assert AdminAccess.new() != made


def test_an_occupied_port_is_told_before_anything_is_started() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = run("--port", str(other.getsockname()[1]))
    assert done.returncode == 1
    assert "is taken" in done.stderr and "KEYCLOAK_PORT=0" in done.stderr


def test_without_java_it_says_what_to_install(tmp_path: Path) -> None:
    done = run("--prepare", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "needs Java 17 or later" in done.stderr and "apt install" in done.stderr


def test_an_old_java_is_refused(tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    done = run("--prepare", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 1 and "here is 11.0.2" in done.stderr


def test_a_distribution_that_is_another_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text("#!/bin/sh\nexit 0\n")
    java = maven.with_name("java")
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.1\"'\n")
    for program in (maven, java):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{maven.parent}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "keycloak"
    with pytest.raises(Unobtainable, match="did not fetch"):
        Distribution(folder).ready()
    archive = folder / "maven" / script._IN_REPOSITORY
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("keycloak-26.6.4/bin/kc.sh", "#!/bin/sh\ntouch /tmp/evil\n")
    with pytest.raises(Unobtainable, match="its digest is another"):
        Distribution(folder).ready()
    assert not archive.exists()


@pytest.mark.slow
@pytest.mark.keycloak
def test_make_keycloak_prints_what_works_and_ctrl_c_ends_all_of_it(
    keycloak: KeycloakDesk, tmp_path: Path
) -> None:
    state = tmp_path / "a state"
    command = [sys.executable, "-m", "scripts.keycloak", "--port", "0", "--state", str(state)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            told = dict(line.split(maxsplit=1) for line in _banner(running))
            url, password = told["Keycloak"].strip(), told["administrator"].split()[-1]
            form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin"}
            data = urllib.parse.urlencode({**form, "password": password}).encode()
            token = f"{url}/realms/master/protocol/openid-connect/token"
            with urllib.request.urlopen(token, data=data, timeout=60) as answer:
                assert json.load(answer)["access_token"]
            variables = subprocess.run(
                ["sh", "-c", f"set {told['set']}; env"],
                cwd=ROOT, capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            assert f"KEYCLOAK_URL={url}" in variables and "KEYCLOAK_ADMIN_CLIENT_SECRET=" in variables
        finally:
            running.send_signal(signal.SIGINT)
            status = running.wait(60)
    assert status == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=5)
    kept = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.iterdir() if path.is_file()}
    assert kept["admin.json"] == kept["env"] == 0o600
    assert password not in (state / "keycloak.log").read_text()


def _banner(running: subprocess.Popen[str]) -> list[str]:
    assert running.stdout is not None
    lines, deadline = list[str](), time.monotonic() + 300
    for line in running.stdout:
        if line.strip():
            lines.append(line.strip())
        if line.startswith("Ctrl-C"):
            return lines
        assert time.monotonic() < deadline
    raise AssertionError("".join(lines))
