"""Shapes of requests and replies under ``/api/v1``; times ``*_ms`` are UTC milliseconds."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gateway.wire import STATION_CODE

VerdictName = Literal["pass", "exceed", "suspect", "undetermined", "invalid"]
PassScopeName = Literal["op_carbamate", "strip", "limit"]
StationState = Literal["online", "stale", "offline", "never"]
KeyState = Literal["approved", "pending", "none"]

Ms = Annotated[int, Field(description="UTC milliseconds since 1970")]
Station = Annotated[str, Field(description="Station code")]
Unit = Annotated[str, Field(description="UCUM code")]
MAX_NAME = 60  # with the key's id behind it, what the alert's log takes for an actor
Json = dict[str, object]


class Shape(BaseModel):
    """Strict: no coercion, no unknown field, no NaN or infinity."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class ErrorReply(Shape):
    """What went wrong, in words; the parameter is named."""

    detail: str


# ---------------------------------------------------------------- overview


class Overview(Shape):
    """The numbers of the first page."""

    tests_today: int = Field(description="Tests with a test time on today's date in Asia/Shanghai")
    suspects_open: int = Field(description="Alerts suspected or with a re-test ordered")
    exceedances_open: int = Field(description="Alerts confirmed, handed over or in enforcement")
    stations_online: int = Field(description="Stations whose last beat is at most 180 s old")
    stations_total: int
    pass_rate_rapid: float | None = Field(
        description="0…1 of the samples taken today with an inhibition or qualitative test: (valid − suspect) / valid. "
        "First test and repeats count once; a confirmatory result of the same item decides; null without samples"
    )
    samples_rapid: int = Field(description="Valid samples of that rate")
    undetermined_rapid: int = Field(description="Of these, without a verdict: they have not failed")
    pass_rate_quantitative: float | None = Field(
        description="The same of samples with a quantitative test, never added to the rapid rate"
    )
    samples_quantitative: int = Field(description="Valid samples of that rate")
    undetermined_quantitative: int = Field(
        description="Of these, without a verdict: no limit, or one below the LOQ"
    )
    readings_total: int = Field(description="Readings in the store")
    generated_at: str = Field(description="RFC 3339, Asia/Shanghai")


# ---------------------------------------------------------------- stations


class StationRow(Shape):
    """A station with its state."""

    code: Station
    name: str
    name_en: str
    station_type: str
    region_code: str = Field(description="6 county, 9 township or 12 village digits")
    region_name: str
    region_name_en: str
    lon: float | None = Field(description="Degrees, WGS 84")
    lat: float | None = Field(description="Degrees, WGS 84")
    base_name: str
    state: StationState = Field(description="online ≤ 180 s since the last beat, stale ≤ 24 h")
    seen_ms: Ms | None
    key_state: KeyState = Field(description="Whether a gateway key is approved for the station")
    queue: int = Field(description="Packs waiting at the edge, as it last said")
    oldest_unreceipted_ms: int | None = Field(description="Milliseconds, as the edge last said")
    clock_offset_ms: int | None = Field(
        description="Clock of the edge, milliseconds from the server's"
    )
    version: str = Field(description="Version of the agent")
    devices_ok: int
    devices_total: int
    open_alerts: int
    lost: int = Field(description="Readings lost at the edge (cap, corrupt), upper bound")
    gaps: int = Field(description="Runs of packs that never came and that no edge explained")
    alarms: list[str]


class StationList(Shape):
    """All stations, by code."""

    stations: list[StationRow]


class SeriesRow(Shape):
    """The last reading of a series."""

    indicator: str
    name_zh: str
    name_en: str
    unit: Unit
    decimals: int
    t_ms: Ms
    v: float | None
    q: int = Field(description="QARTOD: 1 pass, 2 not evaluated, 3 suspect, 4 fail, 9 missing")
    count: int = Field(description="Readings stored")


class DeviceRow(Shape):
    """A device with the series that it yields."""

    path: str
    name: str
    model: str
    serial_no: str
    plot_id: str | None
    plot_name: str | None
    seen_ms: Ms | None
    ok: bool
    series: list[SeriesRow]


