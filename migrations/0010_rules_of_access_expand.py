# ruff: noqa: E501
"""rules of access.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0010_rules_of_access_expand"
down_revision = "0009_secrets_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "ec8f953636ca1e7cd3737d6f275216d8734652dac928a4a5ccaf16bd8fddcf7b"


def upgrade() -> None:
    # Create table byodpp.access_versions
    op.execute("""CREATE TABLE "byodpp"."access_versions" (
    "tenant_id" bigint NOT NULL,
    "version" bigint NOT NULL,
    CONSTRAINT "access_versions_pkey_00000001" PRIMARY KEY ("tenant_id")
)""")
    # Row-level security and rights of byodpp.access_versions
    op.execute("""ALTER TABLE "byodpp"."access_versions" ENABLE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "byodpp"."access_versions" FORCE ROW LEVEL SECURITY""")
    op.execute("""CREATE POLICY "byodpp_select_policy_be9e9758" ON "byodpp"."access_versions" FOR SELECT
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_insert_policy_e08c5714" ON "byodpp"."access_versions" FOR INSERT
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_update_policy_75e0904c" ON "byodpp"."access_versions" FOR UPDATE
    USING (tenant_id = (SELECT byodpp.tenant()))
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_delete_policy_be9e9758" ON "byodpp"."access_versions" FOR DELETE
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""GRANT INSERT, SELECT, UPDATE ON "byodpp"."access_versions" TO byodpp_app""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "byodpp"."access_versions" TO byodpp_system""")
    # roles: drop policy byodpp_insert_policy_150025a8
    op.execute("""DROP POLICY "byodpp_insert_policy_150025a8" ON "roles" """)
    # roles: drop policy byodpp_update_policy_94b84c41
    op.execute("""DROP POLICY "byodpp_update_policy_94b84c41" ON "roles" """)
    # roles: add column parent_id
    op.execute("""ALTER TABLE "roles" ADD COLUMN "parent_id" bigint""")
    # policies: add column preset
    op.execute("""ALTER TABLE "policies" ADD COLUMN "preset" jsonb""")
    # roles: add index roles_parent_id_id_idx_70b6e47a
    op.execute("""CREATE INDEX "roles_parent_id_id_idx_70b6e47a" ON "roles" ("parent_id", "tenant_id", "id")""")
    # roles: add reference roles_parent_id_fkey_57619970
    op.execute("""ALTER TABLE "roles" NO FORCE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "roles" ADD CONSTRAINT "roles_parent_id_fkey_57619970" FOREIGN KEY ("parent_id") REFERENCES "roles" ("id") ON DELETE SET NULL ("parent_id")""")
    op.execute("""ALTER TABLE "roles" FORCE ROW LEVEL SECURITY""")
    # roles: create policy byodpp_insert_policy_9e3c3655
    op.execute("""CREATE POLICY "byodpp_insert_policy_9e3c3655" ON "roles" FOR INSERT
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()) AND tenant_id >= 0 AND ("roles"."parent_id" IS NULL OR byodpp.in_library('"roles"', "roles"."parent_id"::text)))""")
    # roles: create policy byodpp_update_policy_42de698d
    op.execute("""CREATE POLICY "byodpp_update_policy_42de698d" ON "roles" FOR UPDATE
    USING (tenant_id = (SELECT byodpp.tenant()))
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()) AND tenant_id >= 0 AND ("roles"."parent_id" IS NULL OR byodpp.in_library('"roles"', "roles"."parent_id"::text)))""")
