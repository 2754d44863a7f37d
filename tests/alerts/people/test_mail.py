"""Mail over a real SMTP server: TLS, STARTTLS, login, refusals; Apprise as far as it goes."""

from __future__ import annotations

import asyncio
import datetime as dt
import email
import importlib
import ipaddress
import ssl
from concurrent.futures import ThreadPoolExecutor
from email import policy

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from alerts.delivery.guard import Allowance, Guard
from alerts.people import best_effort, mail
from alerts.people.channels import Channels
from alerts.people.document import Document, Line
from alerts.people.errors import TargetError
from alerts.people.kinds import BestEffort, Mail, check_reach, settings_of
from alerts.people.targets import API, CONFIG, Target
from tests.alerts.people.conftest import NOON_MS, robot_server
from tests.certificates import Authority
from tests.conftest import free_port

DOCUMENT = Document(
    "Agrigate 告警 1 条", ((Line("豇豆 · 克百威"), Line("查看", "https://nj.example/1")),)
)
PASSWORD = "correct horse"


class Peer:
    """Takes letters; refuses recipients whose name begins with "no"."""

    def __init__(self) -> None:
        self.letters = []

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 - aiosmtpd's
        if address.startswith("no"):
            return "550 5.1.1 nobody\x07 of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's
        self.letters.append(email.message_from_bytes(envelope.content, policy=policy.default))
        return "250 taken"


class _Plain(Controller):
    def __init__(self, handler, *, implicit=None, **options) -> None:
        super().__init__(
            handler, hostname="127.0.0.1", port=free_port(), ssl_context=implicit, **options
        )


def _login(_server, _session, _envelope, _mechanism, data):
    right = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
    return AuthResult(success=right, handled=False)


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def tls(authority, tmp_path_factory):
    signed = authority.sign("mail", hosts=("localhost",))
    certificate, key = signed.write(tmp_path_factory.mktemp("mail"), "mail")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


@pytest.fixture
def serve():
    """Start servers; they are stopped at the end."""
    running = []

    def start(**options):
        peer = Peer()
        controller = _Plain(peer, **options)
        controller.start()
        running.append(controller)
        return peer, controller.port

    yield start
    for controller in running:
        controller.stop()


def send(settings, *, trusted=True, guard=None):
    letter = mail.letter(settings, DOCUMENT, "01M", dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC))
    return mail.send(settings, letter, guard or Guard(), trusted=trusted)


def box(port, **changes):
    return Mail(
        **{
            "host": "localhost",
            "port": port,
            "sender": "a@nj.example",
            "to": ["li@nj.example"],
            **changes,
        }
    )


def test_a_letter_arrives_over_starttls_with_a_login(serve, tls, authority):
    peer, port = serve(
        tls_context=tls, require_starttls=True, authenticator=_login, auth_required=True
    )
    settings = box(port, security="starttls", username="a", password=PASSWORD, ca=authority.pem)
    assert send(settings).delivered
    (letter,) = peer.letters
    assert letter["Subject"] == "Agrigate 告警 1 条"
    assert letter["Message-ID"] == "<01M@nj.example>"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert "查看 https://nj.example/1" in letter.get_content()
    wrong = send(box(port, security="starttls", username="a", password="x", ca=authority.pem))
    assert (wrong.delivered, wrong.status_code) == (False, 535)


def test_a_letter_arrives_over_tls(serve, tls, authority):
    peer, port = serve(implicit=tls)
    assert send(box(port, ca=authority.pem)).delivered
    assert len(peer.letters) == 1


def test_a_server_with_another_name_or_authority_gets_nothing(serve, tls, authority):
    peer, port = serve(implicit=tls)
    assert "certificate" in send(box(port)).error.lower()
    other = send(box(port, host="127.0.0.1", ca=authority.pem))
    assert "certificate" in other.error.lower()
    assert peer.letters == []


def test_a_server_without_starttls_gets_nothing(serve):
    peer, port = serve()
    assert not send(box(port, security="starttls")).delivered
    assert peer.letters == []


