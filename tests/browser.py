"""A real browser, headless, driven by chromedriver over its own HTTP interface.

Where there is none, its tests are skipped with the reason; with BYODPP_REQUIRE_BROWSER they fail.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from scripts.ports import free_port

__all__ = ["Browser", "BrowserError", "browser"]

REQUIRED: Final = "BYODPP_REQUIRE_BROWSER"
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name for a reference
_OPTIONS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1200,900",
)  # fmt: skip
# What a page that is not there yet, or is just being replaced, answers; a moment later it may not.
_PASSING: Final = frozenset(
    {
        "javascript error", "no such element", "stale element reference", "detached shadow root",
        "element not interactable", "element click intercepted",
    }
)  # fmt: skip


class BrowserError(AssertionError):
    """The browser did not do what it was asked for."""

    def __init__(self, asked: str, kind: str, message: str) -> None:
        """Args:
        asked: method and path.
        kind: WebDriver's word for the error.
        message: what it says.
        """
        super().__init__(f"{asked}: {kind}: {message}")
        self.passing = kind in _PASSING or "context was destroyed" in message


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
        """What is to be seen now; nothing of a page that is not there yet."""
        return str(self.run("return document.body?.innerText ?? ''"))

    def run(self, script: str) -> Any:
        return self._say("execute/sync", {"script": script, "args": []})

    def type(self, selector: str, text: str) -> None:
        self._on(selector, "clear", {})
        self._on(selector, "value", {"text": text})

    def click(self, selector: str) -> None:
        self._on(selector, "click", {})

    def value(self, selector: str) -> str:
        """Return what a field holds, which may be nothing, once there is the field."""
        return str(self.wait(f"return [document.querySelector({selector!r}).value]")[0])

    def forget(self, cookie: str) -> None:
        """Take a cookie of this address away, as its end does."""
        self._ask("DELETE", f"/session/{self._session}/cookie/{cookie}")

    def picture(self, path: Path) -> None:
        """Keep what is to be seen, as PNG."""
        path.write_bytes(base64.b64decode(self._ask("GET", f"/session/{self._session}/screenshot")))

    def wait(self, script: str, seconds: float = 60) -> Any:
        """Return what a script returns, once that is something; one that throws is tried again, too."""
        return self._until(lambda: self.run(script), script, seconds)

    def wait_for(self, selector: str) -> None:
        self.wait(f"return !!document.querySelector({selector!r})")

    def messages(self) -> list[str]:
        """Return what was written to the console since the last call, refusals of the policy included."""
        found = self._say("se/log", {"type": "browser"})
        return [str(one["message"]) for one in found]

    def _on(self, selector: str, action: str, body: dict[str, Any]) -> None:
        def act() -> bool:
            found = self._say("element", {"using": "css selector", "value": selector})
            self._say(f"element/{found[_ELEMENT]}/{action}", body)
            return True

        self._until(act, f"{action} {selector}", 60)

    def _until(self, attempt: Callable[[], Any], what: str, seconds: float) -> Any:
        """Return what an attempt returns, once that is something and the page was there for it."""
        deadline = time.monotonic() + seconds
        while True:
            last = "it returned nothing"
            try:
                if found := attempt():
                    return found
            except BrowserError as error:
                if not error.passing:
                    raise
                last = str(error)
            if time.monotonic() > deadline:
                seen = f"{self.address}\n{self.text}\n{self.messages()}"
                raise AssertionError(f"{what}\nnot within {seconds} s; at last: {last}\n{seen}")
            time.sleep(0.05)

    def _say(self, command: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", f"/session/{self._session}/{command}", body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._client.request(method, path, json=body)
        value = answer.json()["value"]
        if not answer.is_success:
            raise BrowserError(f"{method} {path}", value["error"], value["message"])
        return value


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser that knows nobody."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        reason = "no Chromium with chromedriver here (apt install chromium chromium-driver)"
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(reason)
    port = free_port()
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
