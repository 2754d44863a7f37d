"""Enrolment: when a gateway key was replaced, what the broker lets in."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("gateway_keys", sa.Column("replaced_ms", sa.BigInteger(), nullable=True))
    op.create_table(
        "broker_credentials",
        sa.Column("username", sa.String(length=40), nullable=False),
        sa.Column("station", sa.String(length=40), nullable=True),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("certificate_serial", sa.String(length=64), server_default="", nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["station"], ["stations.code"], name=op.f("fk_broker_credentials_station")
        ),
        sa.PrimaryKeyConstraint("username", name=op.f("pk_broker_credentials")),
    )


def downgrade() -> None:
    """Remove both; a replaced key is as good as refused to an older server."""
    op.drop_table("broker_credentials")
    op.drop_column("gateway_keys", "replaced_ms")
