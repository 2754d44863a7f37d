"""Quality of readings: windows of work on a device, what a site says is possible there."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "device_windows",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("station", sa.String(length=40), nullable=False),
        sa.Column("device", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("set_by", sa.String(length=60), nullable=False),
        sa.Column("set_ms", sa.BigInteger(), nullable=False),
        sa.Column("cancelled_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_windows")),
    )
    op.create_index(
        op.f("ix_device_windows_station_device"), "device_windows", ["station", "device"]
    )
    op.create_table(
        "quality_limits",
        sa.Column("station", sa.String(length=40), nullable=False),
        sa.Column("device", sa.String(length=80), nullable=False),
        sa.Column("indicator", sa.String(length=40), nullable=False),
        sa.Column("min", sa.Float(), nullable=True),
        sa.Column("max", sa.Float(), nullable=True),
        sa.Column("spike", sa.Float(), nullable=True),
        sa.Column("rate_per_s", sa.Float(), nullable=True),
        sa.Column("flat_s", sa.Float(), nullable=True),
        sa.Column("gap_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("station", "device", "indicator", name=op.f("pk_quality_limits")),
    )


def downgrade() -> None:
    """Remove both; the registry file still has the limits, the windows are lost."""
    op.drop_table("quality_limits")
    op.drop_index(op.f("ix_device_windows_station_device"), table_name="device_windows")
    op.drop_table("device_windows")
