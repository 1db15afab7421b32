"""A real Keycloak for people and tests: fetched once, built once, started on loopback, stopped again.

`make keycloak` runs it until Ctrl-C, with its data, and the passwords it made, below
`.byodpp/keycloak`. Tests take `Distribution` and `RunningKeycloak`, which forget everything. The
distribution comes through Maven, into this folder, and is compared with the digest below.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from scripts.ports import free_port

__all__ = ["AdminAccess", "Distribution", "RunningKeycloak", "Unobtainable"]

VERSION: Final = "26.6.4"
_ARTIFACT: Final = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
_IN_REPOSITORY: Final = Path(
    "org", "keycloak", "keycloak-quarkus-dist", VERSION, f"keycloak-quarkus-dist-{VERSION}.zip"
)
_SHA256: Final = "b00d79ca3afd94bf431d2c3afb2a5af695da813017c434de7240790de6490779"
#: A part of the zip's name is the folder in it.
_FOLDER: Final = f"keycloak-{VERSION}"
_OLDEST_JAVA: Final = 17
_ROOT: Final = Path(__file__).resolve().parent.parent
_STATE: Final = Path(".byodpp", "keycloak")
#: Starts sooner, and is as fast as anybody needs who signs in by hand.
_JAVA_OPTIONS: Final = "-XX:TieredStopAtLevel=1 -XX:-UseG1GC -XX:+UseSerialGC"
_HEAP: Final = "-Xms64m -Xmx512m"


class Unobtainable(Exception):
    """There is no Keycloak to be had here, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAccess:
    """Who may administer: a person, and the client by which BYO DPP does."""

    user: str = "admin"
    password: str
    client: str = "byodpp-admin"
    secret: str

    @classmethod
    def new(cls) -> AdminAccess:
        """Return one that nobody can guess."""
        return cls(password=secrets.token_urlsafe(18), secret=secrets.token_urlsafe(32))

    @classmethod
    def kept(cls, path: Path) -> AdminAccess:
        """Return the one in a file that its owner alone may read; made now when there is none."""
        if path.exists():
            return cls(**json.loads(path.read_text("utf-8")))
        made = cls.new()
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(made), file)
        return made


