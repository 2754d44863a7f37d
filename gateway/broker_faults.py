"""What went wrong between us and a broker, in one sentence that says what to do.

paho and ssl give numbers and the names of OpenSSL; whoever stands before the cabinet needs the field to look at.
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.broker import BrokerLogin


class Reason(IntEnum):
    """Reason codes of MQTT 5 §2.4; paho gives those of 3.1.1 as these."""

    PROTOCOL_ERROR = 0x82
    PROTOCOL_UNKNOWN = 0x84
    BAD_IDENTIFIER = 0x85
    BAD_LOGIN = 0x86
    NOT_AUTHORIZED = 0x87
    SHUTTING_DOWN = 0x8B
    KEEP_ALIVE_TIMEOUT = 0x8D
    TAKEN_OVER = 0x8E
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    PACKET_TOO_LARGE = 0x95
    QUOTA_EXCEEDED = 0x97


# X509_V_ERR_… of OpenSSL.
NOT_YET_VALID = 9
HAS_EXPIRED = 10
REVOKED = 23
WRONG_HOST = {62, 64}

SSL_REASON = re.compile(r"\[SSL: (\w+)\]")


class Kind(StrEnum):
    """Classes of faults: while the class is the same, a new try that fails is no news."""

    UNREACHABLE = "unreachable"
    TLS = "tls"
    REFUSED = "refused"
    TAKEN_OVER = "taken_over"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; ``text`` says what and what to do."""

    kind: Kind
    text: str

    @property
    def state(self) -> str:
        """What must differ for a log line to be news."""
        return self.kind if self.kind is Kind.UNREACHABLE else self.text


def of_connect(error: BaseException, login: BrokerLogin) -> Fault:
    """Name why there is no connection: ``error`` is of the socket or of the TLS handshake."""
    where = f"{login.host}:{login.port}"
    match error:
        case ssl.SSLCertVerificationError():
            return Fault(Kind.TLS, _of_certificate(error, login))
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return Fault(Kind.TLS, _no_tls(where))
        case ssl.SSLError():
            return _of_tls(error.reason or str(error), where)
        case ConnectionResetError() if login.tls is not None:
            return Fault(Kind.TLS, _no_tls(where))
        case socket.gaierror():
            text = f"the name {login.host} is not known; check host in [broker], and the DNS"
        case ConnectionRefusedError():
            text = f"connection refused: nothing listens at {where}; is the broker running?"
        case TimeoutError():
            text = f"{where} does not answer; check host and port in [broker], and the network"
        case _:
            text = f"{where}: {error}"
    return Fault(Kind.UNREACHABLE, text)


def of_log(line: str, login: BrokerLogin) -> Fault | None:
    """Name the TLS alert that paho only logs: with TLS 1.3 the broker judges our certificate after the handshake."""
    found = SSL_REASON.search(line)
    return _of_tls(found[1], f"{login.host}:{login.port}") if found else None


def of_silence(login: BrokerLogin, *, closed: bool) -> Fault:
    """Name why a CONNECT was not answered: the peer ``closed``, or said nothing."""
    how = "closed the connection without answering" if closed else "does not answer the CONNECT"
    if login.tls is None:
        advice = (
            'does it want TLS (then name ca_file)? Does it know MQTT {}? Else set protocol = "{}"'
        )
    else:
        advice = 'does it want a client certificate? Does it know MQTT {}? Else set protocol = "{}"'
    other = "3.1.1" if login.protocol == "5" else "5"
    text = f"{login.host}:{login.port} {how}; {advice.format(login.protocol, other)}"
    return Fault(Kind.REFUSED, text)


def of_refusal(code: int, name: str, login: BrokerLogin) -> Fault:
    """Name what a CONNACK says."""
    user = f"user {login.username}" if login.username else "a client without username"
    match code:
        case Reason.BAD_LOGIN | Reason.NOT_AUTHORIZED:
            text = (
                f"the broker refused {user} ({name}): wrong password, or revoked; check username and"
                " password_file in [broker], or get a new enrolment file from the server"
            )
        case Reason.PROTOCOL_UNKNOWN | Reason.PROTOCOL_ERROR:
            other = "3.1.1" if login.protocol == "5" else "5"
            text = f'the broker does not know MQTT {login.protocol}; set protocol = "{other}"'
        case Reason.BAD_IDENTIFIER:
            text = "the broker refused the client identifier; check its clientid_prefixes"
        case _:
            text = f"the broker refused the connection: {name} (0x{code:02X})"
    return Fault(Kind.REFUSED, text)


