"""Which record a test completes or corrects, and which one took its place."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = ("parent_record_id", "superseded_by")


def upgrade() -> None:
    """Add both; of the records stored so far none was completed."""
    with op.batch_alter_table("tests") as batch:
        for name in _COLUMNS:
            batch.add_column(sa.Column(name, sa.String(length=64), nullable=True))
    for name in _COLUMNS:
        op.create_index(op.f(f"ix_tests_{name}"), "tests", [name])


def downgrade() -> None:
    """Take them away: a completion counts beside what it completes again."""
    for name in _COLUMNS:
        op.drop_index(op.f(f"ix_tests_{name}"), table_name="tests")
    with op.batch_alter_table("tests") as batch:
        for name in _COLUMNS:
            batch.drop_column(name)
