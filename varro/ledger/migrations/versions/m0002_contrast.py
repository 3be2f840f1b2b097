"""Why a text earned nothing, advantages, and a store of sentence vectors."""

import sqlalchemy as sa
from alembic import op

from varro.ledger import tables

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("settlements", schema=None) as batch_op:
        batch_op.add_column(sa.Column("invalid_reason", tables.Text, nullable=True))
    op.create_table(
        "advantages",
        sa.Column("run", tables.Text, nullable=False),
        sa.Column("forecast_id", tables.Text, nullable=False),
        sa.Column("day", tables.Text, nullable=False),
        sa.Column("advantage", sa.Double(), nullable=False),
        sa.Column("components", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.name"]),
        sa.ForeignKeyConstraint(["forecast_id"], ["forecasts.id"]),
        sa.PrimaryKeyConstraint("run", "forecast_id"),
    )
    op.create_table(
        "embeddings",
        sa.Column("key", tables.Text, nullable=False),
        sa.Column("vector", tables.Float32Array(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
