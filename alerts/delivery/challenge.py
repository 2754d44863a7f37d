"""Asks a receiver whether it wants our events, and tries it out: challenge and test event (specs/alerting.md §1).

Two ways to say yes: answer the signed ``endpoint.verify`` event with its nonce, or the ``OPTIONS`` handshake of the
CloudEvents webhook binding. Neither stands in the outbox: they are sent at once, once.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import msgspec
from ulid import ULID

from alerts.delivery.payload import CONTENT_TYPE, SCHEMA_VERSION, SOURCE, rfc3339
from alerts.delivery.posting import Poster, PostLimits
from alerts.delivery.signing import sign_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from alerts.delivery.endpoints import Endpoint
    from alerts.delivery.guard import Guard
    from alerts.delivery.schedule import Answer

VERIFY, TEST = "endpoint.verify", "endpoint.test"
ORIGIN = "agrigate"
LIMITS = PostLimits(5.0, 15.0)


class NoticeData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Data of an event that is about the endpoint itself, not about an alert."""

    endpoint_id: str
    status: str  # always test: nothing happened
    nonce: str = ""  # endpoint.verify: to be sent back
    message: str = ""


class NoticeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``endpoint.verify`` or ``endpoint.test``, a CloudEvents 1.0 event."""

    specversion: str = "1.0"
    id: str
    source: str = SOURCE
    type: str
    subject: str
    time: str
    datacontenttype: str = "application/json"
    schemaversion: str = SCHEMA_VERSION
    data: NoticeData


def verify_body(endpoint_id: str, nonce: str, now_ms: int) -> bytes:
    """Return the challenge: whoever answers with ``nonce`` wants the events."""
    data = NoticeData(endpoint_id=endpoint_id, status="test", nonce=nonce)
    return _body(VERIFY, data, now_ms)


def body_of_test(endpoint_id: str, now_ms: int) -> bytes:
    """Return a test event: it arrives as alerts do and says that nothing happened."""
    message = "测试消息，无需处理 · test event, nothing to do"
    return _body(TEST, NoticeData(endpoint_id=endpoint_id, status="test", message=message), now_ms)


def challenge(
    endpoint: Endpoint, guard: Guard, now_ms: Callable[[], int], limits: PostLimits = LIMITS
) -> tuple[bool, Answer]:
    """Ask by ``endpoint.verify``, then, if that was not understood, by ``OPTIONS``; return yes or no, and the answer.

    Opens a loop of its own: for a worker thread.
    """
    return asyncio.run(_challenge(endpoint, guard, now_ms, limits))


def send_test(
    endpoint: Endpoint, guard: Guard, now_ms: Callable[[], int], limits: PostLimits = LIMITS
) -> Answer:
    """Send a test event at once and return the answer. Opens a loop of its own: for a worker thread."""

    async def send() -> Answer:
        body = body_of_test(endpoint.id, now_ms())
        poster = _poster(endpoint, guard, limits)
        try:
            return await poster.post(body, _headers(endpoint, body, now_ms()), now_ms)
        finally:
            await poster.close()

    return asyncio.run(send())


async def _challenge(
    endpoint: Endpoint, guard: Guard, now_ms: Callable[[], int], limits: PostLimits
) -> tuple[bool, Answer]:
    nonce = secrets.token_urlsafe(24)
    body = verify_body(endpoint.id, nonce, now_ms())
    poster = _poster(endpoint, guard, limits)
    seen: list[bool] = []

    def echoed(_headers: Mapping[str, str], content: bytes) -> None:
        seen.append(nonce.encode() in content)

    def allowed(headers: Mapping[str, str], _content: bytes) -> None:
        seen.append(headers.get("WebHook-Allowed-Origin", "") in {ORIGIN, "*"})

    try:
        headers = _headers(endpoint, body, now_ms())
        answer = await poster.post(body, headers, now_ms, keep=echoed)
        if _good(answer) and any(seen):
            return True, answer
        if answer.status_code is None:
            return False, answer
        seen.clear()
        asked = {"WebHook-Request-Origin": ORIGIN, "WebHook-Request-Rate": "120"}
        other = await poster.post(b"", asked, now_ms, method="OPTIONS", keep=allowed)
        return (True, other) if _good(other) and any(seen) else (False, answer)
    finally:
        await poster.close()


def _good(answer: Answer) -> bool:
    return answer.status_code is not None and 200 <= answer.status_code < 300


def _poster(endpoint: Endpoint, guard: Guard, limits: PostLimits) -> Poster:
    return Poster(
        endpoint.place,
        guard,
        trusted=endpoint.trusted,
        connections=1,
        limits=limits,
        tls=endpoint.tls,
        bearer=endpoint.bearer,
    )


def _headers(endpoint: Endpoint, body: bytes, now_ms: int) -> dict[str, str]:
    webhook_id = f"evt_{ULID()}_{endpoint.id}"
    stamp = now_ms // 1000
    return {
        "content-type": CONTENT_TYPE,
        "webhook-id": webhook_id,
        "webhook-timestamp": str(stamp),
        "webhook-signature": sign_all(endpoint.signers_at(now_ms), webhook_id, stamp, body),
        "x-attempt": "1",
        "x-replay": "0",
    }


def _body(type_: str, data: NoticeData, now_ms: int) -> bytes:
    event = NoticeEvent(
        id=str(ULID()), type=type_, subject=data.endpoint_id, time=rfc3339(now_ms), data=data
    )
    return msgspec.json.encode(event)
