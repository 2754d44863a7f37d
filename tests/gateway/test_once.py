from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.records import Reading
from drivers.session import RawReading
from gateway import config, once
from gateway.schedule import Clock
from tests.gateway.conftest import edge_toml, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.conftest import Meter


async def test_every_point_is_shown_beside_its_bytes(tmp_path: Path, meter: Meter) -> None:
    edge = config.load(edge_toml(tmp_path, broker=1, meter=meter.port))
    shown: list[str] = []
    assert await once.read_once(edge, Clock(), shown.append)
    text = "\n".join(shown)
    assert "hl-001 pond/meter" in shown[0]
    assert "00 00 00 06 01 03 00 00 00 01" in text
    assert "00 00 00 05 01 03 02 00 01" in text
    (point,) = [line.split() for line in shown if "soil_moisture_counts" in line]
    assert point == ["soil_moisture_counts", "1.0", "1", "good", "00", "01"]
    assert meter.served == 1


async def test_a_device_that_does_not_answer_says_so(tmp_path: Path) -> None:
    edge = config.load(edge_toml(tmp_path, broker=1, meter=free_port()))
    shown: list[str] = []
    assert not await once.read_once(edge, Clock(), shown.append)
    assert "LinkError" in shown[1]


def test_bytes_are_written_once_for_all_points_read_from_them() -> None:
    def raw(indicator: str, value: float | None, quality: str | None, reply: bytes) -> RawReading:
        return RawReading(Reading("a", indicator, 0, value, quality), b"\x01\x03", reply)

    shown = list(
        once.lines(
            [
                raw("soil_ph", 6.52, None, b"\x02"),
                raw("soil_temperature", None, "bad:sentinel", b"\x02"),
                raw("soil_moisture", None, "bad:illegal_address", b"\x83"),
            ]
        )
    )
    assert [line.split() for line in shown] == [
        ["request", "01", "03"],
        ["reply", "02"],
        ["soil_ph", "6.52", "[pH]", "good"],
        ["soil_temperature", "-", "Cel", "bad:sentinel"],
        ["request", "01", "03"],
        ["reply", "83"],
        ["soil_moisture", "-", "%", "bad:illegal_address"],
    ]
