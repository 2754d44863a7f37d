"""A past period judged again: on a real inbox and database, filled by the real decoder and judge."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

import agrigate
from dashboards.serve import only_one
from drivers.records import ResultKind, ScreenResult, TestRecord
from ingest import tables
from ingest.backup import INBOX, OPERATIONAL
from ingest.decode import ArrivalOrder, Decoder, SeriesIndex
from ingest.inbox import Inbox
from ingest.intake import Loss, LossReason
from ingest.judge.catalogue.catalogue import STANDARDS, load, standard_catalogue
from ingest.judge.consumer import Judge
from ingest.judge.errors import RejudgeError
from ingest.judge.rejudge import NO_FINDING, NO_PACK, NOT_JUDGED, PACKS, Rejudge
from ingest.operational import Operational
from ingest.registry import windows
from ingest.registry.live import Registry
from tests.ingest.test_inbox import EPOCH, STATION, damage, staged, taken

if TYPE_CHECKING:
    from pathlib import Path

NOON = 1_777_608_000_000  # 2026-05-01 12:00 in China
DAY = 86_400_000
SERVER = """
[server]
data_dir = "data"
[broker]
host = "127.0.0.1"
port = 1883
[registry]
file = "registry.toml"
"""


class Sink:
    def watched(self):
        return ()

    def replaced(self, *_records):
        pass

    def apply(self, connection, findings, observations, received_ms):
        pass


def readings(*rows, at_ms=NOON) -> bytes:
    """``rows`` are (device/indicator, value, seconds after ``at_ms``); None is a reading that failed."""
    records = [
        {"n": name, "bt": at_ms / 1000, "t": after, **({"q": "bad:nan"} if v is None else {"v": v})}
        for name, v, after in rows
    ]
    return json.dumps({"readings": records}).encode()


def results(*records: TestRecord) -> bytes:
    return msgspec.json.encode({"tests": records})


def strip(record_id: str, result: ScreenResult = ScreenResult.POSITIVE, **fields) -> TestRecord:
    given = {
        "record_id": record_id,
        "dedup_key": f"key-{record_id}",
        "tested_at": "2026-05-01T11:00:00+08:00",
        "device_id": "tester1",
        "sample_no": f"S-{record_id}",
        "product_name": "猪肉",
        "parameter": "clenbuterol",
        "method": "colloidal_gold",
        "result_kind": ResultKind.QUALITATIVE,
        "screen_result": result,
        **fields,
    }
    return TestRecord(**given)


@dataclass
class Server:
    """A data directory as a server left it."""

    directory: Path

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def take(self, *bodies: bytes, received_ms: int = NOON + 60_000, first_seq: int = 1) -> None:
        """Take packs of these bodies, judge them, stop."""
        operational = Operational(f"sqlite:///{self.data / OPERATIONAL}")
        inbox = Inbox.open(self.data / INBOX)
        packs = inbox.commit(
            staged(*(taken(first_seq + n, body, received_ms) for n, body in enumerate(bodies)))
        )
        judge = Judge(standard_catalogue(), Registry(operational), operational, Sink())
        judge.handle(ArrivalOrder().flag(Decoder(SeriesIndex()).decode(packs)))
        inbox.close()
        operational.close()

    def rejudge(self, catalogue=None, *, start=NOON - DAY, end=NOON + DAY, **options):
        run = Rejudge(self.data, catalogue or standard_catalogue(), start, end, **options)
        return list(run.rows()), run.summary

    def command(self, *argv: str):
        config = str(self.directory / "server.toml")
        days = ("--from", "2026-04-30", "--to", "2026-05-02")
        return CliRunner().invoke(agrigate.main, ["rejudge", "-c", config, *days, *argv])

    def state(self) -> dict[str, tuple[str, dict[str, int]]]:
        """Hash and row counts of each database."""
        found = {}
        for name in (INBOX, OPERATIONAL):
            path = self.data / name
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                names = [
                    n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
                ]
                counts = {n: db.execute(f"SELECT count(*) FROM {n}").fetchone()[0] for n in names}
            found[name] = (digest, counts)
        return found


@pytest.fixture
def server(tmp_path: Path) -> Server:
    (tmp_path / "server.toml").write_text(SERVER)
    (tmp_path / "data").mkdir()
    operational = Operational(f"sqlite:///{tmp_path / 'data' / OPERATIONAL}")
    operational.migrate()
    with operational.write() as db:
        for table, row in (
            (tables.regions, {"code": "640122", "name": "贺兰县"}),
            (
                tables.subjects,
                {"id": "s", "name": "社", "subject_type": "cooperative", "region_code": "640122"},
            ),
            (tables.bases, {"id": "b", "subject_id": "s", "name": "基地", "region_code": "640122"}),
            (
                tables.plots,
                {"id": "p", "base_id": "b", "name": "田", "land_use": "paddy", "soil_ph": 5.0},
            ),
            (tables.stations, {"code": STATION, "name": "站", "region_code": "640122"}),
            (tables.devices, {"station": STATION, "path": "lab", "name": "仪", "plot_id": "p"}),
        ):
            db.execute(sa.insert(table), [row])
    operational.close()
    return Server(tmp_path)


@pytest.fixture(scope="module")
def stricter(tmp_path_factory):
    """A county's overlay: cadmium in paddies below pH 5.5 at 0.2 in the place of 0.3."""
    directory = tmp_path_factory.mktemp("stricter")
    text = (STANDARDS / "soil_gb15618_2018.csv").read_text("utf-8")
    assert text.count(",Cd,镉,paddy,,5.5,0.3,") == 1
    (directory / "soil_gb15618_2018.csv").write_text(
        text.replace(",Cd,镉,paddy,,5.5,0.3,", ",Cd,镉,paddy,,5.5,0.2,"), "utf-8"
    )
    return directory


