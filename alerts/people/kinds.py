"""The kinds of targets: what their settings hold, whom they may reach, and what must be within which bounds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from alerts.delivery.guard import place_of
from alerts.people.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts.delivery.guard import Allowance

Kind = Literal["wecom", "dingtalk", "feishu", "smtp", "apprise"]
Language = Literal["zh", "en", "both"]
SET = "***"  # shown for a secret that is there

_ADDRESS = re.compile(r"[^\s@<>,;:\"\\()\[\]]+@[^\s@<>,;:\"\\()\[\]]+")
Address = Annotated[str, Meta(max_length=254)]
MAIL_PORTS = (25, 465, 587)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a kind: hosts that its addresses have, messages a minute, bytes of a message's text."""

    hosts: tuple[str, ...]
    per_min: int
    size: int


# Robots: what their makers' documents say, with room to spare for what wraps the text. WeCom counts the markdown's
# bytes (4096), DingTalk and Feishu the whole body (20,000 bytes, 20 KB); WeCom and DingTalk take 20 messages a
# minute, Feishu 100.
BOUNDS: dict[str, Bounds] = {
    "wecom": Bounds(("qyapi.weixin.qq.com",), 20, 4_000),
    "dingtalk": Bounds(("oapi.dingtalk.com",), 20, 18_000),
    "feishu": Bounds(("open.feishu.cn", "open.larksuite.com"), 100, 18_000),
    "smtp": Bounds((), 600, 200_000),
    "apprise": Bounds((), 60, 1_500),
}
ROBOTS = ("wecom", "dingtalk", "feishu")


class Robot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A robot of a group: its address, which is a secret, and the secret it checks signatures with."""

    url: Annotated[str, Meta(min_length=1, max_length=1000)]
    secret: Annotated[str, Meta(max_length=200)] = ""
    allow_http: bool = False

    def masked(self) -> dict[str, object]:
        """Return what may be shown."""
        place = place_of(self.url, allow_http=True)
        scheme = "https" if place.tls else "http"
        return {"url": f"{scheme}://{place.host}/{SET}", "secret": SET if self.secret else ""}


class Mail(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mail server, who sends and to whom; ``ca`` (PEM) is trusted instead of the system's authorities."""

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    sender: Address
    to: Annotated[list[Address], Meta(min_length=1, max_length=50)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 465
    security: Literal["tls", "starttls", "none"] = "tls"
    username: Annotated[str, Meta(max_length=254)] = ""
    password: Annotated[str, Meta(max_length=500)] = ""
    ca: Annotated[str, Meta(max_length=20_000)] = ""

    def masked(self) -> dict[str, object]:
        """Return what may be shown."""
        return {
            "host": self.host,
            "port": self.port,
            "security": self.security,
            "username": SET if self.username else "",
            "password": SET if self.password else "",
            "sender": self.sender,
            "to": [f"{one[:1]}{SET}@{one.rpartition('@')[2]}" for one in self.to],
        }


class BestEffort(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address of Apprise: it may take a message and yet deliver nothing."""

    url: Annotated[str, Meta(min_length=4, max_length=1000)]

    def masked(self) -> dict[str, object]:
        """Return what may be shown."""
        return {"url": f"{self.url.partition('://')[0]}://{SET}"}


Settings = Robot | Mail | BestEffort


def settings_of(kind: str, table: Mapping[str, object]) -> Settings:
    """Return the settings of one kind; raise TargetError that names what is wrong, never the value of a secret."""
    try:
        if kind in ROBOTS:
            robot = msgspec.convert(table, Robot)
            place_of(robot.url, allow_http=robot.allow_http)
            return robot
        if kind == "smtp":
            return _checked(msgspec.convert(table, Mail))
        return msgspec.convert(table, BestEffort)
    except (msgspec.ValidationError, ValueError) as exc:
        raise TargetError(422, f"settings: {exc}", field="settings") from exc


def check_reach(kind: str, settings: Settings, allowances: tuple[Allowance, ...]) -> None:
    """Refuse what a target made over the API may not reach: robots of their makers' hosts only, mail by its ports.

    What ``[[egress]]`` of the server's file names is allowed beside it. The addresses behind the names are looked
    at when a message is sent.
    """
    allowed = {one.host for one in allowances}
    if isinstance(settings, BestEffort):
        raise TargetError(
            422, "kind: apprise reaches any host: write it into the server's file", field="kind"
        )
    if isinstance(settings, Robot):
        place = place_of(settings.url, allow_http=settings.allow_http)
        hosts = BOUNDS[kind].hosts
        official = place.host in hosts and place.port == 443 and place.tls
        if not official and (settings.allow_http or place.host not in allowed):
            names = " or ".join(f"https://{host}/" for host in hosts)
            raise TargetError(
                422,
                f"settings.url: the address of a {kind} robot begins with {names}; "
                "another host must be named in the server's file, [[egress]]",
                field="settings.url",
            )
        return
    if settings.security == "none" or (
        settings.port not in MAIL_PORTS and settings.host.lower() not in allowed
    ):
        raise TargetError(
            422,
            "settings: over the API mail goes with tls or starttls, to port 465, 587 or 25; "
            "another port must be named in the server's file, [[egress]]",
            field="settings.port",
        )


def _checked(mail: Mail) -> Mail:
    for one in (mail.sender, *mail.to):
        if not _ADDRESS.fullmatch(one) or not one.isprintable():
            raise ValueError(f"{one!r} is no mail address")
    if mail.password and not mail.username:
        raise ValueError("a password needs a username")
    if mail.username and mail.security == "none":
        raise ValueError("no login without encryption: use tls or starttls")
    if fault := _host_fault(mail.host, mail.port):
        raise ValueError(fault)
    return mail


def _host_fault(host: str, port: int) -> str:
    try:
        place_of(f"https://{host}:{port}/", allow_http=False)
    except ValueError as exc:
        return str(exc).replace("url:", "host:")
    return ""
