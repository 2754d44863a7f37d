"""An upload of Anhui's notice over HTTP: the records that an agent would make of it, judged alike, and once."""

from __future__ import annotations

import dataclasses
import itertools
import json
import urllib.parse

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from drivers.tester import anhui, config, points
from gateway import wire
from ingest import tables
from ingest.batch import TakenPack
from ingest.decode import ArrivalOrder, Decoder, SeriesIndex
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.consumer import Judge
from ingest.operational import Operational
from ingest.publishers.parsed import WHOLE
from ingest.publishers.reader import MAX_TESTS, MessageReader
from tests.ingest.judge.test_consumer import Registry, Sink

NOW = 1_777_600_000_000  # 2026-05-01 09:46:40 in Shanghai
TOPIC = "agri/v1/hl-001/records/bench/inbox"
DETAIL = {
    "bjdw": "某某合作社",
    "jcxm": "农药残留",
    "jcdt": "2026-05-01 08:30:12",
    "jcz": "63.2",
    "szdw": "%",
    "jgpd": "不合格",
    "ybbh": "26050101",
    "ybmc": "韭菜",
    "xlbz": "GB/T 5009.199-2003",
}


def envelope(*details, **more):
    upload = {"count": len(details), "jczbh": "640100", "jcdw": "某站", "details": details} | more
    return json.dumps(upload, ensure_ascii=False)


def form(**fields):
    return urllib.parse.urlencode(fields, encoding="gbk").encode()


def read(body, topic=TOPIC, now_ms=NOW):
    return MessageReader().read(topic, body if isinstance(body, bytes) else body.encode(), now_ms)


def at_the_edge(body):
    """Return what an agent's own inbox at the same path makes of ``body``."""
    table = {"path": "bench/inbox", "profile": "anhui", "transport": {"http": "/up"}}
    device = config.parse(table | {"station": "hl-001"}, "test")
    return anhui.parse(body, "", lambda raw: points.record_of(raw, device, NOW))


GOOD = {
    "envelope": envelope(DETAIL, DETAIL | {"ybbh": "2", "jcz": 12.50}).encode(),
    "gbk": envelope(DETAIL).encode("gbk"),
    "bom": b"\xef\xbb\xbf" + envelope(DETAIL).encode(),
    "flat": json.dumps(DETAIL).encode(),
    "list": json.dumps([DETAIL]).encode(),
    "form": urllib.parse.urlencode(DETAIL).encode(),
    "form in gbk": form(**DETAIL),
    "no time": json.dumps({k: v for k, v in DETAIL.items() if k != "jcdt"}).encode(),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_the_record_is_the_one_that_an_agent_makes(body):
    parsed = read(body)
    assert not parsed.faults
    assert [record for _, record in parsed.tests] == at_the_edge(body)
    assert parsed.tests[0][1].device_id == "bench/inbox"


def test_each_record_is_answered_at_its_place():
    body = envelope(DETAIL, {"xlz": "1"}, 3, DETAIL | {"ybbh": "4"}, DETAIL | {"jcz": {}})
    parsed = read(body.replace('"ybbh": "4"', '"ybbh": "4", "ybbh": "5"'))
    assert [position for position, _ in parsed.tests] == [0]
    said = {position: reason for position, _, reason in parsed.faults}
    assert sorted(said) == [1, 2, 3, 4]
    assert "none of ybbh" in said[1]
    assert "'ybbh' stands twice" in said[3]


NO_UPLOAD = {
    "count": (envelope(DETAIL, count=2), "count says 2, details has 1"),
    "many": (envelope(*[DETAIL] * (MAX_TESTS + 1)), f"more than {MAX_TESTS}"),
    "no list": ('{"details": 3}', "not an upload"),
    "twice": ('{"details": [], "details": []}', "stands twice"),
    "no form": ("a=b&c=d", "is no JSON"),
    "bytes": (b"\xff\xfe\x00", "is not UTF-8"),
    "broken": ('{"details": [', "is no JSON"),
}


@pytest.mark.parametrize(("body", "said"), NO_UPLOAD.values(), ids=NO_UPLOAD)
def test_what_is_no_upload_is_refused_as_a_whole(body, said):
    parsed = read(body)
    assert not parsed.tests
    ((position, field, reason),) = parsed.faults
    assert (position, field) == (WHOLE, "body")
    assert said in reason


def test_a_stations_key_does_not_say_whose_upload_it_is():
    ((position, field, _),) = read(envelope(DETAIL), "agri/v1/hl-001/records").faults
    assert (position, field) == (WHOLE, "device")


def test_senml_and_tests_stay_what_they_are():
    senml = json.dumps([{"n": "soil_ph", "v": 7, "t": NOW / 1000, "did": "x"}])
    assert [value.indicator for value in read(senml).values] == ["soil_ph"]
    tests = json.dumps({"tests": [], "details": [DETAIL]})
    assert (read(tests).tests, read(tests).faults) == ([], [])


@given(
    st.binary(max_size=200) | st.sampled_from([b'{"ybbh":', b"ybbh=%ff&jcz=1", b'[{"jcz":1e999}]'])
)
def test_any_bytes_are_answered_without_an_error(body):
    parsed = read(body)
    assert all(field and reason for _, field, reason in parsed.faults)


def test_through_an_agent_and_through_the_server_it_is_judged_alike_and_stored_once(tmp_path):
    body = GOOD["envelope"]
    pack = wire.encode_tests(at_the_edge(body))
    ways = {"edge": TakenPack(1, "hl-001", "A" * 26, 1, NOW, pack)}
    ways["server"] = TakenPack(1, "hl-001", "B" * 26, 1, NOW, body, topic=TOPIC)
    places = ("inbox_pos", "epoch", "seq", "position")
    columns = [column for column in tables.tests.c if column.name not in places]
    found = []
    for order in itertools.permutations(ways):
        database = Operational(f"sqlite:///{tmp_path / order[0]}.db")
        database.migrate()
        sink = Sink()
        judge = Judge(standard_catalogue(), Registry(), database, sink)
        decoder = Decoder(SeriesIndex(MessageReader()))
        for pos, way in enumerate(order, 1):
            taken = dataclasses.replace(ways[way], pos=pos, seq=pos)
            judge.handle(ArrivalOrder().flag(decoder.decode([taken])))
        with database.read() as connection:
            rows = connection.execute(sa.select(*columns).order_by("record_id")).all()
        assert [row.verdict for row in rows].count("suspect") == len(sink.findings) == 1
        found.append([tuple(row) for row in rows])
        database.close()
    assert len(found[0]) == 2
    assert found[0] == found[1]
