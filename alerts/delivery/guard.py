"""Where webhooks may go: SSRF rules for URLs and for the addresses behind their names (specs/alerting.md §6).

An endpoint made over the API reaches public addresses on ports 443 and 8443. What is private is allowed in the server's
own file only (``[[egress]]``: host, network, ports). An endpoint of that file is allowed by it; link-local
addresses (cloud metadata), multicast, reserved and unspecified ones are refused even then.

Addresses are looked at when the endpoint is made and again at every connect, and the connection goes to the very
address that was looked at (``posting.Pinned``): a name that resolves to another one a moment later gains nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Resolve = Callable[[str, int], Sequence[str]]  # host, port -> addresses; raises OSError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
PORTS = (443, 8443)

# Hosts written to look like something else (decimal, octal or hexadecimal addresses, IPv6 zones): never needed.
_ODD_HOST = re.compile(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+))*\.?|.*%.*", re.IGNORECASE)
_DOTTED = re.compile(r"(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}")


def _networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


_NEVER = _networks(
    "0.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
)
_NOT_PUBLIC = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001::/23",  # IETF: Teredo, ORCHID
    "2001:db8::/32",
    "2002::/16",  # 6to4: an IPv4 address inside
    "3fff::/20",
)
_PUBLIC_V6 = ipaddress.ip_network("2000::/3")  # v4-mapped, NAT64 and ULA lie outside


class Blocked(OSError):  # noqa: N818 - an outcome, not a fault
    """The guard lets no connection go there; the message names address and class, not what answers there."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """``[[egress]]`` of the server's file: this host may be in this network, on these ports."""

    host: str
    network: IPNetwork
    ports: tuple[int, ...] = PORTS


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint's URL, taken apart once; ``url`` is what is asked, its host in ASCII."""

    url: URL
    host: str
    port: int
    tls: bool


def place_of(text: str, *, allow_http: bool) -> Place:
    """Take a URL apart; raise ValueError that says what is wrong with it.

    >>> place_of("https://县.example/hook?a=1", allow_http=False).host
    'xn--5nr.example'
    """
    if fault := url_fault(text, allow_http=allow_http):
        raise ValueError(fault)
    parts = urlsplit(text)
    host = _ascii(parts.hostname or "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    shown = f"[{host}]" if ":" in host else host
    query = f"?{parts.query}" if parts.query else ""
    url = URL(f"{parts.scheme}://{shown}:{port}{parts.path or '/'}{query}")
    if (url.raw_host, url.port) != (
        host,
        port,
    ):  # two readings of one URL are how guards are got round
        raise ValueError("url: write host and port plainly")
    return Place(url, host, port, parts.scheme == "https")


def url_fault(url: str, *, allow_http: bool) -> str:
    """Say what is wrong with an endpoint's URL, or return an empty text.

    >>> url_fault("http://county.example/hook", allow_http=False)
    'url: use https, or set allow_http = true for this endpoint'
    """
    if any(ch.isspace() or not ch.isprintable() or ch == "\\" for ch in url):
        return "url: no spaces, control characters or backslashes"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        return f"url: {exc}"
    if parts.scheme not in {"https", "http"}:
        return "url: start with https://"
    if parts.scheme == "http" and not allow_http:
        return "url: use https, or set allow_http = true for this endpoint"
    if not host or port == 0:
        return "url: name a host"
    if parts.username is not None or parts.password is not None:
        return "url: no user name or password"
    if parts.fragment:
        return "url: no fragment"
    return _host_fault(host)


def _host_fault(host: str) -> str:
    try:
        plain = _ascii(host)
    except ValueError:
        return "url: the host's name cannot be written in ASCII (IDNA)"
    if _ODD_HOST.fullmatch(plain) and not _DOTTED.fullmatch(plain):
        return "url: write an address as four decimal numbers, without a zone"
    if ":" in plain:
        try:
            ipaddress.IPv6Address(plain)
        except ValueError as exc:
            return f"url: {exc}"
    return ""


def _ascii(host: str) -> str:
    if host.isascii():
        try:
            return str(ipaddress.IPv6Address(host))  # one way to write it
        except ValueError:
            return host.lower()
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError as exc:
        raise ValueError(str(exc)) from exc


def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver; raise OSError when the name is not known."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Guard:
    """Says where a connection may go; ``resolve`` is asked for every name, each time."""

    allowances: tuple[Allowance, ...] = ()
    resolve: Resolve = resolve

    def check(self, place: Place, *, trusted: bool) -> list[str]:
        """Return the addresses that may be connected to; raise Blocked, or OSError for a name that is not known.

        ``trusted``: the endpoint stands in the server's own file.
        """
        try:
            found = [str(ipaddress.ip_address(place.host))]
        except ValueError:
            found = list(self.resolve(place.host, place.port))
        if not found:
            raise Blocked(f"{place.host}: no address")
        for text in found:
            if refusal := self._refusal(place, text, trusted=trusted):
                raise Blocked(f"{place.host}: {text}: {refusal}")
        return found

    def _refusal(self, place: Place, text: str, *, trusted: bool) -> str:
        if "%" in text:
            return "an address with a zone"
        address = ipaddress.ip_address(text)
        if any(_inside(address, network) for network in _NEVER):
            return "a link-local, multicast, reserved or unspecified address"
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        if mapped is not None and any(_inside(mapped, network) for network in _NEVER):
            return "a link-local, multicast, reserved or unspecified address"
        if trusted or self._allowed(place, address):
            return ""
        if not is_public(address):
            return "not a public address; allow it in the server's file, [[egress]]"
        if place.port not in PORTS:
            return "ports 443 and 8443 only; allow another in the server's file, [[egress]]"
        return ""

    def _allowed(self, place: Place, address: IPAddress) -> bool:
        return any(
            one.host == place.host and place.port in one.ports and _inside(address, one.network)
            for one in self.allowances
        )


def is_public(address: IPAddress) -> bool:
    """Tell whether anybody's machine may have this address.

    >>> [
    ...     is_public(ipaddress.ip_address(text))
    ...     for text in ("8.8.8.8", "100.64.0.1", "64:ff9b::a00:1")
    ... ]
    [True, False, False]
    """
    if any(_inside(address, network) for network in (*_NEVER, *_NOT_PUBLIC)):
        return False
    return address.version == 4 or _inside(address, _PUBLIC_V6)


def _inside(address: IPAddress, network: IPNetwork) -> bool:
    return address.version == network.version and address in network
