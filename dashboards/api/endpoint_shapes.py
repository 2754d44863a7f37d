"""Shapes of endpoints, their keys, deliveries and receipts under ``/api/v1``."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from dashboards.api.models import MAX_NAME, AttemptRow, Ms, Shape

ENDPOINT_ID = r"^[A-Za-z0-9_-]{1,40}$"
Url = Annotated[str, Field(min_length=1, max_length=2000)]
Token = Annotated[
    str, Field(max_length=4000, description="Sent as Authorization: Bearer; never shown")
]
Pem = Annotated[str, Field(max_length=20_000)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_NAME)]
Actor = Annotated[Name, Field(description="Name of the person; the key's name when empty")]
Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=80)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)]
Kind = Literal["hmac", "ed25519"]


class ClientCertificate(Shape):
    """PEM texts; all blank takes a certificate away."""

    certificate: Pem = ""
    key: Pem = ""
    ca: Annotated[Pem, Field(description="Trusted instead of the system's authorities")] = ""


class NewEndpoint(Shape):
    """An endpoint to be made."""

    id: Annotated[str, Field(pattern=ENDPOINT_ID, description="Part of every webhook-id")]
    name: Name = ""
    url: Url
    key_kind: Annotated[Kind, Field(description="hmac: v1, ed25519: v1a")] = "ed25519"
    allow_http: bool = False
    concurrency: Annotated[int, Field(ge=1, le=32)] = 4
    rate_per_min: Annotated[int, Field(ge=0, le=1_000_000, description="0: no limit")] = 0
    bearer: Token = ""
    client_certificate: ClientCertificate | None = None
    actor: Actor = ""


class ChangedEndpoint(Shape):
    """What is to be changed; what is left away stays."""

    version: Annotated[
        int | None, Field(description="That was read; or say it as If-Match", ge=1)
    ] = None
    name: Name | None = None
    url: Url | None = None
    allow_http: bool | None = None
    active: bool | None = None
    concurrency: Annotated[int | None, Field(ge=1, le=32)] = None
    rate_per_min: Annotated[int | None, Field(ge=0, le=1_000_000)] = None
    bearer: Token | None = None
    client_certificate: ClientCertificate | None = None
    actor: Actor = ""


class KeyRow(Shape):
    """A key of an endpoint; never its secret."""

    id: str
    endpoint_id: str
    kind: Literal["hmac", "ed25519", "receipt"]
    public: str = Field(description="whpk_…; blank but for ed25519")
    created_ms: Ms
    ends_ms: int | None = Field(description="Signs no longer from then on; null: no end yet")


class KeyList(Shape):
    """Keys, oldest first."""

    keys: list[KeyRow]


class EndpointRow(Shape):
    """An endpoint."""

    id: str
    name: str
    url: str
    source: Literal["config", "api"]
    state: Literal["active", "unverified", "suspended", "off"]
    version: int
    allow_http: bool
    concurrency: int
    rate_per_min: int | None
    has_bearer: bool
    has_client_certificate: bool
    verified_ms: int | None
    suspended_ms: int | None
    failing_since_ms: int | None = Field(description="No attempt has succeeded since")
    pending: int = Field(description="Events that wait to be sent")
    undelivered: int = Field(description="Events that were given up, and can be replayed")
    keys: list[KeyRow] = Field(description="That live, and those that have ended")


class EndpointList(Shape):
    """Every endpoint."""

    endpoints: list[EndpointRow]


class ShownKey(Shape):
    """A key that was just made."""

    id: str
    kind: Literal["hmac", "ed25519", "receipt"]
    secret: str = Field(
        description="whsec_… to verify with, or whrk_…; shown this once. Blank: ed25519"
    )
    public: str = Field(description="whpk_… to verify with")


class CreatedEndpoint(Shape):
    """The endpoint and its keys, whose secrets are shown this once."""

    endpoint: EndpointRow
    signing_key: ShownKey
    receipt_key: ShownKey


class Act(Shape):
    """Who does it."""

    actor: Actor = ""


class Suspend(Act):
    """Why nothing is to be sent."""

    reason: Annotated[Text, Field(min_length=1)]


class Rotate(Act):
    """A new key; those before it go on for a while, or end now."""

    kind: Annotated[
        Literal["hmac", "ed25519", "receipt"] | None,
        Field(description="As the newest signing key without it"),
    ] = None
    overlap_h: Annotated[int, Field(description="1 to 720")] = 24
    revoke_old_now: Annotated[bool, Field(description="After a leak")] = False


class Replay(Act):
    """One event, or a range of time, or all that is undelivered."""

    webhook_id: Annotated[str | None, Field(max_length=100)] = None
    since: Annotated[str | None, Field(description="RFC 3339 with an offset, or UTC ms")] = None
    until: Annotated[str | None, Field(description="As since; not included")] = None
    undelivered: Annotated[bool, Field(description="Only what never arrived")] = False


class ReplayReply(Shape):
    """How many go out again."""

    events: int
    left: int = Field(description="More of the range; replay again from next_ms")
    next_ms: int | None


class ResumeReply(Shape):
    """The endpoint, and how many of its events go out now."""

    endpoint: EndpointRow
    events: int


class TryReply(Shape):
    """What the receiver answered at once."""

    ok: bool
    status_code: int | None
    error: str
    response: str = Field(description="At most 4 KiB, as text")
    duration_ms: int
    endpoint: EndpointRow


class EndpointDelivery(Shape):
    """One event for an endpoint, with its attempts."""

    id: int
    webhook_id: str
    alert_id: str
    event_type: str
    alert_seq: int
    state: Literal["pending", "delivered", "undelivered"]
    created_ms: Ms
    delivered_ms: int | None
    next_ms: int | None
    replays: int
    attempts: list[AttemptRow]


class EndpointDeliveries(Shape):
    """A page, newest first."""

    deliveries: list[EndpointDelivery]
    next: int | None = Field(description="`before` of the next page")


class NewReceipt(Shape):
    """What the endpoint's system says of an alert that it was sent."""

    alert_id: Annotated[str, Field(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    seq: Annotated[int, Field(ge=1, description="seq of the event that this answers")]
    webhook_id: Annotated[str, Field(max_length=100)] = ""
    decision: Literal["received", "accepted", "rejected", "outcome"]
    case_no: Annotated[Line, Field(description="Needed with accepted")] = ""
    handler: Annotated[Name, Field(description="Who decided")] = ""
    reason: Annotated[Text, Field(description="Needed with rejected")] = ""
    outcome: Annotated[
        str,
        StringConstraints(strip_whitespace=True, max_length=32),
        Field(description="Needed with outcome"),
    ] = ""
    at: Annotated[
        str | None, Field(description="When, RFC 3339 with an offset or UTC ms; now without it")
    ] = None


class ReceiptReply(Shape):
    """What became of the receipt."""

    alert_id: str
    repeated: bool = Field(description="It was here before, and had no further effect")
    state: str
    seq: int = Field(description="Of the alert, now")


class SchemaRow(Shape):
    """A schema."""

    name: str
    url: str


class SchemaList(Shape):
    """JSON Schemas, draft 2020-12."""

    schemas: list[SchemaRow]
