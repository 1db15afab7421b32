# ruff: noqa: E501
"""makers of keys.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0018_makers_of_keys_expand"
down_revision = "0017_claims_to_confirm_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "06cdc892fce305f4daa9fbade721eea159992c5a30cf3cf9dc34e54d040a571d"


def upgrade() -> None:
    # api_keys: add column maker_roles
    op.execute("""ALTER TABLE "api_keys" ADD COLUMN "maker_roles" jsonb""")
