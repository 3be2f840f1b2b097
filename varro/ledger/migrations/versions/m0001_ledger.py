"""The day's ledger: the first schema."""

import sqlalchemy as sa
from alembic import op

from varro.ledger import tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "headlines",
        sa.Column("id", tables.Text, nullable=False),
        sa.Column("corpus", tables.Text, nullable=False),
        sa.Column("feed", tables.Text, nullable=False),
        sa.Column("source", tables.Text, nullable=False),
        sa.Column("guid", tables.Text, nullable=False),
        sa.Column("title", tables.Text, nullable=False),
        sa.Column("link", tables.Text, nullable=False),
        sa.Column("published", tables.UtcTime(length=32), nullable=True),
        sa.Column("first_seen", tables.UtcTime(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("headlines", schema=None) as batch_op:
        batch_op.create_index("ix_headlines_clock", ["corpus", "first_seen"], unique=False)

    op.create_table(
        "runs",
        sa.Column("name", tables.Text, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("corpus", tables.Text, nullable=False),
        sa.Column("config_hash", tables.Text, nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("varro_version", tables.Text, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("run", tables.Text, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("day", tables.Text, nullable=False),
        sa.Column("path", tables.Text, nullable=False),
        sa.Column("sha256", tables.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["run"],
            ["runs.name"],
        ),
        sa.PrimaryKeyConstraint("run", "version"),
    )
    op.create_table(
        "evaluations",
        sa.Column("run", tables.Text, nullable=False),
        sa.Column("day", tables.Text, nullable=False),
        sa.Column("n_headlines", sa.Integer(), nullable=False),
        sa.Column("lift", sa.Double(), nullable=True),
        sa.Column("lift_low", sa.Double(), nullable=True),
        sa.Column("lift_high", sa.Double(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run"],
            ["runs.name"],
        ),
        sa.PrimaryKeyConstraint("run", "day"),
    )
    op.create_table(
        "groups",
        sa.Column("id", tables.Text, nullable=False),
        sa.Column("run", tables.Text, nullable=False),
        sa.Column("day", tables.Text, nullable=False),
        sa.Column("role", tables.Text, nullable=False),
        sa.Column("headline_id", tables.Text, nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("made_at", tables.UtcTime(length=32), nullable=False),
        sa.Column("prompt_version", tables.Text, nullable=False),
        sa.Column("prompt_ids", tables.Int32Array(), nullable=False),
        sa.ForeignKeyConstraint(
            ["headline_id"],
            ["headlines.id"],
        ),
        sa.ForeignKeyConstraint(
            ["run"],
            ["runs.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("groups", schema=None) as batch_op:
        batch_op.create_index("ix_groups_day", ["run", "day", "role"], unique=False)

    op.create_table(
        "stage_runs",
        sa.Column("run", tables.Text, nullable=False),
        sa.Column("day", tables.Text, nullable=False),
        sa.Column("stage", tables.Text, nullable=False),
        sa.Column("as_of", tables.UtcTime(length=32), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run"],
            ["runs.name"],
        ),
        sa.PrimaryKeyConstraint("run", "day", "stage"),
    )
    op.create_table(
        "updates",
        sa.Column("run", tables.Text, nullable=False),
        sa.Column("day", tables.Text, nullable=False),
        sa.Column("from_version", sa.Integer(), nullable=False),
        sa.Column("to_version", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run"],
            ["runs.name"],
        ),
        sa.PrimaryKeyConstraint("run", "day"),
    )
    op.create_table(
        "forecasts",
        sa.Column("id", tables.Text, nullable=False),
        sa.Column("group_id", tables.Text, nullable=False),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("token_ids", tables.Int32Array(), nullable=False),
        sa.Column("sampler_logprobs", tables.Float32Array(), nullable=False),
        sa.Column("text", tables.Text, nullable=False),
        sa.Column("finish_reason", tables.Text, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["groups.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("forecasts", schema=None) as batch_op:
        batch_op.create_index("ix_forecasts_group", ["group_id"], unique=False)

    op.create_table(
        "settlements",
        sa.Column("forecast_id", tables.Text, nullable=False),
        sa.Column("reward_version", tables.Text, nullable=False),
        sa.Column("group_id", tables.Text, nullable=False),
        sa.Column("day", tables.Text, nullable=False),
        sa.Column("reward", sa.Double(), nullable=True),
        sa.Column("components", sa.JSON(), nullable=False),
        sa.Column("outcome_id", tables.Text, nullable=True),
        sa.Column("void_reason", tables.Text, nullable=True),
        sa.ForeignKeyConstraint(
            ["forecast_id"],
            ["forecasts.id"],
        ),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["groups.id"],
        ),
        sa.ForeignKeyConstraint(
            ["outcome_id"],
            ["headlines.id"],
        ),
        sa.PrimaryKeyConstraint("forecast_id", "reward_version"),
    )
    with op.batch_alter_table("settlements", schema=None) as batch_op:
        batch_op.create_index("ix_settlements_group", ["group_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("settlements", schema=None) as batch_op:
        batch_op.drop_index("ix_settlements_group")

    op.drop_table("settlements")
    with op.batch_alter_table("forecasts", schema=None) as batch_op:
        batch_op.drop_index("ix_forecasts_group")

    op.drop_table("forecasts")
    op.drop_table("updates")
    op.drop_table("stage_runs")
    with op.batch_alter_table("groups", schema=None) as batch_op:
        batch_op.drop_index("ix_groups_day")

    op.drop_table("groups")
    op.drop_table("evaluations")
    op.drop_table("checkpoints")
    op.drop_table("runs")
    with op.batch_alter_table("headlines", schema=None) as batch_op:
        batch_op.drop_index("ix_headlines_clock")

    op.drop_table("headlines")