def cadmium(rows):
    return {row.value: row for row in rows if row.indicator == "soil_cd"}


def test_the_same_limits_say_the_same(server: Server) -> None:
    server.take(
        readings(("lab/soil_cd", 0.25, 0), ("lab/soil_cd", 0.5, 60), ("lab/soil_cd", None, 120)),
        results(strip("r1"), strip("r2", ScreenResult.NEGATIVE)),
    )
    rows, summary = server.rejudge()
    assert len(rows) == summary.records == 5
    assert summary.changed == 0
    assert not any(row.changed for row in rows)
    assert summary.verdicts == {
        ("reading", "exceed", "exceed"): 1,
        ("reading", NO_FINDING, NO_FINDING): 1,
        ("reading", NOT_JUDGED, NOT_JUDGED): 1,
        ("test", "suspect", "suspect"): 1,
        ("test", "pass", "pass"): 1,
    }
    over = cadmium(rows)[0.5]
    assert over.old == over.new
    assert [(one.standard, one.limit) for one in over.new.cited] == [
        ("GB 15618-2018", "> 0.3 mg/kg")
    ]
    [positive] = [row for row in rows if row.record_id == "r1"]
    assert positive.new.cited[0].limit == "detected"
    assert positive.product == "猪肉"


def test_a_stricter_limit_changes_what_lies_between(server: Server, stricter: Path) -> None:
    server.take(readings(*(("lab/soil_cd", v, i) for i, v in enumerate((0.2, 0.25, 0.5, 2.0)))))
    rows, summary = server.rejudge(load(stricter))
    said = {v: (r.old.verdict, r.new.verdict, r.changed) for v, r in cadmium(rows).items()}
    assert said == {
        0.2: (NO_FINDING, NO_FINDING, False),
        0.25: (NO_FINDING, "exceed", True),
        0.5: ("exceed", "exceed", False),
        2.0: ("exceed", "exceed", False),
    }
    assert summary.changed == 1
    limits = [tuple(one.limit for one in said.cited) for said in (rows[2].old, rows[2].new)]
    assert limits == [("> 0.3 mg/kg",), ("> 0.2 mg/kg",)]
    assert cadmium(rows)[2.0].new.severity == "critical"