class LossRow(Shape):
    """A run of packs that never came."""

    epoch: str
    from_seq: int
    through_seq: int
    readings: int = Field(description="Upper bound; -1 when nobody knows")
    reason: Literal["gap", "cap", "corrupt"]
    at_ms: Ms


class KeyRow(Shape):
    """A gateway key that spoke for the station."""

    key: str = Field(description="Base64 of the ed25519 public key")
    state: Literal["pending", "approved", "replaced", "refused"]
    first_seen_ms: Ms
    replaced_ms: Ms | None = Field(
        description="Of a replaced key: what it began until then may still be delivered"
    )


class StationDetail(StationRow):
    """One station with its devices, losses and keys."""

    devices: list[DeviceRow]
    losses: list[LossRow]
    keys: list[KeyRow]


class GatewayKey(Shape):
    """The gateway key that is decided about."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=64)]


class EnrolStation(Shape):
    """A station to enrol; of one that is registered already only the code counts."""

    code: Annotated[str, StringConstraints(pattern=f"^{STATION_CODE.pattern}$")] = Field(
        description="Station code, and its user name at the broker"
    )
    name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] = Field(
        default="", description="Needed when the station is not registered"
    )
    name_en: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] = ""
    station_type: Annotated[str, StringConstraints(min_length=1, max_length=24)] = "base"
    region_code: Annotated[str, StringConstraints(pattern=r"^(\d{6}|\d{9}|\d{12})?$")] = Field(
        default="",
        description="6 county, 9 township or 12 village digits; needed when the station is not registered",
    )
    base_id: Annotated[str, StringConstraints(min_length=1, max_length=40)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180)] | None = Field(
        default=None, description="Degrees, WGS 84"
    )
    lat: Annotated[float, Field(ge=-90, le=90)] | None = Field(
        default=None, description="Degrees, WGS 84"
    )
    certificate: bool = Field(default=False, description="Make a client certificate, too")
    renew: bool = Field(
        default=False, description="Make a new credential and end the one the station has"
    )


class StationEnrolled(Shape):
    """What the station's gateway needs; given once, kept nowhere."""

    code: Station
    renewed: bool = Field(description="A credential before this one has ended")
    certificate_serial: str = Field(description="Hexadecimal; empty without a certificate")
    enrolment: str = Field(description="Content of the enrolment file, TOML; it holds the password")


# ---------------------------------------------------------------- readings

Point = Annotated[
    tuple[int, float | None, int, int],
    Field(
        description="[t_ms, v, q, flags]: v null when missing; flags is a bit mask, its bits are named in "
        "`flag_bits`"
    ),
]


Bucket = Annotated[
    tuple[int, float | None, float | None, float | None, int, float],
    Field(
        description="[start_ms, min, mean, max, count, good]: of usable values, null when there is none; good is the "
        "share of readings with quality 1, 0 … 1"
    ),
]


class FlagBit(Shape):
    """One bit of a reading's flags."""

    bit: int
    name: str
    zh: str
    en: str


class LimitRow(Shape):
    """A limit that held from ``from_ms`` to ``to_ms``."""

    standard: str
    clause: str
    level: str
    comparator: str
    limit: float
    unit: Unit
    verified: bool = Field(description="False: not yet checked against the printed standard (待核)")
    conditions: dict[str, str | float | None] = Field(description="What picked this limit")
    from_ms: Ms
    to_ms: Ms
    clause_en: str = Field(default="", description="The clause in English")
    note: str = Field(
        default="",
        description="What else it asks for, `中文 | English`; empty when the value alone decides",
    )


class Readings(Shape):
    """A series between two times, with its limits."""

    station: Station
    device: str
    indicator: str
    name_zh: str
    name_en: str
    unit: Unit
    decimals: int
    start_ms: Ms
    end_ms: Ms
    total: int = Field(description="Readings in the range")
    returned: int = Field(description="Points in this reply")
    downsampling: Literal["none", "min_max", "minute", "hour", "day"] = Field(
        description="min_max: of each bucket of time the lowest and the highest reading are kept, with their flags; "
        "minute, hour, day: `buckets` instead of `points`"
    )
    points: list[Point]
    buckets: list[Bucket] = Field(
        description="Roll-ups of minutes, hours or days of Shanghai, those without a reading left out; each whole"
    )
    flag_bits: list[FlagBit] = Field(description="What each bit of a point's flags means")
    limits: list[LimitRow]


