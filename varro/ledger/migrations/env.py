"""Alembic environment: runs on the connection that `varro.ledger.store` hands over."""

from alembic import context

from varro.ledger.tables import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
