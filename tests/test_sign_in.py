"""Signing in with a real browser at a real Keycloak, and a tenant's whole life seen from there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from byodpp.identity.keycloak import Keycloak, RealmStandard
from byodpp.testing import Bench
from scripts.ports import free_port
from tests.browser import Browser
from tests.keycloak_server import KeycloakDesk
from tests.mail_sink import MailSink, mail_sink
from tests.serving import ROOT, Serving
from tests.worlds import SHOP, build, write_application

PASSWORD = "Correct-horse-1"


@dataclass
class Place:
    """A served application that uses Keycloak, and the command line beside it."""

    folder: Path
    url: str
    variables: dict[str, Any]

    def byodpp(self, *words: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "byodpp", "--app", str(self.folder), *words]
        environment = {**os.environ, **self.variables}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


#: A logic class whose answer has no end, as an application tells its users what happens.
TICKS = """
import asyncio
from byodpp.logics import Logic, Reply

class NotesTicks(Logic):
    resource, action = "Notes", "ticks:get"

    async def execute(self):
        async def ticks():
            while True:
                yield b"data: tick\\n\\n"
                await asyncio.sleep(0.5)
        return Reply(body=ticks(), media_type="text/event-stream")
"""


def with_ticks() -> dict[str, Any]:
    shop = deepcopy(SHOP)
    notes = next(one for one in shop["services"][0]["resources"] if one["name"] == "Notes")
    notes["routes"] = {"actions": [{"url": "/api/v1/notes/ticks", "method": "get"}]}
    notes["access"] = {**notes["access"], "ticks:get": ["Admin"]}
    return shop


def place(desk: KeycloakDesk, sink: MailSink, folder: Path) -> Place:
    write_application(folder, with_ticks(), {"logics/v1/notes/ticks.py": TICKS})
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        "BYODPP_ENV": "test",
        "BYODPP_IDENTITY": "keycloak",
        "KEYCLOAK_URL": desk.url,
        "KEYCLOAK_ADMIN_CLIENT_ID": desk.admin_client,
        "KEYCLOAK_ADMIN_CLIENT_SECRET": desk.admin_secret,
        "BYODPP_KEYCLOAK_TIMEOUT_SECONDS": "20",
        "PUBLIC_URL": url,
        "BYODPP_RATE_LIMIT_WINDOW_SECONDS": "6",
        "BYODPP_RATE_LIMIT_SIGN_IN": "10",
        "PORT": str(port),
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(sink.port),
        "SMTP_SECURITY": "none",
        "SMTP_FROM": "passports@example.com",
    }
    return Place(folder, url, variables)


def link_in(mail: Any) -> str:
    found = re.search(r"https?://\S+", mail.get_body(("plain",)).get_content())
    assert found is not None
    return found[0]


def accept(browser: Browser, link: str) -> None:
    """Follow an invitation, and choose a password."""
    browser.go(link)
    browser.wait_for("#kc-info-message a, #password-new")
    if browser.run("return !!document.querySelector('#kc-info-message a')"):
        browser.click("#kc-info-message a")
    browser.type("#password-new", PASSWORD)
    browser.type("#password-confirm", PASSWORD)
    browser.click("[type=submit]")
    # Who leaves before the answer is there may be brought to it afterwards, on a busy machine.
    browser.wait("return document.readyState === 'complete' && !document.querySelector('#password-new')")


def begin(browser: Browser, place: Place, tenant: str, page: str = "/docs") -> None:
    """Go to the documentation and ask to sign in."""
    browser.go(place.url + page)
    browser.wait("return document.querySelector('#sign-in').checkVisibility()")
    browser.click("#sign-in")
    browser.type("#sign-in-tenant", tenant)
    browser.click("#sign-in-form button")


SIGNED_IN = "document.session?.active && document.querySelector('#sign-in').textContent === 'Sign out'"


def sign_in(browser: Browser, place: Place, tenant: str, user: str, page: str = "/docs") -> None:
    """Sign in from a page of the documentation, which then has a session."""
    begin(browser, place, tenant, page)
    elsewhere = f"location.port !== '{place.url.rpartition(':')[2]}'"
    browser.wait(f"return {elsewhere} || {SIGNED_IN}")
    if not browser.address.startswith(place.url):
        browser.type("#username", user)
        browser.type("#password", PASSWORD)
        browser.click("[type=submit]")
    browser.wait(f"return location.href === '{place.url}{page}' && {SIGNED_IN}")


def asked(browser: Browser, path: str, **options: Any) -> dict[str, Any]:
    """Ask in the page's own name, as its `Try it` does; the status and the answer."""
    script = (
        f"return document.session.ask({json.dumps(path)}, {json.dumps(options)})"
        ".then(async (answer) => ({status: answer.status, text: await answer.text()}))"
    )
    found: dict[str, Any] = browser.run(script)
    return found


