"""``[store]``: which store, and every fault at once."""

from __future__ import annotations

import pytest

from dashboards import server_config
from drivers.errors import ConfigError

CONFIG = """
[server]
data_dir = "data"
[broker]
host = "127.0.0.1"
port = 1883
open = true
[registry]
file = "registry.toml"
"""


@pytest.fixture
def load(tmp_path):
    def run(store: str) -> server_config.ServerConfig:
        for name in ("token", "password"):
            (tmp_path / name).touch(mode=0o600)
            (tmp_path / name).write_text("secret\n")
        file = tmp_path / "server.toml"
        file.write_text(CONFIG + store)
        return server_config.load(file)

    return run


def faults(load, store: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(f"[store]\n{store}")
    return [fault.partition("[store]: ")[2] for fault in caught.value.faults]


def test_without_a_table_duckdb_keeps_readings(load):
    assert load("").store is None
    assert load('[store]\nkind = "duckdb"').store is None


def test_version_2_and_version_1(load):
    two = load(
        '[store]\nkind="influxdb"\nurl="http://10.0.0.1:8086/"\nbucket="b"\norg="o"\ntoken_file="token"'
    )
    assert two.store is not None
    assert (two.store.url, two.store.wanted_bucket, two.store.asked_database) == (
        "http://10.0.0.1:8086",
        "b",
        "b",
    )
    assert (two.store.token, two.store.gzip, two.store.timeout_s) == ("secret", True, 10)
    assert "readable to 10.0.0.1" in two.warnings[-1]
    one = load(
        '[store]\nkind="influxdb"\nurl="http://127.0.0.1:8086"\ndatabase="d"\nretention_policy="r"\n'
        'username="u"\npassword_file="password"\ngzip=false\ntimeout_s=3'
    )
    assert one.store is not None
    assert (one.store.wanted_bucket, one.store.asked_database, one.store.password) == (
        "d/r",
        "d",
        "secret",
    )
    assert not any("[store]" in warning for warning in one.warnings)


def test_all_faults_at_once(load):
    found = faults(
        load,
        'kind="influxdb"\nurl="influx:8086"\ntoken_file="token"\nusername="u"\nca_file="no.crt"',
    )
    assert [fault.split(":")[0] for fault in found] == [
        "url", "bucket", "token_file", "username", "ca_file"
    ]  # fmt: skip
    assert faults(load, 'kind="influxdb"\nurl="http://u:p@h"\nbucket="b"')[0].startswith(
        "url: holds a password"
    )
    assert faults(load, 'url="http://h"\nbucket="b"') == [
        'url: needs kind = "influxdb"',
        'bucket: needs kind = "influxdb"',
    ]
    assert (
        "timeout_s" in faults(load, 'kind="influxdb"\nurl="http://h"\nbucket="b"\ntimeout_s=0')[0]
    )
