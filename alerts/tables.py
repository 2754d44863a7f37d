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

OPEN_STATES = (
    "suspected",
    "retest_ordered",
    "confirmed",
    "handed_over",
    "in_enforcement",
    "open",
)
_OPEN_SQL = text("state IN ({})".format(", ".join(f"'{state}'" for state in OPEN_STATES)))

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", String(26), primary_key=True),  # ULID
    Column("dedup_key", String(64), nullable=False),
    Column("kind", String(24), nullable=False),  # limit | test | cluster | technical kinds
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
    ),  # late, clock_suspect, limit_unverified, flapping, data_stale, overdue, fp_prone
    Column(
        "clearable", Boolean, nullable=False, server_default=false()
    ),  # a process parameter: may clear by itself
    Column(
        "below_since_ms", BigInteger
    ),  # process parameters: since when values are past the recovery threshold
    Column("recovered_ms", BigInteger),  # the newest value past the recovery threshold
    Column("raised_ms", BigInteger, nullable=False),  # when we raised it
    Column("changed_ms", BigInteger, nullable=False),
    Column(
        "purpose", String(16), nullable=False, server_default=""
    ),  # of tests; enum of the record
    Column("sampling_stage", String(16), nullable=False, server_default=""),
    Column("due_ms", BigInteger),  # of the running clock that ends first
    Column("silenced_until_ms", BigInteger),
    Column("inhibited_by", JSON, nullable=False, server_default="[]"),  # alert ids
    Column("retest", JSON, nullable=False, server_default="{}"),  # order_id, lab, result, report_no
    Column("handover", JSON, nullable=False, server_default="{}"),  # agency, case_no, at_ms
    Column("outcome", String(32), nullable=False, server_default=""),  # code given when closed
    Column("related", JSON, nullable=False, server_default="[]"),  # [{"relation", "alert_id"}]
    Index(
        "uq_alerts_open_dedup_key",
        "dedup_key",
        unique=True,
        sqlite_where=_OPEN_SQL,
        postgresql_where=_OPEN_SQL,
    ),
    Index(None, "state"),
    Index(None, "changed_ms"),
    Index(None, "dedup_key"),
    Index(None, "due_ms"),
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
    Column(
        "event", String(48), nullable=False, server_default=""
    ),  # blank in rows of older releases
    Column("data", JSON, nullable=False, server_default="{}"),  # what else was said, hashed too
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index(None, "alert_id", "seq", unique=True),
)

# ---------------------------------------------------------------- cases and their clocks

