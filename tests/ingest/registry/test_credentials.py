"""Who the broker lets in: the hash is mosquitto's own, the row is one per name."""

from __future__ import annotations

import base64
import subprocess

import pytest
import sqlalchemy as sa
from paho.mqtt import MQTTException, publish

from ingest import tables
from ingest.operational import Operational
from ingest.registry import credentials
from ingest.registry.credentials import Credential, hash_password, new_password
from tests.conftest import Mosquitto, require


@pytest.fixture
def operational(tmp_path, databases):
    operational = Operational(databases.url(tmp_path / "operational.db"))
    operational.migrate()
    with operational.write() as db:
        for code in ("hl-001", "hl-002"):
            db.execute(
                sa.insert(tables.stations).values(code=code, name=code, region_code="640122")
            )
    yield operational
    operational.close()


def test_the_hash_is_what_mosquitto_passwd_writes(tmp_path):
    file = tmp_path / "passwd"
    file.touch(mode=0o600)
    password = new_password()
    subprocess.run(
        [require("mosquitto_passwd"), "-b", str(file), "hl-001", password],
        check=True,
        capture_output=True,
    )
    name, written = file.read_text().strip().split(":")
    _, kind, iterations, salt, _ = written.split("$")
    assert (name, kind, iterations) == ("hl-001", "7", str(credentials.ITERATIONS))
    raw = base64.b64decode(salt)
    assert len(raw) == credentials.SALT_BYTES
    assert hash_password(password, raw) == written


def test_mosquitto_lets_in_by_our_hash(tmp_path):
    password = new_password()
    (tmp_path / "passwd").write_text(f"hl-001:{hash_password(password)}\n")
    (tmp_path / "passwd").chmod(0o644)
    broker = Mosquitto(
        require("mosquitto"),
        tmp_path,
        f"allow_anonymous false\npassword_file {tmp_path / 'passwd'}\nuser root",
    )
    broker.start()
    try:
        assert [
            publishes(broker, word) for word in (password, password[:-1], hash_password(password))
        ] == [
            True,
            False,
            False,
        ]
    finally:
        broker.kill()


def publishes(broker: Mosquitto, password: str) -> bool:
    login = {"username": "hl-001", "password": password}
    try:
        publish.single("t", port=broker.port, hostname="127.0.0.1", auth=login)
    except MQTTException:
        return False
    return True


def test_two_passwords_are_never_alike():
    assert len({new_password() for _ in range(100)}) == 100
    assert len(new_password()) == 32
    assert hash_password("x") != hash_password("x")


def test_of_one_name_the_last_credential_stands(operational):
    with operational.write() as db:
        for number, name in enumerate(("hl-001", "hl-002", "hl-001")):
            credentials.put(
                db,
                Credential(
                    username=name, station=name, password_hash=f"h{number}", created_ms=number
                ),
            )
        credentials.put(
            db, Credential(username="agri_ingest", station=None, password_hash="h", created_ms=1)
        )
    with operational.read() as db:
        assert [(one.username, one.password_hash) for one in credentials.standing(db)] == [
            ("agri_ingest", "h"),
            ("hl-001", "h2"),
            ("hl-002", "h1"),
        ]


def test_a_revoked_credential_does_not_stand_but_is_known(operational):
    with operational.write() as db:
        credentials.put(
            db,
            Credential(
                username="hl-001",
                station="hl-001",
                password_hash="h",
                certificate_serial="ab",
                created_ms=1,
            ),
        )
        credentials.revoke(db, "hl-001", 5)
        credentials.revoke(db, "hl-001", 9)
    with operational.read() as db:
        assert credentials.standing(db) == []
        known = credentials.find(db, "hl-001")
        assert known is not None
        assert (known.revoked_ms, known.certificate_serial) == (5, "ab")
        assert credentials.find(db, "hl-003") is None
