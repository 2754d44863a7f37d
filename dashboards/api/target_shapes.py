"""Shapes of targets and of what they were told under ``/api/v1``."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from alerts.people.kinds import Kind, Language
from dashboards.api.models import MAX_NAME, Ms, Shape

TARGET_ID = r"^[A-Za-z0-9_-]{1,40}$"
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_NAME)]
Actor = Annotated[Name, Field(description="Name of the person; the key's name when empty")]
Line = Annotated[str, Field(max_length=20_000)]
Value = Line | bool | int | list[Annotated[str, Field(max_length=254)]]
Settings = Annotated[
    dict[Annotated[str, Field(max_length=40)], Value],
    Field(
        max_length=20,
        description="wecom, dingtalk, feishu: url, secret; smtp: host, port, security (tls, starttls), username, "
        "password, sender, to, ca. Secrets come back as ***; what is given back so stays as it is",
    ),
]
Version = Annotated[int | None, Field(description="That was read; or say it as If-Match", ge=1)]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class Hours(Shape):
    """From a time of the day (China) to another, over midnight when `from` is later; both blank for none."""

    from_: Annotated[Clock | Literal[""], Field(alias="from")] = ""
    to: Clock | Literal[""] = ""


class NewTarget(Shape):
    """A target to be made; apprise targets stand in the server's file only."""

    id: Annotated[str, Field(pattern=TARGET_ID)]
    kind: Kind
    settings: Settings
    name: Name = ""
    language: Language = "zh"
    rate_per_min: Annotated[int, Field(ge=1, le=600)] = 18
    digest_s: Annotated[
        int, Field(ge=0, le=86_400, description="Notices are collected so long")
    ] = 60
    quiet: Hours = Hours()
    operator: Annotated[bool, Field(description="Is told of the server's own faults, too")] = False
    actor: Actor = ""


class ChangedTarget(Shape):
    """What is to be changed; what is left away stays."""

    version: Version = None
    settings: Settings | None = None
    name: Name | None = None
    language: Language | None = None
    rate_per_min: Annotated[int | None, Field(ge=1, le=600)] = None
    digest_s: Annotated[int | None, Field(ge=0, le=86_400)] = None
    quiet: Hours | None = None
    operator: bool | None = None
    active: bool | None = None
    actor: Actor = ""


class TriedTarget(Shape):
    """Who tries a target out."""

    actor: Actor = ""


class TargetRow(Shape):
    """A target; its settings show no secret."""

    id: str
    kind: Kind
    name: str
    language: Language
    rate_per_min: int
    digest_s: int
    quiet: dict[str, str]
    operator: bool
    active: bool
    source: Literal["config", "api"] = Field(description="config: change it in the server's file")
    version: int
    settings: dict[str, str | int | bool | list[str]]
    best_effort: bool = Field(description="Sent is no proof that it arrived (apprise)")
    waiting: int = Field(description="Notices to be told")
    failed: int = Field(description="Notices that were given up")
    last_ms: Ms | None = Field(description="The newest message")
    last_delivered: bool | None
    last_error: str


class TargetList(Shape):
    """Every target."""

    targets: list[TargetRow]


class TestReply(Shape):
    """What was answered to a test message."""

    __test__ = False  # pytest would collect it

    ok: bool
    status_code: int | None
    error: str
    message_id: str


class MessageRow(Shape):
    """One message to people, with its result."""

    id: str
    target_id: str
    at_ms: Ms
    notices: int = Field(description="How many it told; 0 for a test")
    text: str
    delivered: bool
    status_code: int | None
    error: str


class MessageList(Shape):
    """A page of messages, newest first."""

    messages: list[MessageRow]
    next: str | None = Field(description="`cursor` of the next page")
