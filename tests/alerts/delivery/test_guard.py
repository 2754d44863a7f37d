"""P12: addresses that must not be reached, at registration and at the connect, whatever they are written as."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest

from alerts.delivery.guard import Allowance, Blocked, Guard, place_of, url_fault
from alerts.delivery.posting import Poster, PostLimits
from tests.alerts.delivery.test_sender import OK, hook

INSIDE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "192.0.2.1",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd12::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "2001::1",
    "2001:db8::1",
]


def at(*addresses: str, allowances: tuple[Allowance, ...] = ()) -> Guard:
    """A guard whose names all resolve to ``addresses``."""
    return Guard(allowances, lambda _host, _port: addresses)


@pytest.mark.parametrize("address", INSIDE)
def test_p12_no_address_of_the_inside_is_let_pass_by_name_or_by_number(address: str) -> None:
    named = place_of("https://county.example/hook", allow_http=False)
    with pytest.raises(Blocked, match="address"):
        at(address).check(named, trusted=False)
    with pytest.raises(Blocked):  # one bad address among good ones is enough
        at("8.8.8.8", address).check(named, trusted=False)
    shown = f"[{address}]" if ":" in address else address
    with pytest.raises(Blocked):
        Guard().check(place_of(f"https://{shown}/", allow_http=False), trusted=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://①②⑦.0.1/",
        "https://[fe80::1%25eth0]/",
        "https://county.example@169.254.169.254/",
        "https://county.example\\@evil.example/",
    ],
)
def test_p12_no_disguise_is_a_url(url: str) -> None:
    assert url_fault(url, allow_http=False)
    with pytest.raises(ValueError, match="url"):
        place_of(url, allow_http=False)


def test_a_public_address_on_443_or_8443_passes_and_no_other_port() -> None:
    for url in ("https://county.example/", "https://county.example:8443/"):
        place = place_of(url, allow_http=False)
        assert at("8.8.8.8", "2606:4700::1").check(place, trusted=False) == [
            "8.8.8.8",
            "2606:4700::1",
        ]
    with pytest.raises(Blocked, match="ports 443 and 8443"):
        at("8.8.8.8").check(place_of("https://county.example:22/", allow_http=False), trusted=False)


def test_what_is_private_is_allowed_by_host_network_and_port_together() -> None:
    one = Allowance("hook.gov.cn", ipaddress.ip_network("10.1.0.0/16"), (9000,))
    place = place_of("https://hook.gov.cn:9000/", allow_http=False)
    assert at("10.1.2.3", allowances=(one,)).check(place, trusted=False)
    other_host = place_of("https://evil.example:9000/", allow_http=False)
    other_port = place_of("https://hook.gov.cn/", allow_http=False)
    for address, wrong in (("10.2.0.1", place), ("10.1.2.3", other_host), ("10.1.2.3", other_port)):
        with pytest.raises(Blocked):
            at(address, allowances=(one,)).check(wrong, trusted=False)


def test_the_servers_own_file_allows_loopback_and_private_but_never_metadata() -> None:
    place = place_of("http://county.example:9000/", allow_http=True)
    assert at("127.0.0.1", "10.1.2.3").check(place, trusted=True)
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "0.0.0.0", "fe80::1", "ff02::1"):
        with pytest.raises(Blocked):
            at(address).check(place, trusted=True)


async def send(guard: Guard, url: str, *, trusted: bool = False) -> tuple[int | None, str]:
    place = place_of(url, allow_http=True)
    poster = Poster(place, guard, trusted=trusted, connections=1, limits=PostLimits(2, 2))
    try:
        answer = await poster.post(b"{}", {}, lambda: 0)
    finally:
        await poster.close()
    return answer.status_code, answer.error


async def test_p12_a_name_that_is_rebound_is_blocked_at_the_connect() -> None:
    """The first answer, at registration, is public; the second points inside. Real sockets: nothing arrives."""
    answers = iter([["8.8.8.8"], ["127.0.0.1"], ["127.0.0.1"]])
    guard = Guard((), lambda _host, _port: next(answers))
    async with hook(OK) as there:
        port = there.url.rsplit(":", 1)[1].removesuffix("/hook")
        guard.check(place_of("https://county.example/hook", allow_http=False), trusted=False)
        status, error = await send(guard, f"http://county.example:{port}/hook")
        assert status is None
        assert "Blocked" in error
        status, error = await send(guard, f"http://127.0.0.1:{port}/hook")
        assert (status, "Blocked" in error) == (None, True)
        assert there.requests == []


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """A name nobody else knows: only the pinned address leads there; Host is still the name."""
    asked: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    async with hook(OK) as there:
        port = int(there.url.rsplit(":", 1)[1].removesuffix("/hook"))
        one = Allowance("county.invalid", ipaddress.ip_network("127.0.0.0/8"), (port,))
        status, error = await send(Guard((one,), resolve), f"http://county.invalid:{port}/hook")
        assert (status, error) == (200, "")
        assert asked == ["county.invalid"]  # looked up once: what is checked is what is used
        assert there.requests[0][0]["host"] == f"county.invalid:{port}"


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hook(OK) as proxy, hook(OK) as there:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        status, _ = await send(Guard(), there.url, trusted=True)
        await asyncio.sleep(0)
        assert (status, len(there.requests), len(proxy.requests)) == (200, 1, 0)
