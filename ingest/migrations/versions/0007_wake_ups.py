"""On PostgreSQL each new row of the events wakes the processes that wait for it, with the commit."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the trigger; SQLite serves one process, which wakes itself."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(
        """
        CREATE FUNCTION agrigate_wake() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_notify('agrigate_events', ''); RETURN NULL; END $$
        """
    )
    op.execute(
        "CREATE TRIGGER agrigate_wake AFTER INSERT ON events"
        " FOR EACH STATEMENT EXECUTE FUNCTION agrigate_wake()"
    )


def downgrade() -> None:
    """Take it away again; who waits looks once a second."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("DROP TRIGGER agrigate_wake ON events")
    op.execute("DROP FUNCTION agrigate_wake()")
