"""One POST to a receiver: to the address that was checked, no redirects, no proxies, little read of the answer."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
import ssl
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from alerts.delivery.guard import Blocked
from alerts.delivery.schedule import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from alerts.delivery.guard import Guard, Place

MAX_RESPONSE = 4096  # bytes kept of an answer; whatever follows is not read
_KEEPALIVE_S = (
    3.0  # shorter than any server's: a connection that is closed as we write would be a failure
)


@dataclass(frozen=True, slots=True)
class PostLimits:
    """Seconds to connect, seconds for one attempt as a whole."""

    connect_s: float = 5.0
    total_s: float = 15.0


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM texts: the certificate and key that we show, the authority that we trust instead of the system's."""

    certificate: str = ""
    key: str = ""
    ca: str = ""


@functools.cache
def user_agent() -> str:
    """Return product and version."""
    try:
        return f"agrigate/{metadata.version('agrigate')}"
    except metadata.PackageNotFoundError:
        return "agrigate"


def tls_context(tls: ClientTls) -> ssl.SSLContext:
    """Return what verifies the receiver, and shows our certificate; raise ValueError for PEM that is none."""
    try:
        context = ssl.create_default_context(cadata=tls.ca or None)
        if tls.certificate:
            _load_certificate(context, tls)
    except (ssl.SSLError, ValueError) as exc:
        raise ValueError(f"certificate, key or authority: {exc}") from exc
    return context


def _load_certificate(context: ssl.SSLContext, tls: ClientTls) -> None:
    # The library reads files only; this one is nobody else's and gone at once.
    descriptor, name = tempfile.mkstemp(prefix="agrigate-")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{tls.certificate.strip()}\n{tls.key.strip()}\n")
        context.load_cert_chain(name)
    finally:
        os.unlink(name)  # noqa: PTH108 - of a descriptor


class Pinned(AbstractResolver):
    """Gives aiohttp the addresses that the guard has just let pass, and no others.

    The name is still what TLS and the Host header say.
    """

    def __init__(self, check: Callable[[], list[str]], executor: ThreadPoolExecutor) -> None:
        self._check = check
        self._executor = executor

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - aiohttp's
    ) -> list[ResolveResult]:
        """Return the checked addresses; raise Blocked or OSError."""
        found = await asyncio.get_running_loop().run_in_executor(self._executor, self._check)
        return [
            ResolveResult(
                hostname=host,
                host=text,
                port=port,
                family=socket.AF_INET6 if ":" in text else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for text in found
        ]

    async def close(self) -> None:
        """Close nothing: the threads are the poster's."""


class Poster:
    """The connections to one receiver; make and close it on the loop that uses it.

    Look-ups of names have a thread of their own: those of a dead receiver delay no other's.
    """

    def __init__(
        self,
        place: Place,
        guard: Guard,
        *,
        trusted: bool,
        connections: int,
        limits: PostLimits,
        tls: ClientTls | None = None,
        bearer: str = "",
    ) -> None:
        self._place = place
        self._check = functools.partial(guard.check, place, trusted=trusted)
        self._limits = limits
        self._bearer = bearer
        # aiohttp asks no resolver for an address, and what is checked of one cannot change.
        self._refused = self._refusal() if _is_literal(place.host) else None
        self._executor = ThreadPoolExecutor(1, "webhook-names")
        context: ssl.SSLContext | bool = tls_context(tls) if tls is not None else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections,
                resolver=Pinned(self._check, self._executor),
                use_dns_cache=False,
                ssl=context,
                keepalive_timeout=_KEEPALIVE_S,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=limits.total_s, sock_connect=limits.connect_s),
        )

    async def close(self) -> None:
        """Close the connections; a look-up that hangs is left to itself."""
        await self._session.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def post(
        self,
        body: bytes,
        headers: Mapping[str, str],
        now_ms: Callable[[], int],
        *,
        method: str = "POST",
        keep: Callable[[Mapping[str, str], bytes], None] | None = None,
    ) -> Answer:
        """Send once and return how it ended; ``keep`` gets the answer's headers and its first bytes."""
        started = now_ms()
        status: int | None = None
        error, retry_after = "", ""
        content = bytearray()
        try:
            if self._refused is not None:
                raise self._refused
            async with self._session.request(
                method,
                self._place.url,
                data=body or None,
                headers=self._with_token(headers),
                allow_redirects=False,
            ) as response:
                status = response.status
                retry_after = response.headers.get("retry-after", "")
                await _read_beginning(response, content)
                if keep is not None:
                    keep(response.headers, bytes(content))
        except TimeoutError:
            error = f"cut after {self._limits.total_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            error = _words(exc)
        ended = max(started, now_ms())
        return Answer(started, ended, status, error, as_text(content), retry_after)

    def _refusal(self) -> Blocked | None:
        try:
            self._check()
        except Blocked as exc:
            return exc
        return None

    def _with_token(self, headers: Mapping[str, str]) -> dict[str, str]:
        always = {"user-agent": user_agent(), "accept-encoding": "identity"}
        token = {"authorization": f"Bearer {self._bearer}"} if self._bearer else {}
        return {**always, **headers, **token}


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _words(exc: BaseException) -> str:
    cause = exc.__cause__
    blocked = isinstance(cause, Blocked)
    shown = cause if blocked and cause is not None else exc
    return f"{type(shown).__name__}: {shown}"[:500]


async def _read_beginning(response: aiohttp.ClientResponse, content: bytearray) -> None:
    while len(content) < MAX_RESPONSE:
        chunk = await response.content.read(MAX_RESPONSE - len(content))
        if not chunk:
            return
        content += chunk
    response.close()  # whatever follows is not waited for


def as_text(content: bytes | bytearray) -> str:
    """Return what a receiver sent as harmless text: undecodable bytes and control characters become escapes."""
    text = content.decode("utf-8", "backslashreplace")
    return "".join(ch if ch.isprintable() or ch == "\n" else f"\\x{ord(ch):02x}" for ch in text)
