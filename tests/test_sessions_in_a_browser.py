"""A session in a real browser: no script reads its cookie, and no page of another site can use it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from byodpp.embedded.process import is_running
from tests.browser import Browser, browser
from tests.serving import Serving, postgres_pid

__all__ = ["browser"]

NOTES = "/api/v1/notes"
MANIFEST = {
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:keys"],
    "resources": [
        {"name": "Notes", "fields": {"text": {"type": "string"}}, "access": {"read": ["*"], "write": ["*"]}}
    ],
}


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "resources.json").write_text(json.dumps(MANIFEST))
    found = Serving(folder)
    try:
        yield found
    finally:
        pid = postgres_pid(folder)
        found.kill()
        if pid is not None and is_running(pid):
            os.kill(pid, signal.SIGQUIT)


class _Evil(BaseHTTPRequestHandler):
    """A page of somebody else's, reached by two names: `localhost`, and the address of the server itself."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>evil</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""


@pytest.fixture
def evil() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Evil)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def asked(browser: Browser, url: str, **options: Any) -> dict[str, Any]:
    """Fetch something in the page's own name; the status, or why not, and the text."""
    script = (
        f"return fetch({json.dumps(url)}, {json.dumps(options)})"
        ".then(async (answer) => ({status: answer.status, text: await answer.text()}))"
        ".catch((error) => ({status: 0, text: String(error)}))"
    )
    found: dict[str, Any] = browser.run(script)
    return found


def test_a_session_is_the_pages_own(browser: Browser, serving: Serving, evil: int) -> None:
    token, here = serving.token, serving.address
    assert here.startswith("http://127.0.0.1:")
    bearer = {"Authorization": f"Bearer {token}"}
    browser.go(f"{here}/docs")
    begun = asked(browser, "/session", method="POST", headers=bearer)
    assert begun["status"] == 201, begun
    word = json.loads(begun["text"])["data"]["csrfToken"]
    assert browser.run("return document.cookie") == "", "no script reads it"
    send = {"method": "POST", "body": json.dumps({"text": "mine"})}
    own = {"Content-Type": "application/json", "X-CSRF-Token": word}
    assert asked(browser, NOTES, headers=own, **send)["status"] == 201
    assert asked(browser, NOTES, headers={"Content-Type": "application/json"}, **send)["status"] == 403
    browser.go(f"{here}/docs")
    assert json.loads(asked(browser, "/session")["text"])["data"]["csrfToken"] == word, "loaded again"

    for there in (f"http://localhost:{evil}/", f"http://127.0.0.1:{evil}/"):
        browser.go(there)
        blind = {"mode": "no-cors", "credentials": "include"}
        asked(browser, here + NOTES, **blind, **send, headers={"Content-Type": "text/plain"})
        asked(browser, here + NOTES, credentials="include", **send, headers=own)
        read = asked(browser, here + NOTES, credentials="include")
        assert read["status"] == 0, f"{there} read {read}"
        browser.run(
            f"const form = Object.assign(document.createElement('form'), {{method: 'POST',"
            f" action: {json.dumps(here + NOTES)}, enctype: 'text/plain'}});"
            "const input = document.createElement('input');"
            "form.append(Object.assign(input, {name: '{\"text\": \"', value: 'theirs\"}'}));"
            "document.body.append(form); form.submit();"
        )
        browser.wait(f"return location.origin === {json.dumps(here)}")
    with httpx2.Client(base_url=here, headers=bearer, timeout=30) as client:
        assert [one["text"] for one in client.get(NOTES).json()["data"]] == ["mine"]

    browser.go(f"{here}/docs")
    assert asked(browser, NOTES)["status"] == 200
    assert asked(browser, "/session", method="DELETE", headers={"X-CSRF-Token": word})["status"] == 204
    assert asked(browser, NOTES)["status"] == 401
