"""Companions that belong to one probe; indexes for the last tests of an instrument and for pruning."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OF_TESTS = (
    ("station", "device", "parameter", "inbox_pos"),
    ("station", "device", "tested_ms"),
)
_KEY = ["plot_id", "indicator", "t_ms"]
_PK = "pk_companions"


def upgrade() -> None:
    """Add the series of a companion and the indexes.

    Oxygen kept per plot goes: of which probe it was is not known. The 24 h of a pond begin anew.
    """
    op.execute("DELETE FROM companions WHERE indicator = 'water_do'")
    with op.batch_alter_table("companions") as batch:
        batch.add_column(
            sa.Column("series", sa.String(length=121), server_default="", nullable=False)
        )
        batch.drop_constraint(_PK, type_="primary")
        batch.create_primary_key(_PK, ["plot_id", "indicator", "series", "t_ms"])
    op.create_index(op.f("ix_companions_t_ms"), "companions", ["t_ms"])
    for columns in _OF_TESTS:
        op.create_index(op.f(f"ix_tests_{'_'.join(columns)}"), "tests", list(columns))


def downgrade() -> None:
    """Take them away again, and the oxygen of single probes with them."""
    for columns in _OF_TESTS:
        op.drop_index(op.f(f"ix_tests_{'_'.join(columns)}"), table_name="tests")
    op.drop_index(op.f("ix_companions_t_ms"), table_name="companions")
    op.execute("DELETE FROM companions WHERE series <> ''")
    with op.batch_alter_table("companions") as batch:
        batch.drop_constraint(_PK, type_="primary")
        batch.create_primary_key(_PK, _KEY)
        batch.drop_column("series")
