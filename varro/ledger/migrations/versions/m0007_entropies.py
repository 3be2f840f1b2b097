"""How undecided the sampler was at each token, beside the token's own log-prob."""

import sqlalchemy as sa
from alembic import op

from varro.ledger import tables

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("forecasts", sa.Column("sampler_entropies", tables.Float32Array(), nullable=True))
