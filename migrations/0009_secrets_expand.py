# ruff: noqa: E501
"""secrets.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0009_secrets_expand"
down_revision = "0008_imports_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "8653c8b2105efa462f7269086505f14457b8ea6b7ba3fb811ad2ef30065fc3f2"


def upgrade() -> None:
    # Create table byodpp.secret_values
    op.execute("""CREATE TABLE "byodpp"."secret_values" (
    "tenant_id" bigint NOT NULL,
    "secret_id" text COLLATE "C" NOT NULL,
    "key_id" text COLLATE "C" NOT NULL,
    "sealed" bytea NOT NULL,
    CONSTRAINT "secret_values_pkey_00000001" PRIMARY KEY ("tenant_id", "secret_id")
)""")
    # Row-level security and rights of byodpp.secret_values
    op.execute("""ALTER TABLE "byodpp"."secret_values" ENABLE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "byodpp"."secret_values" FORCE ROW LEVEL SECURITY""")
    op.execute("""CREATE POLICY "byodpp_select_policy_be9e9758" ON "byodpp"."secret_values" FOR SELECT
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_insert_policy_e08c5714" ON "byodpp"."secret_values" FOR INSERT
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_update_policy_75e0904c" ON "byodpp"."secret_values" FOR UPDATE
    USING (tenant_id = (SELECT byodpp.tenant()))
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_delete_policy_be9e9758" ON "byodpp"."secret_values" FOR DELETE
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "byodpp"."secret_values" TO byodpp_app""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "byodpp"."secret_values" TO byodpp_system""")
    # Create table secrets
    op.execute("""CREATE TABLE "secrets" (
    "tenant_id" bigint NOT NULL,
    "owner_id" bigint NOT NULL,
    "id" character varying(26) COLLATE "C" NOT NULL,
    "name" character varying(128) COLLATE "C" NOT NULL,
    "stored_at" timestamp with time zone,
    "created_at" timestamp with time zone DEFAULT now() NOT NULL,
    "updated_at" timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT "secrets_id_pkey_5d25524f" PRIMARY KEY ("tenant_id", "id")
)""")
    op.execute("""CREATE UNIQUE INDEX "secrets_name_key_b5156201" ON "secrets" ("tenant_id", "owner_id", "name")""")
    # Row-level security and rights of secrets
    op.execute("""ALTER TABLE "secrets" ENABLE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "secrets" FORCE ROW LEVEL SECURITY""")
    op.execute("""CREATE POLICY "byodpp_select_policy_de0c015d" ON "secrets" FOR SELECT
    USING (tenant_id = (SELECT byodpp.tenant()) AND owner_id = (SELECT byodpp.user_id()) OR ('secrets:' || tenant_id::text || ':' || id::text) = ANY ((SELECT byodpp.grants())::text[]))""")
    op.execute("""CREATE POLICY "byodpp_insert_policy_7d464f75" ON "secrets" FOR INSERT
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()) AND owner_id = (SELECT byodpp.user_id()) AND tenant_id >= 0)""")
    op.execute("""CREATE POLICY "byodpp_update_policy_fa2feec4" ON "secrets" FOR UPDATE
    USING (tenant_id = (SELECT byodpp.tenant()) AND owner_id = (SELECT byodpp.user_id()))
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()) AND owner_id = (SELECT byodpp.user_id()) AND tenant_id >= 0)""")
    op.execute("""CREATE POLICY "byodpp_delete_policy_78dc4e25" ON "secrets" FOR DELETE
    USING (tenant_id = (SELECT byodpp.tenant()) AND owner_id = (SELECT byodpp.user_id()))""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "secrets" TO byodpp_app""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "secrets" TO byodpp_system""")
