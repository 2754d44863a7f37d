"""What each answer of an InfluxDB means, from a server that gives it; and how each version is spoken to."""

from __future__ import annotations

import base64
import ssl
import threading
import time
from email.utils import formatdate

import pytest

from ingest.store.influx.errors import (
    SLOWLY_S,
    RefusedError,
    RejectedError,
    TooLargeError,
    UnavailableError,
    pause_s,
)
from ingest.store.influx.login import InfluxLogin
from ingest.store.influx.server import InfluxServer
from tests.certificates import Authority
from tests.conftest import free_port
from tests.ingest.store.influx.answering import Answer, answering

LINE = b"reading,station=a v=1 0\n"


def spoken(url: str, **login) -> InfluxServer:
    return InfluxServer(InfluxLogin(url=url, **{"bucket": "farm", "timeout_s": 2.0, **login}))


def write_to(answer: Answer) -> None:
    with answering(lambda _: answer) as web:
        server = spoken(web.url)
        try:
            server.write(LINE)
        finally:
            server.close()


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            Answer(400, b'{"error":"unable to parse \'x\': missing fields"}'),
            RejectedError,
            "unable to parse 'x': missing fields",
        ),
        (
            Answer(422, b'{"code":"unprocessable entity","message":"field type conflict"}'),
            RejectedError,
            "field type conflict",
        ),
        (Answer(401, b'{"message":"unauthorized access"}'), RefusedError, "put the right one into its file"),
        (Answer(403, b'{"error":"user is not authorized"}'), RefusedError, "needs to read and to write"),
        (Answer(404, b'{"message":"bucket \\"farm\\" not found"}'), RefusedError, "create it, or name the right one"),
        (Answer(404, b"404 page not found"), RefusedError, "no InfluxDB answers there"),
        (Answer(200, b"<html>welcome</html>"), RefusedError, "no InfluxDB answers there"),
        (Answer(302, b"", {"Location": "/login"}), RefusedError, "is an InfluxDB behind that address"),
        (Answer(413, b"<html>Too Large</html>"), TooLargeError, "Too Large"),
        (Answer(500, b'{"error":"timeout"}'), UnavailableError, "overloaded"),
        (Answer(502, b"<html>Bad Gateway</html>"), UnavailableError, "502"),
        (Answer(503, b'{"error":"engine is closed"}'), UnavailableError, "engine is closed"),
        (Answer(0), UnavailableError, "http://127.0.0.1"),
    ],
)  # fmt: skip
def test_what_an_answer_to_a_write_means(answer, kind, said):
    with pytest.raises(kind, match=said) as caught:
        write_to(answer)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert (pause_s(caught.value) == SLOWLY_S) == (kind is RefusedError)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("after", "low_s", "high_s"),
    [("7", 7, 7), (None, 0, 0), ("soon", 0, 0), ("-3", 0, 0), ("1e9", 600, 600), ("date", 25, 31)],
)
def test_retry_after_is_honoured(status, after, low_s, high_s):
    if after == "date":
        after = formatdate(time.time() + 30, usegmt=True)
    with pytest.raises(UnavailableError) as caught:
        write_to(Answer(status, b"", {"Retry-After": after} if after else {}))
    assert low_s <= pause_s(caught.value) <= high_s


def test_a_server_that_is_not_there_and_one_that_says_nothing():
    server = spoken(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError, match=r"^http://127.0.0.1:\d+: .*refused"):
        server.write(LINE)
    server.close()
    silent = threading.Event()
    with answering(lambda _: Answer(204) if silent.wait(20) else None) as web:
        server = spoken(web.url, timeout_s=0.2)
        with pytest.raises(UnavailableError, match="timed out"):
            server.write(LINE)
        silent.set()
        server.close()