# ---------------------------------------------------------------- tests


class ComponentRow(Shape):
    """One member of a residue that is defined as a sum, as measured."""

    parameter: str
    parameter_zh: str
    parameter_en: str
    value: str | None = Field(description="Decimal as text")
    unit: Unit
    qualifier: str
    lod: str | None
    loq: str | None


class TestRow(Shape):
    """One rapid-test result with our verdict."""

    __test__ = False  # not a pytest class

    record_id: str
    station: Station
    station_name: str
    station_name_en: str
    device: str
    device_name: str
    tested_ms: Ms
    received_ms: Ms
    sample_no: str
    product_name: str
    product_name_en: str = Field(description="Empty when the product is not known to us")
    parameter: str
    parameter_zh: str
    parameter_en: str
    method: str
    method_standard: str
    result_kind: str = Field(
        description="quantitative, qualitative, inhibition, or empty when not known"
    )
    value: str | None = Field(description="Decimal as text, as measured")
    unit: Unit
    value_text: str = Field(description="What the instrument sent")
    screen_result: str = Field(description="negative, positive, doubtful, invalid, or empty")
    device_verdict: str = Field(description="What the instrument said")
    verdict: VerdictName = Field(description="Ours, recomputed")
    pass_scope: PassScopeName = Field(
        description="What a pass says. op_carbamate: not suspected for organophosphates and carbamates, "
        "nothing of other pesticides; strip: negative, below the detection limit of the method; "
        "limit: inside the limits compared"
    )
    severity: str = Field(description="info, warning, major or critical")
    reason: str
    findings: list[Json] = Field(description="Every limit compared, with its citation")
    flags: list[str]
    incomplete: bool = Field(description="Fields that the law asks for are missing")
    source: str = Field(description="device, app, typed or imported")
    attempt: int = Field(description="0 first, 1… repeat")
    parent_record_id: str | None = Field(
        description="The record that this one completes, corrects or repeats"
    )
    superseded_by: str | None = Field(
        description="The record that completed or corrected this one and counts in its place"
    )
    subject: str
    alert_id: str | None
    qualifier: str = Field(description="eq, lt, gt, not_detected, or empty")
    lod: str | None = Field(description="Limit of detection, decimal as text, in ``unit``")
    loq: str | None = Field(description="Limit of quantification, decimal as text, in ``unit``")
    basis: str = Field(description="What a mass fraction refers to: product, fat, or empty")
    components: list[ComponentRow] = Field(description="Members of a residue defined as a sum")


class SampleItem(Shape):
    """What the first test and the repeats of one item say together."""

    parameter: str
    parameter_zh: str
    parameter_en: str
    verdict: VerdictName
    first: VerdictName
    repeats: list[VerdictName]
    repeats_due: int = Field(description="Repeats still to be made before a rapid positive falls")
    confirmed: bool = Field(description="A confirmatory result decided")


class SampleDetail(Shape):
    """A sample with all its tests; it counts once."""

    station: Station
    sample_no: str = Field(description="Empty: the test names none and is a sample of its own")
    verdict: VerdictName = Field(description="The gravest of its items")
    items: list[SampleItem]
    tests: list[TestRow] = Field(
        description="First tests, then repeats; those with ``superseded_by`` are evidence and do not count"
    )


class TestList(Shape):
    """Tests, newest first."""

    __test__ = False

    tests: list[TestRow]
    next: str | None = Field(description="Give it as ``before`` for the next page; null at the end")


# ---------------------------------------------------------------- alerts


class Citation(Shape):
    """The limit or rule that was broken, frozen with the alert; fields are null where a rule has none."""

    model_config = ConfigDict(extra="ignore")

    standard: str | None = None
    title_zh: str | None = None
    clause: str | None = None
    clause_en: str | None = Field(default=None, description="The clause in English")
    level: str | None = None
    comparator: str | None = None
    limit: float | str | None = None
    unit: str | None = None
    exceeded: bool | None = None
    ratio: float | None = Field(default=None, description="value / limit")
    conditions: Json = Field(default_factory=dict)
    verified: bool | None = Field(default=None, description="False: 待核")
    limit_version: str | None = None


