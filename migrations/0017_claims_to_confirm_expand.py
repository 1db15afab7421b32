# ruff: noqa: E501
"""claims to confirm.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0017_claims_to_confirm_expand"
down_revision = "0016_databases_of_tenants_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "75d62c5404d42f9fc1d26570a0fa9bb73ef867abb6ca6b86de699c121e98ceed"


def upgrade() -> None:
    # byodpp.platform_keys: add index platform_keys_new_idx_00000001
    op.execute("""CREATE INDEX "platform_keys_new_idx_00000001" ON "byodpp"."platform_keys" ("tenant_id") WHERE NOT confirmed""")
