"""Tables of the operational database that ingest owns (SQLAlchemy Core; migrations in ``migrations/``)."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
AutoId = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only INTEGER PRIMARY KEY

# ---------------------------------------------------------------- registry

regions = Table(
    "regions",
    metadata,
    Column("code", String(12), primary_key=True),  # 6 county, 9 township, 12 village digits
    Column("name", Text, nullable=False),
    Column("name_en", Text, nullable=False, server_default=""),
)
subjects = Table(
    "subjects",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", Text, nullable=False),
    Column("subject_type", String(24), nullable=False),
    Column("region_code", String(12), nullable=False),
    Column("uscc", String(18), nullable=False, server_default=""),
)
bases = Table(
    "bases",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("subject_id", ForeignKey("subjects.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("region_code", String(12), nullable=False),
)
plots = Table(
    "plots",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("base_id", ForeignKey("bases.id"), nullable=False),
    Column("name", Text, nullable=False),
    # What picks the limit; names and values as in the context of ``agrigate judge``. Blank = not registered.
    Column("land_use", String(24), nullable=False, server_default=""),
    Column("crop", String(24), nullable=False, server_default=""),
    Column("water_use", String(24), nullable=False, server_default=""),
    Column("soil_ph", Float),
    Column("soil_salinity", String(24), nullable=False, server_default=""),
    Column("fluoride_area", String(24), nullable=False, server_default=""),
    Column("boron_tolerance", String(32), nullable=False, server_default=""),
    Column("water_class", String(4), nullable=False, server_default=""),
    Column("water_body", String(8), nullable=False, server_default=""),
    Column("water", String(12), nullable=False, server_default=""),
    Column("salmonid", String(4), nullable=False, server_default=""),
    Column("shellfish", String(4), nullable=False, server_default=""),
    Column("ice_covered", String(4), nullable=False, server_default=""),
    Column("animal", String(12), nullable=False, server_default=""),
    Column("animal_age", String(8), nullable=False, server_default=""),
)
stations = Table(
    "stations",
    metadata,
    Column("code", String(40), primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_en", Text, nullable=False, server_default=""),
    Column("station_type", String(24), nullable=False, server_default="base"),
    Column("region_code", String(12), nullable=False),
    Column("base_id", ForeignKey("bases.id")),
    Column("lon", Float),
    Column("lat", Float),
)
devices = Table(
    "devices",
    metadata,
    Column("station", ForeignKey("stations.code"), primary_key=True),
    Column("path", String(80), primary_key=True),
    Column("name", Text, nullable=False),
    Column("model", String(60), nullable=False, server_default=""),
    Column("serial_no", String(60), nullable=False, server_default=""),
    Column("plot_id", ForeignKey("plots.id")),
)
device_windows = Table(  # work on a device: nothing alarms meanwhile
    "device_windows",
    metadata,
    Column("id", String(26), primary_key=True),  # ULID
    Column("station", String(40), nullable=False),
    Column("device", String(80), nullable=False),
    Column("kind", String(12), nullable=False),  # maintenance | calibration
    Column("from_ms", BigInteger, nullable=False),  # measured time
    Column("to_ms", BigInteger, nullable=False),  # the first outside
    Column("note", Text, nullable=False, server_default=""),
    Column("set_by", String(60), nullable=False),
    Column("set_ms", BigInteger, nullable=False),
    Column("cancelled_ms", BigInteger),
    Index(None, "station", "device"),
)
quality_limits = Table(  # in the indicator's unit; null: the channel's own behaviour counts
    "quality_limits",
    metadata,
    Column("station", String(40), primary_key=True),
    Column("device", String(80), primary_key=True),
    Column("indicator", String(40), primary_key=True),
    Column("min", Float),
    Column("max", Float),
    Column("spike", Float),
    Column("rate_per_s", Float),
    Column("flat_s", Float),
    Column("gap_s", Float),
)
gateway_keys = Table(
    "gateway_keys",
    metadata,
    Column("station", String(40), primary_key=True),
    Column("key", String(64), primary_key=True),  # base64 of the ed25519 public key
    Column("state", String(12), nullable=False),  # pending | approved | replaced | refused
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("replaced_ms", BigInteger),  # its epochs up to then may still be delivered
)
broker_credentials = Table(
    "broker_credentials",
    metadata,
    Column("username", String(40), primary_key=True),
    Column("station", ForeignKey("stations.code")),  # null: the server's own
    Column("password_hash", Text, nullable=False),  # mosquitto's $7$; the password is kept nowhere
    Column("certificate_serial", String(64), nullable=False, server_default=""),  # hexadecimal
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)
record_keys = Table(  # of devices that send records over HTTP
    "record_keys",
    metadata,
    Column("id", String(26), primary_key=True),  # ULID
    Column("station", String(40), nullable=False),
    Column("device", String(80), nullable=False),  # blank: any of the station
    Column("name", String(60), nullable=False),
    Column("hash", String(64), nullable=False),  # SHA-256; the key is kept nowhere
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    Index(None, "station"),
)
station_state = Table(
    "station_state",
    metadata,
    Column("station", String(40), primary_key=True),
    Column("session", String(26), nullable=False, server_default=""),
    Column("online", Boolean, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),  # receive time of the last live status or will
    Column("version", String(40), nullable=False, server_default=""),
    Column("queue", Integer, nullable=False, server_default="0"),
    Column("oldest_unreceipted_ms", BigInteger),
    Column("disk_free", BigInteger),
    Column("clock_offset_ms", BigInteger),
    Column("key_state", String(12), nullable=False, server_default="pending"),
    Column("devices", JSON, nullable=False, default=list),  # [{"path", "seen_ms", "ok"}]
    Column("alarms", JSON, nullable=False, default=list),
)

# ---------------------------------------------------------------- what the judge writes

cursors = Table(
    "cursors",
    metadata,
    Column("consumer", String(24), primary_key=True),
    Column("inbox_pos", BigInteger, nullable=False),
)
tests = Table(
    "tests",
    metadata,
    Column("record_id", String(64), primary_key=True),
    Column("station", String(40), nullable=False),
    Column("epoch", String(26), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("inbox_pos", BigInteger, nullable=False),
    Column("dedup_key", String(200), nullable=False),
    Column("device", String(80), nullable=False),
    Column("tested_ms", BigInteger, nullable=False),
    Column("sampled_ms", BigInteger),
    Column("received_ms", BigInteger, nullable=False),
    Column("sample_no", String(60), nullable=False),
    Column("product_name", Text, nullable=False),
    Column("parameter", String(80), nullable=False),
    Column("method", String(60), nullable=False),
    Column("method_standard", String(60), nullable=False),
    Column("result_kind", String(16), nullable=False),
    Column("value", String(40)),  # decimal as text
    Column("unit", String(24), nullable=False),
    Column("value_text", Text, nullable=False),
    Column("qualifier", String(16), nullable=False),
    Column("screen_result", String(16), nullable=False),
    Column("device_verdict", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("sampling_stage", String(16), nullable=False),
    Column("subject", Text, nullable=False),  # subject_id, else the name as sent
    Column("source", String(12), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("severity", String(12), nullable=False),
    Column("reason", Text, nullable=False),
    Column("findings", JSON, nullable=False),  # every limit compared
    Column("flags", JSON, nullable=False),  # edge flags and ours
    Column("incomplete", Boolean, nullable=False),
    Column("record", JSON, nullable=False),  # the edge fields as received
    Column("parent_record_id", String(64), index=True),
    # The record that completed or corrected this one: it counts, this one is evidence.
    Column("superseded_by", String(64), index=True),
    Index(None, "tested_ms"),
    Index(None, "station", "dedup_key", unique=True),
    Index(None, "sample_no", "parameter"),
    Index(None, "station", "device", "parameter", "inbox_pos"),
    Index(None, "station", "device", "tested_ms"),
)
findings = Table(
    "findings",
    metadata,
    Column("finding_id", String(64), primary_key=True),
    Column("station", String(40), nullable=False),
    Column("epoch", String(26), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("inbox_pos", BigInteger, nullable=False),
    Column("kind", String(8), nullable=False),  # reading | test
    Column("device", String(80), nullable=False),
    Column("indicator", String(80), nullable=False),  # or the parameter of a test
    Column("t_ms", BigInteger, nullable=False),
    Column("value", Float),
    Column("unit", String(24), nullable=False),
    Column("record_id", String(64), nullable=False, server_default=""),
    Column("rule_id", String(120), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("severity", String(12), nullable=False),
    Column("late", Boolean, nullable=False),
    Column(
        "citation", JSON, nullable=False
    ),  # one object of ``findings`` in the judge's reply, plus limit_version
    Column("alert_id", String(26)),
    Index(None, "alert_id"),
    Index(None, "record_id"),
    Index(None, "station", "device", "indicator", "t_ms"),
)
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("station", String(40), nullable=False),
    Column("epoch", String(26), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),  # -1: the whole pack
    Column("inbox_pos", BigInteger, nullable=False),
    Column("field", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index(None, "epoch", "seq", "position", unique=True),
)
series_faults = Table(  # series that give nothing usable now
    "series_faults",
    metadata,
    Column("station", String(40), primary_key=True),
    Column("device", String(80), primary_key=True),
    Column("indicator", String(40), primary_key=True),
    Column("since_ms", BigInteger, nullable=False),  # of the first unusable reading
    Column("last_ms", BigInteger, nullable=False),  # of the newest, to the minute
    Column("what", String(8), nullable=False),  # range | missing | flat
)
companions = Table(
    "companions",
    metadata,
    Column("plot_id", String(40), primary_key=True),
    Column("indicator", String(40), primary_key=True),
    # station/device where a probe's own values count, blank: whichever of the plot was first
    Column("series", String(121), primary_key=True, server_default=""),
    Column("t_ms", BigInteger, primary_key=True),
    Column("value", Float, nullable=False),
    Index(None, "t_ms"),
)
events = Table(
    "events",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("type", String(24), nullable=False),  # alert | test | station | delivery | link
    Column("station", String(40), nullable=False),
    Column("alert_id", String(26), nullable=False, server_default=""),
    Column("data", JSON, nullable=False),
    sqlite_autoincrement=True,  # ids are never used twice: Last-Event-ID counts on it
)
