"""Published and captured frames of real instruments, decoded by their maps."""

import json
import tomllib
from pathlib import Path

import pytest

from drivers.errors import DriverError
from drivers.modbus import models
from drivers.modbus.config import parse
from drivers.modbus.frames import read_reply, read_request, rtu_frame
from drivers.modbus.points import value_of
from drivers.modbus.steps import Action, Step

GOLDEN = Path(__file__).with_name("golden")
CASES = sorted(path for path in GOLDEN.iterdir() if path.is_dir())
REQUESTS = tomllib.loads((GOLDEN / "requests.toml").read_text(encoding="utf-8"))["request"]


def device_of(said, unit_id):
    return parse(
        {"path": "golden", "host": "127.0.0.1", "unit_id": unit_id}
        | {key: said[key] for key in ("model", "variant", "settings", "points") if key in said}
        | ({"indicators": said["reads"]} if "reads" in said else {}),
        "golden",
    )


def check_case(case):
    """Decode one case as its ``expected.json`` says; ``drivers/modbus/README.md`` describes the files."""
    expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
    request, reply = map(bytes.fromhex, (case / "frame.hex").read_text().splitlines())
    assert (case / "source.md").read_text(encoding="utf-8").strip()

    if "write" in expected:
        step = Step(Action.WRITE, **expected["write"])
        assert rtu_frame(request).pdu == step.pdu()
        with pytest.raises(DriverError, match=expected["error"]):
            step.check(rtu_frame(reply).pdu)
        return
    if "request_error" in expected:
        with pytest.raises(DriverError, match=expected["request_error"]):
            read_request(rtu_frame(request).pdu)
        with pytest.raises(DriverError, match=expected["error"]):
            read_reply(rtu_frame(reply).pdu, 3, 1)
        return
    function, address, count = read_request(rtu_frame(request).pdu)
    if "error" in expected:
        with pytest.raises(DriverError) as refused:
            read_reply(rtu_frame(reply).pdu, function, count)
        assert expected["error"] in str(refused.value)
        return
    registers = read_reply(rtu_frame(reply).pdu, function, count)
    if "unit_id" in expected:
        query = models.load(expected["model"]).table.unit_id_query
        assert (request[0], function, address) == (query.unit_id, query.function, query.address)
        assert query.id_in == "register"
        assert registers == (expected["unit_id"],)
        return
    values = {
        point.indicator: value_of(point, registers[point.start - address : point.end - address])
        for point in device_of(expected, request[0]).points
        if point.function == function and address <= point.start and point.end <= address + count
    }
    tolerance = expected.get("relative_tolerance")
    assert values == {
        code: (value if tolerance is None else pytest.approx(value, rel=tolerance), None)
        for code, value in expected["values"].items()
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_frame_decodes_as_its_source_says(case):
    check_case(case)


@pytest.mark.parametrize("said", REQUESTS, ids=lambda said: f"{said['model']} {said['frame']}")
def test_printed_request_is_what_the_map_asks(said):
    frame = rtu_frame(bytes.fromhex(said["frame"]))
    assert said["source"]
    if "write" in said:
        assert frame.pdu == Step(Action.WRITE, **said["write"]).pdu()
        return
    function, address, count = read_request(frame.pdu)
    model = models.load(said["model"])
    if "query" in said:
        query = model.table.unit_id_query
        assert (frame.unit, function, address, count) == (
            query.unit_id,
            query.function,
            query.address,
            query.count,
        )
        return
    model = model.variants.get(said.get("variant", ""), model)
    assert frame.unit == model.unit_id
    device = device_of(said, frame.unit)
    assert {point.indicator for point in device.points} == set(said["reads"])
    if "besides" not in said:
        assert [(b.function, b.address, b.count) for b in device.blocks] == [
            (function, address, count)
        ]
        return
    asked = {
        a for block in device.blocks for a in range(block.address, block.address + block.count)
    }
    assert sorted(asked | set(said["besides"])) == list(range(address, address + count))
    assert not asked & set(said["besides"])


def test_models_with_published_replies_have_a_case():
    found = {
        json.loads((case / "expected.json").read_text(encoding="utf-8"))["model"] for case in CASES
    }
    assert found == {
        "boqu_phg2091",
        "comwintop_cwt_soil_thc_s",
        "dragino_dr_water",
        "ecowitt_wn90lp",
        "keller_30x",
        "renke_rs_fsjt",
        "renke_soil_7in1",
        "supmea_do7013",
        "supmea_turbidity_mlss",
    }
