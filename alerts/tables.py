"""Tables of the operational database that alerting owns."""

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
    LargeBinary,
    String,
    Table,
    Text,
    false,
    text,
)

from ingest.tables import AutoId, metadata

OPEN_STATES = ("suspected", "confirmed", "open")

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", String(26), primary_key=True),  # ULID
    Column("dedup_key", String(64), nullable=False),
    Column("kind", String(24), nullable=False),  # limit | test | technical kinds
    Column("rule_id", String(120), nullable=False),
    Column("state", String(20), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("severity", String(12), nullable=False),
    Column("certainty", String(12), nullable=False),  # sensor | screening | confirmatory
    Column("station", String(40), nullable=False),
    Column("device", String(80), nullable=False),
    Column("plot_id", String(40), nullable=False, server_default=""),
    Column("region_code", String(12), nullable=False, server_default=""),
    Column("indicator", String(80), nullable=False),
    Column("product_name", Text, nullable=False, server_default=""),
    Column("sample_no", String(60), nullable=False, server_default=""),
    Column("value", Float),
    Column("unit", String(24), nullable=False),
    Column("citation", JSON, nullable=False),
    Column(
        "evidence", JSON, nullable=False
    ),  # {"finding_id","station","epoch","seq","position","inbox_pos","record_id"}
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),
    Column("occurrence_count", Integer, nullable=False),
    Column("acked_by", Text, nullable=False, server_default=""),
    Column("acked_ms", BigInteger),
    Column(
        "flags", JSON, nullable=False
    ),  # late, clock_suspect, limit_unverified, flapping, data_stale, fp_prone
    Column(
        "clearable", Boolean, nullable=False, server_default=false()
    ),  # a process parameter: may clear by itself
    Column(
        "below_since_ms", BigInteger
    ),  # process parameters: since when values are past the recovery threshold
    Column("recovered_ms", BigInteger),  # the newest value past the recovery threshold
    Column("raised_ms", BigInteger, nullable=False),  # when we raised it
    Column("changed_ms", BigInteger, nullable=False),
    Index(
        "uq_alerts_open_dedup_key",
        "dedup_key",
        unique=True,
        sqlite_where=text("state IN ('suspected', 'confirmed', 'open')"),
        postgresql_where=text("state IN ('suspected', 'confirmed', 'open')"),
    ),
    Index(None, "state"),
    Index(None, "changed_ms"),
    Index(None, "dedup_key"),
)
alert_transitions = Table(
    "alert_transitions",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("alert_id", ForeignKey("alerts.alert_id"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("from_state", String(20), nullable=False),
    Column("to_state", String(20), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index(None, "alert_id", "seq", unique=True),
)
endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),  # whsec_…; never returned by the API
    Column("active", Boolean, nullable=False),  # in the configuration
    Column("suspended_ms", BigInteger),  # since when: the receiver answered 410
)
outbox = Table(
    "outbox",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("webhook_id", String(100), nullable=False, unique=True),  # evt_<ulid>_<endpoint>
    Column("event_id", String(40), nullable=False),
    Column("event_type", String(40), nullable=False),
    Column("alert_id", ForeignKey("alerts.alert_id"), nullable=False),
    Column("alert_seq", Integer, nullable=False),
    Column("endpoint_id", ForeignKey("endpoints.id"), nullable=False),
    Column("body", LargeBinary, nullable=False),  # sent as it is, each time
    Column("state", String(12), nullable=False),  # pending | delivered | undelivered
    Column("attempts", Integer, nullable=False),
    Column("next_ms", BigInteger, nullable=False),
    Column("locked_until_ms", BigInteger, nullable=False, server_default="0"),
    Column("created_ms", BigInteger, nullable=False),
    Column("delivered_ms", BigInteger),
    Index(None, "state", "next_ms"),
    Index(None, "endpoint_id", "state", "next_ms"),
    Index(None, "alert_id"),
)
delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("outbox_id", ForeignKey("outbox.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("status_code", Integer),
    Column("error", Text, nullable=False),
    Column("response", Text, nullable=False),  # at most 4 KiB, as text
    Index(None, "outbox_id"),
)
settings = Table(
    "settings",
    metadata,
    Column("name", String(40), primary_key=True),  # incarnation
    Column("value", Text, nullable=False),
)
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),  # SHA-256 of the key
    Column("created_ms", BigInteger, nullable=False),
)
