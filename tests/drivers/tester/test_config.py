import pytest

from drivers.errors import ConfigError
from drivers.tester.config import parse
from drivers.tester.profiles import load, names, read
from drivers.tester.transport import Folder, HttpInbox, SerialPort, TcpClient, TcpServer

BASE = {"path": "t1", "transport": {"serial": "/dev/null"}}


def faults(table):
    with pytest.raises(ConfigError) as refused:
        parse(table, "e.toml: s")
    assert all(line.startswith("e.toml: s: ") for line in refused.value.faults)
    return [line.removeprefix("e.toml: s: ") for line in refused.value.faults]


@pytest.mark.parametrize(
    ("table", "transport", "bus"),
    [
        (
            {"serial": "/dev/ttyUSB0"},
            SerialPort("/dev/ttyUSB0", 115_200, "8N1"),
            "serial:/dev/ttyUSB0",
        ),
        (
            {"serial": "/dev/x", "baud": 9600, "format": "8E1"},
            SerialPort("/dev/x", 9600, "8E1"),
            "serial:/dev/x",
        ),
        ({"tcp": "10.0.0.9:4001"}, TcpClient("10.0.0.9", 4001), "tcp:10.0.0.9:4001"),
        ({"listen": 9100}, TcpServer(9100, "127.0.0.1"), "listen:127.0.0.1:9100"),
        ({"folder": "/x", "pattern": "*.csv"}, Folder("/x", "*.csv"), "folder:/x"),
        ({"http": "/t"}, HttpInbox("/t", 8480, "127.0.0.1"), "http:127.0.0.1:8480"),
    ],
)
def test_transports(table, transport, bus):
    device = parse(BASE | {"transport": table, "profile": "lz4000t"}, "test")
    assert device.transport == transport
    assert device.bus.startswith(bus)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({}, "needs a profile or a reader"),
        ({"profile": "lz4000"}, "profile: 'lz4000' is none of anhui, dy3000"),
        ({"profile": "/no/such.toml"}, "profile: /no/such.toml: "),
        ({"profile": "dy3000"}, "items: is missing; dy3000 tells items by number"),
        ({"profile": "tl310", "json": {"path": "a"}}, "json: the reader is binary_record"),
        ({"reader": "delimited"}, "delimited: needs either columns or header = true"),
        ({"reader": "fixed_width"}, "fixed_width: needs either columns or a pattern"),
        (
            {"reader": "fixed_width", "fixed_width": {"pattern": "("}},
            "fixed_width: pattern: ",
        ),
        ({"reader": "binary_record"}, "binary_record: needs frames"),
        ({"profile": "tl310", "transport": {}}, "transport: needs one of serial, tcp"),
        (
            {"profile": "tl310", "transport": {"serial": "a", "tcp": "b:1"}},
            "transport: needs one of",
        ),
        (
            {"profile": "tl310", "transport": {"serial": "a", "baud": 9601}},
            "transport: baud: 9601 is none of",
        ),
        (
            {"profile": "tl310", "transport": {"listen": 9100, "adress": "x"}},
            "transport: adress: unknown key; did you mean address?",
        ),
        ({"profile": "tl310", "items": {"x": {"name": "a", "kind": "inhibition"}}}, "items: 'x'"),
        ({"profile": "tl310", "labels": {"a": "b"}}, "labels: 'a': 'b' is no field"),
        ({"profile": "tl310", "defaults": {"unit": "mgkg"}}, "defaults: unit: unit 'mgkg'"),
    ],
)
def test_each_fault_names_field_and_remedy(table, fault):
    assert faults(BASE | table)[0].startswith(fault)


def test_the_devices_own_keys_go_over_the_profiles():
    device = parse(
        BASE
        | {
            "profile": "dy723pc",
            "delimited": {"delimiter": ";"},
            "defaults": {"method": "x"},
            "charset": "utf-8",
        },
        "test",
    )
    assert device.options.delimiter == ";"
    assert device.options.record_word == "R"
    assert (device.charset, device.defaults.method) == ("utf-8", "x")
    assert (device.idle_s, device.device_model) == (2.0, "DY-723PC")


@pytest.mark.parametrize("name", names())
def test_every_profile_names_its_source(name):
    profile = load(name)
    assert profile.source
    assert profile.models
    assert getattr(profile, profile.reader, None) is not None or profile.reader in (
        "anhui",
        "key_value",
    )


@pytest.mark.parametrize("text", ["x", 'title = "a"', "title = 5"])
def test_a_faulty_profile_says_its_name(text):
    with pytest.raises(ConfigError, match=r"mine\.toml: "):
        read(text, "mine.toml")
