"""Mail to people over SMTP: to the address that was checked, with TLS that checks the server's name."""

from __future__ import annotations

import smtplib
import socket
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING

from alerts.delivery.guard import place_of
from alerts.people.kinds import MAIL_PORTS
from alerts.people.robots import Outcome

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from alerts.delivery.guard import Guard
    from alerts.people.document import Document
    from alerts.people.kinds import Mail

TIMEOUT_S = 15.0  # of each step: connecting, each command
_MAX_ERROR = 300


def letter(mail: Mail, document: Document, message_id: str, at: dt.datetime) -> EmailMessage:
    """Return the letter; the same ``message_id`` is the same letter."""
    made = EmailMessage()
    made["Subject"] = document.title
    made["From"] = Address("Agrigate", addr_spec=mail.sender)
    made["To"] = [Address(addr_spec=one) for one in mail.to]
    made["Date"] = format_datetime(at)
    made["Message-ID"] = f"<{message_id}@{mail.sender.rpartition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(document.plain())
    return made


def send(mail: Mail, made: EmailMessage, guard: Guard, *, trusted: bool) -> Outcome:
    """Hand the letter to the server, blocking; a refused recipient is named, and is no failure while one took it."""
    try:
        addresses = _addresses(mail, guard, trusted=trusted)
        with _Pinned(mail, addresses) as server:
            if mail.security == "starttls":
                server.starttls(context=_tls(mail))
            if mail.username:
                server.login(mail.username, mail.password)
            refused = server.send_message(made)
    except smtplib.SMTPResponseException as exc:
        said = exc.smtp_error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return Outcome(
            delivered=False, status_code=exc.smtp_code, error=_line(f"{exc.smtp_code} {text}")
        )
    except smtplib.SMTPRecipientsRefused as exc:
        return Outcome(
            delivered=False, error=_line(f"every recipient was refused: {_first(exc.recipients)}")
        )
    except (smtplib.SMTPException, OSError, ValueError) as exc:
        return Outcome(delivered=False, error=_line(f"{type(exc).__name__}: {exc}"))
    if not refused:
        return Outcome(delivered=True, status_code=250)
    error = f"{len(refused)} of {len(mail.to)} recipients were refused: {_first(refused)}"
    return Outcome(delivered=True, status_code=250, error=_line(error))


def _first(refused: dict[str, tuple[int, bytes]]) -> str:
    code, said = next(iter(refused.values()))
    return f"{code} {said.decode('utf-8', 'replace')}"


def _line(text: str) -> str:
    shown = "".join(ch if ch.isprintable() else " " for ch in text)
    return " ".join(shown.split())[:_MAX_ERROR]


def _addresses(mail: Mail, guard: Guard, *, trusted: bool) -> list[str]:
    """Return the addresses that may be connected to: the ports of mail are as good as those of the web."""
    named = any(allowed.host == mail.host.lower() for allowed in guard.allowances)
    as_web = 443 if mail.port in MAIL_PORTS else mail.port
    port = mail.port if trusted or named else as_web
    place = place_of(f"https://{mail.host}:{port}/", allow_http=False)
    return guard.check(place, trusted=trusted)


def _tls(mail: Mail) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=mail.ca or None)


class _Pinned(smtplib.SMTP):
    """Connects to the addresses that were checked; TLS still checks the name."""

    def __init__(self, mail: Mail, addresses: Sequence[str]) -> None:
        self._mail = mail
        self._addresses = addresses
        name = socket.gethostname()
        super().__init__(
            mail.host,
            mail.port,
            local_hostname=name if name.isascii() and name else "localhost",
            timeout=TIMEOUT_S,
        )

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        failure: OSError = OSError("no address")
        for address in self._addresses:
            try:
                plain = socket.create_connection((address, port), timeout)
            except OSError as exc:
                failure = exc
                continue
            if self._mail.security != "tls":
                return plain
            try:
                return _tls(self._mail).wrap_socket(plain, server_hostname=host)
            except OSError:
                plain.close()
                raise
        raise failure
