"""What the robots of WeCom, DingTalk and Feishu are sent, and what their answers mean. Pure.

They answer 200 whatever happened; the code in the body says whether a message was taken
(developer.work.weixin.qq.com path/91770, open.dingtalk.com custom robots, open.feishu.cn custom bots).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from alerts.people.document import Line

if TYPE_CHECKING:
    from alerts.delivery.schedule import Answer
    from alerts.people.document import Document
    from alerts.people.kinds import Robot

_EMPTY = Line("")
# Codes that say "too many", and for how long a robot then stays deaf.
TOO_MANY: dict[str, tuple[frozenset[int], int]] = {
    "wecom": (frozenset({45009, 45033}), 60),
    "dingtalk": (frozenset({130101, 410100, 90030}), 600),
    "feishu": (frozenset({9499, 11232}), 60),
}
_HINTS = {
    ("wecom", 93000): "the robot's address is wrong, or the robot was removed",
    ("dingtalk", 300001): "the robot's address is wrong, or the robot was removed",
    ("dingtalk", 310000): "the robot's security settings refuse it: keyword, signature or IP list",
    ("feishu", 19001): "the robot's address is wrong, or the robot was removed",
    ("feishu", 19021): "the signature is wrong: check the secret, and this server's clock",
    ("feishu", 19022): "this server's address is not on the robot's IP list",
    ("feishu", 19024): "the robot wants a keyword: set Agrigate",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One POST to a robot."""

    url: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a message ended; ``retry_after_s``: the target asks for that much quiet."""

    delivered: bool
    status_code: int | None = None
    error: str = ""
    retry_after_s: float | None = None


def request(kind: str, robot: Robot, document: Document, now_ms: int) -> Request:
    """Return what to send."""
    return {"wecom": _wecom, "dingtalk": _dingtalk, "feishu": _feishu}[kind](
        robot, document, now_ms
    )


def outcome(kind: str, answer: Answer) -> Outcome:
    """Return what an answer means; a 200 without a code of success is a failure."""
    status = answer.status_code
    codes, quiet_s = TOO_MANY[kind]
    if status is None:
        return Outcome(delivered=False, error=answer.error)
    code, said = _code(answer.response)
    shown = f"{code}: {said}"[:300] if code is not None else ""
    throttled = status in {429, 503} or code in codes
    if 200 <= status < 300 and code == 0:
        return Outcome(delivered=True, status_code=status)
    if not shown:
        shown = f"HTTP {status}, and not the answer of a {kind} robot"
    if hint := _HINTS.get((kind, code or 0)):
        shown = f"{shown} ({hint})"
    wait_s = _seconds(answer.retry_after, quiet_s) if throttled else None
    return Outcome(delivered=False, status_code=status, error=shown, retry_after_s=wait_s)


def dingtalk_sign(secret: str, timestamp_ms: int) -> str:
    """Return DingTalk's signature: HMAC-SHA256 keyed with the secret, over the time and the secret; base64."""
    text = f"{timestamp_ms}\n{secret}".encode()
    return base64.b64encode(hmac.digest(secret.encode(), text, hashlib.sha256)).decode()


def feishu_sign(secret: str, timestamp_s: int) -> str:
    """Return Feishu's signature: HMAC-SHA256 of nothing, keyed with the time and the secret; base64."""
    key = f"{timestamp_s}\n{secret}".encode()
    return base64.b64encode(hmac.digest(key, b"", hashlib.sha256)).decode()


def _wecom(robot: Robot, document: Document, _now_ms: int) -> Request:
    body = {"msgtype": "markdown", "markdown": {"content": document.markdown()}}
    return Request(robot.url, msgspec.json.encode(body))


def _dingtalk(robot: Robot, document: Document, now_ms: int) -> Request:
    url = robot.url
    if robot.secret:
        signed = {"timestamp": now_ms, "sign": dingtalk_sign(robot.secret, now_ms)}
        url = f"{url}{'&' if '?' in url else '?'}{urlencode(signed)}"
    body = {
        "msgtype": "markdown",
        "markdown": {"title": document.title, "text": document.markdown("  \n")},
        "at": {"isAtAll": False},
    }
    return Request(url, msgspec.json.encode(body))


def _feishu(robot: Robot, document: Document, now_ms: int) -> Request:
    paragraphs = [
        [_feishu_line(line.text, line.url)]
        for number, block in enumerate(document.blocks)
        for line in (*((_EMPTY,) if number else ()), *block)
    ]
    post = {"zh_cn": {"title": document.title, "content": paragraphs}}
    body: dict[str, object] = {"msg_type": "post", "content": {"post": post}}
    if robot.secret:
        seconds = now_ms // 1000
        body |= {"timestamp": str(seconds), "sign": feishu_sign(robot.secret, seconds)}
    return Request(robot.url, msgspec.json.encode(body))


def _feishu_line(text: str, url: str) -> dict[str, str]:
    if url:
        return {"tag": "a", "text": text, "href": url}
    return {"tag": "text", "text": text}


def _code(body: str) -> tuple[int | None, str]:
    """Return the code and the words of an answer, None when it holds no code."""
    try:
        answer = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None, ""
    for name in ("errcode", "code", "StatusCode"):
        code = answer.get(name)
        if isinstance(code, int) and not isinstance(code, bool):
            said = next(
                (answer[key] for key in ("errmsg", "msg", "StatusMessage") if key in answer), ""
            )
            return code, str(said)
    return None, ""


def _seconds(retry_after: str, at_least_s: int) -> float:
    return max(float(retry_after), at_least_s) if retry_after.isdigit() else float(at_least_s)
