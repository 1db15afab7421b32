"""Letters to people: over SMTP, or into a folder where nobody is to be mailed in earnest.

In: a Mail. Out: whether a mail server has taken it. May reject: BadGateway, when the server refuses it, is
away, or takes too long. Neither address nor text nor password of a mail is ever logged.
"""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formataddr, formatdate, make_msgid
from itertools import count
from pathlib import Path
from typing import Final, Protocol

from byodpp.exceptions import BadGateway
from byodpp.identity import MailServer
from byodpp.identity.choice import mail_server
from byodpp.settings import Settings

__all__ = ["CapturedMails", "Mail", "Mailer", "SmtpMailer", "mailer_of", "send_patiently"]

_log: Final = logging.getLogger(__name__)

#: Whatever a mail server knows of MIME, it takes this.
_POLICY: Final = SMTP.clone(cte_type="7bit")
_TRIES: Final = 3
_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A letter in plain text."""

    to: str  # one address
    subject: str  # one line
    text: str


class Mailer(Protocol):
    """Sends mails."""

    async def send(self, mail: Mail) -> None:
        """Hand a mail over.

        Raises:
            BadGateway: nobody has taken it.
        """
        ...


class SmtpMailer:
    """Hands mails to a server, a connection for each."""

    def __init__(self, server: MailServer, *, timeout_seconds: float = 10.0) -> None:
        """Args:
        server: where it is, and who we are there.
        timeout_seconds: for a whole mail, however slowly the server speaks.
        """
        self._server = server
        self._timeout = timeout_seconds

    async def send(self, mail: Mail) -> None:
        """Hand a mail over.

        Raises:
            BadGateway: the server refused it, is away, or was too slow.
        """
        message = _message(mail, self._server)
        try:
            await _in_thread(lambda: self._hand_over(message), self._timeout)
        except smtplib.SMTPResponseException as error:
            raise BadGateway(f"The mail server refused a mail with {error.smtp_code}") from error
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            raise BadGateway(f"The mail server refused who a mail is for with {codes}") from error
        except TimeoutError as error:
            raise BadGateway(f"The mail server took longer than {self._timeout:g} seconds") from error
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise BadGateway(f"The mail server could not be used: {type(error).__name__}") from error

    def _hand_over(self, message: EmailMessage) -> None:
        server = self._server
        context = ssl.create_default_context()
        if server.security == "tls":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, timeout=self._timeout, context=context
            )
        else:
            connection = smtplib.SMTP(server.host, server.port, timeout=self._timeout)
        with connection:
            if server.security == "starttls":
                connection.starttls(context=context)
            if server.user is not None and server.password is not None:
                connection.login(server.user, server.password)
            connection.send_message(message)


class CapturedMails:
    """Keeps mails as files, for development and tests."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: made when the first mail comes; each is an `.eml` file, in the order of their names.
        """
        self._folder = folder
        self._numbers = count()

    async def send(self, mail: Mail) -> None:
        """Write a mail down."""
        sender = MailServer(host="localhost", port=25, sender="byodpp@localhost", sender_name="BYO DPP")
        text = _message(mail, sender).as_bytes(policy=_POLICY)
        name = f"{time.time_ns()}-{next(self._numbers)}.eml"
        await asyncio.to_thread(self._write, name, text)

    def _write(self, name: str, text: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / name).write_bytes(text)


def mailer_of(settings: Settings) -> Mailer | None:
    """Return who sends the mails of an application; None where no mail server is set, and none is feigned."""
    server = mail_server(settings)
    if server is not None:
        return SmtpMailer(server)
    if settings.environment in ("dev", "test"):
        return CapturedMails(settings.app_dir / ".byodpp" / "mails")
    return None


async def send_patiently(mailer: Mailer, mail: Mail, *, pause_seconds: float = _PAUSE_SECONDS) -> str | None:
    """Hand a mail over in some tries; return why it was not taken, None when it was.

    For those to whom a mail is no reason to stop: nothing is raised.
    """
    reason = None
    for number in range(_TRIES):
        if number:
            await asyncio.sleep(pause_seconds * 2 ** (number - 1))
        try:
            await mailer.send(mail)
        except BadGateway as error:
            reason = error.message
            continue
        return None
    _log.warning("a mail was not sent in %d tries: %s", _TRIES, reason)
    return reason


def _message(mail: Mail, server: MailServer) -> EmailMessage:
    message = EmailMessage(policy=_POLICY)
    message["From"] = formataddr((server.sender_name or "", server.sender))
    try:
        message["To"] = mail.to
    except ValueError as error:
        raise BadGateway("The address that a mail is for cannot be written") from error
    message["Subject"] = " ".join(mail.subject.split())
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=server.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    return message


async def _in_thread(work: Callable[[], None], seconds: float) -> None:
    """Run something that may wait for long in a thread that nobody waits for when time is up.

    Raises:
        TimeoutError: it is up.
        Exception: as the work raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if not done.done():
            done.set_result(None) if error is None else done.set_exception(error)

    def run() -> None:
        failure: Exception | None = None
        try:
            work()
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(settle, failure)

    threading.Thread(target=run, name="byodpp mail", daemon=True).start()
    async with asyncio.timeout(seconds):
        await done
