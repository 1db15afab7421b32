# ruff: noqa: E501
"""tenants counted together.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0019_tenants_counted_together_expand"
down_revision = "0018_makers_of_keys_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "df91a7c7e5970c4131cfc054066a505afc1e9aec3ad04f0acccb66ea2aaf0575"


def upgrade() -> None:
    # tenants: add column analytics
    op.execute("""ALTER TABLE "tenants" ADD COLUMN "analytics" boolean DEFAULT true NOT NULL""")
    # tenant_classes: add column analytics
    op.execute("""ALTER TABLE "tenant_classes" ADD COLUMN "analytics" boolean DEFAULT false NOT NULL""")
