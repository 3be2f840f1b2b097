"""The home that a database belongs to."""

import sqlalchemy as sa
from alembic import op

from varro.ledger import tables

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "homes",
        sa.Column("id", tables.Text, nullable=False),
        sa.Column("told", tables.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
