"""The documentation is true: samples load, examples decode, names exist, no setting or metric is left out."""

from __future__ import annotations

import ast
import base64
import functools
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

import agrigate
from alerts.alert import Alert
from alerts.delivery import payload, schedule, signing
from alerts.delivery.config import EgressTable, WebhookTable
from alerts.people.config import TargetTable
from alerts.policies.policy import Policy
from alerts.states import TABLE, State
from dashboards import deploy_cli, server_config
from drivers.modbus.config import SettingTable
from drivers.modbus.model_tables import PointTable
from drivers.tester.config import DefaultsTable
from gateway import config, keys, link, spool, wire
from gateway.broker import LoginTable
from gateway.wire import EpochState, Lane
from ingest.batch import TakenPack
from ingest.decode import Decoder, SeriesIndex
from ingest.intake import Outcome
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.catalogue.entries import entries as entries_of
from ingest.judge.lines import judge_lines
from ingest.publishers.mapping import MappingTable
from ingest.registry import files
from tests.certificates import Authority
from tests.ingest.broker.deployed import County

ROOT = Path(__file__).parents[1]
DOCS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("deploy/**/*.md"),
        *ROOT.glob("drivers/*/README.md"),
    ]
)
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
FENCE = re.compile(r"^ *```(.*)\n((?:.*\n)*?) *```$", re.MULTILINE)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(path: Path, info: str) -> list[str]:
    return [body for kind, body in FENCE.findall(path.read_text("utf-8")) if kind == info]


