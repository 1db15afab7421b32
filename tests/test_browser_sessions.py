"""Sessions of browsers: a cookie stands for a token, and no other site's page can make use of it."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from byodpp import browser_sessions
from byodpp.authentication import Principal
from byodpp.bootstrap import Blueprint
from byodpp.browser_sessions import BrowserSessions
from byodpp.exceptions import Unauthenticated
from byodpp.identity import LocalIssuer
from byodpp.identity.keycloak import Keycloak, RealmStandard
from byodpp.testing import Bench, TestedApplication
from byodpp.transfer import exports
from tests.test_export import export_stream
from tests.worlds import build

HERE, NAME = "https://app.example", "__Host-byodpp-session"
SESSION, NOTES = "/session", "/api/v1/notes"
MANIFEST = {
    "resources": [
        {
            "name": "Notes",
            "fields": {"text": {"type": "string"}},
            "access": {"read": ["*"], "write": ["Admin"]},
        },
        {
            "name": "News",
            "fields": {"text": {"type": "string"}},
            "access": {"read": ["public"], "write": ["Admin"]},
        },
    ],
    "include": ["byodpp:keys", "byodpp:tenancy"],
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("browsers"), MANIFEST)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """It, for what leaves nothing behind that another test would notice."""
    async with byodpp_bench.application(blueprint, public_url=HERE, rate_limit_sign_in=1_000) as application:
        yield application


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(
        blueprint, public_url=HERE, cors_origins=("https://shop.example",), rate_limit_sign_in=1_000
    ) as application:
        yield application


@dataclass(frozen=True)
class Browser:
    """A browser that has begun a session."""

    client: Any  # without a token
    cookie: str  # `name=value`
    word: str
    set_cookie: str

    def headers(self, **more: str) -> dict[str, str]:
        sent = {
            "Cookie": self.cookie,
            "Origin": HERE,
            "X-CSRF-Token": self.word,
            "Sec-Fetch-Site": "same-origin",
        }
        return {name: value for name, value in (sent | more).items() if value}


async def begun(tested: TestedApplication, **who: Any) -> Browser:
    answer = await tested.client(**who).post(SESSION, headers={"Origin": HERE})
    assert answer.status_code == 201, answer.text
    set_cookie = answer.headers["set-cookie"]
    cookie = set_cookie.partition(";")[0]
    word = answer.json()["data"]["csrfToken"]
    return Browser(tested.client(role=None), cookie, word, set_cookie)


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_session_begins_is_used_and_ends(tested: TestedApplication) -> None:
    token = tested.client(user="ada").headers["authorization"]
    browser = await begun(tested, user="ada")
    assert browser.cookie.startswith(f"{NAME}=")
    words = dict(part.partition("=")[::2] for part in browser.set_cookie.split("; ")[1:])
    assert words.keys() == {"Path", "Max-Age", "HttpOnly", "SameSite", "Secure"}
    assert (words["Path"], words["SameSite"]) == ("/", "Strict")
    assert 0 < int(words["Max-Age"]) <= 3_600
    assert token.split()[1] not in browser.set_cookie, "the token is not to be had from it"
    read = await browser.client.get(SESSION, headers=browser.headers())
    assert read.json()["data"]["csrfToken"] == browser.word
    assert read.json()["data"]["tenant"] == "acme"
    assert "set-cookie" not in read.headers
    made = await browser.client.post(NOTES, json={"text": "a"}, headers=browser.headers())
    assert made.status_code == 201, made.text
    assert (await browser.client.get(NOTES, headers={"Cookie": browser.cookie})).json()["count"] == 1
    over = await browser.client.delete(SESSION, headers=browser.headers())
    assert over.status_code == 204
    assert over.headers["set-cookie"].startswith(f"{NAME}=; ")
    assert "Max-Age=0" in over.headers["set-cookie"]
    for _ in range(100):
        again = await browser.client.get(NOTES, headers=browser.headers())
        if again.status_code != 200:
            break
        await asyncio.sleep(0.05)
    assert code(again) == (401, "unauthenticated")
    assert "Max-Age=0" in again.headers["set-cookie"], "a cookie that is worth nothing is taken away"
    assert (await tested.client(user="ada").get(NOTES)).status_code == 200, "another token is another sign-in"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "https://shop.example"},  # may call with a token, and has no session here
        {"Origin": "http://app.example"},
        {"Origin": "https://app.example.evil.example"},
        {"Origin": "https://app.example:8443"},
        {"Origin": "null"},
        {"Origin": ""},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "guess"},
        {"X-CSRF-Token": "guess" * 1_000},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_nothing_is_changed_for_a_page_of_another_site(
    tested: TestedApplication, headers: dict[str, str]
) -> None:
    browser = await begun(tested)
    row = (await tested.client().post(NOTES, json={"text": "a"})).json()["data"]["id"]
    for method in ("POST", "PUT", "PATCH", "DELETE", "QUERY"):
        path = NOTES if method in ("POST", "QUERY") else f"{NOTES}/{row}"
        body: Any = {"DELETE": None, "QUERY": {"filter": {}}}.get(method, {"text": "b"})
        answer = await browser.client.request(method, path, json=body, headers=browser.headers(**headers))
        assert code(answer) == (403, "cross_site"), method
        assert "set-cookie" not in answer.headers, "somebody else's page ends no session"
    assert [one["text"] for one in (await tested.client().get(NOTES)).json()["data"]] == ["a"]


async def test_a_form_of_another_site_changes_nothing(tested: TestedApplication) -> None:
    browser = await begun(tested)
    answer = await browser.client.post(
        NOTES,
        content=b'{"text": "b"}',
        headers={"Cookie": browser.cookie, "Origin": "https://evil.example", "Content-Type": "text/plain"},
    )
    assert answer.status_code in (403, 415)
    assert (await tested.client().get(NOTES)).json()["count"] == 0


async def test_the_word_of_another_session_is_not_taken(tested: TestedApplication) -> None:
    ada, bob = await begun(tested, user="ada"), await begun(tested, user="bob")
    answer = await ada.client.post(
        NOTES, json={"text": "a"}, headers=ada.headers(**{"X-CSRF-Token": bob.word})
    )
    assert code(answer) == (403, "cross_site")


async def test_reading_is_refused_to_pages_of_other_sites_too(tested: TestedApplication) -> None:
    browser = await begun(tested)
    for site in ("cross-site", "same-site"):
        answer = await browser.client.get(NOTES, headers=browser.headers(**{"Sec-Fetch-Site": site}))
        assert code(answer) == (403, "cross_site")
    answer = await browser.client.get(NOTES, headers=browser.headers(Origin="https://shop.example"))
    assert answer.headers.get("access-control-allow-origin") == "https://shop.example"
    assert "access-control-allow-credentials" not in answer.headers, "no page of it may read this"


async def test_a_token_that_is_sent_is_meant_whatever_the_cookie_says(tested: TestedApplication) -> None:
    admin = await begun(tested, user="ada")
    viewer = tested.client(role="Viewer", user="bob")
    answer = await viewer.post(NOTES, json={"text": "a"}, headers=admin.headers())
    assert code(answer) == (403, "forbidden")
    told = await viewer.get(SESSION, headers=admin.headers())
    assert told.json()["data"]["roles"] == ["Viewer"]
    assert told.json()["data"]["csrfToken"] is None
    wrong = await admin.client.get(NOTES, headers=admin.headers(Authorization="Bearer nonsense"))
    assert wrong.status_code == 401


async def test_a_cookie_of_another_tenant_reaches_its_own_rows_only(tested: TestedApplication) -> None:
    await tested.client(tenant="acme").post(NOTES, json={"text": "acme's"})
    beta = await begun(tested, tenant="beta")
    assert (await beta.client.get(NOTES, headers=beta.headers())).json()["count"] == 0
    named = await beta.client.get(NOTES, headers=beta.headers(**{"X-Tenant": "acme"}))
    assert code(named) == (403, "forbidden")


@pytest.mark.parametrize(
    "cookie",
    [
        f"{NAME}=",
        f"{NAME}=nonsense",
        f"{NAME}=secret-key.AAAA",
        f"{NAME}=secret-key.{'A' * 2_000}",
        f"{NAME}=old.AAAA",
        f"{NAME}={{token}}",
        "{cookie}; {cookie}",
        "{cookie}A",
        "byodpp-session={value}",
        f"other={{value}}; {NAME}x={{value}}",
    ],
)
async def test_a_cookie_that_is_not_ours_signs_nobody_in(shared: TestedApplication, cookie: str) -> None:
    browser = await begun(shared)
    token = shared.client().headers["authorization"].split()[1]
    value = browser.cookie.partition("=")[2]
    sent = cookie.format(cookie=browser.cookie, value=value, token=token)
    for path in (NOTES, SESSION):
        answer = await browser.client.get(path, headers=browser.headers(Cookie=sent))
        assert code(answer) == (401, "unauthenticated")
    bearer = await browser.client.get(NOTES, headers={"Authorization": f"Bearer {value}"})
    assert bearer.status_code == 401, "a stolen cookie is no token"


async def test_a_session_is_fixed_by_nobody(tested: TestedApplication) -> None:
    evil = await begun(tested, user="mallory")
    answer = await tested.client(user="ada").post(SESSION, headers={"Cookie": evil.cookie, "Origin": HERE})
    assert answer.status_code == 201
    own = answer.headers["set-cookie"].partition(";")[0]
    assert own != evil.cookie
    assert answer.json()["data"]["csrfToken"] != evil.word
    foreign = await tested.client(user="ada").post(SESSION, headers={"Origin": "https://evil.example"})
    assert code(foreign) == (403, "cross_site")
    assert "set-cookie" not in foreign.headers
    again = await evil.client.post(SESSION, headers=evil.headers())
    assert code(again) == (409, "conflict"), "a session begins with a token, not with a session"


async def test_api_keys_begin_no_session(tested: TestedApplication) -> None:
    made = await tested.client().post("/api/v1/api-keys", json={"name": "robot"})
    key = made.json()["data"]["key"]
    headers = {"Authorization": f"Bearer {key}"}
    nobody = tested.client(role=None)
    assert (await nobody.get(NOTES, headers=headers)).status_code == 200
    for method in ("POST", "DELETE"):
        assert code(await nobody.request(method, SESSION, headers=headers)) == (409, "conflict")


async def test_an_operator_who_acts_for_a_tenant_signs_out_all_the_same(tested: TestedApplication) -> None:
    browser = await begun(tested, tenant="platform")
    elsewhere = browser.headers() | {"X-Tenant": "acme"}
    assert (await browser.client.get(NOTES, headers=elsewhere)).status_code == 200
    bearer = tested.client(tenant="platform", headers={"X-Tenant": "acme"})
    assert (await bearer.post("/api/v1/revocations/own")).status_code == 403, "it would revoke nothing"
    assert (await browser.client.delete(SESSION, headers=elsewhere)).status_code == 204
    async with asyncio.timeout(10):
        while True:  # in force within a second
            if (await browser.client.get(NOTES, headers=elsewhere)).status_code == 401:
                break
            await asyncio.sleep(0.05)


async def test_a_tenant_that_is_suspended_has_no_sessions_left(tested: TestedApplication) -> None:
    browser = await begun(tested, tenant="beta")
    async with tested.connected.database.system() as transaction:
        await transaction.execute("update tenants set status = 'deactivated' where slug = 'beta'")
    tested.connected.authenticator.forget()
    assert code(await browser.client.get(NOTES, headers=browser.headers())) == (401, "unauthenticated")


# --- renewal ----------------------------------------------------------------------------------

RENEWAL, SECOND = "/session/renewal", "__Host-byodpp-renewal"


@dataclass
class Renewable:
    """A browser whose session can be renewed: it keeps what it is given, as browsers do."""

    client: Any
    cookies: dict[str, str]
    word: str

    def keep(self, answer: Any) -> None:
        for told in answer.headers.get_list("set-cookie"):
            pair, _, attributes = told.partition("; ")
            assert attributes.endswith("; HttpOnly; SameSite=Strict; Secure") and "Path=/; " in attributes
            name, _, value = pair.partition("=")
            if "Max-Age=0" in attributes:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value

    def headers(self, **more: str) -> dict[str, str]:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {"Cookie": cookie, "Origin": HERE, "X-CSRF-Token": self.word, "Sec-Fetch-Site": "same-origin"}
        return {name: value for name, value in (sent | more).items() if value}

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        answer = await self.client.request(method, path, headers=self.headers(), **more)
        self.keep(answer)
        return answer


def issuer_of(tested: TestedApplication) -> LocalIssuer:
    issuer = tested.connected.issuer
    assert isinstance(issuer, LocalIssuer)
    return issuer


async def renewable(
    tested: TestedApplication, user: str = "ada", tenant: str = "acme", **said: Any
) -> Renewable:
    issuer, realm = issuer_of(tested), (await tested.tenant(tenant)).realm
    said = {"roles": ["Admin"], **said}
    token = await asyncio.to_thread(issuer.issue_refresh, realm, user, **said)
    client = tested.client(user=user, tenant=tenant)
    answer = await client.post(SESSION, headers={"Origin": HERE}, json={"refreshToken": token})
    assert answer.status_code == 201, answer.text
    assert answer.json()["data"]["renewable"] is True
    assert token not in "".join(answer.headers.get_list("set-cookie"))
    browser = Renewable(tested.client(role=None), {}, answer.json()["data"]["csrfToken"])
    browser.keep(answer)
    assert browser.cookies.keys() == {NAME, SECOND}
    return browser


async def test_a_session_is_renewed_after_its_token_has_ended(tested: TestedApplication) -> None:
    browser = await renewable(tested)
    del browser.cookies[NAME]  # its Max-Age is over
    assert code(await browser.ask("GET", NOTES)) == (401, "unauthenticated")
    renewed = await browser.ask("POST", RENEWAL)
    assert renewed.status_code == 200, renewed.text
    told = renewed.json()["data"]
    assert (told["csrfToken"], told["tenant"], told["renewable"]) == (browser.word, "acme", True)
    assert (await browser.ask("GET", SESSION)).json()["data"] == told
    assert (await browser.ask("POST", NOTES, json={"text": "a"})).status_code == 201, "pages know the word"
    before = dict(browser.cookies)
    assert (await browser.ask("POST", RENEWAL)).status_code == 200
    assert browser.cookies[NAME] != before[NAME]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "https://shop.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_no_page_of_another_site_renews(tested: TestedApplication, headers: dict[str, str]) -> None:
    browser = await renewable(tested)
    answer = await browser.client.post(RENEWAL, headers=browser.headers(**headers))
    assert code(answer) == (403, "cross_site")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "second",
    ["", "nonsense", "secret-key.AAAA", "{first}", "{second}A", "{second}; __Host-byodpp-renewal={second}"],
)
async def test_a_second_cookie_that_is_not_ours_renews_nothing(
    tested: TestedApplication, second: str
) -> None:
    browser = await renewable(tested)
    browser.cookies[SECOND] = second.format(first=browser.cookies[NAME], second=browser.cookies[SECOND])
    answer = await browser.ask("POST", RENEWAL)
    assert code(answer) == (401, "unauthenticated")
    assert browser.cookies == {}, "they are taken away"
    browser.cookies = {NAME: browser.cookies.get(SECOND, "x")}
    assert code(await browser.ask("POST", RENEWAL)) == (401, "unauthenticated")


async def test_what_was_signed_out_or_revoked_is_not_renewed(tested: TestedApplication) -> None:
    signed_out, revoked, other = (
        await renewable(tested), await renewable(tested, user="bob"), await renewable(tested, user="eve")
    )  # fmt: skip
    copies = dict(signed_out.cookies)
    assert (await signed_out.ask("DELETE", SESSION)).status_code == 204
    assert signed_out.cookies == {}
    signed_out.cookies = copies
    bob = (await revoked.ask("GET", SESSION)).json()["data"]["userId"]
    body = {"kind": "user", "subject": str(bob)}
    assert (await tested.client().post("/api/v1/revocations", json=body)).status_code == 201
    for browser in (signed_out, revoked):
        for _ in range(100):  # in force within a second
            answer = await browser.client.post(RENEWAL, headers=browser.headers())
            if answer.status_code != 200:
                break
            await asyncio.sleep(0.05)
        assert code(answer) == (401, "unauthenticated")
    assert (await other.ask("POST", RENEWAL)).status_code == 200


async def refused(ask: Callable[[], Awaitable[Any]]) -> bool:
    """Whether something is 401 within a few seconds; revocations are in force within one."""
    for _ in range(100):
        if (await ask()).status_code == 401:
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.parametrize("kept", ["both", "second", "first"])
async def test_who_signs_out_after_the_tokens_end_is_signed_out(tested: TestedApplication, kept: str) -> None:
    """A page may have lain open for hours: neither cookie stays, and the second renews nothing."""
    browser, sessions = await renewable(tested), tested.connected.browser_sessions
    assert sessions is not None
    found = sessions._opened(browser.cookies[NAME], browser_sessions._BOUND, 4)
    over = await asyncio.to_thread(
        issuer_of(tested).issue, (await tested.tenant("acme")).realm, "ada",
        roles=["Admin"], lifetime_seconds=-60,
    )  # fmt: skip
    browser.cookies[NAME] = sealed(sessions, [over, *found[1:]], browser_sessions._BOUND)
    assert code(await browser.client.get(NOTES, headers=browser.headers())) == (401, "unauthenticated")
    if kept != "both":
        del browser.cookies[SECOND if kept == "first" else NAME]
    copies = dict(browser.cookies)
    for wrong in (
        {"X-CSRF-Token": "guess"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = await browser.client.delete(SESSION, headers=browser.headers(**wrong))
        assert code(answer) == (403, "cross_site")
        assert "set-cookie" not in answer.headers
    assert (await browser.ask("DELETE", SESSION)).status_code == 204
    assert browser.cookies == {}
    browser.cookies = copies
    assert await refused(partial(browser.client.post, RENEWAL, headers=browser.headers()))
    assert code(await tested.client(role=None).delete(SESSION)) == (401, "unauthenticated")


async def test_a_provider_that_is_away_keeps_who_signs_out_late_from_believing_it(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session could be renewed by who has copied the cookie, so that it is not called over."""
    browser = await renewable(tested)
    del browser.cookies[NAME]
    kept = dict(browser.cookies)
    silent = socket.socket()  # has the port for itself until the end, and does not listen
    silent.bind(("127.0.0.1", 0))
    standard = RealmStandard(audience="byodpp-api")
    away = Keycloak(base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", standard=standard)
    try:
        monkeypatch.setattr(issuer_of(tested), "renew", away.renew)
        assert code(await browser.ask("DELETE", SESSION)) == (503, "auth_unavailable")
        assert browser.cookies == kept
    finally:
        await away.close()
        silent.close()
    monkeypatch.undo()
    assert (await browser.ask("DELETE", SESSION)).status_code == 204
    assert browser.cookies == {}


async def test_renewals_are_counted_by_user_and_bad_cookies_by_address(
    byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(blueprint, public_url=HERE, rate_limit_sign_in=4) as tested:
        ada, bob = await renewable(tested), await renewable(tested, user="bob")
        assert [(await ada.ask("POST", RENEWAL)).status_code for _ in range(5)] == [200] * 4 + [429]
        assert (await bob.ask("POST", RENEWAL)).status_code == 200, "who shares the address is let in"
        assert code(await ada.ask("POST", RENEWAL)) == (429, "rate_limited")
        ada.cookies = {SECOND: "nonsense"}
        answers = [await ada.client.post(RENEWAL, headers=ada.headers()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [401, 401, 429], (
            "two have begun sessions from here"
        )


async def test_no_copy_of_a_session_is_good_after_signing_out(tested: TestedApplication) -> None:
    """Neither the cookie from before a renewal, nor what a thief has renewed from a copied second cookie."""
    mine = await renewable(tested)
    before = Renewable(tested.client(role=None), dict(mine.cookies), mine.word)
    assert (await mine.ask("POST", RENEWAL)).status_code == 200
    thief = Renewable(tested.client(role=None), dict(mine.cookies), mine.word)
    assert (await thief.ask("POST", RENEWAL)).status_code == 200
    alone = Renewable(tested.client(role=None), {NAME: thief.cookies[NAME]}, mine.word)
    other = await renewable(tested)
    assert (await alone.ask("POST", NOTES, json={"text": "a"})).status_code == 201
    del mine.cookies[SECOND]  # what is signed out is known without it
    assert (await mine.ask("DELETE", SESSION)).status_code == 204
    for copy in (before, thief, alone):
        headers = copy.headers()
        assert await refused(partial(copy.client.get, NOTES, headers=headers))
        written = await copy.client.post(NOTES, json={"text": "b"}, headers=headers)
        assert code(written) == (401, "unauthenticated")
    assert code(await thief.ask("POST", RENEWAL)) == (401, "unauthenticated")
    assert (await other.ask("GET", NOTES)).json()["count"] == 1, "another sign-in of the same user stays"


@pytest.mark.parametrize("renewed", [False, True])
async def test_signing_out_ends_the_streams_that_a_session_has_begun(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch, renewed: bool
) -> None:
    monkeypatch.setattr(exports, "STANDING_SECONDS", 0.0)
    mine, other = await renewable(tested), await renewable(tested)
    made = "text\n" + "".join(f"n{number}\n" for number in range(2_000))
    answer = await tested.client().post(f"{NOTES}/import", content=made, headers={"Content-Type": "text/csv"})
    assert answer.is_success, answer.text
    transfers = tested.connected.transfers(tested.blueprint.registry.get("Notes"))
    streams = [
        export_stream(tested, transfers, await _principal_of(tested, browser)) for browser in (mine, other)
    ]
    for stream in streams:
        await anext(stream)
    if renewed:  # what is signed out then is another token
        await asyncio.sleep(1.01 - time.time() % 1)
        assert (await mine.ask("POST", RENEWAL)).status_code == 200
    assert (await mine.ask("DELETE", SESSION)).status_code == 204
    with pytest.raises(Unauthenticated):
        async for _ in streams[0]:
            pass
    assert sum([1 async for _ in streams[1]]) > 0, "another session of the same user goes on"


async def _principal_of(tested: TestedApplication, browser: Renewable) -> Principal:
    """Return the caller as whom a request with a browser's cookies is let in."""
    sessions = tested.connected.browser_sessions
    assert sessions is not None
    token, _, begun_at, id = sessions._opened(browser.cookies[NAME], browser_sessions._BOUND, 4)
    return await tested.connected.authenticator.authenticate_session(
        f"Bearer {token}", begun_at=begun_at, session_id=id
    )


async def test_what_is_renewed_after_its_user_was_revoked_opens_nothing(tested: TestedApplication) -> None:
    """Another process may renew before it has heard: the token is younger than the revocation then."""
    browser = await renewable(tested, user="bob")
    bob = (await browser.ask("GET", SESSION)).json()["data"]["userId"]
    body = {"kind": "user", "subject": str(bob)}
    assert (await tested.client().post("/api/v1/revocations", json=body)).status_code == 201
    await asyncio.sleep(1.01 - time.time() % 1)  # a token of the next second is younger than the revocation
    token = tested.client(user="bob").headers["authorization"].split()[1]
    sessions = tested.connected.browser_sessions
    assert sessions is not None
    found = sessions._opened(browser.cookies[NAME], browser_sessions._BOUND, 4)
    browser.cookies[NAME] = sealed(sessions, [token, *found[1:]], browser_sessions._BOUND)
    assert await refused(partial(browser.client.get, NOTES, headers=browser.headers()))
    assert (await tested.client(user="bob").get(NOTES)).status_code == 200, "who signs in again is let in"


def sealed(sessions: BrowserSessions, parts: list[Any], bound: bytes) -> str:
    value = base64.urlsafe_b64encode(sessions._keys.seal(json.dumps(parts), bound)).decode().rstrip("=")
    return f"{sessions._keys.current}.{value}"


async def test_a_provider_that_is_away_keeps_the_session_for_later_and_nobody_from_signing_out(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real client of Keycloak, and nothing that listens where Keycloak should."""
    browser = await renewable(tested)
    silent = socket.socket()  # has the port for itself until the end, and does not listen
    silent.bind(("127.0.0.1", 0))
    standard = RealmStandard(audience="byodpp-api")
    away = Keycloak(base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", standard=standard)
    try:
        monkeypatch.setattr(issuer_of(tested), "renew", away.renew)
        monkeypatch.setattr(issuer_of(tested), "sign_out", away.sign_out)
        kept = dict(browser.cookies)
        assert code(await browser.ask("POST", RENEWAL)) == (503, "auth_unavailable")
        assert browser.cookies == kept
        assert (await browser.ask("DELETE", SESSION)).status_code == 204
        assert browser.cookies == {}
    finally:
        await away.close()
        silent.close()
    monkeypatch.undo()
    browser.cookies = kept
    for _ in range(100):
        answer = await browser.client.post(RENEWAL, headers=browser.headers())
        if answer.status_code != 200:
            break
        await asyncio.sleep(0.05)
    assert code(answer) == (401, "unauthenticated"), "signed out here, whatever the provider believes"


async def test_a_tenant_that_is_suspended_renews_nothing(tested: TestedApplication) -> None:
    browser = await renewable(tested, tenant="beta")
    async with tested.connected.database.system() as transaction:
        await transaction.execute("update tenants set status = 'deactivated' where slug = 'beta'")
    tested.connected.authenticator.forget()
    assert code(await browser.ask("POST", RENEWAL)) == (401, "unauthenticated")


async def test_a_session_is_of_who_began_it_and_ends_a_fortnight_later(tested: TestedApplication) -> None:
    issuer, realm = issuer_of(tested), (await tested.tenant("acme")).realm
    foreign = issuer.issue_refresh(realm, "mallory", roles=["Admin"])
    over = issuer.issue_refresh(realm, "ada", roles=["Admin"], lifetime_seconds=-1)
    access = tested.client(user="ada").headers["authorization"].split()[1]
    elsewhere = issuer.issue_refresh((await tested.tenant("beta")).realm, "ada", roles=["Admin"])
    for token in (foreign, over, access, elsewhere, "a.b.c", "opaque"):
        begun = await tested.client(user="ada").post(
            SESSION, headers={"Origin": HERE}, json={"refreshToken": token}
        )
        browser = Renewable(tested.client(role=None), {}, "")
        browser.keep(begun)
        assert code(await browser.ask("POST", RENEWAL)) == (401, "unauthenticated"), token
        assert browser.cookies == {}
    sessions = tested.connected.browser_sessions
    assert sessions is not None
    browser = await renewable(tested)
    found = sessions._opened(browser.cookies[SECOND], browser_sessions._BOUND_RENEWAL, 6)
    found[3] -= browser_sessions.SESSION_SECONDS
    browser.cookies[SECOND] = sealed(sessions, found, browser_sessions._BOUND_RENEWAL)
    assert code(await browser.ask("POST", RENEWAL)) == (401, "unauthenticated")
    browser = await renewable(tested)
    assert (await browser.ask("GET", NOTES)).status_code == 200
    found = sessions._opened(browser.cookies[NAME], browser_sessions._BOUND, 4)
    found[2] -= browser_sessions.SESSION_SECONDS
    browser.cookies[NAME] = sealed(sessions, found, browser_sessions._BOUND)
    assert code(await browser.ask("GET", NOTES)) == (401, "unauthenticated"), "whenever its token ends"


@pytest.mark.parametrize(
    "body", [[], "x", 1, {"refresh": "x"}, {"refreshToken": 1}, {"refreshToken": ""}, {"refreshToken": "é"},
             {"refreshToken": "x" * 9_000}, {"refreshToken": "a\nb"}],
)  # fmt: skip
async def test_a_session_begins_with_a_token_or_nothing_in_its_body(
    shared: TestedApplication, body: Any
) -> None:
    answer = await shared.client().post(SESSION, headers={"Origin": HERE}, json=body)
    assert answer.status_code == 422, answer.text
    assert "set-cookie" not in answer.headers
    broken = await shared.client().post(
        SESSION, headers={"Origin": HERE, "Content-Type": "application/json"}, content=b"{"
    )
    assert broken.status_code == 400
    empty = await shared.client().post(SESSION, headers={"Origin": HERE}, json={"refreshToken": None})
    assert empty.json()["data"]["renewable"] is False


async def test_failed_sign_ins_by_cookie_are_in_the_audit_trail(tested: TestedApplication) -> None:
    browser = await renewable(tested, user="zoe")
    stolen = dict(browser.cookies)
    assert (await browser.ask("DELETE", SESSION)).status_code == 204
    browser.cookies = stolen
    for _ in range(100):
        if (await browser.client.get(NOTES, headers=browser.headers())).status_code == 401:
            break
        await asyncio.sleep(0.05)
    assert (await browser.client.post(RENEWAL, headers=browser.headers())).status_code == 401
    evil = browser.headers(Origin="https://evil.example")
    assert code(await browser.client.post(NOTES, json={}, headers=evil)) == (403, "cross_site")
    await tested.connected.trail.drain()
    tenant = (await tested.tenant("acme")).id
    async with tested.connected.database.system() as transaction:
        found = await transaction.fetch(
            "select result, changes::text from audit_logs where action = 'SIGN_IN' and tenant_id = $1", tenant
        )
    assert len(found) >= 3
    assert {row["result"] for row in found} == {"failure"}


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        ("https://app.example:443", "https://app.example"),
        ("https://APP.example:443/", "https://app.example"),
        ("https://app.example", "https://app.example"),
        ("https://app.example:8443", "https://app.example:8443"),
    ],
)
async def test_the_port_of_the_scheme_is_no_part_of_an_origin(
    byodpp_bench: Bench, blueprint: Blueprint, public_url: str, origin: str
) -> None:
    async with byodpp_bench.application(blueprint, public_url=public_url) as tested:
        answer = await tested.client().post(SESSION, headers={"Origin": origin})
        assert answer.status_code == 201, answer.text
        foreign = await tested.client().post(SESSION, headers={"Origin": "https://app.example:444"})
        assert code(foreign) == (403, "cross_site")


async def test_what_is_public_is_read_with_a_session_and_without(tested: TestedApplication) -> None:
    browser = await begun(tested)
    for headers in (browser.headers(), {}, {"Cookie": "theme=dark"}):
        assert (await browser.client.get("/api/v1/news", headers=headers)).status_code == 200


async def test_without_https_a_session_stays_on_the_machine(
    byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(blueprint) as tested:
        for host in ("example.com", "localhost.evil.example", "127.0.0.1.evil.example"):
            answer = await tested.client().post(SESSION, headers={"Host": host})
            assert code(answer) == (409, "conflict"), host
        for host in ("localhost:3000", "127.0.0.1:3000", "[::1]:3000"):
            here = f"http://{host}"
            answer = await tested.client().post(SESSION, headers={"Host": host, "Origin": here})
            assert answer.status_code == 201, answer.text
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("byodpp-session=")
            assert "Secure" not in cookie
            headers = {"Cookie": cookie.partition(";")[0], "Host": host, "Origin": here}
            headers["X-CSRF-Token"] = answer.json()["data"]["csrfToken"]
            nobody = tested.client(role=None)
            made = await nobody.post(NOTES, json={"text": "a"}, headers=headers)
            assert made.status_code == 201
            rebound = await nobody.get(NOTES, headers=headers | {"Host": "evil.example"})
            assert rebound.status_code == 401, "a name of somebody else that leads here is not believed"


@pytest.mark.parametrize("host", ["[", "[::1", "[x]", "a]b"])
async def test_a_host_that_is_none_is_no_failure_of_ours(
    byodpp_bench: Bench, blueprint: Blueprint, host: str
) -> None:
    async with byodpp_bench.application(blueprint) as tested:
        headers = {"Host": host, "Cookie": "byodpp-session=x"}
        assert code(await tested.client(role=None).get(NOTES, headers=headers)) == (401, "unauthenticated")
        assert code(await tested.client().post(SESSION, headers={"Host": host})) == (409, "conflict")


async def test_where_no_cookie_is_looked_at_none_is_taken_away(
    byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(blueprint) as tested:
        ended = await tested.client().delete(SESSION, headers={"Host": "example.com"})
        assert (ended.status_code, ended.headers.get("set-cookie")) == (204, None)


async def test_sessions_can_be_switched_off(byodpp_bench: Bench, blueprint: Blueprint) -> None:
    async with byodpp_bench.application(blueprint, browser_sessions=False, public_url=HERE) as tested:
        assert (await tested.client().post(SESSION)).status_code == 404
        document = (await tested.client().get("/openapi.json")).json()
        assert SESSION not in document["paths"]
        assert "session" not in document["components"]["securitySchemes"]


async def test_the_document_tells_how_a_browser_signs_in(tested: TestedApplication) -> None:
    document = (await tested.client().get("/openapi.json")).json()
    schemes = document["components"]["securitySchemes"]
    assert (schemes["session"]["in"], schemes["session"]["name"]) == ("cookie", NAME)
    assert (schemes["csrf"]["in"], schemes["csrf"]["name"]) == ("header", "X-CSRF-Token")
    notes = document["paths"][NOTES]
    assert {"session": []} in notes["get"]["security"]
    assert {"session": [], "csrf": []} in notes["post"]["security"]
    assert document["paths"][SESSION].keys() == {"get", "post", "delete"}
    assert document["paths"][RENEWAL]["post"]["security"] == [{"renewal": []}]
    assert schemes["renewal"]["name"] == SECOND