def test_tls_is_checked(tmp_path):
    ours, theirs = Authority(), Authority()
    for name, text in (("ca", theirs.pem), ("other", ours.pem)):
        (tmp_path / name).write_text(text)
    signed = theirs.sign("influx", hosts=("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*signed.write(tmp_path, "server"))
    with answering(lambda _: Answer(204)) as web:
        web.socket = context.wrap_socket(web.socket, server_side=True)
        url = web.url.replace("http", "https")
        server = spoken(url, ca_file=tmp_path / "other")
        with pytest.raises(RefusedError, match=r"TLS failed: .*check ca_file"):
            server.write(LINE)
        server.close()
        server = spoken(url, ca_file=tmp_path / "ca")
        server.write(LINE)
        server.close()


def test_what_each_version_is_sent():
    with answering(lambda _: Answer(204)) as web:
        server = spoken(web.url, org="county", token="secret")
        server.write(LINE)
        server.close()
        [request] = web.requests
        assert request.path == "/api/v2/write"
        assert request.query == {"org": "county", "bucket": "farm", "precision": "ms"}
        assert request.headers["authorization"] == "Token secret"
        assert (request.headers["content-encoding"], request.body) == ("gzip", LINE)
        web.requests.clear()
        server = spoken(web.url, bucket="", database="farm", retention_policy="ever",
                        username="u", password="p:w", gzip=False)  # fmt: skip
        server.write(LINE)
        server.close()
        [request] = web.requests
        assert request.query["bucket"] == "farm/ever"
        assert request.headers["authorization"] == f"Basic {base64.b64encode(b'u:p:w').decode()}"
        assert "content-encoding" not in request.headers


def test_a_server_older_than_1_8_is_written_to_in_its_own_way():
    def old(request):
        return Answer(204) if request.path == "/write" else Answer(404, b"404 page not found\n")

    with answering(old) as web:
        server = spoken(web.url, bucket="", database="farm", retention_policy="ever")
        server.write(LINE)
        server.write(LINE)
        server.close()
        assert [r.path for r in web.requests] == ["/api/v2/write", "/write", "/write"]
        assert web.requests[-1].query == {"db": "farm", "rp": "ever", "precision": "ms"}
        assert web.requests[-1].body == LINE


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b'{"results":[{"statement_id":0,"error":"database not found: farm"}]}', RefusedError, "create it"),
        (b'{"error":"error authorizing query: no user"}', RefusedError, "error authorizing"),
        (b'{"results":[{"error":"query-timeout limit exceeded"}]}', UnavailableError, "query-timeout"),
        (b'{"results":[{"series":[{"columns":["t"],"values":[["x"]]}]}]}', UnavailableError, "that is none"),
        (b"<html>", UnavailableError, "that is none"),
    ],
)  # fmt: skip
def test_what_an_answer_to_a_question_means(body, kind, said):
    with answering(lambda _: Answer(200, body)) as web:
        server = spoken(web.url)
        with pytest.raises(kind, match=said):
            server.ask("SELECT 1", tuple[int])
        server.close()


def test_no_secret_is_shown():
    login = InfluxLogin(url="http://x", token="topsecret", password="topsecret")
    assert "topsecret" not in repr(login)


def test_an_answer_in_chunks_is_one():
    one = '{"results":[{"series":[{"tags":{"a":"%s"},"columns":["time"],"values":[[%d]],"partial":true}]}]}\n'
    body = "".join(one % pair for pair in (("x", 1), ("x", 2), ("y", 3))).encode()
    with answering(lambda _: Answer(200, body)) as web:
        server = spoken(web.url)
        tables = server.ask("SELECT 1", tuple[int])
        server.close()
        assert web.requests[0].query["chunked"] == "true"
    assert [(table.tags, table.rows) for table in tables] == [
        ({"a": "x"}, [(1,), (2,)]),
        ({"a": "y"}, [(3,)]),
    ]


@pytest.mark.parametrize("user", ["", "agrigate"])
def test_a_new_token_or_password_in_its_file_is_taken_without_a_restart(tmp_path, user):
    file, old, new = tmp_path / "secret", "old", "new"
    file.write_text(f"{old}\n")
    token = base64.b64encode(f"{user}:{new}".encode()).decode() if user else new

    def locked(request):
        good = request.headers["authorization"].endswith(f" {token}")
        return Answer(204) if good else Answer(401, b'{"message":"unauthorized access"}')

    secret = {"username": user, "password": old} if user else {"token": old}
    with answering(locked) as web:
        server = spoken(web.url, **secret, secret_file=file)
        for _ in range(2):
            with pytest.raises(RefusedError, match="put the right one into its file"):
                server.write(LINE)
        assert len(web.requests) == 2  # the same one is not tried twice
        file.write_text(f"{new}\n")
        server.write(LINE)
        server.write(LINE)
        assert len(web.requests) == 2 + 2 + 1
        server.close()
