"""The home that a database belongs to."""

import sqlalchemy as sa
from alembic import op

from varro.ledger import tables

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "homes",
        sa.Column("id", tables.Text, nullable=False),
        sa.Column("told", tables.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