class AlertRow(Shape):
    """One alert as it stands."""

    alert_id: str
    kind: str = Field(description="limit, test, or a technical kind")
    rule_id: str
    state: str
    seq: int = Field(description="Grows by one with each transition")
    severity: str = Field(description="info, warning, major or critical")
    certainty: str = Field(description="sensor, screening or confirmatory")
    station: Station
    station_name: str
    station_name_en: str
    region_code: str
    device: str
    device_name: str
    plot_id: str
    plot_name: str
    indicator: str = Field(description="Indicator code, or the parameter of a test")
    indicator_zh: str
    indicator_en: str
    product_name: str
    product_name_en: str = Field(description="Empty when the product is not known to us")
    sample_no: str
    value: float | None
    unit: Unit
    citation: Citation
    first_seen_ms: Ms
    last_seen_ms: Ms
    occurrence_count: int
    acked_by: str
    acked_ms: Ms | None
    flags: list[str]
    raised_ms: Ms
    changed_ms: Ms
    purpose: str = Field(description="Of the test; blank for readings")
    sampling_stage: str
    due_ms: Ms | None = Field(description="When the clock ends that ends first")
    silenced_until_ms: Ms | None
    inhibited_by: list[str] = Field(description="Alert ids")
    retest: Json = Field(description="order_id, laboratory, result, report_no")
    handover: Json = Field(description="agency, at_ms, case_no")
    outcome: str = Field(description="Given when it was closed")
    related: list[Json] = Field(description="relation and alert_id of each")


class AlertList(Shape):
    """Alerts, newest first."""

    alerts: list[AlertRow]
    next: str | None = Field(description="Give it as ``before`` for the next page; null at the end")


class TransitionRow(Shape):
    """One step in the life of an alert."""

    seq: int
    from_state: str
    to_state: str
    actor: str
    reason: str
    at_ms: Ms
    event: str = Field(description="Type of the webhook; blank in rows of older releases")
    data: Json = Field(description="What else was said: a document, a result, a deadline")
    hash: str = Field(description="SHA-256 over this row and the hash of the row before")


class EvidencePack(Shape):
    """The bytes that the edge sent."""

    received_ms: Ms
    sha256: str
    topic: str
    body: str


class Evidence(Shape):
    """The way back from an alert to the bytes of the instrument."""

    finding_id: str
    station: Station
    epoch: str
    seq: int
    position: int = Field(description="Place in the pack, from 0")
    inbox_pos: int
    record_id: str
    test: TestRow | None
    pack: EvidencePack | None = Field(description="Null when the inbox no longer holds it")


class FindingRow(Shape):
    """One value that the rule caught."""

    finding_id: str
    t_ms: Ms
    value: float | None
    unit: Unit
    device: str
    indicator: str
    citation: Citation


class AlertDetail(AlertRow):
    """One alert with its history and evidence."""

    transitions: list[TransitionRow]
    evidence: Evidence
    findings: list[FindingRow] = Field(description="The newest 50")


class AttemptRow(Shape):
    """One try to deliver."""

    attempt: int
    at_ms: Ms
    duration_ms: int
    status_code: int | None
    error: str
    response: str
    key_ids: list[str] = Field(description="Keys that signed it")
    replay: bool = Field(description="Sent again because somebody asked for it")


class DeliveryRow(Shape):
    """One message to one endpoint."""

    webhook_id: str
    endpoint_id: str
    endpoint_name: str
    event_type: str
    alert_seq: int
    state: Literal["pending", "delivered", "undelivered"]
    created_ms: Ms
    delivered_ms: Ms | None
    next_ms: Ms | None = Field(description="Time of the next try; null unless pending")
    attempts: list[AttemptRow]


class DeliveryList(Shape):
    """What was sent about an alert, oldest first."""

    deliveries: list[DeliveryRow]


Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_NAME)]