def test_only_changed_rows_are_given_and_all_are_counted(server: Server, stricter: Path) -> None:
    server.take(
        readings(*(("lab/soil_cd", v, i) for i, v in enumerate((0.1, 0.25, 0.5, None)))),
        results(strip("r1")),
    )
    rows, some = server.rejudge(load(stricter), changed_only=True)
    assert [row.value for row in rows] == [0.25]
    _, every = server.rejudge(load(stricter))
    assert some.verdicts == every.verdicts
    assert some.records == 5


def test_records_are_picked_by_their_measured_time_however_late_they_came(server: Server) -> None:
    server.take(readings(("lab/soil_cd", 0.5, 0)), readings(("lab/soil_cd", 0.6, 3600)))
    # Two days late, measured within the period.
    server.take(readings(("lab/soil_cd", 0.7, 10)), received_ms=NOON + 2 * DAY, first_seq=3)
    rows, _ = server.rejudge(start=NOON, end=NOON + 3_600_000)
    assert [row.value for row in rows] == [0.5, 0.7]
    assert all(row.old == row.new for row in rows)


def test_a_companion_from_before_the_period_counts(server: Server) -> None:
    # At pH 7 of the probe the limit is 0.6 in the place of the 0.3 of the registered pH 5.
    server.take(
        readings(("lab/soil_ph", 7.0, 0), at_ms=NOON - 3_600_000),
        received_ms=NOON - 3_500_000,
    )
    server.take(readings(("lab/soil_cd", 0.5, 0)), first_seq=2)
    rows, _ = server.rejudge(start=NOON, end=NOON + 1)
    assert [(row.value, row.old.verdict, row.new.verdict) for row in rows] == [
        (0.5, NO_FINDING, NO_FINDING)
    ]


def test_a_damaged_pack_is_counted_and_what_was_stored_of_it_said(server: Server) -> None:
    server.take(
        readings(("lab/soil_cd", 0.5, 0)), results(strip("r1")), readings(("lab/soil_cd", 0.6, 1))
    )
    damage(server.data / INBOX, 1, b"\x00" * 9)
    rows, summary = server.rejudge()
    assert (summary.packs, summary.damaged) == (3, 1)
    assert summary.damaged_names[0].startswith(f"{STATION}/{EPOCH}/1: does not decompress")
    [gone] = [row for row in rows if row.new.verdict == NO_PACK]
    assert (gone.value, gone.old.verdict, gone.changed) == (0.5, "exceed", False)
    assert [(one.standard, one.limit) for one in gone.old.cited] == [
        ("GB 15618-2018", "> 0.3 mg/kg")
    ]
    assert summary.changed == 0


def test_packs_that_never_came_and_bodies_that_do_not_decode_are_counted(server: Server) -> None:
    server.take(b"{oops", readings(("lab/no_such_thing", 1.0, 0), ("lab/soil_cd", 0.5, 0)))
    inbox = Inbox.open(server.data / INBOX)
    stage = staged()
    stage.losses.append(Loss(STATION, EPOCH, 3, 7, 400, LossReason.GAP, NOON))
    inbox.commit(stage)
    inbox.close()
    rows, summary = server.rejudge()
    assert len(rows) == 1
    assert (summary.unreadable, summary.quarantined) == (1, 1)
    assert (summary.lost_packs, summary.lost_readings) == (5, 400)


def test_a_record_sent_twice_is_one_test(server: Server) -> None:
    server.take(results(strip("r1")), results(strip("r1")))
    rows, summary = server.rejudge()
    assert [(row.record_id, row.seq, row.changed) for row in rows] == [("r1", 1, False)]
    assert summary.repeats == 1


def test_what_is_taken_and_not_yet_judged_is_left_out(server: Server) -> None:
    server.take(readings(("lab/soil_cd", 0.5, 0)))
    inbox = Inbox.open(server.data / INBOX)
    inbox.commit(staged(taken(2, readings(("lab/soil_cd", 0.6, 1)), NOON + 60_000)))
    inbox.close()
    rows, _ = server.rejudge()
    assert [row.value for row in rows] == [0.5]


