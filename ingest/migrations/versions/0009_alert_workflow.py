"""Cases, clocks, laboratory reports, endpoints with keys of their own, policies, people, an administration log.

Secrets of endpoints no longer stand in the table in plain text: they are read again from their files at the next start.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_OPEN_BEFORE = sa.text("state IN ('suspected', 'confirmed', 'open')")
_OPEN = sa.text(
    "state IN ('suspected', 'retest_ordered', 'confirmed', 'handed_over', 'in_enforcement', 'open')"
)
_NEW = (
    "administration_log",
    "laboratory_reports",
    "policies",
    "silences",
    "targets",
    "cases",
    "endpoint_keys",
    "messages",
    "notices",
    "receipts",
    "case_steps",
    "clocks",
)


def _one_open_alert(condition: sa.TextClause) -> None:
    op.drop_index("uq_alerts_open_dedup_key", table_name="alerts")
    op.create_index(
        "uq_alerts_open_dedup_key",
        "alerts",
        ["dedup_key"],
        unique=True,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "administration_log",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=100), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("prev_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_administration_log")),
    )
    op.create_table(
        "laboratory_reports",
        sa.Column("report_id", sa.String(length=26), nullable=False),
        sa.Column("station", sa.String(length=40), nullable=False),
        sa.Column("sample_no", sa.String(length=60), nullable=False),
        sa.Column("laboratory", sa.String(length=120), nullable=False),
        sa.Column("report_no", sa.String(length=80), nullable=False),
        sa.Column("report_sha256", sa.String(length=64), server_default="", nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("alert_id", sa.String(length=26), nullable=True),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("entered_by", sa.Text(), nullable=False),
        sa.Column("entered_ms", sa.BigInteger(), nullable=False),
        sa.Column("record_ids", sa.JSON(), nullable=False),
        sa.Column("content_sha256", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=60), server_default="", nullable=False),
        sa.Column("reported_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("superseded_by", sa.String(length=26), nullable=True),
        sa.Column("paired_ms", sa.BigInteger(), nullable=True),
        sa.Column("pairing", sa.JSON(), server_default="[]", nullable=False),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_laboratory_reports")),
    )
    op.create_index(op.f("ix_laboratory_reports_alert_id"), "laboratory_reports", ["alert_id"])
    op.create_index(op.f("ix_laboratory_reports_paired_ms"), "laboratory_reports", ["paired_ms"])
    op.create_index(
        op.f("ix_laboratory_reports_laboratory_report_no_sample_no"),
        "laboratory_reports",
        ["laboratory", "report_no", "sample_no"],
    )
    op.create_index(op.f("ix_findings_record_id"), "findings", ["record_id"])
    op.create_index(
        op.f("ix_laboratory_reports_station_sample_no"),
        "laboratory_reports",
        ["station", "sample_no"],
    )

    op.create_table(
        "policies",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("source", sa.String(length=8), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("changed_by", sa.Text(), server_default="", nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policies")),
    )
    op.create_table(
        "silences",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("matchers", sa.JSON(), nullable=False),
        sa.Column("starts_ms", sa.BigInteger(), nullable=False),
        sa.Column("ends_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("settled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_silences")),
    )
    op.create_index(op.f("ix_silences_ends_ms"), "silences", ["ends_ms"])

    op.create_table(
        "targets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("language", sa.String(length=4), server_default="zh", nullable=False),
        sa.Column("rate_per_min", sa.Integer(), server_default="20", nullable=False),
        sa.Column("digest_s", sa.Integer(), server_default="60", nullable=False),
        sa.Column("quiet", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("operator", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("source", sa.String(length=8), server_default="config", nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_targets")),
    )
    op.create_table(
        "cases",
        sa.Column("case_id", sa.String(length=26), nullable=False),
        sa.Column("alert_id", sa.String(length=26), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("opened_ms", sa.BigInteger(), nullable=False),
        sa.Column("closed_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.alert_id"], name=op.f("fk_cases_alert_id")),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_cases")),
        sa.UniqueConstraint("alert_id", name=op.f("uq_cases_alert_id")),
    )
    op.create_table(
        "endpoint_keys",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("endpoint_id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("public", sa.Text(), server_default="", nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("ends_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_endpoint_keys_endpoint_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoint_keys")),
    )
    op.create_index(op.f("ix_endpoint_keys_endpoint_id"), "endpoint_keys", ["endpoint_id"])

    op.create_table(
        "messages",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("target_id", sa.String(length=40), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("notices", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("delivered", sa.Boolean(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["target_id"], ["targets.id"], name=op.f("fk_messages_target_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )
    op.create_index(op.f("ix_messages_target_id_at_ms"), "messages", ["target_id", "at_ms"])

    op.create_table(
        "notices",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("target_id", sa.String(length=40), nullable=False),
        sa.Column("alert_id", sa.String(length=26), nullable=True),
        sa.Column("event_type", sa.String(length=40), nullable=False),
        sa.Column("severity", sa.String(length=12), nullable=False),
        sa.Column("group_key", sa.String(length=120), server_default="", nullable=False),
        sa.Column("snapshot", sa.JSON(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("message_id", sa.String(length=26), server_default="", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.alert_id"], name=op.f("fk_notices_alert_id")
        ),
        sa.ForeignKeyConstraint(["target_id"], ["targets.id"], name=op.f("fk_notices_target_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    op.create_index(op.f("ix_notices_alert_id"), "notices", ["alert_id"])
    op.create_index(
        op.f("ix_notices_target_id_state_due_ms"), "notices", ["target_id", "state", "due_ms"]
    )

    op.create_table(
        "receipts",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("endpoint_id", sa.String(length=40), nullable=False),
        sa.Column("alert_id", sa.String(length=26), nullable=False),
        sa.Column("alert_seq", sa.Integer(), nullable=False),
        sa.Column("webhook_id", sa.String(length=100), server_default="", nullable=False),
        sa.Column("decision", sa.String(length=24), nullable=False),
        sa.Column("case_no", sa.String(length=80), server_default="", nullable=False),
        sa.Column("handler", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("outcome", sa.String(length=32), server_default="", nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.alert_id"], name=op.f("fk_receipts_alert_id")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_receipts_endpoint_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipts")),
    )
    op.create_index(op.f("ix_receipts_alert_id"), "receipts", ["alert_id"])
    op.create_index(
        op.f("ix_receipts_endpoint_id_alert_id_alert_seq_decision_case_no"),
        "receipts",
        ["endpoint_id", "alert_id", "alert_seq", "decision", "case_no"],
        unique=True,
    )

    op.create_table(
        "case_steps",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("case_id", sa.String(length=26), nullable=False),
        sa.Column("alert_seq", sa.Integer(), nullable=False),
        sa.Column("step", sa.String(length=32), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("recorded_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("document_type", sa.String(length=60), server_default="", nullable=False),
        sa.Column("document_no", sa.String(length=80), server_default="", nullable=False),
        sa.Column("document_sha256", sa.String(length=64), server_default="", nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.case_id"], name=op.f("fk_case_steps_case_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_steps")),
    )
    op.create_index(op.f("ix_case_steps_case_id"), "case_steps", ["case_id"])

    op.create_table(
        "clocks",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("case_id", sa.String(length=26), nullable=False),
        sa.Column("alert_id", sa.String(length=26), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("length", sa.String(length=12), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("missing_year", sa.Integer(), nullable=True),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.String(length=32), server_default="", nullable=False),
        sa.Column("voided", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("overdue_ms", sa.BigInteger(), nullable=True),
        sa.Column("escalated_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.alert_id"], name=op.f("fk_clocks_alert_id")),
        sa.ForeignKeyConstraint(["case_id"], ["cases.case_id"], name=op.f("fk_clocks_case_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clocks")),
    )
    op.create_index(op.f("ix_clocks_alert_id"), "clocks", ["alert_id"])
    op.create_index(op.f("ix_clocks_due_ms"), "clocks", ["due_ms"])

    op.add_column(
        "alert_transitions",
        sa.Column("event", sa.String(length=48), server_default="", nullable=False),
    )
    op.add_column(
        "alert_transitions", sa.Column("data", sa.JSON(), server_default="{}", nullable=False)
    )
    op.add_column(
        "alerts", sa.Column("purpose", sa.String(length=16), server_default="", nullable=False)
    )
    op.add_column(
        "alerts",
        sa.Column("sampling_stage", sa.String(length=16), server_default="", nullable=False),
    )
    op.add_column("alerts", sa.Column("due_ms", sa.BigInteger(), nullable=True))
    op.add_column("alerts", sa.Column("silenced_until_ms", sa.BigInteger(), nullable=True))
    op.add_column(
        "alerts", sa.Column("inhibited_by", sa.JSON(), server_default="[]", nullable=False)
    )
    op.add_column("alerts", sa.Column("retest", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("alerts", sa.Column("handover", sa.JSON(), server_default="{}", nullable=False))
    op.add_column(
        "alerts", sa.Column("outcome", sa.String(length=32), server_default="", nullable=False)
    )
    op.add_column("alerts", sa.Column("related", sa.JSON(), server_default="[]", nullable=False))
    op.create_index(op.f("ix_alerts_due_ms"), "alerts", ["due_ms"])
    op.add_column(
        "delivery_attempts", sa.Column("key_ids", sa.JSON(), server_default="[]", nullable=False)
    )
    op.add_column(
        "delivery_attempts",
        sa.Column("replay", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "endpoints",
        sa.Column("source", sa.String(length=8), server_default="config", nullable=False),
    )
    op.add_column(
        "endpoints",
        sa.Column("allow_http", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "endpoints", sa.Column("concurrency", sa.Integer(), server_default="4", nullable=False)
    )
    op.add_column("endpoints", sa.Column("rate_per_min", sa.Integer(), nullable=True))
    op.add_column("endpoints", sa.Column("bearer", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "endpoints", sa.Column("client_certificate", sa.Text(), server_default="", nullable=False)
    )
    op.add_column("endpoints", sa.Column("verified_ms", sa.BigInteger(), nullable=True))
    op.add_column("endpoints", sa.Column("failing_since_ms", sa.BigInteger(), nullable=True))
    op.add_column(
        "endpoints", sa.Column("version", sa.Integer(), server_default="1", nullable=False)
    )
    op.drop_column("endpoints", "secret")
    op.add_column("outbox", sa.Column("replays", sa.Integer(), server_default="0", nullable=False))

    op.create_table(
        "series_faults",
        sa.Column("station", sa.String(length=40), nullable=False),
        sa.Column("device", sa.String(length=80), nullable=False),
        sa.Column("indicator", sa.String(length=40), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("what", sa.String(length=8), nullable=False),
        sa.PrimaryKeyConstraint("station", "device", "indicator", name=op.f("pk_series_faults")),
    )

    _one_open_alert(_OPEN)


def downgrade() -> None:
    """Take them away again; alerts in states that the release before does not know are left as they are."""
    _one_open_alert(_OPEN_BEFORE)
    op.drop_table("series_faults")
    op.drop_column("outbox", "replays")
    op.add_column("endpoints", sa.Column("secret", sa.Text(), nullable=False, server_default=""))
    op.drop_column("endpoints", "version")
    op.drop_column("endpoints", "failing_since_ms")
    op.drop_column("endpoints", "verified_ms")
    op.drop_column("endpoints", "client_certificate")
    op.drop_column("endpoints", "bearer")
    op.drop_column("endpoints", "rate_per_min")
    op.drop_column("endpoints", "concurrency")
    op.drop_column("endpoints", "allow_http")
    op.drop_column("endpoints", "source")
    op.drop_column("delivery_attempts", "replay")
    op.drop_column("delivery_attempts", "key_ids")
    op.drop_index(op.f("ix_findings_record_id"), table_name="findings")
    op.drop_index(op.f("ix_alerts_due_ms"), table_name="alerts")
    op.drop_column("alerts", "related")
    op.drop_column("alerts", "outcome")
    op.drop_column("alerts", "handover")
    op.drop_column("alerts", "retest")
    op.drop_column("alerts", "inhibited_by")
    op.drop_column("alerts", "silenced_until_ms")
    op.drop_column("alerts", "due_ms")
    op.drop_column("alerts", "sampling_stage")
    op.drop_column("alerts", "purpose")
    op.drop_column("alert_transitions", "data")
    op.drop_column("alert_transitions", "event")
    for name in reversed(_NEW):
        op.drop_table(name)
