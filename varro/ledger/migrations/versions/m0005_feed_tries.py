"""What came of each feed in cycles that were not run."""

import sqlalchemy as sa
from alembic import op

from varro.ledger import tables

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "feed_tries",
        sa.Column("run", tables.Text, nullable=False),
        sa.Column("day", tables.Text, nullable=False),
        sa.Column("url", tables.Text, nullable=False),
        sa.Column("as_of", tables.UtcTime(length=32), nullable=False),
        sa.Column("feed", tables.Text, nullable=False),
        sa.Column("status", tables.Text, nullable=False),
        sa.Column("reason", tables.Text, nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("etag", tables.Text, nullable=False),
        sa.Column("last_modified", tables.Text, nullable=False),
        sa.Column("body_sha256", tables.Text, nullable=False),
        sa.Column("n_entries", sa.Integer(), nullable=False),
        sa.Column("n_untitled", sa.Integer(), nullable=False),
        sa.Column("n_new", sa.Integer(), nullable=False),
        sa.Column("n_failures", sa.Integer(), nullable=False),
        sa.Column("next_at", tables.UtcTime(length=32), nullable=True),
        sa.Column("moved_to", tables.Text, nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run", "as_of", "url"),
    )
    with op.batch_alter_table("feed_tries", schema=None) as batch_op:
        batch_op.create_index("ix_feed_tries_newest", ["url", "as_of"], unique=False)