def test_the_registry_as_it_is_now_counts(server: Server) -> None:
    server.take(readings(("lab/soil_cd", 0.35, 0)))
    operational = Operational(f"sqlite:///{server.data / OPERATIONAL}")
    with operational.write() as db:
        db.execute(sa.update(tables.plots).values(soil_ph=7.0))
    operational.close()
    rows, _ = server.rejudge()
    assert [(row.old.verdict, row.new.verdict) for row in rows] == [("exceed", NO_FINDING)]


def test_nothing_is_changed_by_it(server: Server, stricter: Path, tmp_path: Path) -> None:
    server.take(readings(("lab/soil_cd", 0.25, 0), ("lab/soil_cd", 0.5, 1)), results(strip("r1")))
    before = server.state()
    out = tmp_path / "out.csv"
    done = server.command("--standards", str(stricter), "-o", str(out))
    assert done.exit_code == 0, done.output
    assert server.state() == before
    assert server.command("--offline").exit_code == 0
    assert server.state() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "out.csv",
        "server.toml",
    ]


def test_it_reads_beside_a_server_that_writes(server: Server) -> None:
    server.take(readings(("lab/soil_cd", 0.5, 0)))
    operational = Operational(f"sqlite:///{server.data / OPERATIONAL}")
    inbox = Inbox.open(server.data / INBOX)
    try:
        run = Rejudge(server.data, standard_catalogue(), NOON - DAY, NOON + DAY)
        rows = run.rows()
        first = next(rows)
        # What the run has open keeps the server from nothing, not even from moving its log into the file.
        packs = inbox.commit(staged(taken(2, readings(("lab/soil_cd", 0.6, 1)), NOON + 60_000)))
        judge = Judge(standard_catalogue(), Registry(operational), operational, Sink())
        judge.handle(ArrivalOrder().flag(Decoder(SeriesIndex()).decode(packs)))
        with closing(sqlite3.connect(server.data / OPERATIONAL)) as db:
            busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0
        assert first.value == 0.5
        assert list(rows) == []
        assert [row.value for row in server.rejudge()[0]] == [0.5, 0.6]
    finally:
        inbox.close()
        operational.close()


def test_a_run_over_many_packs_keeps_one_batch(server: Server) -> None:
    count = 2 * PACKS + 10
    server.take(*(readings(("lab/soil_cd", 0.5, n)) for n in range(count)))
    rows, summary = server.rejudge()
    assert summary.packs == len(rows) == count
    assert all(row.old == row.new for row in rows)
    assert [row.seq for row in rows] == list(range(1, count + 1))


def test_a_directory_that_holds_no_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(RejudgeError, match=r"inbox.db: is not there"):
        list(Rejudge(tmp_path, standard_catalogue(), 0, 1).rows())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_named(server: Server) -> None:
    server.take(readings(("lab/soil_cd", 0.5, 0)))
    (server.data / OPERATIONAL).write_bytes(b"no database" * 1000)
    with pytest.raises(RejudgeError, match="not a database"):
        server.rejudge()


# ---- the command