class Acknowledge(Shape):
    """Who has seen the alert."""

    actor: Name = Field(default="", description="Name of the person; the key's name when empty")


class Dismiss(Acknowledge):
    """Who sets the alert aside, and why."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


# ---------------------------------------------------------------- packs, indicators


class QuarantineRow(Shape):
    """A record of the pack that could not be used."""

    position: int = Field(description="Place in the pack; -1 is the whole pack")
    field: str
    reason: str


class PackReply(Shape):
    """A pack as received."""

    station: Station
    epoch: str
    seq: int
    pos: int = Field(description="Place in the inbox")
    topic: str
    header: str
    received_ms: Ms
    sha256: str = Field(description="Of the body's bytes")
    body: str = Field(description="The body as text; bytes that are not UTF-8 show as U+FFFD")
    quarantined: list[QuarantineRow]


class QuarantinedItem(Shape):
    """A message, a pack or a record of a pack that could not be used."""

    kind: Literal["message", "pack", "record"] = Field(
        description="message: no pack or status of ours, not taken; pack, record: taken, not understood"
    )
    at_ms: Ms
    topic: str
    station: str = Field(description="Empty when the topic names none")
    epoch: str | None
    seq: int | None
    position: int | None = Field(description="Place in the pack, from 0; null for the whole")
    field: str
    reason: str
    size: int | None = Field(description="Bytes of the message or body; null when no longer kept")
    payload: str | None = Field(description="Base64 of its first 2048 bytes")


class QuarantineList(Shape):
    """The newest of what could not be used."""

    quarantine: list[QuarantinedItem]


class IndicatorRow(Shape):
    """One entry of the catalogue."""

    code: str
    name_zh: str
    name_en: str
    medium: str
    unit: Unit
    decimals: int


class IndicatorList(Shape):
    """The catalogue."""

    indicators: list[IndicatorRow]


# ---------------------------------------------------------------- standards

Medium = Literal[
    "soil", "irrigation", "fishery", "surface", "livestock", "product", "method", "notice"
]


class StandardEntry(Shape):
    """One row of a table of a standard or notice, as the catalogue holds it."""

    standard: str
    title_zh: str
    clause: str = Field(description="Table or clause")
    level: str
    medium: Medium
    subject: str = Field(description="Indicator or substance code")
    subject_zh: str
    subject_en: str
    product_zh: str = Field(description="What the row is about, empty for soil and water")
    product_en: str = Field(description="Empty when the product has no English name here")
    kind: Literal["numeric", "presence", "never_alone"] = Field(
        description="never_alone: the row needs another finding beside it"
    )
    comparator: str = Field(description="What breaks the limit")
    limit: str = Field(description="Decimal as text, as printed; empty for a presence rule")
    unit: Unit
    conditions_zh: str
    conditions_en: str
    from_ms: Ms
    to_ms: Ms | None = Field(description="End of its force, exclusive; null while there is none")
    in_force: bool = Field(description="At the time asked for, or now")
    verified: bool = Field(description="False: not yet checked against the printed standard (待核)")
    temporary: bool = Field(description="A temporary limit (临时限量)")
    source: str = Field(description="Where the row was taken from")
    place: str = Field(description="File and line in the catalogue")
    limit_version: str


class StandardCount(Shape):
    """A standard with the number of its rows among those found."""

    standard: str
    title_zh: str
    medium: Medium
    rows: int
    unverified: int


class NearName(Shape):
    """A name that the catalogue knows."""

    code: str = Field(description="What to ask for")
    zh: str
    en: str


class LimitPage(Shape):
    """Rows of standards that were found, and how many there are of what kind."""

    version: str = Field(description="Of the catalogue")
    at_ms: Ms | None = Field(description="Rows in force then; null: of every time")
    total: int
    offset: int
    limits: list[StandardEntry]
    media: dict[str, int] = Field(description="Rows by medium, medium and standard not filtered")
    standards: list[StandardCount] = Field(
        description="Rows by standard in this medium, the standard not filtered"
    )
    nearest: list[NearName] = Field(description="When nothing was found: names that come nearest")


class AppliedRule(Shape):
    """One rule of a standard on a plot: the rows that apply, or those that it could be."""

    subject: str
    subject_zh: str
    subject_en: str
    medium: Medium
    level: str
    known: bool = Field(description="True: the rows are the ones that apply")
    missing: list[str] = Field(description="Conditions that are not known")
    wrong: dict[str, str] = Field(description="Conditions whose registered value cannot be used")
    complete: bool = Field(
        description="False: for some value of a missing condition no row would apply"
    )
    rows: list[StandardEntry]


class MissingCondition(Shape):
    """A condition that the plot's registration lacks, and how many rules it leaves open."""

    key: str
    rules: int


