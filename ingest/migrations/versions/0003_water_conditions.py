"""What picks the limits of fish ponds, surface water and drinking water of animals: columns of the plot."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("water", 12),
    ("salmonid", 4),
    ("shellfish", 4),
    ("ice_covered", 4),
    ("animal", 12),
    ("animal_age", 8),
)


def upgrade() -> None:
    """Add the columns, blank: not registered."""
    for name, length in _COLUMNS:
        op.add_column(
            "plots", sa.Column(name, sa.String(length=length), server_default="", nullable=False)
        )


def downgrade() -> None:
    """Remove them; the registry file still has what they said."""
    for name, _ in reversed(_COLUMNS):
        op.drop_column("plots", name)
