"""A real browser, headless, driven by chromedriver over its own HTTP interface.

Where there is none, its tests are skipped with the reason; with BYODPP_REQUIRE_BROWSER they fail.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

__all__ = ["Browser", "browser"]

REQUIRED: Final = "BYODPP_REQUIRE_BROWSER"
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name for a reference
_OPTIONS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1200,900",
)  # fmt: skip


class Browser:
    """One window of its own, with no history."""

    def __init__(self, driver: str, binary: str, profile: Path) -> None:
        self._client = httpx2.Client(base_url=driver, timeout=120)
        options = {"binary": binary, "args": [*_OPTIONS, f"--user-data-dir={profile}"]}
        asked = {
            "capabilities": {
                "alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            }
        }
        self._session = self._ask("POST", "/session", asked)["sessionId"]

    def close(self) -> None:
        self._ask("DELETE", f"/session/{self._session}")
        self._client.close()

    def go(self, url: str) -> None:
        self._say("url", {"url": url})

    @property
    def address(self) -> str:
        return str(self._ask("GET", f"/session/{self._session}/url"))

    @property
    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def run(self, script: str) -> Any:
        return self._say("execute/sync", {"script": script, "args": []})

    def type(self, selector: str, text: str) -> None:
        self._on(selector, "clear", {})
        self._on(selector, "value", {"text": text})

    def click(self, selector: str) -> None:
        self._on(selector, "click", {})

    def value(self, selector: str) -> str:
        return str(self.run(f"return document.querySelector({selector!r}).value"))

    def forget(self, cookie: str) -> None:
        """Take a cookie of this address away, as its end does."""
        self._ask("DELETE", f"/session/{self._session}/cookie/{cookie}")

    def picture(self, path: Path) -> None:
        """Keep what is to be seen, as PNG."""
        path.write_bytes(base64.b64decode(self._ask("GET", f"/session/{self._session}/screenshot")))

    def wait(self, script: str, seconds: float = 60) -> Any:
        """Return what a script returns, once that is something."""
        deadline = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, f"{script}\n{self.address}\n{self.text}\n{self.messages()}"
            time.sleep(0.05)
        return found

    def wait_for(self, selector: str) -> None:
        self.wait(f"return !!document.querySelector({selector!r})")

    def messages(self) -> list[str]:
        """Return what was written to the console since the last call, refusals of the policy included."""
        found = self._say("se/log", {"type": "browser"})
        return [str(one["message"]) for one in found]

    def _on(self, selector: str, action: str, body: dict[str, Any]) -> None:
        self.wait_for(selector)
        found = self._say("element", {"using": "css selector", "value": selector})
        self._say(f"element/{found[_ELEMENT]}/{action}", body)

    def _say(self, command: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", f"/session/{self._session}/{command}", body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._client.request(method, path, json=body)
        value = answer.json()["value"]
        assert answer.is_success, f"{method} {path}: {value}"
        return value


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser that knows nobody."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        reason = "no Chromium with chromedriver here (apt install chromium chromium-driver)"
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(reason)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "chromedriver.log"
    with log.open("wb") as output, subprocess.Popen(
        [driver, f"--port={port}"], stdout=output, stderr=output
    ) as process:  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, log)
            opened = Browser(url, binary, tmp_path / "profile")
            try:
                yield opened
            finally:
                opened.close()
        finally:
            process.terminate()


def _wait_until_ready(url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx2.get(f"{url}/status", timeout=5).json()["value"]["ready"]:
                return
        except httpx2.HTTPError:
            pass  # it does not listen yet
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
