"""What the people of a tenant are mailed about its life, and that no tenant's life depends on it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.exceptions import BadGateway
from byodpp.identity import MailServer
from byodpp.mails import CapturedMails, Mail, SmtpMailer, send_patiently
from byodpp.testing import Bench
from tests.mail_sink import MailSink, mail_sink
from tests.test_tenant_life import ADA, BEGINNINGS, World
from tests.worlds import SHOP, build

LETTER = Mail(to="ada@gamma.example", subject="Grüße", text="Hello Ada,\n.\nfrom Straße 1\n")
OPERATORS = "ops@platform.example"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("mailing"), SHOP, BEGINNINGS)


@pytest_asyncio.fixture(loop_scope="session")
async def sink() -> AsyncIterator[MailSink]:
    async with mail_sink() as server:
        yield server


def settings_of(port: int) -> dict[str, Any]:
    return {
        "smtp_host": "127.0.0.1",
        "smtp_port": port,
        "smtp_security": "none",
        "smtp_from": "dpp@platform.example",
        "smtp_from_name": "The platform",
        "operators_email": OPERATORS,
        "frontend_urls": ("https://app.example",),
    }


@pytest_asyncio.fixture(loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint, sink: MailSink) -> AsyncIterator[World]:
    async with byodpp_bench.application(blueprint, **settings_of(sink.port)) as tested:
        yield World(tested)


def told(sink: MailSink) -> list[tuple[str, str]]:
    found = [(str(mail["To"]), str(mail["Subject"])) for mail in sink.mails]
    sink.mails.clear()
    return found


async def test_g11_the_first_administrator_is_welcomed_and_the_operators_hear_of_it(
    world: World, sink: MailSink
) -> None:
    await world.life.onboard(ADA, password="Never-in-a-mail-1")
    [welcome, note] = sink.mails
    assert (welcome["To"], note["To"]) == ("ada@gamma.example", OPERATORS)
    assert welcome["From"] == "The platform <dpp@platform.example>"
    text = welcome.get_content()
    assert "Ada" in text and "gamma" in text and "https://app.example" in text
    assert note["Subject"] == f"Tenant gamma ({ADA.name}) was onboarded"
    assert all("Never-in-a-mail" not in mail.as_string() for mail in sink.mails)
    sink.mails.clear()
    await world.life.onboard(ADA)
    assert [to for to, _ in told(sink)] == ["ada@gamma.example", OPERATORS], "who asks again is told again"


async def test_g15_administrators_hear_of_a_suspension_and_its_end(world: World, sink: MailSink) -> None:
    await world.life.onboard(ADA)
    tenant = (await world.rows("select id from tenants where slug = 'gamma'"))[0]["id"]
    async with world.application.repositories("gamma") as repositories:
        role = await repositories["Roles"].find({"name": "Admin"})
        role = role or await repositories["Roles"].create({"name": "Admin"})
        clerk = await repositories["Roles"].create({"name": "Clerk"})
        for number, (held, status) in enumerate(
            [(role, "activated"), (role, "deactivated"), (clerk, "activated")]
        ):
            values = {"name": str(number), "email": f"{number}@gamma.example", "status": status}
            user = await repositories["Users"].create({**values, "realm": "gamma", "subject": str(number)})
            await repositories["UserRoles"].create({"userId": user["id"], "roleId": held["id"]})
    told(sink)
    await world.life.suspend("gamma", "payment")
    suspended = told(sink)
    addressed = {to for to, _ in suspended}
    assert "0@gamma.example" in addressed and OPERATORS in addressed
    assert not addressed & {"1@gamma.example", "2@gamma.example"}, "neither who is out nor who is no Admin"
    assert {subject for _, subject in suspended} >= {"Account suspended"}
    await world.life.reactivate("gamma")
    assert ("0@gamma.example", "Account reactivated") in told(sink)
    assert tenant > 0


async def test_without_roles_the_first_administrator_is_told(world: World, sink: MailSink) -> None:
    await world.life.onboard(ADA)
    async with world.application.connected.database.system() as transaction:
        await transaction.execute("delete from user_roles")
    told(sink)
    await world.life.suspend("gamma", "security")
    [mail, note] = sink.mails
    assert mail["To"] == "ada@gamma.example" and "in danger" in mail.get_content()
    assert note["Subject"].endswith("was suspended: security")


async def test_who_administered_a_tenant_hears_nothing_of_another_that_has_its_slug_now(
    world: World, sink: MailSink
) -> None:
    await world.life.onboard(ADA)
    await world.life.onboard(replace(ADA, slug="delta", name="Delta", email="dan@delta.example", domain=None))
    async with world.application.connected.database.system() as transaction:
        await transaction.execute("delete from user_roles")
        for slug, other in (("gamma", "omega"), ("delta", "gamma")):
            await transaction.execute("update tenants set slug = $2 where slug = $1", slug, other)
    told(sink)
    await world.life.suspend("omega", "payment")
    assert "ada@gamma.example" in {to for to, _ in told(sink)}
    await world.life.suspend("gamma", "payment")
    assert {to for to, _ in told(sink)} == {"dan@delta.example", OPERATORS}


async def test_g16_the_operators_hear_that_a_tenant_is_gone(
    world: World, sink: MailSink, tmp_path: Path
) -> None:
    await world.life.onboard(ADA)
    told(sink)
    await world.life.delete("gamma", tmp_path)
    assert told(sink) == [(OPERATORS, "Tenant gamma was deleted")]


async def test_a_name_puts_nothing_into_the_head_of_a_mail(world: World, sink: MailSink) -> None:
    nasty = replace(ADA, name="Gamma\r\nBcc: eve@evil.example\r\n.\r\nMAIL FROM:<x@x>")
    await world.life.onboard(nasty)
    assert [mail["To"] for mail in sink.mails] == ["ada@gamma.example", OPERATORS]
    assert all(mail["Bcc"] is None for mail in sink.mails)


async def test_a_mail_server_that_is_away_stops_nobodys_life(
    byodpp_bench: Bench,
    blueprint: Blueprint,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(send_patiently, "__kwdefaults__", {"pause_seconds": 0.05})
    async with byodpp_bench.application(blueprint, **settings_of(9)) as tested:
        world = World(tested)
        begun = time.monotonic()
        with caplog.at_level(logging.WARNING, logger="byodpp.mails"):
            await world.life.onboard(ADA)
            await world.life.suspend("gamma", "admin")
        assert time.monotonic() - begun < 60
        assert [one.under_way for one in await world.life.list() if one.slug == "gamma"] == [None]
        assert (await world.get("gamma", "/api/v1/notes"))[0] == 401
    lines = [one.getMessage() for one in caplog.records if one.name == "byodpp.mails"]
    assert lines and all("ada@gamma.example" not in line for line in lines)
    kept = "ConnectionRefusedError"
    assert any(kept in line for line in lines)


async def test_a_server_that_refuses_at_first_is_asked_again(sink: MailSink) -> None:
    mailer = SmtpMailer(server_at(sink.port))
    sink.refuses = True
    with pytest.raises(BadGateway, match="451"):
        await mailer.send(LETTER)
    told_why = await send_patiently(mailer, LETTER, pause_seconds=0.01)
    assert told_why is not None and "451" in told_why
    waiting = asyncio.create_task(send_patiently(mailer, LETTER, pause_seconds=1.0))
    await asyncio.sleep(0.5)
    sink.refuses = False
    assert await asyncio.wait_for(waiting, 30) is None
    [mail] = sink.mails
    assert mail["Subject"] == "Grüße" and mail.get_content().replace("\r\n", "\n") == LETTER.text


async def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        mailer = SmtpMailer(server_at(server.sockets[0].getsockname()[1]), timeout_seconds=0.3)
        begun = time.monotonic()
        with pytest.raises(BadGateway):
            await mailer.send(LETTER)
        assert time.monotonic() - begun < 5


async def test_what_is_refused_tells_no_password(sink: MailSink) -> None:
    server = replace(server_at(sink.port), user="dpp", password="Secret-of-the-server")
    with pytest.raises(BadGateway) as refused:  # the sink knows no users
        await SmtpMailer(server).send(LETTER)
    assert "Secret" not in str(refused.value)
    with pytest.raises(BadGateway):  # nor how to begin TLS
        await SmtpMailer(replace(server_at(sink.port), security="starttls")).send(LETTER)
    assert sink.mails == []


async def test_without_a_server_mails_are_kept_as_files(tmp_path: Path) -> None:
    mails = CapturedMails(tmp_path / "mails")
    for number in range(3):
        await mails.send(replace(LETTER, subject=str(number)))
    files = sorted((tmp_path / "mails").iterdir())
    found = [message_from_bytes(one.read_bytes(), policy=default) for one in files]
    assert [one["Subject"] for one in found] == ["0", "1", "2"]
    assert {one["To"] for one in found} == {LETTER.to}


def server_at(port: int) -> MailServer:
    return MailServer(host="127.0.0.1", port=port, sender="dpp@platform.example", security="none")
