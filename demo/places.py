# ruff: noqa: E501 - tables, one row per line
"""The demo county: what is where (data).

贺兰县 (Helan county, Ningxia) and its townships exist; subjects, bases, stations, serial numbers and people do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Scalar = str | int | float | bool
Table = Mapping[str, Scalar]

COUNTY = "640122"
JINGUI, XIGANG, CHANGXIN = "640122101", "640122100", "640122200"

REGIONS: tuple[Table, ...] = (
    {"code": COUNTY, "name": "贺兰县", "name_en": "Helan County"},
    {"code": XIGANG, "name": "习岗镇", "name_en": "Xigang Town"},
    {"code": JINGUI, "name": "金贵镇", "name_en": "Jingui Town"},
    {"code": CHANGXIN, "name": "常信乡", "name_en": "Changxin Township"},
)
SUBJECTS: tuple[Table, ...] = (
    {"id": "demo-rice", "name": "示例水稻种植专业合作社", "type": "cooperative", "region": JINGUI},
    {
        "id": "demo-greens",
        "name": "示例设施蔬菜专业合作社",
        "type": "cooperative",
        "region": XIGANG,
    },
    {"id": "demo-maize", "name": "示例旱作家庭农场", "type": "family_farm", "region": CHANGXIN},
    {"id": "demo-vine", "name": "示例葡萄种植园", "type": "enterprise", "region": JINGUI},
)
BASES: tuple[Table, ...] = (
    {"id": "rice", "subject": "demo-rice", "name": "金贵镇水稻示例基地", "region": JINGUI},
    {"id": "greens", "subject": "demo-greens", "name": "习岗镇设施蔬菜示例基地", "region": XIGANG},
    {"id": "maize", "subject": "demo-maize", "name": "常信乡旱作玉米示例基地", "region": CHANGXIN},
    {"id": "vine", "subject": "demo-vine", "name": "金贵镇葡萄示例园", "region": JINGUI},
)
PLOTS: tuple[Table, ...] = (
    {"id": "rice-1", "base": "rice", "name": "1号稻田", "land_use": "paddy", "crop": "paddy", "water_use": "irrigation", "soil_ph": 7.9},
    {"id": "greens-1", "base": "greens", "name": "1号棚", "land_use": "other", "crop": "vegetable_raw", "water_use": "irrigation", "soil_ph": 7.6},
    {"id": "greens-2", "base": "greens", "name": "2号棚", "land_use": "other", "crop": "vegetable_raw", "water_use": "irrigation", "soil_ph": 7.4},
    {"id": "maize-1", "base": "maize", "name": "东地块", "land_use": "other", "crop": "dry", "water_use": "irrigation", "soil_ph": 8.2},
    {"id": "maize-2", "base": "maize", "name": "西地块", "land_use": "other", "crop": "dry", "water_use": "irrigation", "soil_ph": 8.1},
    {"id": "vine-1", "base": "vine", "name": "酿酒葡萄一区", "land_use": "orchard", "crop": "dry", "water_use": "irrigation", "soil_ph": 8.0},
    {"id": "pond-1", "base": "vine", "name": "1号鱼塘", "water_use": "fishery", "water": "freshwater", "salmonid": "no", "shellfish": "no", "ice_covered": "no"},
)  # fmt: skip
STATIONS: tuple[Table, ...] = (
    {"code": "hl-001", "name": "金贵镇水稻基地监测站", "name_en": "Jingui rice base", "type": "base", "region": JINGUI, "base": "rice", "lon": 106.4607, "lat": 38.5432},
    {"code": "hl-002", "name": "习岗镇设施蔬菜基地监测站", "name_en": "Xigang greenhouse base", "type": "base", "region": XIGANG, "base": "greens", "lon": 106.3471, "lat": 38.5689},
    {"code": "hl-003", "name": "习岗镇农贸市场速测点", "name_en": "Xigang market test point", "type": "market", "region": XIGANG, "lon": 106.3528, "lat": 38.5551},
    {"code": "hl-004", "name": "常信乡旱作玉米基地监测站", "name_en": "Changxin maize base", "type": "base", "region": CHANGXIN, "base": "maize", "lon": 106.4392, "lat": 38.7274},
    {"code": "hl-005", "name": "金贵镇葡萄园监测站", "name_en": "Jingui vineyard", "type": "base", "region": JINGUI, "base": "vine", "lon": 106.4186, "lat": 38.5617},
    {"code": "hl-006", "name": "常信乡农产品质量安全监管站速测室", "name_en": "Changxin township test room", "type": "township", "region": CHANGXIN, "lon": 106.4315, "lat": 38.7198},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instrument:
    """One Modbus instrument behind the RTU gateway of its station; ``centre`` is where its quantities lie."""

    station: str
    path: str
    name: str
    model: str
    serial_no: str
    plot: str
    unit_id: int
    poll_interval_s: float
    centre: tuple[tuple[str, float], ...] = ()
    settings: tuple[tuple[str, float | None, str], ...] = ()
    """(metric, scale, unit) where the model's map leaves them open; None: the map has the scale."""
    orders: tuple[tuple[str, str], ...] = ()
    """(metric, word order) where the model's map leaves it open."""


_ABCD = tuple(
    (metric, "ABCD")
    for metric in ("water_temperature", "water_ph", "water_ammonia_nitrogen", "water_potassium")
)

INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument("hl-001", "plot1/soil1", "1号稻田土壤七合一", "renke_soil_7in1", "D-SL-0101", "rice-1", 1, 2.0, (("soil_moisture", 38.0),)),
    Instrument("hl-001", "canal/ph", "渠首pH计", "boqu_phg2091", "D-PH-0102", "rice-1", 2, 1.0),
    Instrument("hl-001", "canal/ss", "渠首悬浮物仪", "supmea_turbidity_mlss", "D-SS-0103", "rice-1", 3, 1.0),
    Instrument("hl-001", "weather/ws1", "田间气象站", "ecowitt_wn90lp", "D-WS-0104", "rice-1", 144, 5.0),
    Instrument("hl-002", "house1/soil1", "1号棚土壤七合一", "renke_soil_7in1", "D-SL-0201", "greens-1", 1, 2.0, (("soil_temperature", 16.5), ("soil_ph", 7.6))),
    Instrument("hl-002", "house2/soil1", "2号棚土壤七合一", "renke_soil_7in1", "D-SL-0202", "greens-2", 2, 2.0, (("soil_temperature", 17.2), ("soil_ph", 7.4))),
    Instrument("hl-002", "pool/ph", "蓄水池pH计", "boqu_phg2091", "D-PH-0203", "greens-1", 3, 2.0, (("water_ph", 7.4),)),
    Instrument("hl-002", "pool/level", "蓄水池液位变送器", "keller_30x", "D-LV-0204", "greens-1", 4, 2.0),
    Instrument("hl-004", "plot1/soil1", "东地块土壤七合一", "renke_soil_7in1", "D-SL-0401", "maize-1", 1, 2.0, (("soil_ph", 8.2),)),
    Instrument("hl-004", "plot2/soil1", "西地块土壤七合一", "renke_soil_7in1", "D-SL-0402", "maize-2", 2, 2.0, (("soil_ph", 8.1),)),
    Instrument("hl-004", "canal/level", "支渠液位变送器", "qdy30a", "D-LV-0403", "maize-1", 3, 2.0, (), (("water_level", None, "mm"),)),
    Instrument("hl-004", "weather/ws1", "农田气象站", "ecowitt_wn90lp", "D-WS-0404", "maize-1", 144, 5.0),
    Instrument("hl-005", "plot1/soil1", "葡萄一区土壤七合一", "renke_soil_7in1", "D-SL-0501", "vine-1", 1, 2.0, (("soil_moisture", 17.0), ("soil_ph", 8.0))),
    Instrument("hl-005", "pool/do", "灌溉水池溶解氧仪", "supmea_do7013", "D-DO-0502", "vine-1", 2, 2.0),
    Instrument("hl-005", "pool/ph", "灌溉水池pH计", "boqu_phg2091", "D-PH-0503", "vine-1", 3, 2.0, (("water_ph", 7.9),)),
    Instrument("hl-005", "pond/do", "鱼塘溶解氧仪", "supmea_do7013", "D-DO-0505", "pond-1", 5, 2.0, (("water_do", 7.0), ("water_do_saturation", 60.0))),
    Instrument("hl-005", "pond/nh", "鱼塘氨氮仪", "boqu_bh485_nh", "D-NH-0506", "pond-1", 10, 2.0, (("water_ph", 7.6), ("water_ammonia_n", 0.3), ("water_k", 4.2)), (), _ABCD),
    Instrument("hl-005", "canal/ss", "引水渠悬浮物仪", "supmea_turbidity_mlss", "D-SS-0504", "vine-1", 4, 2.0, (("water_suspended_solids", 33.0),)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tester:
    """One rapid tester that prints slips; ``defaults`` is what its slips do not say."""

    station: str
    path: str
    name: str
    model: str
    serial_no: str
    kind: str
    interval_s: float
    first_number: int
    defaults: tuple[tuple[str, str], ...]


_INHIBITION = (
    ("parameter", "op_carbamate_inhibition"),
    ("method", "enzyme_inhibition"),
    ("method_standard", "GB/T 5009.199-2003"),
)
_STRIP = (("method", "colloidal_gold"), ("method_standard", "KJ 201706"))
_MARKET = (("purpose", "routine"), ("sampling_stage", "retail"))
_TOWNSHIP = (("purpose", "supervision"), ("sampling_stage", "slaughter"))

TESTERS: tuple[Tester, ...] = (
    Tester("hl-003", "tester1", "农残速测仪", "农残速测仪(打印口)", "D-RT-0301", "inhibition", 7.0, 1001, _INHIBITION + _MARKET),
    Tester("hl-003", "tester2", "胶体金读卡仪", "胶体金读卡仪(打印口)", "D-RT-0302", "strip", 11.0, 2001, _STRIP + _MARKET),
    Tester("hl-006", "tester1", "农残速测仪", "农残速测仪(打印口)", "D-RT-0601", "inhibition", 9.0, 1001, _INHIBITION + _TOWNSHIP),
    Tester("hl-006", "tester2", "胶体金读卡仪", "胶体金读卡仪(打印口)", "D-RT-0602", "strip", 13.0, 2001, _STRIP + _TOWNSHIP),
)  # fmt: skip

AGENTS: dict[str, tuple[str, ...]] = {
    "edge-1": ("hl-001",),
    "edge-2": ("hl-002", "hl-003"),  # one agent for the base and the market next door
    "edge-3": ("hl-004",),
    "edge-4": ("hl-005",),
    "edge-5": ("hl-006",),
}
MODBUS_STATIONS: tuple[str, ...] = tuple(dict.fromkeys(item.station for item in INSTRUMENTS))