cases = Table(
    "cases",
    metadata,
    Column("case_id", String(26), primary_key=True),  # ULID
    Column("alert_id", ForeignKey("alerts.alert_id"), nullable=False, unique=True),
    Column("side", String(8), nullable=False),  # farm | market: whose law sets the clocks
    Column("opened_ms", BigInteger, nullable=False),
    Column("closed_ms", BigInteger),
)
case_steps = Table(
    "case_steps",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("case_id", ForeignKey("cases.case_id"), nullable=False),
    Column("alert_seq", Integer, nullable=False),  # the log row that records it
    Column("step", String(32), nullable=False),
    Column("at_ms", BigInteger, nullable=False),  # when it happened
    Column("recorded_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("document_type", String(60), nullable=False, server_default=""),
    Column("document_no", String(80), nullable=False, server_default=""),
    Column("document_sha256", String(64), nullable=False, server_default=""),
    Column("data", JSON, nullable=False),
    Index(None, "case_id"),
)
clocks = Table(
    "clocks",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("case_id", ForeignKey("cases.case_id"), nullable=False),
    Column("alert_id", ForeignKey("alerts.alert_id"), nullable=False),
    Column("name", String(40), nullable=False),
    Column("basis", Text, nullable=False),  # law and article
    Column("length", String(12), nullable=False),  # as it was when the clock began: 5 wd
    Column("started_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger),  # null: working days, and the table of ``missing_year`` lacks
    Column("missing_year", Integer),
    Column("ended_ms", BigInteger),  # the step it waits for was taken, or the case moved on
    Column("ended_by", String(32), nullable=False, server_default=""),  # step or trigger
    Column("voided", Boolean, nullable=False, server_default=false()),  # ended, but not met
    Column("overdue_ms", BigInteger),  # when its passing was noticed
    Column("escalated_ms", BigInteger),
    Index(None, "alert_id"),
    Index(None, "due_ms"),
)

# ---------------------------------------------------------------- laboratory

laboratory_reports = Table(
    "laboratory_reports",
    metadata,
    Column("report_id", String(26), primary_key=True),  # ULID
    Column("station", String(40), nullable=False),
    Column("sample_no", String(60), nullable=False),
    Column("laboratory", String(120), nullable=False),
    Column("report_no", String(80), nullable=False),
    Column("report_sha256", String(64), nullable=False, server_default=""),
    Column("complete", Boolean, nullable=False),  # covers what the screening was for
    Column("alert_id", String(26)),  # entered for this suspect; null: paired by sample
    Column("source", String(12), nullable=False),  # page | api | import
    Column("entered_by", Text, nullable=False),
    Column("entered_ms", BigInteger, nullable=False),
    Column("record_ids", JSON, nullable=False),  # the records that went through the inbox
    Column(
        "content_sha256", String(64), nullable=False
    ),  # of what was entered: the same again, or another
    Column("method", String(60), nullable=False, server_default=""),
    Column("reported_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger),  # when the laboratory got the sample
    Column("note", Text, nullable=False, server_default=""),
    Column("superseded_by", String(26)),  # the report that took its place
    Column("paired_ms", BigInteger),  # null: its records are not all judged yet
    Column("pairing", JSON, nullable=False, server_default="[]"),  # what it said of which suspect
    Index(None, "station", "sample_no"),
    Index(None, "alert_id"),
    Index(None, "paired_ms"),
    Index(None, "laboratory", "report_no", "sample_no"),
)

# ---------------------------------------------------------------- who is told

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("active", Boolean, nullable=False),  # gets events
    Column("suspended_ms", BigInteger),  # since when: it answered 410, or failed for five days
    Column("source", String(8), nullable=False, server_default="config"),  # config | api
    Column("allow_http", Boolean, nullable=False, server_default=false()),
    Column("concurrency", Integer, nullable=False, server_default="4"),
    Column("rate_per_min", Integer),  # null: as fast as it answers
    Column("bearer", Text, nullable=False, server_default=""),  # encrypted
    Column("client_certificate", Text, nullable=False, server_default=""),  # PEM, key encrypted
    Column("verified_ms", BigInteger),  # the challenge was answered
    Column("failing_since_ms", BigInteger),  # no attempt has succeeded since
    Column("version", Integer, nullable=False, server_default="1"),
)
endpoint_keys = Table(  # they sign; the receipts of an endpoint come with ``receipt`` keys
    "endpoint_keys",
    metadata,
    Column("id", String(26), primary_key=True),  # ULID; what logs name
    Column("endpoint_id", ForeignKey("endpoints.id"), nullable=False),
    Column("kind", String(8), nullable=False),  # hmac | ed25519 | receipt
    Column("secret", Text, nullable=False),  # encrypted with the master key; receipt: SHA-256
    Column("public", Text, nullable=False, server_default=""),  # whpk_…
    Column("created_ms", BigInteger, nullable=False),
    Column("ends_ms", BigInteger),  # signs no longer
    Index(None, "endpoint_id"),
)
receipts = Table(  # what a regulator's system said of an alert
    "receipts",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("endpoint_id", ForeignKey("endpoints.id"), nullable=False),
    Column("alert_id", ForeignKey("alerts.alert_id"), nullable=False),
    Column("alert_seq", Integer, nullable=False),
    Column("webhook_id", String(100), nullable=False, server_default=""),
    Column("decision", String(24), nullable=False),  # received | accepted | rejected | outcome
    Column("case_no", String(80), nullable=False, server_default=""),
    Column("handler", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
    Column("outcome", String(32), nullable=False, server_default=""),
    Column("at_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Index(None, "alert_id"),
    Index(None, "endpoint_id", "alert_id", "alert_seq", "decision", "case_no", unique=True),
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
    Column("replays", Integer, nullable=False, server_default="0"),
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
    Column("key_ids", JSON, nullable=False, server_default="[]"),  # that signed it
    Column("replay", Boolean, nullable=False, server_default=false()),
    Index(None, "outbox_id"),
)
targets = Table(  # people: robots, mail
    "targets",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(12), nullable=False),  # wecom | dingtalk | feishu | smtp | apprise
    Column("name", Text, nullable=False),
    Column("settings", Text, nullable=False),  # JSON, encrypted: it holds addresses and tokens
    Column("language", String(4), nullable=False, server_default="zh"),  # zh | en | both
    Column("rate_per_min", Integer, nullable=False, server_default="20"),
    Column("digest_s", Integer, nullable=False, server_default="60"),
    Column("quiet", JSON, nullable=False, server_default="{}"),  # {"from": "22:00", "to": "07:00"}
    Column(
        "operator", Boolean, nullable=False, server_default=false()
    ),  # of the server: told of its faults
    Column("active", Boolean, nullable=False),
    Column("source", String(8), nullable=False, server_default="config"),
    Column("version", Integer, nullable=False, server_default="1"),
)
notices = Table(  # what people are to be told; several make one message
    "notices",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("target_id", ForeignKey("targets.id"), nullable=False),
    Column("alert_id", ForeignKey("alerts.alert_id")),
    Column("event_type", String(40), nullable=False),
    Column("severity", String(12), nullable=False),
    Column("group_key", String(120), nullable=False, server_default=""),
    Column("snapshot", JSON, nullable=False),  # data of the event, as in the webhook
    Column("created_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),  # not before: digest, quiet hours, back-off
    Column("state", String(12), nullable=False),  # pending | sent | failed | dropped
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("message_id", String(26), nullable=False, server_default=""),
    Column("error", Text, nullable=False, server_default=""),
    Index(None, "target_id", "state", "due_ms"),
    Index(None, "alert_id"),
)
messages = Table(  # sent to people, with what was answered
    "messages",
    metadata,
    Column("id", String(26), primary_key=True),  # ULID
    Column("target_id", ForeignKey("targets.id"), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("notices", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("delivered", Boolean, nullable=False),
    Column("status_code", Integer),
    Column("error", Text, nullable=False, server_default=""),
    Index(None, "target_id", "at_ms"),
)
policies = Table(
    "policies",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("document", JSON, nullable=False),  # alerts/policies/policy.py
    Column("active", Boolean, nullable=False),
    Column("source", String(8), nullable=False),  # config | api
    Column("version", Integer, nullable=False, server_default="1"),
    Column("changed_by", Text, nullable=False, server_default=""),
    Column("changed_ms", BigInteger, nullable=False),
)
silences = Table(
    "silences",
    metadata,
    Column("id", String(26), primary_key=True),  # ULID
    Column("matchers", JSON, nullable=False),
    Column("starts_ms", BigInteger, nullable=False),
    Column("ends_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),  # before its time, by a person
    Column("settled", Boolean, nullable=False, server_default=false()),  # the state now was told
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index(None, "ends_ms"),
)
administration_log = (
    Table(  # who changed endpoints, keys, targets, policies, silences; hash-chained
        "administration_log",
        metadata,
        Column("id", AutoId, primary_key=True, autoincrement=True),
        Column("at_ms", BigInteger, nullable=False),
        Column("actor", Text, nullable=False),
        Column(
            "action", String(40), nullable=False
        ),  # endpoint.created, key.rotated, event.replayed …
        Column("subject", String(100), nullable=False),
        Column("data", JSON, nullable=False),  # never a secret
        Column("prev_hash", String(64), nullable=False),
        Column("hash", String(64), nullable=False),
    )
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
