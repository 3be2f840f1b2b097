"""What a day settled and trained on, found without reading all other days."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_index("ix_settlements_day", "settlements", ["day"], unique=False)
    op.create_index("ix_advantages_day", "advantages", ["run", "day"], unique=False)
