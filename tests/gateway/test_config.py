from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers.errors import ConfigError
from drivers.registry import DRIVERS
from drivers.session import Driver
from gateway import config
from gateway.broker import LoginTable
from tests.certificates import Authority, Signed
from tests.gateway.test_broker import enrolment

if TYPE_CHECKING:
    from collections.abc import Mapping

GOOD = """
[agent]
data_dir = "data"
[broker]
host = "127.0.0.1"
port = 1883
[[station]]
code = "hl-001"
[[station.device]]
path = "plot3/soil1"
driver = "modbus"
host = "127.0.0.1"
port = 5020
unit_id = 1
model = "renke_soil_7in1"
poll_interval_s = 5.0
timeout_s = 1.0
"""


def faults(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "edge.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    assert all(fault.startswith(str(tmp_path)) for fault in caught.value.faults)
    return [fault.removeprefix(f"{file}: ") for fault in caught.value.faults]


def test_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret-w0rd\n")
    file = tmp_path / "edge.toml"
    file.write_text(
        GOOD.replace(
            "port = 1883",
            'port = 1883\nusername = "hl"\npassword_file = "secret"\nallow_plaintext = true',
        )
        + "[spool]\ncap_mb = 64\n"
    )
    edge = config.load(file)
    assert edge.data_dir == tmp_path / "data"
    assert edge.spool_cap_bytes == 64 * 1024 * 1024
    assert "s3cret" not in repr(edge)
    (station,) = edge.stations
    assert (station.broker.username, station.broker.password) == ("hl", "s3cret-w0rd")
    assert station.broker.tls is None
    assert station.code == "hl-001"
    assert [device.config.path for device in station.devices] == ["plot3/soil1"]
    assert config.data_dir(file) == edge.data_dir


def test_the_sample_is_good_and_has_every_key() -> None:
    sample = Path(__file__).parents[2] / "gateway" / "sample.toml"
    edge = config.load(sample)
    assert [device.driver.name for device in edge.stations[0].devices] == ["modbus", "slip"]
    tables = tomllib.loads(sample.read_text(encoding="utf-8"))
    for name, kind in [
        ("agent", config.Agent),
        ("broker", LoginTable),
        ("spool", config.SpoolSize),
    ]:
        assert set(tables[name]) == set(kind.__struct_fields__)


def test_the_spool_has_a_default(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(GOOD)
    assert config.load(file).spool_cap_bytes == 512 * 1024 * 1024


STATION = GOOD[GOOD.index("[[station]]") :]
HEAD = GOOD[: GOOD.index("[[station]]")]
SECOND_DEVICE = STATION[STATION.index("[[station.device]]") :]

SLIP = """
[[station.device]]
path = "tester1"
driver = "slip"
serial = "/dev/ttyUSB0"
baud = 9600
charset = "gbk"
[station.device.defaults]
method = "enzyme_inhibition"
"""


def broker(more: str) -> str:
    return GOOD.replace("port = 1883", f"port = 1883\n{more}")


def enrolled(file: str) -> str:
    return GOOD.replace('code = "hl-001"', f'code = "hl-001"\nenrolment = "{file}"')


CORPUS = [
    ("unknown table", GOOD + "[brokr]\n", ["[brokr]", "did you mean broker"]),
    ("unknown key", GOOD.replace("host", "hots", 1), ["[broker]", "hots", "did you mean host"]),
    ("missing table", GOOD.replace("[agent]\ndata_dir", "[spool]\ncap_md"), ["[agent]", "data_dir", "missing"]),
    ("missing host", GOOD.replace('host = "127.0.0.1"\n', "", 1), ["[broker]", "host", "missing"]),
    ("port range", GOOD.replace("1883", "70000"), ["[broker]", "port", "65535"]),
    ("port type", GOOD.replace("1883", '"1883"'), ["[broker]", "port", "int"]),
    ("no such password file", broker('username = "u"\npassword_file = "nope"'), ["[broker]", "password_file", "nope"]),
    ("password without user", broker('password_file = "edge.toml"'), ["[broker]", "username", "missing"]),
    ("behaviour 12: username without TLS", broker('username = "u"'), ["[broker]", "ca_file", "allow_plaintext"]),
    ("no such CA", broker('ca_file = "nope"'), ["[broker]", "ca_file", "nope", "cannot be read"]),
    ("CA is no PEM", broker('ca_file = "edge.toml"'), ["[broker]", "ca_file", "no certificate in PEM"]),
    ("key without CA", broker('key_file = "edge.toml"'), ["[broker]", "key_file", "needs ca_file"]),
    ("MQTT version", broker('protocol = "4"'), ["[broker]", "protocol", "4"]),
    ("no such enrolment", enrolled("nope.toml"), ["nope.toml", "no such file"]),
    ("enrolment is no name", enrolled("x").replace('"x"', "1"), ["station hl-001", "enrolment"]),
    ("plain password", broker('password = "x"'), ["[broker]", "password", "password_file"]),
    ("cap", GOOD + "[spool]\ncap_mb = 0\n", ["[spool]", "cap_mb"]),
    ("no station", HEAD, ["[station]", "code", "[[station]]"]),
    ("station is a table", HEAD + '[station]\ncode = "hl-001"\n', ["station", "[[station]]"]),
    ("slash in a code", GOOD.replace("hl-001", "hl/001"), ["[station hl/001]", "code", "'hl/001'"]),
    ("upper case", GOOD.replace("hl-001", "HL-001"), ["[station HL-001]", "code", "a-z"]),
    ("short code", GOOD.replace("hl-001", "hl"), ["[station hl]", "code", "3 to 40"]),
    ("no code", GOOD.replace('code = "hl-001"\n', ""), ["[station #1]", "code", "missing"]),
    ("code twice", GOOD + STATION.replace("5020", "5021"), ["[station hl-001]", "code", "2 times"]),
    ("station key", GOOD.replace("code =", "cod ="), ["[station #1]", "cod", "did you mean code"]),
    ("path twice", GOOD + SECOND_DEVICE, ["device plot3/soil1]", "path", "2 times"]),
    ("bad path", GOOD.replace("plot3/soil1", "/plot3"), ["device /plot3]", "path"]),
    ("no path", GOOD.replace('path = "plot3/soil1"\n', ""), ["[station hl-001, device #1]", "path", "missing"]),
    ("no driver", GOOD.replace('driver = "modbus"\n', ""), ["device plot3/soil1]", "driver", "missing", "modbus"]),
    ("unknown driver", GOOD.replace('"modbus"', '"modbuss"'), ["soil1]", "driver", "did you mean modbus"]),
    ("unknown device key", GOOD.replace("unit_id", "unitid"), ["soil1]", "unitid", "did you mean unit_id"]),
    ("station in a device", GOOD + 'station = "x"\n', ["device plot3/soil1]", "station", "leave it out"]),
    ("two on one port", GOOD + SLIP + SLIP.replace("tester1", "tester2"), ["tester2]", "path", "one instrument"]),
    ("bad baud", GOOD + SLIP.replace("9600", "9601"), ["device tester1]", "baud"]),
    ("unit id", GOOD.replace("unit_id = 1", "unit_id = 300"), ["device plot3/soil1]", "unit_id", "255"]),
    ("unknown model", GOOD.replace("renke_soil_7in1", "renke_soil_9in9"), ["device plot3/soil1]", "model"]),
    ("not TOML", "[agent\n", ["not TOML", "line 1"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fragments"), [case[1:] for case in CORPUS], ids=[c[0] for c in CORPUS]
)
def test_each_fault_names_table_field_and_what_to_do(
    tmp_path: Path, text: str, fragments: list[str]
) -> None:
    found = faults(tmp_path, text)
    assert any(all(fragment in fault for fragment in fragments) for fault in found), found


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    text = (
        GOOD.replace("hl-001", "HL/001")
        .replace("1883", "0")
        .replace("unit_id = 1", "unit_id = 300")
        .replace("timeout_s = 1.0", "timeout_s = -1")
        .replace("data_dir", "datadir")
    )
    found = "\n".join(faults(tmp_path, text))
    for field in ("datadir", "data_dir", "port", "code", "unit_id", "timeout_s"):
        assert field in found


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file"):
        config.load(tmp_path / "nowhere.toml")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_bytes(b"[agent]\ndata_dir = '\xff'\n")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 20"):
        config.load(file)


def test_the_data_dir_is_found_in_a_file_with_other_faults(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('[agent]\ndata_dir = "/var/lib/agrigate"\n[nonsense]\n')
    assert str(config.data_dir(file)) == "/var/lib/agrigate"


@dataclass(frozen=True)
class Wired:
    """A device on a serial line, as later drivers have them."""

    path: str
    bus: str
    baud: int
    poll_interval_s: float = 1.0


def wired(name: str) -> Driver:
    def parse(table: Mapping[str, object], _where: str) -> Wired:
        return Wired(str(table["path"]), str(table["line"]), int(str(table["baud"])))

    return Driver(name, parse=parse, polled=DRIVERS["modbus"].polled)


def test_devices_on_one_line_must_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DRIVERS, "rtu", wired("rtu"))
    monkeypatch.setitem(DRIVERS, "sdi", wired("sdi"))
    devices = "".join(
        f'[[station.device]]\npath = "{path}"\ndriver = "{driver}"\nline = "{line}"\nbaud = {baud}\n'
        for path, driver, line, baud in [
            ("a", "rtu", "ttyS0", 9600),
            ("b", "rtu", "ttyS0", 9600),
            ("c", "rtu", "ttyS0", 4800),
            ("d", "sdi", "ttyS0", 9600),
            ("e", "sdi", "ttyS1", 1200),
        ]
    )
    found = faults(tmp_path, GOOD + devices)
    assert len(found) == 2
    assert "device c]: baud: 4800 on ttyS0" in found[0]
    assert "device a] has 9600" in found[0]
    assert "device d]: driver: sdi on ttyS0" in found[1]


# ---- TLS and enrolment


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def with_tls(tmp_path: Path, authority: Authority, ours: Signed) -> str:
    (tmp_path / "ca.crt").write_text(authority.pem)
    certificate, key = ours.write(tmp_path, "hl-001")
    return broker(
        f'ca_file = "ca.crt"\ncertificate_file = "{certificate.name}"\nkey_file = "{key.name}"'
    )


def load(tmp_path: Path, text: str) -> config.EdgeConfig:
    file = tmp_path / "edge.toml"
    file.write_text(text, "utf-8")
    return config.load(file)


SECOND = """
[[station.device]]
path = "plot3/soil2"
driver = "modbus"
host = "127.0.0.1"
port = 5020
model = "renke_soil_7in1"
"""


def test_a_unit_id_of_the_map_must_be_free_on_the_bus(tmp_path: Path) -> None:
    where = "[station hl-001, device plot3/soil2]: unit_id: is missing; the map says 1, which on"
    assert faults(tmp_path, GOOD + SECOND) == [
        f"{where} tcp:127.0.0.1:5020 [station hl-001, device plot3/soil1] has too"
    ]
    file = tmp_path / "edge.toml"
    for good in (
        GOOD.replace("unit_id = 1", "unit_id = 2") + SECOND,
        GOOD + SECOND.replace("5020", "5021"),
        # Said for both: one controller may be two devices.
        GOOD + SECOND + "unit_id = 1\n",
    ):
        file.write_text(good)
        config.load(file)
    both = GOOD.replace("unit_id = 1\n", "") + SECOND
    assert [f.split(":")[0] for f in faults(tmp_path, both)] == [
        "[station hl-001, device plot3/soil1]",
        "[station hl-001, device plot3/soil2]",
    ]


def test_devices_on_one_converter_have_one_framing(tmp_path: Path) -> None:
    second = SECOND + 'unit_id = 2\nframing = "rtu"\n'
    (fault,) = faults(tmp_path, GOOD + second)
    assert fault.startswith("[station hl-001, device plot3/soil2]: framing: 'rtu' on tcp:127.0.0.1")


def test_what_a_map_leaves_open_names_file_table_and_key(tmp_path: Path) -> None:
    for model, key in (
        ("boqu_bh485_nh", "settings.water_ph.order"),
        ("iot_s300smt", "settings.soil_ec.scale"),
        ("qdy30a", "settings.water_level.unit"),
    ):
        text = GOOD.replace("renke_soil_7in1", model)
        assert (
            f"[station hl-001, device plot3/soil1]: {key}: is missing; "
            f"the map of {model} does not say it"
        ) in faults(tmp_path, text)


def test_certificates_of_the_broker_table(tmp_path: Path, authority: Authority) -> None:
    ours = authority.sign("hl-001")
    edge = load(tmp_path, with_tls(tmp_path, authority, ours))
    login = edge.stations[0].broker
    assert login.tls is not None
    assert login.tls.key_pem == ours.key_pem
    assert "PRIVATE" not in repr(edge)
    assert edge.warnings == ()


def test_a_key_that_does_not_fit_is_a_fault_of_its_field(
    tmp_path: Path, authority: Authority
) -> None:
    text = with_tls(tmp_path, authority, authority.sign("hl-001"))
    (tmp_path / "hl-001.key").write_text(authority.sign("other").key_pem)
    [fault] = faults(tmp_path, text)
    assert fault.startswith("[broker]: key_file: does not fit the certificate")


def test_an_expired_certificate_and_an_open_key_are_warnings(
    tmp_path: Path, authority: Authority
) -> None:
    text = with_tls(tmp_path, authority, authority.sign("hl-001", begins=-9, ends=-1))
    (tmp_path / "hl-001.key").chmod(0o644)
    said = load(tmp_path, text).warnings
    assert len(said) == 2
    assert "key_file" in said[0]
    assert "chmod 600" in said[0]
    assert "certificate_file: CN=hl-001 expired on" in said[1]


def test_an_enrolment_file_is_the_login_of_its_station(
    tmp_path: Path, authority: Authority
) -> None:
    file = tmp_path / "hl-001.enrolment.toml"
    file.write_text(enrolment(authority))
    file.chmod(0o600)
    text = enrolled(file.name)
    edge = load(tmp_path, text)
    assert edge.stations[0].broker.host == "mqtt.county.example"
    assert edge.warnings == ()
    # With an enrolment file for every station there need be no [broker].
    without = text[: text.index("[broker]")] + text[text.index("[[station]]") :]
    assert load(tmp_path, without).stations == edge.stations


def test_enrolment_of_another_station_is_a_fault(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "e.toml").write_text(enrolment(authority, code="hl-002"))
    [fault] = faults(tmp_path, enrolled("e.toml"))
    assert "[station hl-001]: enrolment: " in fault
    assert "is of station hl-002" in fault


def test_enrolment_of_ingest_is_a_fault(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "e.toml").write_text(enrolment(authority, role="ingest", code=None))
    [fault] = faults(tmp_path, enrolled("e.toml"))
    assert "is for ingest, not for a station" in fault


def test_faults_of_enrolments_and_of_the_rest_come_at_once(
    tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / "e.toml").write_text(enrolment(authority, format=2))
    text = enrolled("e.toml").replace("unit_id = 1", "unit_id = 300").replace("1883", "0")
    found = "\n".join(faults(tmp_path, text))
    for field in ("format: 2", "unit_id", "[broker]: port"):
        assert field in found