def test_one_refused_recipient_is_named_and_all_refused_is_a_failure(serve):
    peer, port = serve()
    some = send(box(port, security="none", to=["no@nj.example", "li@nj.example"]))
    assert some.delivered
    assert some.error == "1 of 2 recipients were refused: 550 5.1.1 nobody of that name"
    assert not send(box(port, security="none", to=["no@nj.example"])).delivered
    assert len(peer.letters) == 1


def test_nobody_there_is_a_failure():
    assert "refused" in send(box(free_port(), security="none")).error.lower()


def test_mail_of_the_api_reaches_no_private_address(serve):
    """P12: the address is looked at as the connection is made; the server's file may allow it."""
    peer, port = serve()
    made = box(port, security="none")
    assert "Blocked" in send(made, trusted=False).error
    assert (
        "Blocked"
        in send(
            box(465, host="evil.example"),
            trusted=False,
            guard=Guard(resolve=lambda _host, _port: ["93.184.216.34", "169.254.169.254"]),
        ).error
    )
    allowed = Guard(
        (Allowance("localhost", ipaddress.ip_network("127.0.0.0/8"), (port,)),),
        resolve=lambda _host, _port: ["127.0.0.1"],
    )
    assert send(made, trusted=False, guard=allowed).delivered
    assert len(peer.letters) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"to": []},
        {"to": ["a@b.example\nBcc: x@y.example"]},
        {"to": ["a@b.example,c@d.example"]},
        {"sender": "nobody"},
        {"host": "a b"},
        {"host": "2130706433"},
        {"password": "x"},
        {"security": "none", "username": "a", "password": "x"},
        {"port": 0},
        {"colour": "red"},
    ],
)
def test_bad_settings_are_refused(changes):
    table = {"host": "mail.example", "sender": "a@nj.example", "to": ["b@nj.example"], **changes}
    with pytest.raises(TargetError):
        settings_of("smtp", table)


def test_the_api_may_not_send_in_the_clear_or_to_odd_ports():
    for changes in ({"security": "none"}, {"port": 6379}):
        with pytest.raises(TargetError):
            check_reach("smtp", box(changes.pop("port", 465), **changes), ())
    check_reach("smtp", box(587, security="starttls"), ())


def target(settings, source=CONFIG):
    return Target(id="x", kind="apprise", name="x", settings=settings, source=source)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise imports imghdr
async def test_apprise_is_best_effort(robot):
    pytest.importorskip("apprise")
    with ThreadPoolExecutor(1) as executor:
        channels = Channels(Guard(), lambda: NOON_MS, executor)
        settings = BestEffort(url=f"json://127.0.0.1:{robot.port}/x")
        assert (await channels.send(target(settings), DOCUMENT, "01M")).delivered
        assert robot.got[0][1]["title"] == DOCUMENT.title
        robot.status = 500
        assert not (await channels.send(target(settings), DOCUMENT, "01M")).delivered
        nonsense = await channels.send(target(BestEffort(url="nonsense://x")), DOCUMENT, "01M")
        assert nonsense.error == "apprise does not know this address"


def test_without_apprise_the_error_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    result = best_effort.send(BestEffort(url="json://x"), DOCUMENT)
    assert result.error == "apprise is not installed: pip install 'agrigate[notify]'"


def test_apprise_is_not_for_the_api():
    with pytest.raises(TargetError, match="server's file"):
        check_reach("apprise", BestEffort(url="json://127.0.0.1/"), ())


async def test_a_robot_of_the_api_reaches_no_private_address():
    async with robot_server() as server:
        made = Target(
            id="x",
            kind="wecom",
            name="x",
            settings=settings_of(
                "wecom", {"url": f"http://127.0.0.1:{server.port}/", "allow_http": True}
            ),
            source=API,
        )
        with ThreadPoolExecutor(1) as executor:
            result = await Channels(Guard(), lambda: NOON_MS, executor).send(made, DOCUMENT, "01M")
        assert "Blocked" in result.error
        assert server.got == []
    await asyncio.sleep(0)
