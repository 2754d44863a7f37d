"""Published and captured frames of real instruments, decoded by their maps."""

import json
from pathlib import Path

import pytest

from drivers.errors import DriverError
from drivers.modbus.config import parse
from drivers.modbus.frames import read_reply, read_request, rtu_frame
from drivers.modbus.points import value_of

CASES = sorted(path for path in Path(__file__).with_name("golden").iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_frame_decodes_as_its_source_says(case):
    expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
    request, reply = map(bytes.fromhex, (case / "frame.hex").read_text().splitlines())
    assert (case / "source.md").read_text(encoding="utf-8").strip()
    device = parse(
        {"path": "golden", "host": "127.0.0.1", "unit_id": request[0]}
        | {key: expected[key] for key in ("model", "points") if key in expected},
        "golden",
    )

    function, address, count = read_request(rtu_frame(request).pdu)
    if "error" in expected:
        with pytest.raises(DriverError) as refused:
            read_reply(rtu_frame(reply).pdu, function, count)
        assert expected["error"] in str(refused.value)
        return
    registers = read_reply(rtu_frame(reply).pdu, function, count)
    values = {
        point.indicator: value_of(point, registers[point.address - address : point.end - address])
        for point in device.points
        if address <= point.address and point.end <= address + count
    }
    tolerance = expected.get("relative_tolerance")
    assert values == {
        code: (value if tolerance is None else pytest.approx(value, rel=tolerance), None)
        for code, value in expected["values"].items()
    }


def test_every_shipped_model_of_the_demo_has_a_case():
    models = {
        json.loads((case / "expected.json").read_text(encoding="utf-8")).get("model")
        for case in CASES
    }
    assert models >= {
        "renke_soil_7in1",
        "boqu_phg2091",
        "supmea_do7013",
        "supmea_turbidity_mlss",
        "keller_30x",
        "ecowitt_wn90lp",
    }
