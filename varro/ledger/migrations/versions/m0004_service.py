"""Who may write to a run, and the cycles that nobody ran."""

import sqlalchemy as sa
from alembic import op

from varro.ledger import tables

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("run", tables.Text, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("holder", tables.Text, nullable=False),
        sa.Column("since", tables.UtcTime(length=32), nullable=True),
        sa.PrimaryKeyConstraint("run"),
    )
    op.create_table(
        "missed_cycles",
        sa.Column("run", tables.Text, nullable=False),
        sa.Column("day", tables.Text, nullable=False),
        sa.Column("due_at", tables.UtcTime(length=32), nullable=False),
        sa.Column("noted_on", tables.Text, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.name"]),
        sa.PrimaryKeyConstraint("run", "day"),
    )