class PlotRow(Shape):
    """A plot with what picks its limits."""

    id: str
    name: str
    base_name: str
    conditions: dict[str, str | float]
    devices: list[str] = Field(description="Station code and device path, `hl-001/plot3/soil1`")


class PlotList(Shape):
    """Every registered plot, by name."""

    plots: list[PlotRow]


class PlotLimits(Shape):
    """The limits that apply on a plot."""

    plot: PlotRow
    measured: dict[str, float] = Field(
        description="Companion readings that are used instead of the registered conditions, by indicator"
    )
    rules: list[AppliedRule]
    missing: list[MissingCondition]


class ResidueRow(Shape):
    """The residue limit on one substance in a product."""

    substance: NearName
    limit: StandardEntry
    matched_level: Literal["commodity", "group"]
    matched_zh: str = Field(description="The commodity or group that the limit is printed for")
    matched_en: str
    fallback_zh: str = Field(description="Said when an earlier edition stands in, else empty")
    fallback_en: str
    definition_zh: str = Field(description="Residue definition")
    is_sum: bool
    components: list[NearName] = Field(description="Members of the residue, the substance first")


class BanRow(Shape):
    """A notice on a substance."""

    entry: StandardEntry
    reach: Literal["inside", "open"] = Field(
        description="open: a person must say whether it covers the product"
    )


class SampleLimits(Shape):
    """What a sample of a product is judged by; names that are not known come with the nearest ones."""

    product: NearName | None
    near_products: list[NearName]
    substance: NearName | None
    near_substances: list[NearName]
    residues: list[ResidueRow]
    bans: list[BanRow]
    methods: list[StandardEntry] = Field(description="Cut-offs and rules of rapid methods")
    reason_zh: str = Field(description="Why there is no residue limit, else empty")
    reason_en: str


class InForce(Shape):
    """Limits in force at a time: on plots, or for a sample, whichever was asked for."""

    version: str
    at_ms: Ms
    plots: list[PlotLimits]
    sample: SampleLimits | None


class NameList(Shape):
    """Names that contain what was typed, else those that come nearest."""

    names: list[NearName]


# ---------------------------------------------------------------- windows


class WindowRow(Shape):
    """A time in which a device is worked on: its readings alarm nobody."""

    id: str
    station: Station
    device: str
    device_name: str
    kind: Literal["maintenance", "calibration"]
    from_ms: Ms
    to_ms: Ms
    note: str
    set_by: str
    set_ms: Ms
    cancelled_ms: Ms | None
    state: Literal["upcoming", "active", "past", "cancelled"]


class WindowList(Shape):
    """Windows of a station: active, then upcoming, then those that are over, newest first."""

    windows: list[WindowRow]


class SetWindow(Shape):
    """A window to set."""

    device: Annotated[str, StringConstraints(min_length=1, max_length=80)] = Field(
        description="Device path"
    )
    kind: Literal["maintenance", "calibration"]
    from_: Annotated[str, StringConstraints(min_length=1, max_length=40)] = Field(
        alias="from", description="RFC 3339 with offset, or UTC milliseconds as text"
    )
    to: Annotated[str, StringConstraints(min_length=1, max_length=40)] = Field(
        description="Exclusive, in the same forms"
    )
    note: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = ""
    actor: Name = Field(default="", description="Name of the person; the key's name when empty")


# ---------------------------------------------------------------- health


class Healthy(Shape):
    """The process answers."""

    status: Literal["ok"]


class Ready(Shape):
    """The server takes packs and judges them."""

    status: Literal["ready"]