@pytest.fixture(params=DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


# ---------------------------------------------------------------- what every page owes


def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = re.findall(
        r"`((?:drivers|gateway|ingest|alerts|dashboards|demo|deploy|docs|tests|bench)/[\w./-]*\w/?)",
        text,
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_json_blocks_are_json(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block)


def test_every_toml_block_says_which_loader_reads_it(page: Path) -> None:
    kinds = {kind for kind, _ in FENCE.findall(page.read_text("utf-8")) if kind.startswith("toml")}
    assert kinds <= {"toml edge", "toml server", "toml calendar"}


def test_toml_blocks_load(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page, "toml edge")):
        write_named_files(tmp_path, block)
        (tmp_path / f"edge{number}.toml").write_text(block, "utf-8")
        assert config.load(tmp_path / f"edge{number}.toml").stations
    for number, block in enumerate(blocks(page, "toml server")):
        write_named_files(tmp_path, block)
        (tmp_path / f"server{number}.toml").write_text(block, "utf-8")
        server_config.load(tmp_path / f"server{number}.toml")


def test_no_machine_of_ours_is_named(page: Path) -> None:
    assert not re.search(r"/tmp\b|/work\b|/root\b|/home/\w", page.read_text("utf-8"))


def write_named_files(directory: Path, toml: str) -> None:
    """Write the password, secret and enrolment files that a configuration names."""
    for name in re.findall(r'^(?:password|secret)_file = "([^"]+)"', toml, re.MULTILINE):
        (directory / name).write_text(SECRET, "ascii")
    for name in re.findall(r'^url_file = "([^"]+)"', toml, re.MULTILINE):
        (directory / name).write_text(
            "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=x", "ascii"
        )
    for name in re.findall(r'^enrolment = "([^"]+)"', toml, re.MULTILINE):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(enrolment_text(Path(name).name.split(".")[0]), "utf-8")


def enrolment_text(whose: str) -> str:
    role = ["ingest", None] if whose == "ingest" else ["station", whose]
    fields = dict(zip(("role", "code"), role, strict=True)) | {
        "host": "mqtt.county.example",
        "username": whose,
        "password": SECRET,
        "ca": Authority().pem,
        "probe_username": "agri-probe" if whose == "ingest" else None,
    }
    text = [f'{name} = """{value}"""' for name, value in fields.items() if value is not None]
    return "\n".join(["format = 1", "port = 8883", *text])


# ---------------------------------------------------------------- README


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_the_readme_begins_with_the_two_commands(readme: Path) -> None:
    first = FENCE.search(readme.read_text("utf-8"))
    assert first is not None
    commands = [line.split("#")[0].strip() for line in first[2].splitlines()]
    assert commands == ["make demo", "make test"]


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_every_make_target_exists(readme: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", readme.read_text("utf-8"), re.MULTILINE))
    assert {"demo", "test", "check", "bench"} <= named <= targets


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_the_judge_example_is_what_the_judge_says(readme: Path) -> None:
    [block] = [text for text in blocks(readme, "console") if "agrigate judge" in text]
    command, answer = block.splitlines()
    asked = re.search(r"echo '(.*)' \| agrigate judge", command)
    assert asked is not None
    assert list(judge_lines([asked[1].encode()])) == [answer.encode() + b"\n"]


def test_every_command_of_ours_exists() -> None:
    said = set()
    for path in DOCS:
        for _, body in FENCE.findall(path.read_text("utf-8")):
            said |= {
                " ".join(line.split("#")[0].split()[1:])
                for line in body.splitlines()
                if line.startswith("agrigate ")
            }
    assert said
    for arguments in said:
        words = arguments.split()
        options = {word for word in words if word.startswith("--")}
        # The option of a group stands before its command: help of both names everything.
        commands = [
            word
            for word in words
            if re.fullmatch(
                "edge|serve|judge|demo|deploy|mosquitto|station|status|add|approve|keys|list|refuse|replace"
                "|standards|show|check|diff|rejudge|map|test|record-key|revoke|store|copy|export"
                "|scan|probe|modbus|decode|simulate|evidence|verify|key|audit",
                word,
            )
        ]
        shown = help_of(*commands[:1]) + help_of(*commands)
        assert options <= set(re.findall(r"--[a-z-]+", shown)), arguments


@functools.cache
def help_of(*commands: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "agrigate", *commands, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_readmes_say_the_same() -> None:
    english, chinese = (
        [(kind, body) for kind, body in FENCE.findall(path.read_text("utf-8"))] for path in READMES
    )
    assert [kind for kind, _ in english] == [kind for kind, _ in chinese]
    assert [body for kind, body in english if kind.startswith(("toml", "console"))] == [
        body for kind, body in chinese if kind.startswith(("toml", "console"))
    ]


def test_the_screenshot_is_small() -> None:
    image = ROOT / "docs" / "images" / "overview-zh.png"
    assert image.read_bytes().startswith(b"\x89PNG")
    assert image.stat().st_size < 250_000


# ---------------------------------------------------------------- configuration


def test_the_faults_shown_are_the_faults_given(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        '[agent]\n[broker]\nhost = "127.0.0.1"\nport = 99999\n[[station]]\ncode = "HL/1"\n'
        '[[station.device]]\npath = "canal/ph"\ndriver = "modbus"\nhost = "192.168.1.7"\nunit = 1\n'
        'model = "boqu_phg2091"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "agrigate", "edge", "-c", "bad.toml", "--check"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    [block] = blocks(ROOT / "docs" / "configuration.md", "console")
    assert block.split("\n", 1)[1] == done.stderr


def fields_of(kind: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def explained(sample: str, name: str) -> bool:
    """Whether a line that sets ``name`` has a comment, or one above it."""
    return re.search(rf"^{name} = .*#|^#.*\n{name} = ", sample, re.MULTILINE) is not None


@pytest.mark.parametrize(
    ("sample", "tables"),
    [
        (
            "gateway/sample.toml",
            {"agent": config.Agent, "broker": LoginTable, "spool": config.SpoolSize},
        ),
        (
            "deploy/server.sample.toml",
            {
                "server": server_config.ServerTable,
                "broker": server_config.BrokerTable,
                "deploy": server_config.DeployTable,
                "registry": server_config.RegistryTable,
                "judge": server_config.JudgeTable,
                "deadlines": server_config.DeadlinesTable,
                "alerts": server_config.ClusterRules,
                "technical": server_config.Patience,
                "inbox": server_config.InboxTable,
                "retention": server_config.RetentionTable,
                "publishers": server_config.PublishersTable,
                "mapping": MappingTable,
                "operational": server_config.OperationalTable,
                "store": server_config.StoreTable,
                "webhook": WebhookTable,
                "egress": EgressTable,
                "target": TargetTable,
                "policy": Policy,
            },
        ),
        (
            "deploy/registry.sample.toml",
            {
                "region": files.Region,
                "subject": files.Subject,
                "base": files.Base,
                "plot": files.Plot,
                "station": files.Station,
                "device": files.Device,
                "quality_limit": files.QualityLimit,
            },
        ),
    ],
)
def test_a_sample_has_every_key_with_its_meaning(
    sample: str, tables: dict[str, type[msgspec.Struct]]
) -> None:
    text = text_of(sample)
    written = tomllib.loads(text)
    for name, kind in tables.items():
        table = written[name] if isinstance(written[name], dict) else written[name][0]
        assert set(table) == fields_of(kind), name
        for field in msgspec.structs.fields(kind):
            part = text[text.index(f"[{name}]") :]
            assert explained(part, field.encode_name), f"{name}.{field.encode_name}"
            line = re.search(rf"^{field.encode_name} = .*", part, re.MULTILINE)
            assert line is not None
            says = "Required." if field.required else "default"
            assert says in line[0], f"[{name}] {field.encode_name} does not say {says!r}"


def test_no_table_is_left_out() -> None:
    assert set(tomllib.loads(text_of("gateway/sample.toml"))) == set(config.TABLES)
    assert set(tomllib.loads(text_of("deploy/server.sample.toml"))) == set(server_config.TABLES)
    registry = set(tomllib.loads(text_of("deploy/registry.sample.toml")))
    assert registry == fields_of_registry()


def fields_of_registry() -> set[str]:
    return {name.removesuffix("s").replace("base", "base") for name in files.RegistryFile.__slots__}


def test_driver_samples_have_the_keys_of_their_inner_tables() -> None:
    modbus = tomllib.loads(text_of("drivers/modbus/sample.toml"))["station"]["device"]
    settings = [one for device in modbus for one in device.get("settings", {}).values()]
    assert set().union(*settings) | {"order"} == fields_of(SettingTable)
    points = [point for device in modbus for point in device.get("points", [])]
    assert fields_of(PointTable) - set().union(*points) <= {
        "metric",
        "confidence",
        "note",
        "optional",
    }
    [slip] = tomllib.loads(text_of("drivers/slip/sample.toml"))["station"]["device"]
    assert set(slip["defaults"]) == fields_of(DefaultsTable)


def test_samples_load(tmp_path: Path) -> None:
    config.load(ROOT / "gateway" / "sample.toml")
    registry = files.load(ROOT / "deploy" / "registry.sample.toml")
    assert registry.stations
    sample = text_of("deploy/server.sample.toml")
    write_named_files(tmp_path, sample)
    (tmp_path / "server.toml").write_text(sample, "utf-8")
    assert server_config.load(tmp_path / "server.toml").webhooks[0].id == "county"


# ---------------------------------------------------------------- metrics


def test_every_metric_is_described() -> None:
    made = {
        node.args[0].value + ("_total" if "Counter" in ast.unparse(node.func) else "")
        for name in ("metrics", "county_metrics")
        for node in ast.walk(ast.parse(text_of(f"dashboards/{name}.py")))
        if isinstance(node, ast.Call)
        and "MetricFamily" in ast.unparse(node.func)
        and isinstance(node.args[0], ast.Constant)
    }
    described = set(
        re.findall(
            r"^\| `([a-z_]+)` \| (?:counter|gauge|histogram)",
            text_of("docs/metrics.md").split("## Edge agent")[0],
            re.MULTILINE,
        )
    )
    assert made
    assert described == made


def test_every_outcome_is_described() -> None:
    part = text_of("docs/metrics.md").split("| `outcome` | meaning |")[1]
    part = part.split("## Edge agent")[0]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", part, re.MULTILINE)) == {
        str(one) for one in Outcome
    }


# ---------------------------------------------------------------- the link

LINK = ROOT / "docs" / "link-format.md"


def link_json(key: str) -> list[bytes]:
    found = [block.strip().encode() for block in blocks(LINK, "json")]
    return [block for block in found if block.startswith(b"{") and key in json.loads(block)]


def test_the_example_pack_is_a_pack() -> None:
    [block] = blocks(LINK, "pack")
    pack = wire.decode_pack(block.removesuffix("\n").encode())
    assert (pack.seq, pack.oldest, pack.sent_ms) == (7, 5, 1_795_483_861_000)
    taken = TakenPack(1, "hl-001", pack.epoch, pack.seq, pack.sent_ms, pack.body)
    batch = Decoder(SeriesIndex()).decode([taken])
    assert batch.faults == []
    decoded = [
        (batch.series[series].device, batch.series[series].indicator, int(t_ms), float(v))
        for series, t_ms, v in zip(batch.series_id, batch.t_ms, batch.v, strict=True)
    ]
    rows = re.findall(
        r"^\| `(\S+)` \| `(\S+)` \| (\d{13}) \| ([\d.]+)",
        text_of("docs/link-format.md"),
        re.MULTILINE,
    )
    assert [(*names, int(t), float(v)) for *names, t, v in rows] == decoded[:3]
    assert decoded[3][:3] == ("canal/ph", "water_ph", 1_795_483_860_250)
    assert wire.decode_body(pack.body).readings[3].q == "bad:no_answer"  # type: ignore[index]


def test_the_other_bodies_receipts_and_statuses_decode() -> None:
    [tests], [lost] = link_json("tests"), link_json("lost")
    record = wire.decode_body(tests).tests[0]  # type: ignore[index]
    assert str(record.value) == "63.2"
    assert wire.peek_lost(lost) == wire.Lost(3, 9, 412, wire.LostReason.CAP)
    [receipt] = link_json("now_ms")
    assert wire.encode_receipt(wire.decode_receipt(receipt)) == receipt
    status, will = map(wire.decode_status, link_json("online"))
    assert not will.online
    assert wire.encode_will(status.session) in link_json("online")
    signed = wire.status_signing_bytes("hl-001", status.session, status.lanes)
    assert keys.verify(status.key, status.sig, signed)
    assert signed.decode() in [block.strip() for block in blocks(LINK, "json")]
    assert status.lanes == {Lane.READINGS: [EpochState("01KAHCB9ZNM3E2S0V2H8Q6T5RD", 5, 7)]}


def test_the_numbers_of_the_link_are_those_of_the_code() -> None:
    text = " ".join(text_of("docs/link-format.md").split())
    assert f"at most {wire.MAX_BODY_BYTES}" in text
    assert f"at most {wire.MAX_HEADER_BYTES} bytes" in text
    assert f"window of {link.WINDOW_PACKS} packs or {link.WINDOW_BYTES >> 20} MiB" in text
    assert f"{link.STORE_SILENT_S:g} s" in text
    assert f"at {wire.PACK_MAX_RECORDS} records, at {wire.PACK_MAX_BYTES >> 10} KiB" in text
    assert f"up to {spool.RETENTION_MS // 86_400_000} days" in text
    assert set(re.findall(r"`(?:pending|hold|ok)`", text)) == {f"`{s}`" for s in wire.ReceiptState}
    for field in msgspec.structs.fields(wire.Receipt):
        assert f'"{field.encode_name}"' in text
    for field in msgspec.structs.fields(wire.Status):
        assert field.encode_name in text


# ---------------------------------------------------------------- webhooks

WEBHOOK = ROOT / "docs" / "webhook.md"


def test_the_snippet_verifies_and_refuses() -> None:
    [source] = blocks(WEBHOOK, "python")
    scope: dict[str, object] = {}
    exec(compile(source, "webhook.md", "exec"), scope)
    verify = scope["verify"]
    body, now_s = blocks(WEBHOOK, "json")[0].encode(), 1_795_458_299
    headers = {
        "webhook-id": "evt_1_county",
        "webhook-timestamp": str(now_s),
        "webhook-signature": signing.sign(SECRET, "evt_1_county", now_s, body),
    }
    assert verify(SECRET, headers, body, now_s) == "evt_1_county"  # type: ignore[operator]
    for bad in (
        {**headers, "webhook-id": "evt_2_county"},
        {**headers, "webhook-timestamp": "soon"},
        {**headers, "webhook-signature": "v1,é"},
        {},
    ):
        with pytest.raises(ValueError, match=r"webhook|signature"):
            verify(SECRET, bad, body, now_s)  # type: ignore[operator]
    with pytest.raises(ValueError, match="signature"):
        verify(SECRET, headers, body + b" ", now_s)  # type: ignore[operator]
    with pytest.raises(ValueError, match="too far"):
        verify(SECRET, headers, body, now_s + 301)  # type: ignore[operator]


def test_the_example_body_has_the_shape_of_a_body() -> None:
    example = json.loads(blocks(WEBHOOK, "json")[0])
    data = example["data"]
    alert = Alert(
        **{
            field: data.get(field, "")
            for field in ("alert_id", "dedup_key", "kind", "severity", "certainty")
        },
        rule_id="gb5084:pH",
        station="hl-001",
        device="canal/ph",
        plot_id="rice-1",
        region_code="640122101",
        indicator="water_ph",
        product_name="",
        sample_no="",
        value=data["finding"]["value"],
        unit="[pH]",
        citation={
            "standard": data["citation"]["standard_no"],
            "title_zh": data["citation"]["title"],
            **{
                k: data["citation"][k]
                for k in ("clause", "clause_en", "level", "conditions", "verified", "limit_version")
            },
            "limit": 5.5,
            "unit": "[pH]",
            "comparator": "<",
            "ratio": data["finding"]["exceed_ratio"],
        },
        evidence={
            "station": "hl-001",
            "epoch": "01M84TEAPX2Y69P1FZD45CDY2P",
            "seq": 50,
            "position": 1,
            "record_id": "",
        },
        first_seen_ms=1_795_458_299_727,
        last_seen_ms=1_795_458_299_727,
        occurrence_count=1,
        flags=[],
        clearable=True,
        raised_ms=1_795_458_299_831,
        changed_ms=1_795_458_299_831,
        state=State.SUSPECTED,
        seq=1,
    )
    occasion = payload.Occasion(example["id"], example["type"], "", "", 1_795_458_299_831)
    site = data["site"]
    place = payload.Place(
        site["site_name"]["zh"],
        site["site_name"]["en"],
        site["lon"],
        site["lat"],
        site["producer_id"],
    )
    made = json.loads(
        payload.body(
            alert,
            occasion,
            payload.data_of(
                alert, occasion, incarnation=data["incarnation"], place=place, names=("pH值", "pH")
            ),
        )
    )
    assert made.pop("data") | {"evidence": None} == data | {"evidence": None}
    assert made == {key: value for key, value in example.items() if key != "data"}


def test_every_event_and_delay_is_named() -> None:
    text = text_of("docs/webhook.md")
    events = {row.event.removeprefix("alert.") for row in TABLE} - {"open", "resolved"}
    assert [event for event in events if f"`{event}`" not in text] == []
    delays = [
        f"{s} s" if s < 60 else f"{s // 60} min" if s < 3600 else f"{s // 3600} h"
        for s in schedule.DELAYS_S[1:]
    ]
    assert ", ".join(delays[:-1]) in " ".join(text.split())
    assert len(schedule.DELAYS_S) == 10
    assert set(schedule.CRITICAL_DELAYS_S) - set(schedule.DELAYS_S) == {30, 120}
    assert len(schedule.CRITICAL_DELAYS_S) == 12


# ---------------------------------------------------------------- judging


def test_the_rows_counted_are_the_rows_there() -> None:
    known = standard_catalogue()
    said = {
        standard: (int(rows), int(unverified))
        for standard, rows, unverified in re.findall(
            r"^\| ([^|]+) \|[^|]+\| (\d+) \| (\d+) \|$", text_of("docs/judging.md"), re.MULTILINE
        )
    }
    rows = {(row.standard, row.place): row.verified for row in known.limits()}
    for standard in {standard for standard, _ in rows}:
        verified = [rows[of] for of in rows if of[0] == standard]
        assert said[standard] == (len(verified), verified.count(False)), standard
    rows_all = entries_of(known)
    for name, some in (
        ("GB/T 5009.199-2003, NY/T 448-2001", [r for r in rows_all if r.level == "cut_off"]),
        (
            "the other rows of rapid_tests.csv",
            [r for r in rows_all if "rapid_tests" in r.place and r.level != "cut_off"],
        ),
        ("notices of the agriculture ministry", [r for r in rows_all if r.medium == "notice"]),
        ("GB 2763-2026", [r for r in rows_all if "2763_2026" in r.place]),
        ("GB 2763-2021, GB 2763.1-2022", [r for r in rows_all if "2763_2021" in r.place]),
        ("GB 31650-2019, GB 31650.1-2022", [r for r in rows_all if "gb31650" in r.place]),
    ):
        assert said[name] == (len(some), sum(not row.verified for row in some)), name
    counted = (f"{len(rows_all):,}", str(sum(not row.verified for row in rows_all)))
    for readme in READMES:
        numbers = re.search(
            r"([\d,]{5,}) (?:rows|行)\D+([0-9]+) ?(?:are|行)", readme.read_text("utf-8")
        )
        assert numbers is not None
        assert numbers.groups() == counted


# ---------------------------------------------------------------- services and broker


def test_services_start_what_exists_and_come_back() -> None:
    for name, command in (("edge", "edge -c"), ("serve", "serve -c")):
        unit = text_of(f"deploy/systemd/agrigate-{name}.service")
        assert f"ExecStart=/opt/agrigate/bin/agrigate {command} /etc/agrigate/" in unit
        for line in (
            "After=network-online.target",
            "Restart=always",
            "ProtectSystem=strict",
            "NoNewPrivileges=yes",
        ):
            assert line in unit


@pytest.mark.mosquitto
@pytest.mark.parametrize("page", ["docs/broker.md", "deploy/mosquitto/README.md"])
def test_a_broker_that_is_set_up_as_the_page_says_keeps_stations_apart(
    tmp_path: Path, page: str
) -> None:
    county = County(tmp_path)
    [line] = re.findall(r"^agrigate (deploy mosquitto .*)$", text_of(page), re.MULTILINE)
    line = line.replace("/etc/agrigate/server.toml", str(county.config))
    line = line.replace("/etc/mosquitto/agrigate", str(county.out))
    line = line.replace("mqtt.county.example", "localhost")
    done = CliRunner().invoke(agrigate.main, [*shlex.split(line), "--user", tmp_path.owner()])
    assert done.exit_code == 0, done.output
    try:
        county.start()
        assert county.probe()() is None
    finally:
        county.stop()


def test_every_option_of_deploy_and_every_file_is_described() -> None:
    text = text_of("docs/broker.md")
    options = {option for param in deploy_cli.mosquitto.params for option in param.opts}
    assert [option for option in options - {"-c", "--config"} if f"`{option}" not in text] == []
    assert "agrigate.deployed.json" in text
    for name in ("agrigate.conf", "agrigate.acl", "agrigate.passwd", "ca.crt", "crl.pem"):
        assert f"`{name}`" in text


def test_every_test_that_the_fault_list_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", text_of("docs/faults.md")))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 60
    assert named - there == set()
