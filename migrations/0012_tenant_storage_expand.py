# ruff: noqa: E501
"""tenant storage.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0012_tenant_storage_expand"
down_revision = "0011_grants_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "2f54c04139565b8b51cee0c3307115941fce090725458f6a9a3184fceac5c9a6"


def upgrade() -> None:
    # Create table byodpp.tenant_storage
    op.execute("""CREATE TABLE "byodpp"."tenant_storage" (
    "tenant_id" bigint NOT NULL,
    "bytes" bigint NOT NULL,
    "measured_at" timestamp with time zone NOT NULL,
    CONSTRAINT "tenant_storage_pkey_00000001" PRIMARY KEY ("tenant_id")
)""")
    # Row-level security and rights of byodpp.tenant_storage
    op.execute("""ALTER TABLE "byodpp"."tenant_storage" ENABLE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "byodpp"."tenant_storage" FORCE ROW LEVEL SECURITY""")
    op.execute("""CREATE POLICY "byodpp_select_policy_be9e9758" ON "byodpp"."tenant_storage" FOR SELECT
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_insert_policy_e08c5714" ON "byodpp"."tenant_storage" FOR INSERT
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_update_policy_75e0904c" ON "byodpp"."tenant_storage" FOR UPDATE
    USING (tenant_id = (SELECT byodpp.tenant()))
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_delete_policy_be9e9758" ON "byodpp"."tenant_storage" FOR DELETE
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""GRANT SELECT ON "byodpp"."tenant_storage" TO byodpp_app""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "byodpp"."tenant_storage" TO byodpp_system""")