class Distribution:
    """The unpacked, built server: made once in a folder, used by any number of processes."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: holds it, made when it is needed.
        """
        self._folder = folder
        self.home = folder / _FOLDER

    def ready(self) -> Path:
        """Return the server's home, fetched, unpacked and built when it is not there yet.

        Raises:
            Unobtainable: with what is missing, and what to do.
        """
        _check_java()
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self.home / "built").exists():
                self._make()
        return self.home

    def _make(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        archive = self._fetched()
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(self._folder)
        script = self.home / "bin" / "kc.sh"
        script.chmod(0o755)
        built = _run([str(script), "build", "--db=dev-file"], 600)
        if built.returncode:
            raise Unobtainable(f"Keycloak could not be built:\n{built.stdout[-2000:]}")
        shutil.rmtree(self._folder / "maven", ignore_errors=True)
        (self.home / "built").touch()

    def _fetched(self) -> Path:
        """Return the zip: what Maven has got already, else what it gets now, into this folder."""
        known = [Path.home() / ".m2" / "repository" / _IN_REPOSITORY]
        repository = self._folder / "maven"
        for archive in (*known, repository / _IN_REPOSITORY):
            if archive.exists() and _digest(archive) == _SHA256:
                return archive
        if shutil.which("mvn") is None:
            raise Unobtainable(
                f"Keycloak {VERSION} is fetched by Maven, and there is no mvn (apt install maven)"
            )
        command = ["mvn", "-q", "-B", f"-Dmaven.repo.local={repository}", "dependency:get"]
        fetched = _run([*command, f"-Dartifact={_ARTIFACT}", "-Dtransitive=false"], 900)
        archive = repository / _IN_REPOSITORY
        if not archive.exists():
            raise Unobtainable(f"Maven did not fetch {_ARTIFACT}:\n{fetched.stdout[-1000:]}")
        if _digest(archive) != _SHA256:
            archive.unlink()
            raise Unobtainable(f"{_ARTIFACT} is not the file that was looked at: its digest is another")
        return archive


class RunningKeycloak:
    """One server process, on loopback, until `stop`."""

    def __init__(
        self,
        home: Path,
        access: AdminAccess,
        *,
        port: int = 0,
        data: Path | None = None,
        log: Path,
    ) -> None:
        """Start it.

        Args:
            home: of the built server.
            access: made by its first start.
            port: TCP port; 0 takes a free one.
            data: folder of its database; None keeps everything in memory.
            log: file for its output.
        """
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.access = access
        self._log = log
        where = "mem:keycloak" if data is None else f"file:{data.absolute()}/keycloak"
        command = [
            str(home / "bin" / "kc.sh"),
            "start",
            "--optimized",
            "--cache=local",  # else it listens for others of its kind on every address
            "--http-enabled=true",
            "--http-host=127.0.0.1",
            f"--http-port={self.port}",
            f"--hostname={self.url}",
            f"--db-url=jdbc:h2:{where};NON_KEYWORDS=VALUE;DB_CLOSE_DELAY=-1",
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KC_")}
        environment |= {
            "KC_BOOTSTRAP_ADMIN_USERNAME": access.user,
            "KC_BOOTSTRAP_ADMIN_PASSWORD": access.password,
            "KC_BOOTSTRAP_ADMIN_CLIENT_ID": access.client,
            "KC_BOOTSTRAP_ADMIN_CLIENT_SECRET": access.secret,
            "JAVA_OPTS_KC_HEAP": _HEAP,
            "JAVA_OPTS_APPEND": _JAVA_OPTIONS,
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: the server is then stopped in order
            )

    def wait_until_ready(self, seconds: float = 180) -> None:
        """Return when it answers.

        Raises:
            Unobtainable: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + seconds
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Unobtainable(f"Keycloak did not start:\n{self._log.read_text('utf-8')[-3000:]}")
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            with urllib.request.urlopen(f"{self.url}/realms/master", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End it and everything it started. Harmless when it has ended."""
        for number, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
                return


def main() -> int:
    """Run Keycloak until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make keycloak", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--state", type=Path, default=_ROOT / _STATE, help="folder of its data and passwords")
    parser.add_argument("--prepare", action="store_true", help="fetch and build it, and end")
    said = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not said.prepare:
            _refuse_occupied(said.port)
        print("keycloak: getting ready (the first time takes some minutes)", file=sys.stderr)
        home = Distribution(_ROOT / _STATE).ready()
        return 0 if said.prepare else _run_until_interrupted(home, said.state, said.port)
    except Unobtainable as reason:
        print(f"keycloak: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run_until_interrupted(home: Path, state: Path, port: int) -> int:
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)  # its database holds everybody's credentials
    access = AdminAccess.kept(state / "admin.json")
    running = RunningKeycloak(home, access, port=port, data=state / "data", log=state / "keycloak.log")
    try:
        running.wait_until_ready()
        print(_banner(running, _variables_file(state / "env", running)), flush=True)
        return running.process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave it running
        running.stop()


def _variables_file(path: Path, running: RunningKeycloak) -> Path:
    """Write what an application needs to find it, readable by its owner only."""
    lines = [
        "BYODPP_IDENTITY=keycloak",
        f"KEYCLOAK_URL={running.url}",
        f"KEYCLOAK_ADMIN_CLIENT_ID={running.access.client}",
        f"KEYCLOAK_ADMIN_CLIENT_SECRET={running.access.secret}",
    ]
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
    return path


def _banner(running: RunningKeycloak, variables: Path) -> str:
    if variables.is_relative_to(_ROOT):
        variables = variables.relative_to(_ROOT)
    source = shlex.quote(str(variables) if variables.is_absolute() else f"./{variables}")
    return f"""
  Keycloak       {running.url}
  administrator  {running.access.user}, password {running.access.password}
  log            {variables.parent / "keycloak.log"}

Let the application use it, in another terminal:

  set -a; . {source}; set +a
  make run

Ctrl-C stops Keycloak; its realms are there again at the next start."""


def _check_java() -> None:
    if shutil.which("java") is None:
        raise Unobtainable(f"Keycloak needs Java {_OLDEST_JAVA} or later (apt install default-jre-headless)")
    said = _run(["java", "-version"], 60).stdout
    version = said.partition('version "')[2].partition('"')[0]
    major = version.split(".")[0].split("-")[0]
    if not major.isdigit() or int(major) < _OLDEST_JAVA:
        raise Unobtainable(f"Keycloak needs Java {_OLDEST_JAVA} or later; here is {version or said[:80]}")


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryFile("w+") as output:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=seconds,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unobtainable(f"{command[0]} did not run: {error}") from error
        output.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, output.read())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_occupied(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Unobtainable(
                f"port {port} is taken ({error.strerror}); choose another: make keycloak KEYCLOAK_PORT=0"
            ) from error


if __name__ == "__main__":
    sys.exit(main())
