"""What robots are sent and what their answers mean. Expected signatures: openssl dgst -sha256 -hmac."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from alerts.delivery.schedule import Answer
from alerts.people.document import Document, Line, fitted
from alerts.people.kinds import BOUNDS, Robot
from alerts.people.robots import dingtalk_sign, feishu_sign, outcome, request

DOCUMENT = Document(
    "Agrigate 告警", ((Line("豇豆"), Line("查看告警", "https://nj.example/alerts/1")),)
)


def answered(body, status=200, retry_after=""):
    return Answer(
        0,
        1,
        status,
        "",
        body if isinstance(body, str) else msgspec.json.encode(body).decode(),
        retry_after,
    )


def test_signatures_are_those_of_the_makers():
    assert (
        dingtalk_sign("this is secret", 1_599_360_473_000)
        == "hXZTWifRGHclNuZSKxoXc//sh51SWfVfRIhcdeKs63I="
    )
    assert (
        feishu_sign("this is secret", 1_599_360_473)
        == "/eYKrXQBzTjUZJ3s6NX16VxGbTwmK7AEs8/FnvC1CSw="
    )


def test_dingtalk_is_signed_in_its_address_and_mentions_nobody():
    robot = Robot(
        url="https://oapi.dingtalk.com/robot/send?access_token=a", secret="this is secret"
    )
    made = request("dingtalk", robot, DOCUMENT, 1_599_360_473_000)
    query = parse_qs(urlsplit(made.url).query)
    assert query["sign"] == ["hXZTWifRGHclNuZSKxoXc//sh51SWfVfRIhcdeKs63I="]
    assert query["timestamp"] == ["1599360473000"]
    body = msgspec.json.decode(made.body)
    assert body["at"] == {"isAtAll": False}
    assert "[查看告警](https://nj.example/alerts/1)" in body["markdown"]["text"]


def test_feishu_is_signed_in_its_body_and_has_no_markup():
    robot = Robot(url="https://open.feishu.cn/open-apis/bot/v2/hook/x", secret="this is secret")
    body = msgspec.json.decode(request("feishu", robot, DOCUMENT, 1_599_360_473_500).body)
    assert body["timestamp"] == "1599360473"
    assert body["sign"] == "/eYKrXQBzTjUZJ3s6NX16VxGbTwmK7AEs8/FnvC1CSw="
    assert body["content"]["post"]["zh_cn"]["content"] == [
        [{"tag": "text", "text": "豇豆"}],
        [{"tag": "a", "text": "查看告警", "href": "https://nj.example/alerts/1"}],
    ]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("wecom", {"errcode": 0, "errmsg": "ok"}),
        ("dingtalk", {"errcode": 0, "errmsg": "ok"}),
        ("feishu", {"code": 0, "msg": "success"}),
        ("feishu", {"StatusCode": 0, "StatusMessage": "success"}),
    ],
)
def test_only_the_code_of_success_is_success(kind, body):
    assert outcome(kind, answered(body)).delivered


@pytest.mark.parametrize(
    ("kind", "body", "wait_s"),
    [
        ("wecom", {"errcode": 45009, "errmsg": "api freq out of limit"}, 60),
        ("dingtalk", {"errcode": 130101, "errmsg": "send too fast"}, 600),
        ("feishu", {"code": 9499, "msg": "too many request"}, 60),
        ("feishu", {"code": 11232, "msg": "frequency limited"}, 60),
        ("wecom", {"errcode": 93000, "errmsg": "invalid webhook url"}, None),
        ("dingtalk", {"errcode": 310000, "errmsg": "sign not match"}, None),
        ("feishu", {"code": 19021, "msg": "sign match fail"}, None),
        ("feishu", {"code": 19024, "msg": "Key Words Not Found"}, None),
        ("wecom", {"errcode": False}, None),
        ("wecom", {"errmsg": "ok"}, None),
        ("wecom", "<html>login</html>", None),
        ("wecom", "", None),
        ("wecom", "[0]", None),
    ],
)
def test_a_200_with_anything_else_is_a_failure(kind, body, wait_s):
    """D7."""
    result = outcome(kind, answered(body))
    assert not result.delivered
    assert result.status_code == 200
    assert result.error
    assert result.retry_after_s == wait_s


def test_a_status_of_failure_wins_over_a_code_of_success():
    assert not outcome("wecom", answered({"errcode": 0}, 502)).delivered
    assert outcome("wecom", answered({}, 429, "120")).retry_after_s == 120
    assert outcome("wecom", answered({}, 429, "soon")).retry_after_s == 60
    assert outcome("wecom", Answer(0, 1, None, "TimeoutError")).error == "TimeoutError"


@pytest.mark.parametrize("kind", ["wecom", "dingtalk", "feishu"])
@pytest.mark.parametrize("words", ["长" * 80, '"' * 80, "a" * 400])
def test_a_message_is_within_the_size_that_the_robot_takes(kind, words):
    blocks = [(Line(words), Line(words), Line("查看", "https://nj.example/alerts/1"))] * 500
    made = fitted(
        "题" * 60, blocks, 500, BOUNDS[kind].size, lambda more: (Line(f"…另有 {more} 条"),)
    )
    sent = request(kind, Robot(url="https://x.example/", secret="s"), made, 1)
    assert len(sent.body) <= 20_000
    if kind == "wecom":
        assert len(made.markdown().encode()) <= 4096
    assert 0 < made.told < 500
    assert made.blocks[-1][0].text == f"…另有 {500 - made.told} 条"


def test_one_alert_that_is_too_long_is_cut_and_not_left_out():
    made = fitted("t", [(Line("长" * 5000), Line("b"))], 1, 4000, lambda more: (Line(str(more)),))
    assert made.told == 1
    assert len(made.markdown().encode()) <= 4096