def until(browser: Browser, status: int, seconds: float = 10) -> None:
    """Wait until the page's session is answered so: what another process decides takes some seconds."""
    deadline = time.monotonic() + seconds
    while (found := asked(browser, "/api/v1/notes"))["status"] != status:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


@pytest.mark.keycloak
@pytest.mark.slow
async def test_a_tenants_life_from_invitation_to_deletion_with_its_administrator_at_a_browser(
    keycloak: KeycloakDesk, browser: Browser, tmp_path: Path
) -> None:
    async with mail_sink() as sink:
        here = place(keycloak, sink, tmp_path / "shop")
        await asyncio.to_thread(_whole_life, here, sink, browser)
    exported = list((here.folder / ".byodpp" / "exports").iterdir())
    assert len(exported) == 1
    assert _notes_in(exported[0]) == ["Ada was here"]
    with zipfile.ZipFile(exported[0]) as archive:
        ulid = json.loads(archive.read("manifest.json"))["ulid"]
    async with keycloak.signed_in() as client:
        assert (await client.get(ulid)).status_code == 404, "the realm is gone"


def _whole_life(here: Place, sink: MailSink, browser: Browser) -> None:
    serving = Serving(here.folder, "--port", here.variables["PORT"], **here.variables)
    try:
        here.byodpp(
            "tenants", "onboard", "gamma", "--name", "Gamma Ltd", "--email", "ada@gamma.example",
            "--first-name", "Ada", "--last-name", "Lovelace",
        )  # fmt: skip
        mail, welcome = sink.mails
        assert welcome["Subject"] == "Welcome: Gamma Ltd is registered"
        accept(browser, link_in(mail))
        sign_in(browser, here, "gamma", "ada@gamma.example", page="/docs/v1/notes")
        _try_on_the_page(browser)
        _no_script_reads_it(browser)
        sent = json.dumps({"title": "Ada was here"})
        made = asked(
            browser, "/api/v1/notes", method="POST", body=sent, headers={"Content-Type": "application/json"}
        )
        assert made["status"] == 201, made
        _renews(browser, here)
        _tries_again(browser, here)
        refused = [one for one in browser.messages() if "Content Security Policy" in one]
        assert refused == []

        _open_a_stream(browser)
        here.byodpp("tenants", "suspend", "gamma", "--reason", "payment")
        until(browser, 401)
        browser.wait("return document.streamEnded", seconds=60)
        assert "Traceback" not in (here.folder / "serve.log").read_text()
        browser.wait("return !document.session.active")
        begin(browser, here, "gamma")
        browser.wait("return document.body.innerText.includes('There is no such tenant')")
        here.byodpp("tenants", "reactivate", "gamma")
        sign_in(browser, here, "gamma", "ada@gamma.example")
        assert json.loads(asked(browser, "/api/v1/notes")["text"])["count"] == 1
        said = here.byodpp("tenants", "export", "gamma", "--to", str(here.folder / "taken"))
        assert _notes_in(next((here.folder / "taken").iterdir())) == ["Ada was here"], said

        here.byodpp("tenants", "delete", "gamma", "--confirm", "gamma")
        until(browser, 401)
        assert "gamma" not in here.byodpp("tenants", "list")
        told = [str(one["Subject"]) for one in sink.mails[2:] if one["To"] == "ada@gamma.example"]
        assert told == ["Account suspended", "Account reactivated"]
    finally:
        serving.end()
        serving.clear_away()


