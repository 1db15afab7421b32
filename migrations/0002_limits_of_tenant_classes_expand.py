# ruff: noqa: E501
"""limits of tenant classes.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0002_limits_of_tenant_classes_expand"
down_revision = "0001_reference_application_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "60ea0c762364284c5b2c3d8c346b21d627d6dd7075338d50f3f3cad933fbd78b"


def upgrade() -> None:
    # tenant_classes: add column requests_per_hour
    op.execute("""ALTER TABLE "tenant_classes" ADD COLUMN "requests_per_hour" integer""")
    # tenant_classes: add column max_concurrent_requests
    op.execute("""ALTER TABLE "tenant_classes" ADD COLUMN "max_concurrent_requests" integer""")
    # tenant_classes: add column max_connections
    op.execute("""ALTER TABLE "tenant_classes" ADD COLUMN "max_connections" integer""")