def of_disconnect(code: int, name: str) -> Fault:
    """Name why the broker ended a connection that was good; MQTT 5 only."""
    match code:
        case Reason.TAKEN_OVER:
            return Fault(Kind.TAKEN_OVER, TAKEN_OVER_STATE)
        case Reason.PACKET_TOO_LARGE:
            text = "a pack was larger than the broker takes; raise max_packet_size there"
        case Reason.RECEIVE_MAXIMUM_EXCEEDED:
            text = "the broker saw more unacknowledged messages than it allows (receive maximum)"
        case Reason.NOT_AUTHORIZED:
            text = (
                "the broker withdrew our rights; check its access list, or whether we are revoked"
            )
        case Reason.SHUTTING_DOWN:
            return Fault(Kind.UNREACHABLE, "the broker is shutting down")
        case Reason.KEEP_ALIVE_TIMEOUT:
            return Fault(Kind.UNREACHABLE, "the broker heard nothing of us for too long")
        case _:
            text = f"the broker ended the connection: {name} (0x{code:02X})"
    return Fault(Kind.REFUSED, text)


SAME_IDENTITY = (
    "another client connects with this identity; is the data directory copied to a second machine?"
)
TAKEN_OVER_STATE = "session taken over: " + SAME_IDENTITY
# MQTT 3.1.1 has no DISCONNECT from the broker, and mosquitto 2.0 sends none in 5: all that is seen is the cut.
CUT_AGAIN_AND_AGAIN = (
    "the broker accepts and then cuts the connection, again and again: either another client connects with this"
    " identity (is the data directory copied to a second machine?), or its access list does not let us do what we do"
)


def of_publish(code: int, name: str) -> str:
    """Name why the broker did not take a message."""
    match code:
        case Reason.NOT_AUTHORIZED:
            return "not authorized: the broker's access list does not let us write this topic"
        case Reason.PACKET_TOO_LARGE:
            return "larger than the broker takes; raise max_packet_size there"
        case Reason.QUOTA_EXCEEDED:
            return "the broker's quota is used up; raise its limits"
        case _:
            return f"{name} (0x{code:02X})"


def is_expiry(error: BaseException | None) -> bool:
    """Tell whether the broker's certificate has expired."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == HAS_EXPIRED


def _of_certificate(error: ssl.SSLCertVerificationError, login: BrokerLogin) -> str:
    said = f"({error.verify_message})"
    if error.verify_code == HAS_EXPIRED:
        return (
            f"the broker's certificate has expired {said}; renew it there, and check the clock here"
        )
    if error.verify_code == NOT_YET_VALID:
        return (
            f"the broker's certificate is not valid yet {said}; is the clock of this machine right?"
        )
    if error.verify_code in WRONG_HOST:
        return (
            f"the broker's certificate is not for {login.host} {said}; set host to a name that stands in it,"
            " or make it anew with this name"
        )
    if error.verify_code == REVOKED:
        return f"the broker's certificate is revoked {said}; make a new one"
    return (
        f"the broker's certificate is not signed by our CA {said}; is ca_file, or the enrolment file,"
        " of this broker?"
    )


def _no_tls(where: str) -> str:
    return f"{where} ended the TLS handshake; is that its TLS port? There is no falling back to plaintext"


OUR_CERTIFICATE = "get a new enrolment file from the server, or renew certificate_file"


def _of_tls(reason: str, where: str) -> Fault:
    reason = reason.upper().replace(" ", "_")
    if "ALERT" not in reason and any(
        name in reason
        for name in ("WRONG_VERSION_NUMBER", "RECORD_LAYER", "HTTP_REQUEST", "PACKET_LENGTH")
    ):
        text = f"{where} does not speak TLS; check port: there is no falling back to plaintext ({reason})"
    elif "CERTIFICATE_EXPIRED" in reason:
        text = f"the broker says that our certificate has expired; {OUR_CERTIFICATE}"
    elif "CERTIFICATE_REVOKED" in reason:
        text = f"the broker says that our certificate is revoked; {OUR_CERTIFICATE}"
    elif "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        text = f"the broker asks for a client certificate; {OUR_CERTIFICATE}"
    elif "UNKNOWN_CA" in reason:
        text = f"the broker does not know the CA of our certificate; {OUR_CERTIFICATE}"
    elif "ALERT_BAD_CERTIFICATE" in reason or "CERTIFICATE_UNKNOWN" in reason:
        text = (
            f"the broker does not accept our certificate: not valid yet, or damaged; {OUR_CERTIFICATE},"
            " and check both clocks"
        )
    elif "UNEXPECTED_EOF" in reason:
        text = _no_tls(where)
    else:
        text = f"TLS with {where} failed: {reason}"
    return Fault(Kind.TLS, text)