def test_the_csv_has_a_line_for_each_record_and_says_what_it_rests_on(
    server: Server, stricter: Path, tmp_path: Path
) -> None:
    server.take(
        readings(("lab/soil_cd", 0.25, 0), ("lab/soil_cd", 0.1, 1)),
        results(strip("r1", product_name="=cmd|' /C calc'!A0")),
    )
    out = tmp_path / "out.csv"
    done = server.command("--standards", str(stricter), "-o", str(out))
    assert done.exit_code == 0, done.output
    lines = out.read_text("utf-8").splitlines()
    header = [line for line in lines if line.startswith("#")]
    assert any("as registered now" in line for line in header)
    assert any(load(stricter).version in line for line in header)
    rows = list(csv.DictReader(lines[len(header) :]))
    assert len(rows) == 3
    changed = rows[0]
    assert {
        "station": STATION,
        "device": "lab",
        "indicator": "soil_cd",
        "time": "2026-05-01T12:00:00+08:00",
        "value": "0.25",
        "old_verdict": NO_FINDING,
        "new_verdict": "exceed",
        "old_limit": "",
        "new_limit": "GB 15618-2018 > 0.2 mg/kg",
        "changed": "yes",
    }.items() <= changed.items()
    assert [row["changed"] for row in rows] == ["yes", "no", "no"]
    assert rows[2]["product"].startswith("'=")
    assert "3 records of 2 packs, 1 change" in done.output
    assert "as registered now" in done.output
    only = server.command("--standards", str(stricter), "-o", "-", "--changed")
    assert only.stdout.count("\n") == len(header) + 2
    assert "3 records of 2 packs, 1 change" in only.stderr


def test_without_standards_it_judges_as_the_server_does(server: Server, stricter: Path) -> None:
    server.take(readings(("lab/soil_cd", 0.25, 0)))
    assert "0 change" in server.command().output
    config = server.directory / "server.toml"
    config.write_text(SERVER + f'[judge]\nstandards = "{stricter}"\n')
    assert "1 change" in server.command().output
    assert "0 change" in server.command("--standards", "shipped").output


def test_offline_takes_the_lock(server: Server) -> None:
    server.take(readings(("lab/soil_cd", 0.5, 0)))
    with only_one(server.data):
        done = server.command("--offline")
        assert done.exit_code == 1
        assert "another server uses it; stop that one first" in done.output
        assert server.command().exit_code == 0


def test_a_day_as_the_end_is_taken_in(server: Server) -> None:
    server.take(readings(("lab/soil_cd", 0.5, 0)))
    config = str(server.directory / "server.toml")
    for start, end, records in (("2026-05-01", "2026-05-01", 1), ("2026-05-02", "2026-05-02", 0)):
        argv = ["rejudge", "-c", config, "--from", start, "--to", end]
        assert f"{records} records" in CliRunner().invoke(agrigate.main, argv).output
    argv = ["rejudge", "-c", config, "--from", "2026-05-02", "--to", "2026-05-01"]
    assert CliRunner().invoke(agrigate.main, argv).exit_code == 2
    argv = ["rejudge", "-c", config, "--from", "1 May", "--to", "2026-05-01"]
    assert CliRunner().invoke(agrigate.main, argv).exit_code == 2


def test_faulty_standards_end_with_2_and_write_nothing(server: Server, tmp_path: Path) -> None:
    server.take(readings(("lab/soil_cd", 0.5, 0)))
    bad = tmp_path / "bad"
    bad.mkdir()
    shutil.copy(STANDARDS / "soil_gb15618_2018.csv", bad)
    with (bad / "soil_gb15618_2018.csv").open("a", encoding="utf-8") as file:
        file.write("oops\n")
    out = tmp_path / "out.csv"
    done = server.command("--standards", str(bad), "-o", str(out))
    assert done.exit_code == 2
    assert "soil_gb15618_2018.csv:81: " in done.stderr
    assert not out.exists()


def test_a_window_set_since_then_takes_its_readings_out(server: Server) -> None:
    server.take(readings(("lab/soil_cd", 0.5, 0), ("lab/soil_cd", 0.6, 60)))
    operational = Operational(f"sqlite:///{server.data / OPERATIONAL}")
    with operational.write() as db:
        windows.add(
            db,
            station=STATION,
            device="lab",
            kind="calibration",
            from_ms=NOON,
            to_ms=NOON + 30_000,
            set_by="officer",
            now_ms=NOON,
        )
    operational.close()
    rows, summary = server.rejudge()
    said = {row.value: (row.old.verdict, row.new.verdict) for row in rows}
    assert said == {0.5: ("exceed", NOT_JUDGED), 0.6: ("exceed", "exceed")}
    assert summary.changed == 1