def _notes_in(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("data/Notes.ndjson").decode().splitlines()
    return [json.loads(line)["title"] for line in lines]


def _open_a_stream(browser: Browser) -> None:
    """Read a stream of events from the page, until it ends."""
    browser.run(
        "document.session.ask('/api/v1/notes/ticks', {}).then(async (answer) => {"
        " document.streamStatus = answer.status; const reader = answer.body.getReader();"
        " try { for (;;) { const {done} = await reader.read(); if (done) break; document.streamed = true; } }"
        " finally { document.streamEnded = true; } }).catch(() => {})"
    )
    browser.wait("return document.streamed")
    assert browser.run("return [document.streamStatus, document.streamEnded ?? false]") == [200, False]


def _no_script_reads_it(browser: Browser) -> None:
    """Neither access token nor refresh token is anywhere that a script of the page could look."""
    stored = browser.run(
        "return JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage},"
        " document.querySelector('#token').value, document.documentElement.outerHTML])"
    )
    assert "eyJ" not in stored, "what every token begins with"


def _renews(browser: Browser, here: Place) -> None:
    """The access token's cookie is gone, as when it has ended: the page goes on, loaded anew or not."""
    word = json.loads(asked(browser, "/session")["text"])["data"]["csrfToken"]
    for loaded in (False, True):
        browser.forget("byodpp-session")
        if loaded:
            browser.go(f"{here.url}/docs/v1/notes")
            browser.wait(f"return {SIGNED_IN}")
        assert asked(browser, "/api/v1/notes")["status"] == 200
        told = json.loads(asked(browser, "/session")["text"])["data"]
        assert (told["csrfToken"], told["renewable"]) == (word, True)


def _tries_again(browser: Browser, here: Place) -> None:
    """A renewal that is refused for the moment is not the end of the session: the page says so and asks."""
    for _ in range(10):  # a new window may begin, and let the page in, before it has asked
        renewed, seconds = browser.run(
            "return (async () => { const begun = Date.now(); for (let calls = 0; calls < 500; calls++) {"
            " if ((await fetch('/session/renewal', {method: 'POST'})).status === 429)"
            " return [calls, (Date.now() - begun) / 1000]; } return [500, 0]; })()"
        )
        assert renewed <= 10 + seconds * 10 / 6 + 1, "there is no limit"
        browser.forget("byodpp-session")
        browser.go(f"{here.url}/docs/v1/notes")
        refused = "document.body.innerText.includes('could not be renewed (429)')"
        browser.wait(f"return {refused} || {SIGNED_IN}")
        if browser.run(f"return {refused}"):
            break
    assert browser.run("return document.querySelector('#sign-in').textContent") == "Try again"
    assert not browser.run("return document.session.active")
    again = "document.querySelector('#sign-in-dialog').close(); document.querySelector('#sign-in').click();"
    until = time.monotonic() + 60  # the window is a tenth of that
    while not browser.run(f"return {SIGNED_IN}"):
        assert time.monotonic() < until, "it cannot be had again"
        browser.run(again)
        time.sleep(2)
    browser.run("document.querySelector('#sign-in-dialog').close()")


def _try_on_the_page(browser: Browser) -> None:
    """Send the first request of a resource's page from the page itself."""
    browser.run("document.querySelector('.try details').open = true")
    browser.run("document.querySelector('.try form').requestSubmit()")  # a click would wait for the scrolling
    browser.wait(
        "return [...document.querySelectorAll('.try figcaption')].some(f => f.textContent.startsWith('200'))"
    )


@pytest.mark.keycloak
@pytest.mark.slow
async def test_what_goes_wrong_at_the_sign_in_is_told_and_gives_no_token(
    keycloak: KeycloakDesk, browser: Browser, tmp_path: Path
) -> None:
    async with mail_sink() as sink:
        here = place(keycloak, sink, tmp_path / "shop")
        await asyncio.to_thread(_wrong_ways, here, browser)


def _wrong_ways(here: Place, browser: Browser) -> None:
    serving = Serving(here.folder, "--port", here.variables["PORT"], **here.variables)
    try:
        told = here.byodpp("tenants", "onboard", "gamma", "--email", "ada@gamma.example", "--password")
        first = re.search(r"password +(\S+)", told)
        assert f"sign in   {here.url}/docs\n" in told, "where the browsers' client leads"
        assert first is not None
        begin(browser, here, "nobody")
        browser.wait("return document.body.innerText.includes('There is no such tenant')")
        # A code that somebody else had sent here, and an answer that was never asked for.
        for query in ("code=stolen&state=invented", "error=access_denied&state=x", "state="):
            browser.go(f"{here.url}/docs?{query}")
            browser.wait("return document.body.innerText.includes('was not begun here')")
            assert browser.value("#token") == ""
            assert browser.address == f"{here.url}/docs", "nothing of it stays in the address"
        # Begun here, and answered by another state or another issuer.
        begin(browser, here, "gamma")
        browser.wait_for("#username")
        browser.go(f"{here.url}/docs?code=stolen&state=other")
        browser.wait("return document.body.innerText.includes('was not begun here')")
        begin(browser, here, "gamma")
        browser.wait_for("#username")
        state = re.search(r"state=([\w-]+)", browser.address)
        assert state is not None
        browser.go(f"{here.url}/docs?code=stolen&state={state[1]}&iss=http://evil.example")
        browser.wait("return document.body.innerText.includes('Somebody else answered')")
        begin(browser, here, "gamma")
        browser.wait_for("#username")
        state = re.search(r"state=([\w-]+)", browser.address)
        assert state is not None
        browser.go(f"{here.url}/docs?code=stolen&state={state[1]}")
        browser.wait("return document.body.innerText.includes('Code not valid')")
        assert browser.value("#token") == ""
        # The temporary password is changed at the first sign-in; then out again, and the session is over.
        begin(browser, here, "gamma")
        browser.type("#username", "ada@gamma.example")
        browser.type("#password", first[1])
        browser.click("[type=submit]")
        browser.type("#password-new", PASSWORD)
        browser.type("#password-confirm", PASSWORD)
        browser.click("[type=submit]")
        browser.wait_for("#firstName, #sign-in")
        if browser.run("return !!document.querySelector('#firstName')"):
            browser.type("#firstName", "Ada")
            browser.type("#lastName", "Lovelace")
            browser.click("[type=submit]")
        browser.wait(f"return {SIGNED_IN}")
        until(browser, 200)
        browser.click("#sign-in")
        browser.wait("return !document.session.active")
        until(browser, 401)
        browser.go(f"{here.url}/docs")
        browser.wait("return document.querySelector('#sign-in').textContent === 'Sign in'")
        begin(browser, here, "gamma")  # and Keycloak asks for the password again: it was told
        browser.wait_for("#password")
    finally:
        serving.end()
        serving.clear_away()


# --- without a browser ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield build(tmp_path_factory.mktemp("shop"), SHOP)


async def test_the_way_to_sign_in_is_told_for_active_tenants_only(byodpp_bench: Bench, shop: Any) -> None:
    settings: dict[str, Any] = {
        "identity": "keycloak",
        "issuer_base_url": "https://id.example.com",
        "public_url": "https://api.example.com/",
    }
    async with byodpp_bench.application(shop, **settings) as tested:
        caller = tested.client(role=None)
        ulid = (await tested.tenant("acme")).ulid
        realm = f"https://id.example.com/realms/{ulid}"
        answer = await caller.get("/docs/sign-in/acme")
        assert answer.status_code == 200
        assert answer.json() == {
            "issuer": realm,
            "authorization": f"{realm}/protocol/openid-connect/auth",
            "token": f"{realm}/protocol/openid-connect/token",
            "endSession": f"{realm}/protocol/openid-connect/logout",
            "clientId": "byodpp-web",
            "redirectUri": "https://api.example.com/docs",
        }
        assert (await caller.get("/docs/sign-in/platform")).json()["issuer"].endswith("/realms/platform")
        await tested.add_tenant("gone", status="deactivated")
        for name in ("gone", "nobody", "ACME", "..%2f..", "%00"):
            refused = await caller.get(f"/docs/sign-in/{name}")
            assert refused.status_code in (400, 404), name
        page = await caller.get("/docs")
        policy = page.headers["content-security-policy"]
        assert "connect-src 'self' https://id.example.com;" in policy and "unsafe" not in policy
        assert 'id="sign-in"' in page.text and "/docs/assets/sign-in.js" in page.text


async def test_the_local_issuer_offers_no_sign_in(byodpp_bench: Bench, shop: Any) -> None:
    async with byodpp_bench.application(shop) as tested:
        caller = tested.client(role=None)
        page = await caller.get("/docs")
        assert "sign-in" not in page.text
        assert "connect-src 'self';" in page.headers["content-security-policy"]
        assert (await caller.get("/docs/sign-in/acme")).status_code == 404


def test_without_a_documentation_page_there_is_nowhere_to_come_back_to() -> None:
    provider = Keycloak(base_url="https://id.example.com", standard=RealmStandard(audience="byodpp-api"))
    assert provider.browser_sign_in("platform") is None
