# ruff: noqa: E501
"""directory changes.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0015_directory_changes_expand"
down_revision = "0014_checks_of_words_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "0b4343dbff247510400e80ed4b45eadd666e41115593394778af710566c733af"


def upgrade() -> None:
    # Create table byodpp.directory_changes
    op.execute("""CREATE TABLE "byodpp"."directory_changes" (
    "arrival" xid8 DEFAULT pg_current_xact_id() NOT NULL,
    "tenant_id" bigint NOT NULL,
    CONSTRAINT "directory_changes_pkey_00000001" PRIMARY KEY ("arrival", "tenant_id")
)""")
    # Row-level security and rights of byodpp.directory_changes
    op.execute("""ALTER TABLE "byodpp"."directory_changes" ENABLE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "byodpp"."directory_changes" FORCE ROW LEVEL SECURITY""")
    op.execute("""CREATE POLICY "byodpp_select_policy_be9e9758" ON "byodpp"."directory_changes" FOR SELECT
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_insert_policy_e08c5714" ON "byodpp"."directory_changes" FOR INSERT
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_update_policy_75e0904c" ON "byodpp"."directory_changes" FOR UPDATE
    USING (tenant_id = (SELECT byodpp.tenant()))
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_delete_policy_be9e9758" ON "byodpp"."directory_changes" FOR DELETE
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""GRANT INSERT, SELECT ON "byodpp"."directory_changes" TO byodpp_app""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "byodpp"."directory_changes" TO byodpp_system""")
