"""``agrigate deploy mosquitto`` asking a running server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from agrigate import main
from ingest.broker.pki import Authority

ANSWER = {
    "credentials": [{"username": "hl-001", "password_hash": "$7$101$salt$hash"}],
    "revoked_serials": ["abc"],
}


class Server(HTTPServer):
    status = 200
    body = json.dumps(ANSWER).encode()
    asked: tuple[str, str | None] | None = None


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked = (self.path, self.headers["X-API-Key"])
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server():
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def deploy(tmp_path, server):
    config = tmp_path / "server.toml"
    config.write_text(
        f'[server]\ndata_dir = "data"\nport = {server.server_port}\napi_key_file = "api-key"\n'
    )
    (tmp_path / "api-key").write_text("agk_key\n")

    def deploy(*options: str):
        argv = ["deploy", "mosquitto", "-c", str(config), "--out", str(tmp_path / "out")]
        argv += ["--host", "mqtt.county.example", "--user", tmp_path.owner(), *options]
        return CliRunner().invoke(main, argv, catch_exceptions=False)

    return deploy


def test_the_running_server_is_asked_with_the_key(deploy, server, tmp_path):
    done = deploy()
    assert done.exit_code == 0, done.output
    assert server.asked == ("/api/v1/broker/credentials", "agk_key")
    assert "stations let in: hl-001" in done.output
    assert "hl-001:$7$101$salt$hash\n" in (tmp_path / "out" / "agrigate.passwd").read_text()
    assert Authority.open(tmp_path / "data" / "pki").revoked() == {"abc"}
    assert not (tmp_path / "data" / "operational.db").exists()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b'{"detail": "this API key is not valid"}', "401: this API key is not valid"),
        (200, b"<html>", "is no Agrigate server"),
        (200, b"[]", "is no Agrigate server"),
        (200, b'{"credentials": 7}', "is no Agrigate server"),
    ],
)
def test_an_answer_that_is_none_writes_nothing(deploy, server, tmp_path, status, body, said):
    server.status, server.body = status, body
    done = deploy()
    assert done.exit_code == 1
    assert said in done.output
    assert not (tmp_path / "out").exists()


def test_a_key_or_a_server_that_is_missing_is_said(deploy, tmp_path):
    (tmp_path / "api-key").unlink()
    done = deploy()
    assert done.exit_code == 1
    assert "before that use --offline" in done.output
    config = tmp_path / "server.toml"
    config.write_text('[server]\ndata_dir = "data"\n')
    assert "api_key_file: is needed" in deploy().output
    config.write_text('[server]\ndata_dir = "data"\nport = 1\napi_key_file = "server.toml"\n')
    assert "does the server run? When it is stopped, use --offline" in deploy().output


def test_a_user_that_is_not_here_is_left_to_a_person(deploy):
    done = deploy("--user", "nobody-of-that-name")
    assert done.exit_code == 0
    assert "chown nobody-of-that-name " in done.output


def test_a_wrong_configuration_is_said(deploy, tmp_path):
    (tmp_path / "server.toml").write_text("[server]\nport = 0\n")
    done = deploy()
    assert done.exit_code == 1
    assert "[server]: data_dir: is missing" in done.output
    (tmp_path / "server.toml").write_text("[server\n")
    assert "cannot be read" in deploy().output
