"""Targets of the server's file: every fault in one go, secrets in files of their own, the table that follows."""

from __future__ import annotations

import tomllib

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from alerts.people.config import load_targets, sync_targets
from alerts.people.targets import load
from alerts.tables import administration_log, targets
from alerts.vault import Vault, VaultError
from drivers.errors import ConfigError
from tests.alerts.people.conftest import VAULT

FILE = """
[[target]]
id = "county-wecom"
kind = "wecom"
url_file = "wecom.url"
quiet = { from = "22:00", to = "07:00" }

[[target]]
id = "duty-mail"
kind = "smtp"
host = "mail.example"
port = 587
security = "starttls"
username = "agrigate"
password_file = "mail.password"
sender = "agrigate@nj.example"
to = ["duty@nj.example"]
language = "both"
operator = true
"""


@pytest.fixture
def read(tmp_path):
    (tmp_path / "wecom.url").write_text("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=k1\n")
    (tmp_path / "mail.password").write_text("s3cret\n")

    def from_toml(text=FILE):
        return load_targets(tomllib.loads(text)["target"], "server.toml", tmp_path)

    return from_toml


def test_targets_are_read_and_their_secrets_do_not_show(read):
    robot, mail = read()
    assert (robot.quiet, robot.rate_per_min, robot.trusted) == (
        {"from": "22:00", "to": "07:00"},
        18,
        True,
    )
    assert (mail.settings.password, mail.operator, mail.language) == ("s3cret", True, "both")
    shown = f"{robot!r} {mail!r} {robot.shown()} {mail.shown()}"
    for secret in ("k1", "s3cret", "duty@"):
        assert secret not in shown


def test_every_fault_is_reported(read):
    text = """
[[target]]
id = "a"
kind = "pigeon"
[[target]]
id = "b"
kind = "wecom"
url_file = "nowhere"
[[target]]
id = "c"
kind = "dingtalk"
url_file = "wecom.url"
rate_per_min = 21
[[target]]
id = "d"
kind = "wecom"
url_file = "wecom.url"
quiet = { from = "25:00", to = "07:00" }
[[target]]
id = "e"
kind = "smtp"
[[target]]
id = "f"
kind = "feishu"
[[target]]
id = "g"
kind = "wecom"
url_file = "wecom.url"
colour = "red"
"""
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert len(caught.value.faults) == 7
    for name, fault in zip("abcdefg", caught.value.faults, strict=True):
        assert fault.startswith(f"server.toml: [[target]] {name}:")


def test_the_table_follows_the_file(operational, read):
    configured = read()
    sync_targets(operational, configured, VAULT)
    sync_targets(operational, configured, VAULT)
    with operational.read() as connection:
        assert [one.version for one in load(connection, VAULT)] == [1, 1]
        sealed = connection.scalars(sa.select(targets.c.settings)).all()
    assert not any("key=k1" in text or "s3cret" in text for text in sealed)
    sync_targets(operational, configured[1:], VAULT)
    with operational.read() as connection:
        assert [one.id for one in load(connection, VAULT, active=True)] == ["duty-mail"]
        assert len(load(connection, VAULT)) == 2


def test_another_master_key_opens_nothing_and_the_file_mends_it(operational, read):
    sync_targets(operational, read(), VAULT)
    other = Vault(Fernet.generate_key())
    with operational.read() as connection, pytest.raises(VaultError):
        load(connection, other)
    sync_targets(operational, read(), other)
    with operational.read() as connection:
        assert len(load(connection, other)) == 2
        assert connection.execute(sa.select(administration_log)).all() == []
